// The one way to the server: the public API, typed by its OpenAPI document. The session is in a cookie that no script reads.
import createClient from "openapi-fetch";
import { clockSaid, toldOf, usedSince } from "../session/use";
import type { components, paths } from "./schema.gen";

export type Schemas = components["schemas"];

/** An error of the API, or that it could not be asked. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly requestId?: string,
    readonly field?: string | null,
  ) {
    super(message);
  }
}

/** What the API says in a few words, as the reason of a button. */
export const sentence = (words: string) => `${words.charAt(0).toUpperCase()}${words.slice(1)}.`;

/** What a page may say about anything that was thrown. */
export function told(error: unknown): { message: string; requestId?: string | undefined } {
  if (error instanceof Problem) {
    const message = error.message.charAt(0).toUpperCase() + error.message.slice(1);
    return { message, requestId: error.requestId };
  }
  return { message: "The console made a mistake. Reload the page." };
}

const unreachable = () => new Problem(0, "unreachable", "the server cannot be reached: try again in a moment");

/** What is done when the server says that nobody is signed in, whatever was asked. */
let nobody = () => {};
export const whenNobody = (then: () => void) => {
  nobody = then;
};

export const api = createClient<paths>({
  // Our own page asks: no form of another site can send this.
  headers: { "X-Cairn-Request": "1" },
  fetch: async (request) => {
    const use = usedSince();
    if (use === undefined && request.method === "GET") request.headers.set("X-Cairn-Background", "1");
    try {
      const response = await fetch(request);
      if (use !== undefined && response.status < 500) toldOf(use);
      clockSaid(response.headers.get("date"));
      if (response.status === 401) nobody();
      return response;
    } catch (error) {
      if (request.signal.aborted) throw error;
      throw unreachable();
    }
  },
});

async function problem(response: Response, body: unknown): Promise<Problem> {
  const said = (body ?? {}) as Partial<Schemas["Problem"]>;
  // An answer that is none of the API's own may still say which request it was.
  const requestId = said.request_id ?? response.headers.get("x-request-id") ?? undefined;
  const message = said.message ?? `the server answered ${response.status}`;
  return new Problem(response.status, said.code ?? "unknown", message, requestId, said.field);
}

type Answer<T> = { data?: T; error?: unknown; response: Response };

/** The document of an answer; whatever is not one is thrown. */
export async function take<T>(answer: Promise<Answer<T>>): Promise<NonNullable<T>> {
  return (await takeTagged(answer)).it;
}

/** A document with what names its state: whoever changes it says so what they changed. */
export interface Tagged<T> {
  it: T;
  tag: string;
}

/** The same with what names its state. */
export async function takeTagged<T>(answer: Promise<Answer<T>>): Promise<Tagged<NonNullable<T>>> {
  const { data, error, response } = await answer;
  if (!response.ok) throw await problem(response, error);
  // A proxy that compresses calls the tag weak, since the bytes are others. It names what was read all the same.
  const tag = (response.headers.get("etag") ?? "*").replace(/^W\//, "");
  return { it: data as NonNullable<T>, tag };
}

/** Bytes that the API sends, with the errors of all its answers. */
export async function takeBytes(answer: Promise<Answer<unknown>>): Promise<Uint8Array<ArrayBuffer>> {
  const { data, error, response } = await answer;
  if (!response.ok) throw await problem(response, error);
  return new Uint8Array(data as ArrayBuffer);
}
