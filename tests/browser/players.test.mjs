// ffmpeg pushes 720p30 into A; A-B-C-D are four processes in a line; real players play from D.
import assert from "node:assert/strict";
import { test } from "node:test";
import { assertSmooth, launch, openPage, report, SMALL, stretch, untilPlaying } from "./lib/browser.mjs";
import { ask, push, startLine, untilLive } from "./lib/damson.mjs";
import { inTime, unlessStarved, watchMachine } from "./lib/machine.mjs";
import { liveEdge } from "./lib/playlist.mjs";
import { scope } from "./lib/process.mjs";

/** How long each is watched: longer than the film, which begins anew meanwhile. */
const SECONDS = Number(process.env.SECONDS ?? 17);
/** What a player may take to find its place: "after the start" begins here, in seconds of media. */
const SETTLE_S = 4;
/** Frames to be decoded, of 30 a second; a player that drops the parts between keyframes shows about 6. */
const FPS_MIN = 27;
/** A machine without time shows fewer, too, but not as few as that. */
const FPS_BROKEN = 10;
/** By how much D may fall behind A over the whole time. */
const RELAY_S = 0.5;
/** The steps in which media comes to it, in seconds: a part, or the film's segments. */
const PLAYERS = { hls: 0.5, "shaka-hls": 0.5, "shaka-dash": 2, dash: 2, native: 2, "hls-plain": 2 };
/** PLAYERS=dash,native tests only these. */
const CHOSEN = process.env.PLAYERS?.split(",") ?? Object.keys(PLAYERS);

// Two at a time: each takes a third of a processor, most of it to decode.
test("players play three hops away, without a stall", { timeout: 1_500_000, concurrency: 2 }, (t) => scope(async (use) => {
  const nodes = await startLine(use, ["a", "b", "c", "d"]);
  push(use, `${nodes[0].rtmp}/cam1`);
  await untilLive(nodes[3].http, "cam1");
  const browser = use(await launch());
  await Promise.all(CHOSEN.map((player) => t.test(player, (t) => unlessStarved(t, () => plays(browser, nodes, player)))));
}));

async function plays(browser, [a, , , d], player) {
  const page = await openPage(browser, d.http, { stream: "cam1", player }, SMALL);
  const ingest = async () => liveEdge(await ask(`${a.http}/cam1/video/playlist.m3u8`));
  try {
    await untilPlaying(page, { timeout: 25_000, steady: SETTLE_S });
    const machine = watchMachine();
    const from = await ingest();
    const s = await (await stretch(page, d.http, "cam1")).after(SECONDS);
    const pushed = (await ingest() - from) / 1000;
    const fps = s.frames / s.seconds;
    const seen = {
      latency: s.latency?.toFixed(2), own: s.playerLatency?.toFixed(2), buffer: s.buffer.toFixed(2), fps: fps.toFixed(1), dropped: s.dropped,
      seconds: s.seconds.toFixed(2), pushed: pushed.toFixed(2), came: s.came.toFixed(2), loaded: s.loaded.toFixed(2), played: s.played.toFixed(2),
    };
    console.log(`${player}: ${JSON.stringify({ ...seen, ...machine.seen() })}`);
    inTime(s.came > pushed - RELAY_S, `D moved on by ${s.came} s while A did by ${pushed} s`);
    assertSmooth(s, player, PLAYERS[player]);
    assert.ok(fps >= FPS_BROKEN, `${fps.toFixed(1)} frames a second`);
    inTime(fps >= FPS_MIN, `${fps.toFixed(1)} frames a second`);
  } catch (error) {
    error.message += `\n${await report(page)}\n${d.child.log()}`;
    throw error;
  } finally {
    await page.context().close();
  }
}
