// Draws points and lines: with WebGL2, or with the 2D canvas where there is none. Labels are always a 2D canvas above it.
export interface Camera {
  /** The middle of what is seen. */
  x: number;
  y: number;
  /** Pixels for one unit. */
  scale: number;
}

/** Red, green, blue, opacity: 0 to 1. */
export type Colour = [number, number, number, number];

/** All that is drawn, in arrays that go to the graphics card as they are. */
export interface Shapes {
  count: number;
  x: Float32Array;
  y: Float32Array;
  /** For each point: radius, and whether it is hollow (1). */
  form: Float32Array;
  /** For each point: four bytes of colour. */
  fill: Uint8Array;
  /** For each line: its two ends. */
  ends: Uint32Array;
  /** For each line: four bytes of colour. */
  stroke: Uint8Array;
}

export interface Renderer {
  readonly kind: "webgl" | "2d";
  resize(width: number, height: number, ratio: number): void;
  draw(shapes: Shapes, camera: Camera): void;
  free(): void;
}

const POINTS_VERTEX = `#version 300 es
in vec2 corner;
in vec2 place;
in vec2 form;
in vec4 fill;
uniform vec2 middle;
uniform vec2 size;
uniform float scale;
out vec2 at;
out vec4 colour;
out float hollow;
out float pixels;
void main() {
  pixels = max(2.0, form.x * min(scale, 1.6));
  vec2 on_screen = (place - middle) * scale + corner * (pixels + 1.0);
  at = corner * (pixels + 1.0);
  colour = fill;
  hollow = form.y;
  gl_Position = vec4(on_screen / size * 2.0 * vec2(1.0, -1.0), 0.0, 1.0);
}`;

const POINTS_FRAGMENT = `#version 300 es
precision mediump float;
in vec2 at;
in vec4 colour;
in float hollow;
in float pixels;
out vec4 painted;
void main() {
  float far = length(at);
  float inside = clamp(pixels - far + 0.5, 0.0, 1.0);
  float core = clamp(pixels - 2.0 - far + 0.5, 0.0, 1.0) * hollow;
  float alpha = colour.a * (inside - core * 0.85);
  if (alpha <= 0.003) discard;
  painted = vec4(colour.rgb * alpha, alpha);
}`;

const LINES_VERTEX = `#version 300 es
in vec2 place;
in vec4 stroke;
uniform vec2 middle;
uniform vec2 size;
uniform float scale;
out vec4 colour;
void main() {
  colour = stroke;
  gl_Position = vec4((place - middle) * scale / size * 2.0 * vec2(1.0, -1.0), 0.0, 1.0);
}`;

const LINES_FRAGMENT = `#version 300 es
precision mediump float;
in vec4 colour;
out vec4 painted;
void main() {
  painted = vec4(colour.rgb * colour.a, colour.a);
}`;

function program(gl: WebGL2RenderingContext, vertex: string, fragment: string): WebGLProgram | undefined {
  const made = gl.createProgram();
  for (const [kind, text] of [
    [gl.VERTEX_SHADER, vertex],
    [gl.FRAGMENT_SHADER, fragment],
  ] as const) {
    const shader = gl.createShader(kind);
    if (!shader) return undefined;
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  return gl.getProgramParameter(made, gl.LINK_STATUS) ? made : undefined;
}

class Gl implements Renderer {
  readonly kind = "webgl";
  private width = 1;
  private height = 1;
  private readonly corner: WebGLBuffer;
  private readonly places: WebGLBuffer;
  private readonly forms: WebGLBuffer;
  private readonly fills: WebGLBuffer;
  private readonly linePlaces: WebGLBuffer;
  private readonly lineStrokes: WebGLBuffer;
  private placesOf = new Float32Array(0);
  private linePlacesOf = new Float32Array(0);
  private lineStrokesOf = new Uint8Array(0);

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly gl: WebGL2RenderingContext,
    private readonly points: WebGLProgram,
    private readonly lines: WebGLProgram,
  ) {
    this.corner = gl.createBuffer();
    this.places = gl.createBuffer();
    this.forms = gl.createBuffer();
    this.fills = gl.createBuffer();
    this.linePlaces = gl.createBuffer();
    this.lineStrokes = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, this.corner);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  resize(width: number, height: number, ratio: number) {
    this.width = width;
    this.height = height;
    this.canvas.width = Math.max(1, Math.round(width * ratio));
    this.canvas.height = Math.max(1, Math.round(height * ratio));
    this.gl.viewport(0, 0, this.canvas.width, this.canvas.height);
  }

  private attribute(of: WebGLProgram, name: string, buffer: WebGLBuffer, size: number, bytes: boolean, each: number) {
    const { gl } = this;
    const at = gl.getAttribLocation(of, name);
    if (at < 0) return;
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, size, bytes ? gl.UNSIGNED_BYTE : gl.FLOAT, bytes, 0, 0);
    gl.vertexAttribDivisor(at, each);
  }

  private upload(buffer: WebGLBuffer, data: Float32Array | Uint8Array) {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, buffer);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, data, this.gl.DYNAMIC_DRAW);
  }

  private view(of: WebGLProgram, camera: Camera) {
    const { gl } = this;
    gl.useProgram(of);
    gl.uniform2f(gl.getUniformLocation(of, "middle"), camera.x, camera.y);
    gl.uniform2f(gl.getUniformLocation(of, "size"), this.width, this.height);
    gl.uniform1f(gl.getUniformLocation(of, "scale"), camera.scale);
  }

  draw(shapes: Shapes, camera: Camera) {
    const { gl } = this;
    const { count, x, y, ends, stroke } = shapes;
    if (this.placesOf.length !== count * 2) this.placesOf = new Float32Array(count * 2);
    for (let at = 0; at < count; at += 1) {
      this.placesOf[2 * at] = x[at] as number;
      this.placesOf[2 * at + 1] = y[at] as number;
    }
    const many = ends.length;
    if (this.linePlacesOf.length !== many * 2) {
      this.linePlacesOf = new Float32Array(many * 2);
      this.lineStrokesOf = new Uint8Array(many * 4);
    }
    for (let at = 0; at < many; at += 1) {
      const end = ends[at] as number;
      this.linePlacesOf[2 * at] = x[end] as number;
      this.linePlacesOf[2 * at + 1] = y[end] as number;
      const line = (at >> 1) * 4;
      for (let part = 0; part < 4; part += 1) this.lineStrokesOf[4 * at + part] = stroke[line + part] as number;
    }
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (many > 0) {
      this.view(this.lines, camera);
      this.upload(this.linePlaces, this.linePlacesOf);
      this.upload(this.lineStrokes, this.lineStrokesOf);
      this.attribute(this.lines, "place", this.linePlaces, 2, false, 0);
      this.attribute(this.lines, "stroke", this.lineStrokes, 4, true, 0);
      gl.drawArrays(gl.LINES, 0, many);
    }
    if (count > 0) {
      this.view(this.points, camera);
      this.upload(this.places, this.placesOf);
      this.upload(this.forms, shapes.form);
      this.upload(this.fills, shapes.fill);
      this.attribute(this.points, "corner", this.corner, 2, false, 0);
      this.attribute(this.points, "place", this.places, 2, false, 1);
      this.attribute(this.points, "form", this.forms, 2, false, 1);
      this.attribute(this.points, "fill", this.fills, 4, true, 1);
      gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, count);
      for (const name of ["place", "form", "fill"]) {
        const at = gl.getAttribLocation(this.points, name);
        if (at >= 0) gl.vertexAttribDivisor(at, 0);
      }
    }
  }

  free() {
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}

