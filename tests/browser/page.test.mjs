// The page by itself: what it reads out of playlists and traces, and what it says when all isn't well.
import assert from "node:assert/strict";
import { test } from "node:test";
import { micros, ticks } from "../../player-demo/page/dom.js";
import { MediaTiming } from "../../player-demo/page/media-timing.js";
import { PartFinder, parsePlaylist } from "../../player-demo/page/part-finder.js";
import { layersOf } from "../../player-demo/page/stack-chart.js";
import { rows } from "../../player-demo/page/stages.js";
import { launch, openPage, within } from "./lib/browser.mjs";
import { fakeEdge } from "./lib/fake-edge.mjs";
import { unlessStarved } from "./lib/machine.mjs";
import { scope } from "./lib/process.mjs";

const PLAYLIST = `#EXTM3U
#EXT-X-TARGETDURATION:2
#EXT-X-PART-INF:PART-TARGET=1.0
#EXT-X-MEDIA-SEQUENCE:70
#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z
#EXTINF:2.0,
70.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:02.000Z
#EXT-X-PART:DURATION=1.0,URI="71.0.m4s",INDEPENDENT=YES
#EXT-X-PART:URI="71.1.m4s",DURATION=1.0
#EXTINF:2.0,
71.m4s
#EXT-X-DISCONTINUITY
#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:01:00.000Z
#EXT-X-PART:DURATION=1.0,URI="72.0.m4s"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="72.1.m4s"
`;

test("the part on screen is found by its date", () => {
  const finder = new PartFinder("");
  for (const segment of parsePlaylist(PLAYLIST)) finder.segments.set(segment.msn, segment);
  const check = (time, expected) => {
    const found = finder.lookup(Date.parse(`2026-01-01T00:${time}Z`));
    assert.deepEqual(found && [found.msn, found.part], expected, time);
  };
  check("00:02.000", [71, 0]);
  check("00:03.500", [71, 1]);
  check("01:00.999", [72, 0]);
  check("00:00.500", [70, 0]); // its parts have left the playlist
  check("00:04.000", null); // between: the stream had stopped
  check("01:01.000", null); // not there yet
});

test("a trace's stages follow one another and add up", () => {
  const stage = (stage, hop, name, us, to) => ({ stage, hop, name, us, ...(to && { to: { name: to } }) });
  const trace = { hops: [{ uncertainty_us: 40 }, { uncertainty_us: 50 }], stages: [
    stage("packaging", 0, "in", 33), stage("dwell", 0, "in", 300), stage("queue", 0, "in", 7), stage("transit", 0, "in", 400, "e1"),
    stage("dwell", 1, "e1", 50), stage("queue", 1, "e1", 3), stage("transit", 1, "e1", -20, "e2"), stage("tail", 2, "e2", 90), stage("listing", 2, "e2", 1),
  ] };
  const here = [{ stage: "arrive", us: 11 }, { stage: "buffer", us: 900 }];
  assert.deepEqual(rows(trace, here).map((r) => [r.where, r.stage, r.from, r.us, r.uncertainty_us]), [
    ["in", "packaging", 0, 33, null], ["in", "dwell", 33, 307, null], ["in → e1", "transit", 340, 400, 40], ["e1", "dwell", 740, 53, null],
    // Below zero, within its uncertainty: the next stage begins before it, and the sum is right.
    ["e1 → e2", "transit", 793, -20, 50], ["e2", "tail", 773, 91, null],
    ["this page", "arrive", 864, 11, null], ["this page", "buffer", 875, 900, null],
  ]);
  const colours = rows(trace).map((r) => r.colour);
  assert.equal(new Set(colours).size, colours.length, `hops can be told apart: ${colours}`);
  assert.deepEqual(rows({ edge: { name: "in" } }), [], "an edge that has no stages");
  // The chart has the same stages; what is left of the time since the listing is the last one's.
  const layers = layersOf(trace, 5000, here, 700);
  assert.deepEqual(layers.map(({ label, us }) => [label, us]), [
    ["filling", 5000], ["in: packaging", 33], ["in: dwell", 307], ["in → e1: transit", 400], ["e1: dwell", 53], ["e1 → e2: transit", -20],
    ["e2: tail", 91], ["player: arrive", 11], ["player: buffer", 689],
  ]);
});

test("figures and axes are round", () => {
  assert.deepEqual([12, 1234, 45_600, 123_456, 2e6, NaN].map(micros), ["12 µs", "1.23 ms", "45.6 ms", "123 ms", "2.00 s", "–"]);
  assert.deepEqual(ticks(111_000), [0, 50_000, 100_000, 150_000]);
  assert.deepEqual(ticks(1_190_000, 4), [0, 500_000, 1_000_000, 1_500_000]);
  assert.deepEqual(ticks(0), [0]);
});

