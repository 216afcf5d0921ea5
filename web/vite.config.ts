// How the pages are built: four HTML files and hashed assets, into edge/static/, nothing from
// outside. The development server passes everything that is not a page to a server (NEXUS_URL).
import { resolve } from "node:path";
import { env } from "node:process";
import { defineConfig } from "vitest/config";

const server = env.NEXUS_URL ?? "http://127.0.0.1:8080";
const page = (name: string): string => resolve(import.meta.dirname, `${name}.html`);

export default defineConfig({
  build: {
    outDir: resolve(import.meta.dirname, "../edge/static"),
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
    rolldownOptions: {
      input: {
        index: page("index"),
        watch: page("watch"),
        embed: page("embed"),
        live: page("live"),
      },
    },
  },
  server: {
    proxy: { "/api": server, "/whip": server, "/whep": server, "/hls": server, "/livez": server },
  },
  plugins: [
    {
      name: "page-routes",
      configureServer(vite) {
        vite.middlewares.use((request, _response, next) => {
          const match = /^\/(watch|embed|live)(?:\/[^/?]*)?(\?|$)/.exec(request.url ?? "");
          if (match) request.url = `/${match[1]}.html`;
          next();
        });
      },
    },
  ],
  test: { environment: "happy-dom", include: ["test/**/*.test.ts"] },
});