const css = (bytes: Uint8Array, at: number) =>
  `rgb(${bytes[at]} ${bytes[at + 1]} ${bytes[at + 2]} / ${((bytes[at + 3] as number) / 255).toFixed(3)})`;

class Flat implements Renderer {
  readonly kind = "2d";
  private width = 1;
  private height = 1;
  private ratio = 1;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly context: CanvasRenderingContext2D,
  ) {}

  resize(width: number, height: number, ratio: number) {
    this.width = width;
    this.height = height;
    this.ratio = ratio;
    this.canvas.width = Math.max(1, Math.round(width * ratio));
    this.canvas.height = Math.max(1, Math.round(height * ratio));
  }

  draw(shapes: Shapes, camera: Camera) {
    const { context: to, width, height } = this;
    to.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    to.clearRect(0, 0, width, height);
    const left = (at: number) => ((shapes.x[at] as number) - camera.x) * camera.scale + width / 2;
    const top = (at: number) => ((shapes.y[at] as number) - camera.y) * camera.scale + height / 2;
    // One path for all lines of a colour.
    let colour = "";
    for (let line = 0; line < shapes.ends.length / 2; line += 1) {
      const next = css(shapes.stroke, line * 4);
      if (next !== colour) {
        if (colour) to.stroke();
        colour = next;
        to.strokeStyle = colour;
        to.beginPath();
      }
      const [from, end] = [shapes.ends[2 * line] as number, shapes.ends[2 * line + 1] as number];
      to.moveTo(left(from), top(from));
      to.lineTo(left(end), top(end));
    }
    if (colour) to.stroke();
    for (let at = 0; at < shapes.count; at += 1) {
      to.beginPath();
      to.arc(left(at), top(at), Math.max(2, (shapes.form[2 * at] as number) * Math.min(camera.scale, 1.6)), 0, 2 * Math.PI);
      if ((shapes.form[2 * at + 1] as number) > 0) {
        to.lineWidth = 2;
        to.strokeStyle = css(shapes.fill, at * 4);
        to.stroke();
        to.lineWidth = 1;
      } else {
        to.fillStyle = css(shapes.fill, at * 4);
        to.fill();
      }
    }
  }

  free() {}
}

/** Whether the processor paints what a graphics card would: then smooth lines take six times as long. */
function isSoftware(): boolean {
  const gl = document.createElement("canvas").getContext("webgl2");
  const told = gl?.getExtension("WEBGL_debug_renderer_info");
  const name = gl ? String(gl.getParameter(told ? told.UNMASKED_RENDERER_WEBGL : gl.RENDERER)) : "";
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return /SwiftShader|llvmpipe|softpipe|Basic Render/i.test(name);
}

/** What draws on a canvas; none where the browser draws nothing. */
export function rendererOf(canvas: HTMLCanvasElement): Renderer | undefined {
  const gl = canvas.getContext("webgl2", { antialias: !isSoftware(), premultipliedAlpha: true });
  if (gl) {
    const points = program(gl, POINTS_VERTEX, POINTS_FRAGMENT);
    const lines = program(gl, LINES_VERTEX, LINES_FRAGMENT);
    if (points && lines) return new Gl(canvas, gl, points, lines);
  }
  const flat = canvas.getContext("2d");
  return flat ? new Flat(canvas, flat) : undefined;
}
