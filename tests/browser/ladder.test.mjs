// A ladder of three rungs, pushed by one ffmpeg: players switch among them without a stall and without a gap.
import assert from "node:assert/strict";
import { test } from "node:test";
import { launch, openPage, report, SMALL, stats, untilPlaying, within } from "./lib/browser.mjs";
import { ask, makeLadder, pushLadder, RUNGS, segmentsIn, startLine } from "./lib/damson.mjs";
import { inTime, unlessStarved, watchMachine } from "./lib/machine.mjs";
import { scope } from "./lib/process.mjs";

/**
 * The line while it is narrow, in bits/s: less than the highest rung needs, more than the next. A player that holds a second and a half, and
 * decides at the end of a segment of two seconds, has to live through three of them before the next rung comes.
 */
const NARROW = 2_200_000;
const TOP = RUNGS[0].height;
/**
 * Shaka and dash.js take the rate at which a segment under way is made for the line's (estimate.test.mjs), and stay below for a minute
 * or for ever. So when the line is wide again Shaka is told to go by a multiple of its estimate, and dash.js (5.2, by each of its rules)
 * is told the rung.
 */
const MULTIPLE = 5;
const climb = (page, player) => {
  if (player === "dash") return choose(page, player, TOP);
  return configure(page, player, { bandwidthUpgradeTarget: MULTIPLE, bandwidthDowngradeTarget: MULTIPLE });
};
/** Where frames are dropped Shaka (5.2) leaves a rung, too, for 30 s by default. Seconds are enough here. */
const BANNED_S = 3;
const configure = (page, player, abr) => player.startsWith("shaka") && page.evaluate((abr) => window.damson.inner.configure({ abr }), abr);
/** How long a player may take to notice either, in ms. */
const NOTICE_MS = 60_000;
/** LADDER=hls,dash tests only these. */
const CHOSEN = process.env.LADDER?.split(",") ?? ["hls", "shaka-hls", "shaka-dash", "dash"];

test("players go down the ladder and up again", { timeout: 1_500_000 }, (t) => scope(async (use) => {
  // A player that holds three parts has nothing to live on while it notices that its line has become narrow.
  const nodes = await startLine(use, ["a", "b"], { args: ["--latency", "1.5"] });
  const edge = nodes[1].http;
  pushLadder(use, `${nodes[0].rtmp}/cam1`, await makeLadder());
  const whole = (r, text) => r.ok && segmentsIn(text) >= 3;
  for (const track of [...RUNGS.map((rung) => rung.name), "audio", "audio_de"]) {
    await ask(`${edge}/cam1/${track}/playlist.m3u8`, whole, 30_000);
  }
  const browser = use(await launch());
  // One at a time: beside another, hls.js stands still in one of two runs while it finds out that its line is narrow.
  for (const player of CHOSEN) {
    await t.test(`${player} switches when it is told to`, (t) => unlessStarved(t, () => switches(browser, nodes[1], player)));
    await t.test(`${player} goes by the line`, (t) => unlessStarved(t, () => adapts(browser, nodes[1], player)));
  }
}));

const shows = (page, height) =>
  within(page, `it doesn't come to ${JSON.stringify(height)}`, page.waitForFunction(({ height, above }) => {
    const now = document.querySelector("video").videoHeight;
    return above ? now < above : now === height;
  }, typeof height === "number" ? { height } : height, { timeout: NOTICE_MS, polling: 100 }));

/** Chooses a rung by the player's own means; `null` lets it choose. */
const choose = (page, player, height) => page.evaluate(({ player, height }) => {
  const inner = window.damson.inner;
  if (player === "hls") {
    inner.nextLevel = height === null ? -1 : inner.levels.findIndex((level) => level.height === height);
  } else if (player.startsWith("shaka")) {
    inner.configure({ abr: { enabled: height === null } });
    const tracks = inner.getVariantTracks();
    const language = tracks.find((track) => track.active)?.language;
    const track = tracks.find((track) => track.height === height && track.language === language);
    if (track) inner.selectVariantTrack(track, false);
  } else {
    inner.updateSettings({ streaming: { abr: { autoSwitchBitrate: { video: height === null } } } });
    const at = inner.getRepresentationsByType("video").find((r) => r.height === height);
    if (at) inner.setRepresentationForTypeById("video", at.id);
  }
}, { player, height });

async function watched(browser, node, player, body) {
  const page = await openPage(browser, node.http, { stream: "cam1", player }, SMALL);
  try {
    await untilPlaying(page, { timeout: 25_000, steady: 3 });
    return await body(page);
  } catch (error) {
    error.message += `\n${await report(page)}\n${node.child.log()}`;
    throw error;
  } finally {
    await page.context().close();
  }
}

/** Nothing has stopped or jumped since the mark, and no hole is in what came since: where Shaka begins in mid-GOP it may leave one. */
async function assertWhole(page, player, machine) {
  const s = await stats(page);
  const ranges = await page.evaluate((from) => {
    const { buffered } = document.querySelector("video");
    return Array.from(buffered, (_, i) => buffered.end(i)).filter((end) => end > from).length;
  }, s.currentTime - s.played);
  const seen = {
    seconds: s.seconds.toFixed(1), played: s.played.toFixed(1), stalls: s.stalls, jumps: s.jumps, buffer: s.buffer.toFixed(2),
    latency: s.latency?.toFixed(2), ranges,
  };
  console.log(`${player}: ${JSON.stringify({ ...seen, ...machine.seen() })}`);
  inTime(s.stalls === 0, `${player} stalled for ${s.stalledMs.toFixed(0)} ms`);
  inTime(s.jumps === 0, `${player} jumped`);
  assert.equal(ranges, 1, `${player}: a hole in its buffer`);
}

const switches = (browser, node, player) => watched(browser, node, player, async (page) => {
  const machine = watchMachine();
  await choose(page, player, TOP);
  await shows(page, TOP);
  await page.evaluate(() => window.damson.mark());
  for (const { height } of [RUNGS[2], RUNGS[0], RUNGS[1], RUNGS[2], RUNGS[0]]) {
    await choose(page, player, height);
    await shows(page, height);
  }
  await assertWhole(page, player, machine);
});

const adapts = (browser, node, player) => watched(browser, node, player, async (page) => {
  const line = await page.context().newCDPSession(page);
  await line.send("Network.enable");
  const widen = (bits) => line.send("Network.emulateNetworkConditions", {
    offline: false, latency: 0, downloadThroughput: bits === null ? -1 : bits / 8, uploadThroughput: -1,
  });
  await configure(page, player, { advanced: { droppedFramesBanDuration: BANNED_S } });
  // Where it begins is the player's own guess.
  await choose(page, player, TOP);
  await shows(page, TOP);
  await choose(page, player, null);
  const machine = watchMachine();
  await page.evaluate(() => window.damson.mark());
  await widen(NARROW);
  await shows(page, { above: TOP });
  await widen(null);
  await climb(page, player);
  await shows(page, TOP);
  await assertWhole(page, player, machine);
});
