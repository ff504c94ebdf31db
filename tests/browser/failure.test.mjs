// A middle node of six is killed with SIGKILL: every surviving edge has every part soon, and players don't stop.
//
//   a -- b -- d -- f        each node knows two or three others, so that the tree can heal
//    \  / \  / \  /
//     c -- e ---
import assert from "node:assert/strict";
import { test } from "node:test";
import { assertSmooth, launch, openPage, report, SMALL, stretch, untilPlaying } from "./lib/browser.mjs";
import { ask, makeCa, push, startNode, untilLive } from "./lib/damson.mjs";
import { inTime, unlessStarved } from "./lib/machine.mjs";
import { readPlaylist } from "./lib/playlist.mjs";
import { scope } from "./lib/process.mjs";

const LADDER = { a: [], b: ["a"], c: ["a", "b"], d: ["b", "c"], e: ["c", "d"], f: ["d", "e"] };
const HEAL_MS = 3000;
const WATCH_S = 10;

test("players go on when a middle node is killed", { timeout: 600_000 }, (t) => unlessStarved(t, () => scope(async (use) => {
  const ca = await makeCa(use);
  const nodes = {};
  for (const [name, peers] of Object.entries(LADDER)) {
    nodes[name] = await startNode(use, ca, name, { join: peers.map((p) => nodes[p].mesh), rtmp: name === "a" });
  }
  push(use, `${nodes.a.rtmp}/cam1`);
  for (const node of Object.values(nodes)) await untilLive(node.http, "cam1");

  // The node through which f gets its parts now, other than the ingest.
  const trace = await ask(`${nodes.f.http}/api/v1/streams/cam1/trace?track=video`, (r, text) => r.ok && JSON.parse(text).hops.length >= 2 && JSON.parse(text));
  const middle = trace.hops[1].name;
  assert.ok(middle in nodes && middle !== "a" && middle !== "f", `the middle of ${trace.hops.map((h) => h.name)}`);
  const survivors = Object.values(nodes).filter((n) => n.name !== middle);

  const browser = use(await launch());
  const pages = [];
  for (const [node, player] of [[nodes.f, "hls"], [nodes[middle === "e" ? "d" : "e"], "shaka-hls"]]) {
    pages.push({ node, player, page: await openPage(browser, node.http, { stream: "cam1", player }, SMALL) });
  }
  try {
    for (const { page } of pages) await untilPlaying(page, { steady: 4 });
    const stretches = await Promise.all(pages.map(({ page, node }) => stretch(page, node.http, "cam1")));

    const at = readPlaylist(await ask(`${nodes.a.http}/cam1/video/playlist.m3u8`));
    await nodes[middle].child.kill("SIGKILL");
    const killed = Date.now();
    // A part that is published after the kill: how long until each survivor has it, for both tracks.
    const late = await Promise.all(survivors.flatMap((node) => ["video", "audio"].map((track) => firstAfter(node, track, at, killed))));
    const slowest = late.reduce((m, l) => (l.ms > m.ms ? l : m));
    console.log(`killed ${middle}; the last survivor went on ${slowest.ms} ms after (${slowest.node}, ${slowest.track})`);
    inTime(slowest.ms < HEAL_MS, "every surviving edge goes on within 3 s");

    for (const s of stretches) assertSmooth(await s.after(WATCH_S));
    for (const node of survivors) {
      const now = readPlaylist(await ask(`${node.http}/cam1/video/playlist.m3u8`));
      assert.equal(now.gaps, 0, `${node.name} lists a gap`);
      assert.deepEqual(now.discontinuities, [], `${node.name} lists a discontinuity`);
    }
  } catch (error) {
    for (const { page, player } of pages) error.message += `\n${player}: ${await report(page)}`;
    throw error;
  }
})));

/** When a node lists the part two after those that the ingest had at the kill: a blocking reload, as a player does it. */
async function firstAfter(node, track, { last, open }, killed) {
  await ask(`${node.http}/cam1/${track}/playlist.m3u8?_HLS_msn=${last + 1}&_HLS_part=${open + 2}`);
  return { node: node.name, track, ms: Date.now() - killed };
}
