// What an edge tells of itself (CMSD, Server-Timing) doesn't change what Shaka takes the line for, nor does Shaka take our own keys
// for advice when it is told to follow CMSD.
import assert from "node:assert/strict";
import { test } from "node:test";
import { launch } from "./lib/browser.mjs";
import { makeCa, push, startNode, untilLive } from "./lib/damson.mjs";
import { unlessStarved } from "./lib/machine.mjs";
import { scope } from "./lib/process.mjs";

const STREAM = "cam1";
/** The line of each player. The newest segment comes as it is made, so what is measured is nearer to the stream's rate. */
const LINE_BPS = 8e6;
/** The estimates may differ by this: what the two players' requests cost besides differs, too. */
const APART = 0.15;
/** What Shaka says before it has measured. */
const DEFAULT_BPS = 1e6;
/** Segments of pictures that each player loads. */
const SEGMENTS = 8;

test("Shaka's estimate is the same with CMSD and without", { timeout: 180_000 }, (t) => unlessStarved(t, () => scope(async (use) => {
  const ca = await makeCa(use);
  const ingest = await startNode(use, ca, "ingest", { rtmp: true });
  const edges = {};
  for (const tracing of ["on", "off"]) {
    edges[tracing] = (await startNode(use, ca, `edge-${tracing}`, { join: [ingest.mesh], args: ["--tracing", tracing] })).http;
  }
  push(use, `${ingest.rtmp}/${STREAM}`);
  for (const edge of Object.values(edges)) await untilLive(edge, STREAM, { segments: 6 });
  const browser = use(await launch());
  const [on, off] = await Promise.all(["on", "off"].map((tracing) => watch(browser, edges[tracing])));

  assert.ok(on.headers.every(Boolean) && !off.headers.some(Boolean), "one edge tells of the way, the other doesn't");
  // What Shaka counts are the bytes of bodies, of each segment the same at both edges.
  const same = [...on.counted].filter(([path]) => off.counted.has(path));
  assert.ok(same.length >= 4, `both have loaded ${same.length} segments`);
  for (const [path, bytes] of same) assert.equal(bytes, off.counted.get(path), path);
  for (const { counted, bodies } of [on, off]) assert.deepEqual(counted, bodies);

  const mbps = (bps) => `${(bps / 1e6).toFixed(2)} Mb/s`;
  console.log(`with CMSD, and told to follow it: ${mbps(on.estimate)}; without: ${mbps(off.estimate)}; the line: ${mbps(LINE_BPS)}`);
  assert.ok([on, off].every(({ estimate }) => estimate !== DEFAULT_BPS), "both have measured");
  assert.ok(Math.abs(on.estimate / off.estimate - 1) < APART, `${mbps(on.estimate)} with CMSD, ${mbps(off.estimate)} without`);
})));

/** Plays at an edge over a narrow line, in a Shaka that believes CMSD alone where that says something. */
async function watch(browser, edge) {
  const page = await (await browser.newContext()).newPage();
  await page.goto(`${edge}/healthz`);
  const line = await page.context().newCDPSession(page);
  await line.send("Network.emulateNetworkConditions", {
    offline: false, latency: 10, downloadThroughput: LINE_BPS / 8, uploadThroughput: LINE_BPS / 8,
  });
  const seen = await page.evaluate(async ({ manifest, wanted }) => {
    const { library } = await import("/player/sources.js");
    const shaka = await library("shaka");
    shaka.polyfill.installAll();
    const seen = { counted: [], bodies: [], headers: [] };
    const isSegment = (name) => /\/\d+\.m4s$/.test(name);
    const path = (request) => new URL(request.uris[0]).pathname;
    class Told extends shaka.abr.SimpleAbrManager {
      segmentDownloaded(ms, bytes, allowed, request, ...rest) {
        if (request && isSegment(path(request))) seen.counted.push([path(request), bytes]);
        super.segmentDownloaded(ms, bytes, allowed, request, ...rest);
      }
    }
    const player = new shaka.Player();
    player.configure({
      abrFactory: () => new Told(),
      streaming: { lowLatencyMode: false, autoLowLatencyMode: false },
      cmsd: { enabled: true, applyMaximumSuggestedBitrate: true, estimatedThroughputWeightRatio: 1 },
    });
    const { RequestType } = shaka.net.NetworkingEngine;
    const loaded = new Promise((resolve) => {
      player.getNetworkingEngine().registerResponseFilter((type, { uri, data, headers }) => {
        const name = new URL(uri).pathname;
        if (type !== RequestType.SEGMENT || !isSegment(name)) return;
        seen.bodies.push([name, data.byteLength]);
        seen.headers.push("cmsd-dynamic" in headers && "cmsd-static" in headers && "server-timing" in headers);
        if (seen.bodies.filter(([name]) => name.includes("/video/")).length >= wanted) resolve();
      });
    });
    const video = document.body.appendChild(document.createElement("video"));
    video.muted = true;
    await player.attach(video);
    await player.load(manifest);
    video.play();
    await loaded;
    // What is told of the last one comes after its filter.
    const sum = (list) => list.reduce((sum, [, bytes]) => sum + bytes, 0);
    for (let frames = 0; frames < 300 && sum(seen.counted) < sum(seen.bodies); frames++) await new Promise(requestAnimationFrame);
    seen.estimate = player.getStats().estimatedBandwidth;
    await player.destroy();
    return seen;
  }, { manifest: `${edge}/${STREAM}/manifest.mpd`, wanted: SEGMENTS });
  await page.context().close();
  // A large one is counted in pieces, as they come; what came after the last one was whole isn't looked at.
  const counted = new Map();
  for (const [path, bytes] of seen.counted) counted.set(path, (counted.get(path) ?? 0) + bytes);
  const bodies = new Map(seen.bodies);
  for (const path of counted.keys()) if (!bodies.has(path)) counted.delete(path);
  const sorted = (map) => new Map([...map].sort());
  return { ...seen, counted: sorted(counted), bodies: sorted(bodies) };
}
