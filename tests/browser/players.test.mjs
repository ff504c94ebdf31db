// ffmpeg pushes 720p30 into A; A-B-C-D are four processes in a line; real players play from D.
import assert from "node:assert/strict";
import { test } from "node:test";
import { assertSmooth, launch, openPage, report, stats, untilPlaying } from "./lib/browser.mjs";
import { push, startLine, untilLive } from "./lib/damson.mjs";
import { scope } from "./lib/process.mjs";

const SECONDS = Number(process.env.SECONDS ?? 30);
/** What a player may take to find its place: "after the start" begins here, in seconds of media. */
const SETTLE_S = 4;
/** Frames to be decoded, of 30 a second; a player that drops the parts between keyframes shows about 6. */
const FPS_MIN = 27;
/** Two at a time: each takes 10-20 % of a core. PLAYERS=dash,native tests only these. */
const PAIRS = process.env.PLAYERS ? [process.env.PLAYERS.split(",")] : [["hls", "shaka-hls"], ["shaka-dash", "dash"], ["native", "hls-plain"]];

test("players play three hops away, without a stall", { timeout: 360_000, concurrency: 2 }, (t) => scope(async (use) => {
  const nodes = await startLine(use, ["a", "b", "c", "d"]);
  push(use, `${nodes[0].rtmp}/cam1`);
  const edge = nodes[3].http;
  await untilLive(edge, "cam1");
  const browser = use(await launch());
  for (const pair of PAIRS) {
    await Promise.all(pair.map((player) => t.test(player, () => plays(browser, nodes[3], player))));
  }
}));

async function plays(browser, node, player) {
  const page = await openPage(browser, node.http, { stream: "cam1", player });
  try {
    await untilPlaying(page, { timeout: 25_000, steady: SETTLE_S });
    await page.evaluate(() => window.damson.mark());
    await page.waitForFunction((s) => window.damson.stats().seconds >= s, SECONDS, { timeout: (SECONDS + 20) * 1000, polling: 200 });
    const s = await stats(page);
    const fps = s.frames / s.seconds;
    const seen = { latency: s.latency?.toFixed(2), own: s.playerLatency?.toFixed(2), buffer: s.buffer.toFixed(2), fps: fps.toFixed(1), dropped: s.dropped };
    console.log(`${player}: ${JSON.stringify(seen)}`);
    assertSmooth(s, player);
    assert.ok(fps >= FPS_MIN, `${fps.toFixed(1)} frames a second`);
  } catch (error) {
    error.message += `\n${await report(page)}\n${node.child.log()}`;
    throw error;
  } finally {
    await page.context().close();
  }
}
