// An edge without media, for what the page does when all isn't well. The page's own files are the real ones.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const PAGE = join(dirname(fileURLToPath(import.meta.url)), "../../../player-demo/page");
const TYPES = { html: "text/html", css: "text/css", js: "text/javascript", svg: "image/svg+xml" };

/** `streams` may be changed while it runs; `asked` has the paths that were asked for. */
export async function fakeEdge({ embedded = true, streams = [], edges = [] } = {}) {
  const fake = { streams, asked: [] };
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, "http://x").pathname;
    fake.asked.push(path);
    const answer = (type, body) => response.writeHead(200, { "Content-Type": type, "Access-Control-Allow-Origin": "*" }).end(body);
    if (path === "/time") return answer("text/plain", new Date().toISOString());
    if (path === "/player/build.js") return answer(TYPES.js, `export const EMBEDDED = ${embedded};`);
    if (path === "/api/v1/streams") return answer("application/json", JSON.stringify({ streams: fake.streams }));
    if (path === "/api/v1/edges") return answer("application/json", JSON.stringify({ edges }));
    const name = path === "/" ? "index.html" : /^\/player\/([\w.-]+)$/.exec(path)?.[1];
    const file = name && (await readFile(join(PAGE, name)).catch(() => null));
    return file ? answer(TYPES[name.split(".").at(-1)], file) : response.writeHead(404).end("not here");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return Object.assign(fake, {
    url: `http://127.0.0.1:${server.address().port}`,
    close() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  });
}
