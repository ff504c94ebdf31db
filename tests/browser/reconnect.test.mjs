// A publisher that is killed and returns within 5 s: the same playlist goes on, and hls.js plays across it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { launch, openPage, report, SMALL, stats, untilPlaying, within } from "./lib/browser.mjs";
import { ask, push, startLine, untilLive } from "./lib/damson.mjs";
import { inTime, unlessStarved } from "./lib/machine.mjs";
import { Watch } from "./lib/playlist.mjs";
import { scope } from "./lib/process.mjs";

/** How long the player may wait besides the time for which the publisher is away: a segment or two. */
const PATIENCE_MS = 6000;

test("hls.js plays across a publisher's return", { timeout: 600_000 }, (t) => unlessStarved(t, () => scope(async (use) => {
  const [a, b] = await startLine(use, ["a", "b"]);
  const first = push(use, `${a.rtmp}/cam1`);
  await untilLive(b.http, "cam1");
  const browser = use(await launch());
  const page = await openPage(browser, b.http, { stream: "cam1", player: "hls" }, SMALL);
  const watch = use(new Watch(`${b.http}/cam1/video/playlist.m3u8`));
  try {
    await untilPlaying(page, { steady: 4 });
    const before = await stats(page);

    const left = Date.now();
    await first.kill("SIGKILL");
    await ask(`${b.http}/cam1/video/playlist.m3u8`, (_, text) => text.includes("#EXT-X-GAP")); // it is missed
    push(use, `${a.rtmp}/cam1`);

    // It plays what was published after the return: the picture is younger than the return, for a while.
    const returned = Date.now();
    await within(page, "it doesn't go on", page.waitForFunction((returned) => {
      const s = window.damson.stats();
      return s.state === "playing" && s.latency !== null && Date.now() - s.latency * 1000 > returned + 6000;
    }, returned, { timeout: 40_000, polling: 200 }));
    const after = await stats(page);
    const [gap, late] = [((returned - left) / 1000).toFixed(1), (after.stalledMs / 1000).toFixed(1)];
    console.log(`across a gap of ${gap} s: ${after.stalls} stall(s), ${late} s, latency ${before.latency?.toFixed(2)} -> ${after.latency?.toFixed(2)} s`);
    assert.ok(after.currentTime > before.currentTime, "the media time goes on");
    const said = await page.evaluate(() => window.damson.events.map((e) => e.words));
    assert.equal(said.filter((w) => w.startsWith("start:")).length, 1, "the player was never started anew");
    inTime(after.stalledMs < returned - left + PATIENCE_MS, "it waits no longer than the publisher was away, and a segment or two");
  } catch (error) {
    error.message += `\n${await report(page)}\n${watch.text}`;
    throw error;
  }
  await watch.close();
  assert.deepEqual(watch.faults, []);
  assert.equal(watch.discontinuities.size, 1, `one DISCONTINUITY, at MSN ${[...watch.discontinuities]}`);
})));
