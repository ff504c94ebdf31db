// The pages of docs/play: what a reader copies plays, with the players' versions that the pages name.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { launch, SMALL, within } from "./lib/browser.mjs";
import { ask, startDemo } from "./lib/damson.mjs";
import { unlessStarved } from "./lib/machine.mjs";
import { scope } from "./lib/process.mjs";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "../..");

/** Each page, with the npm package that it loads, and where an edge has the same file. */
const PAGES = [["hls.js.md", "hls.js", "/player/lib/hls.js"], ["shaka.md", "shaka-player", "/player/lib/shaka.js"], ["dash.js.md", "dashjs", "/player/lib/dash.js"]];

test("what docs/play says to copy plays", { timeout: 300_000 }, (t) => unlessStarved(t, () => scope(async (use) => {
  const locked = JSON.parse(await readFile(join(ROOT, "player-demo/package.json"), "utf8")).dependencies;
  const browser = use(await launch());
  const { page: edge } = await startDemo(use);
  await ask(`${edge}/demo/index.m3u8`);
  for (const [file, name, embedded] of PAGES) {
    const text = await readFile(join(ROOT, "docs/play", file), "utf8");
    const html = /```html\n([\s\S]*?)```/.exec(text)?.[1];
    assert.ok(html, `${file} has a block of HTML`);
    assert.ok(html.includes(`${name}@${locked[name].replace(/^[^0-9]/, "")}/`), `${file} loads ${name} ${locked[name]}, as player-demo/package.json has it`);
    const page = await (await browser.newContext(SMALL)).newPage();
    Object.assign(page, { said: [], asked: [], pending: new Map() });
    page.on("console", (m) => page.said.push(m.text()));
    page.on("pageerror", (e) => page.said.push(`exception: ${e}`));
    // The CDN's file from the edge, which carries the same; and the page from the edge's own origin.
    await page.route("https://cdn.jsdelivr.net/**", async (route) => route.fulfill({ contentType: "text/javascript", body: await (await fetch(edge + embedded)).text() }));
    const body = html.replaceAll("http://127.0.0.1:8080", edge).replaceAll("/cam1/", "/demo/");
    await page.route(`${edge}/docs-page`, (route) => route.fulfill({ contentType: "text/html", body: `<!doctype html><meta charset="utf-8">${body}` }));
    await page.goto(`${edge}/docs-page`);
    await page.evaluate(() => { document.querySelector("video").muted = true; });
    await within(page, `${file} doesn't play`, page.waitForFunction(() => {
      const video = document.querySelector("video");
      window.from ??= video.readyState > 2 && !video.paused ? video.currentTime : undefined;
      return window.from !== undefined && video.currentTime > window.from + 3;
    }, null, { timeout: 30_000 }));
    await page.context().close();
  }
})));
