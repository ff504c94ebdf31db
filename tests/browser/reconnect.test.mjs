// A publisher that is killed and returns within 5 s: the same playlist goes on, and hls.js plays across it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { launch, openPage, report, SMALL, stats, untilPlaying } from "./lib/browser.mjs";
import { push, startLine, untilLive } from "./lib/damson.mjs";
import { unlessStarved } from "./lib/machine.mjs";
import { Watch } from "./lib/playlist.mjs";
import { scope } from "./lib/process.mjs";

/** How long the publisher is away. */
const AWAY_MS = 3000;

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

    await first.kill("SIGKILL");
    await pause(AWAY_MS); // the scenario itself: an encoder that is away
    push(use, `${a.rtmp}/cam1`);

    // It plays what was published after the return: the picture is younger than the return, for a while.
    const returned = Date.now();
    await page.waitForFunction((returned) => {
      const s = window.damson.stats();
      return s.state === "playing" && s.latency !== null && Date.now() - s.latency * 1000 > returned + 6000;
    }, returned, { timeout: 40_000, polling: 200 });
    const after = await stats(page);
    console.log(`across the gap: ${after.stalls} stall(s), ${(after.stalledMs / 1000).toFixed(1)} s, latency ${before.latency?.toFixed(2)} -> ${after.latency?.toFixed(2)} s`);
    assert.ok(after.currentTime > before.currentTime, "the media time goes on");
    const said = await page.evaluate(() => window.damson.events.map((e) => e.words));
    assert.equal(said.filter((w) => w.startsWith("start:")).length, 1, "the player was never started anew");
    assert.ok(after.stalledMs < AWAY_MS + 6000, "it waits no longer than the publisher was away, and a segment or two");
  } catch (error) {
    error.message += `\n${await report(page)}\n${watch.text}`;
    throw error;
  }
  await watch.close();
  assert.deepEqual(watch.faults, []);
  assert.equal(watch.discontinuities.size, 1, `one DISCONTINUITY, at MSN ${[...watch.discontinuities]}`);
})));
