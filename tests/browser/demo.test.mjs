// `damson demo`: one command, and the page plays in Chromium within 10 s.
import assert from "node:assert/strict";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { launch, openPage, untilPlaying, within } from "./lib/browser.mjs";
import { startDemo } from "./lib/damson.mjs";
import { inTime, unlessStarved } from "./lib/machine.mjs";
import { scope } from "./lib/process.mjs";

test("the demo's page plays within 10 s of the start", { timeout: 300_000 }, (t) => unlessStarved(t, () => scope(async (use) => {
  const browser = use(await launch()); // a viewer's browser is open already
  const started = performance.now();
  const { child, page: url } = await startDemo(use);
  const page = await openPage(browser, url);
  await untilPlaying(page, { timeout: Math.max(1, 10_000 - (performance.now() - started)), steady: 0.5 });
  console.log(`plays ${((performance.now() - started) / 1000).toFixed(1)} s after the start`);

  // The waterfall shows three hops: ingest, edge1, edge2 sent it on, edge3 serves it.
  await within(page, "no trace with three hops", page.waitForFunction(() => window.damson.stats().trace?.hops?.length === 3, null, { timeout: 30_000 }));
  // Packaging, a dwell and a transit for each of three hops, and the tail; and what the page adds, once it has seen a part through.
  await within(page, "not twelve rows", page.waitForFunction(() => document.querySelectorAll("#hops tbody tr").length === 8 + 4, null, { timeout: 30_000 }));
  const shot = join(await mkdtemp(join(tmpdir(), "damson-demo-")), "page.png");
  await page.screenshot({ path: shot, fullPage: true });
  console.log(`screenshot: ${shot}`);

  const asked = performance.now();
  const how = await child.kill("SIGINT");
  assert.deepEqual({ code: how.code, signal: how.signal }, { code: 0, signal: null }, "Ctrl-C is no failure");
  inTime(performance.now() - asked < 5000, "Ctrl-C ends it within 5 s");
})));
