// How the console becomes files of the server: `crates/console/dist`, each beside its compressed form.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const dist = "../crates/console/dist";

/** Empties the folder but for hidden files, and puts `NAME.br` beside every file. */
function packed(): Plugin {
  return {
    name: "packed",
    apply: "build",
    buildStart() {
      mkdirSync(dist, { recursive: true });
      for (const name of readdirSync(dist).filter((name) => !name.startsWith("."))) {
        rmSync(join(dist, name), { recursive: true });
      }
    },
    writeBundle(_, bundle) {
      for (const name of Object.keys(bundle)) {
        const bytes = readFileSync(join(dist, name));
        const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
        writeFileSync(join(dist, `${name}.br`), brotliCompressSync(bytes, { params }));
      }
    },
  };
}

export default defineConfig({
  plugins: [packed()],
  esbuild: { jsx: "automatic", legalComments: "none" },
  build: {
    outDir: dist,
    emptyOutDir: false,
    target: "es2022",
    cssTarget: "esnext",
    cssCodeSplit: false,
    // The content security policy knows no `data:`.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rollupOptions: {
      onwarn(warning, warn) {
        // Marks of libraries for servers that render; there is none here.
        if (warning.code !== "MODULE_LEVEL_DIRECTIVE") warn(warning);
      },
    },
  },
});