test("the page's own stages of a part add up", () => {
  const timing = new MediaTiming();
  const urls = { part: "http://edge/cam1/video/7.1.m4s", segment: "http://edge/cam1/video/7.m4s" };
  // A part of 10.2 to 10.4 s of the media, listed at 1000; the frame of 10.25 s was seen at 1900.
  const stages = (upTo = null) => timing.stages({ listed: 1000, urls, upTo, middle: 10.3, end: 10.4, position: 10.26, rate: 1, now: 1920 })
    .map(({ stage, us }) => [stage, Math.round(us)]);
  assert.deepEqual(stages(), [["player", 1_060_000]], "nothing was seen of it");
  timing.frame = { media: 10.25, at: 1900 };
  assert.deepEqual(stages(), [["player", 1_050_000]]);

  for (const [ended, end] of [[800, 10.2], [1030, 10.4], [1230, 10.6]]) timing.appended({ called: ended - 10, ended, ranges: [[4, end]] });
  assert.deepEqual(stages(), [["arrive", 20_000], ["append", 10_000], ["buffer", 1_020_000]], "the browser tells of no request");

  // The segment was asked for before the part was there, and is read as it grows.
  Object.assign(timing.file(urls.segment), { asked: 790, pieces: [{ at: 795, total: 500 }, { at: 1012, total: 900 }, { at: 1018, total: 1000 }] });
  assert.deepEqual(stages(1000), [["idle", 0], ["arrive", 18_000], ["append", 12_000], ["buffer", 1_020_000]]);
  // Asked for by its own name, late.
  Object.assign(timing.file(urls.part), { asked: 1004, done: 1011 });
  assert.deepEqual(stages(1000), [["idle", 4_000], ["arrive", 7_000], ["append", 19_000], ["buffer", 1_020_000]]);
  assert.equal(stages().reduce((sum, [, us]) => sum + us, 0), 1_050_000);

  // What came anew after it had been given up, and what only the oldest append that is remembered may have brought.
  timing.appended({ called: 1300, ended: 1310, ranges: [[4, 10.2]] });
  timing.appended({ called: 1400, ended: 1410, ranges: [[4, 10.6]] });
  assert.deepEqual(stages().at(-1), ["buffer", 640_000]);
  timing.appends = timing.appends.slice(-1);
  assert.deepEqual(stages(), [["player", 1_050_000]]);
});

/** Waits until the page's message has these words. */
const says = (page, words) => within(page, `it doesn't say "${words}"`, page.locator("#message").getByText(words).waitFor());

test("the page says what is wrong, in words", { timeout: 300_000 }, (t) => unlessStarved(t, () => scope(async (use) => {
  const browser = use(await launch());
  const edge = use(await fakeEdge());

  const empty = await openPage(browser, edge.url);
  await says(empty, "No stream is live here yet");
  assert.ok(await empty.locator("#cdn").isHidden(), "the players are in the binary");

  // The stream comes: the page starts by itself, and says that the edge has no player's library.
  edge.streams = [{ name: "cam1", live: true, tracks: [] }];
  await says(empty, "could not be loaded");

  const down = await openPage(browser, edge.url, { edge: "http://127.0.0.1:1" });
  await says(down, "This edge does not answer");

  const nonsense = await openPage(browser, edge.url, { edge: "no address" });
  await says(nonsense, "Not an address");
})));

test("what the browser can't decode is named", { timeout: 300_000 }, (t) => unlessStarved(t, () => scope(async (use) => {
  const browser = use(await launch());
  const cam = (video, audio) => [{ name: "cam1", live: true, tracks: [
    { name: "video", codec: video, width: 320, height: 180 }, ...audio.map((codec, n) => ({ name: `audio${n}`, codec })),
  ] }];
  const edge = use(await fakeEdge({ streams: cam("hvc1.1.6.L93.B0", ["ac-3"]) }));
  const page = await openPage(browser, edge.url);
  await says(page, "This browser cannot play the stream");
  await says(page, "It does not decode H.265 (HEVC) and AC-3.");
  assert.ok(!edge.asked.some((path) => path.includes("hls.min.js")), "no player is started");
  // With a sound beside it that is decoded, that is enough; and the page comes to it by itself.
  edge.streams = cam("av01.0.00M.08", ["ec-3", "opus"]);
  await says(page, "could not be loaded");
})));

test("without npm the page names the CDN", { timeout: 300_000 }, (t) => unlessStarved(t, () => scope(async (use) => {
  const browser = use(await launch());
  const edge = use(await fakeEdge({ embedded: false, streams: [{ name: "cam1", live: true, tracks: [] }] }));
  const asked = [];
  const tamper = (route) => {
    asked.push(route.request().url());
    return route.fulfill({ body: "tampered()", contentType: "text/javascript", headers: { "Access-Control-Allow-Origin": "*" } });
  };
  const page = await openPage(browser, edge.url, {}, { prepare: (context) => context.route("https://cdn.jsdelivr.net/**", tamper) });
  await within(page, "the CDN isn't named", page.locator("#cdn").waitFor({ state: "visible" }));
  await says(page, "could not be loaded");
  assert.match(asked[0], /\/npm\/hls\.js@\d+\.\d+\.\d+\/dist\/hls\.min\.js$/);
  assert.ok(page.said.some((s) => /integrity/.test(s)), `a changed library is refused: ${page.said.join("\n")}`);
})));

test("the page fits a phone, and every control has a name", { timeout: 300_000 }, (t) => unlessStarved(t, () => scope(async (use) => {
  const browser = use(await launch());
  const edge = use(await fakeEdge());
  const page = await openPage(browser, edge.url, {}, { viewport: { width: 360, height: 740 } });
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= 360, `${width} px wide`);
  const nameless = await page.evaluate(() => [...document.querySelectorAll("select, input, button")]
    .filter((e) => !e.labels?.length && !e.getAttribute("aria-label")).map((e) => e.outerHTML));
  assert.deepEqual(nameless, []);
})));
