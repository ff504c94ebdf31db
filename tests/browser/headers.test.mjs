// What a part's and a segment's headers tell, read by SVTA's own CMSD decoder, is what the edge's trace tells.
import { decodeCmsdDynamic, decodeCmsdStatic } from "@svta/cml-cmsd";
import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, push, startLine, untilLive } from "./lib/damson.mjs";
import { inTime, unlessStarved } from "./lib/machine.mjs";
import { scope } from "./lib/process.mjs";

const STREAM = "cam1";

test("a CMSD decoder reads what an edge says", { timeout: 300_000 }, (t) => unlessStarved(t, () => scope(async (use) => {
  const nodes = await startLine(use, ["a", "b", "c"]);
  push(use, `${nodes[0].rtmp}/${STREAM}`);
  const edge = nodes[2].http;
  await untilLive(edge, STREAM);

  for (const track of ["video", "audio"]) {
    const trace = JSON.parse(await ask(`${edge}/api/v1/streams/${STREAM}/trace?track=${track}`));
    const part = await said(`${edge}/${STREAM}/${track}/${trace.msn}.${trace.part}.m4s`);
    staticOf(part.fixed, track, [trace.duration_us / 1000, trace.duration_us / 1000]);
    assert.equal(part.fixed.at, Math.floor(trace.ingested_unix_us / 1000), "it was made available then, at the ingest");
    assert.equal(part.fixed.ht, 0, "nobody waited");
    dynamicOf(part.dynamic, trace);

    // A segment's are those of its last part.
    const [, msn] = [...(await ask(`${edge}/${STREAM}/${track}/playlist.m3u8`)).matchAll(/\n(\d+)\.m4s\n/g)].at(-1);
    const whole = await said(`${edge}/${STREAM}/${track}/${msn}.m4s`);
    staticOf(whole.fixed, track, [1900, 2100]);
    const parts = JSON.parse(await ask(`${edge}/api/v1/streams/${STREAM}/trace?track=${track}`)).parts.filter((p) => p.msn === Number(msn));
    if (parts.length > 0) dynamicOf(whole.dynamic, parts.at(-1));
  }

  // One that isn't there yet: `ht` is how long it was held.
  const next = await ask(`${edge}/${STREAM}/video/playlist.m3u8`);
  const [, hint] = /PRELOAD-HINT:TYPE=PART,URI="([^"]+)"/.exec(next);
  const held = await said(new URL(hint, `${edge}/${STREAM}/video/`).href);
  inTime(held.fixed.ht > 0 && held.fixed.ht < 1000, `held for ${held.fixed.ht} ms`);
  assert.ok(Math.abs(held.fixed.ht - held.timing.held) < 1, `${held.fixed.ht} ms by CMSD, ${held.timing.held} ms by Server-Timing`);
})));

/** What a response says of itself: CMSD as decoded, and the durations of Server-Timing by name. */
async function said(url) {
  const response = await fetch(url);
  await response.arrayBuffer();
  assert.equal(response.status, 200, url);
  const fixed = decodeCmsdStatic(response.headers.get("cmsd-static"));
  const dynamic = decodeCmsdDynamic(response.headers.get("cmsd-dynamic"));
  const metrics = response.headers.get("server-timing").split(", ").map((m) => /^([a-z\d]+);dur=(-?[\d.]+)/.exec(m));
  return { fixed, dynamic, timing: Object.fromEntries(metrics.map(([, name, ms]) => [name, Number(ms)])) };
}

/** CTA-5006: each key that there is, by name, and no other. */
function staticOf(fixed, track, [shortest, longest]) {
  assert.deepEqual(Object.keys(fixed).sort(), ["at", "br", "d", "ht", "n", "ot", "st"]);
  assert.equal(fixed.n, "a", "the origin's name");
  assert.equal(fixed.ot, track === "video" ? "v" : "a");
  assert.equal(fixed.st, "l");
  assert.ok(Number.isInteger(fixed.br) && fixed.br > 0, `${fixed.br} kb/s`);
  assert.ok(fixed.d >= Math.floor(shortest) && fixed.d <= longest, `${fixed.d} ms long, not ${shortest} to ${longest}`);
}

/** One entry a node, the origin first, with the stages of the trace as our own keys, in milliseconds. */
function dynamicOf(dynamic, trace) {
  const ms = (us) => us / 1000;
  const expected = [
    ...trace.hops.map(({ name, dwell_us, queue_us, transit_us }, i) => [name, {
      ...(i === 0 && { "damson-packaging": ms(trace.packaging_us) }),
      "damson-dwell": ms(dwell_us), "damson-queue": ms(queue_us), "damson-transit": ms(transit_us),
    }]),
    [trace.edge.name, { "damson-tail": ms(trace.receive_tail_us), "damson-listing": ms(trace.listing_us) }],
  ];
  assert.deepEqual(dynamic.map(({ value, params }) => [value, params]), expected);
  assert.deepEqual(dynamic.map(({ value }) => value), ["a", "b", "c"]);
}
