// What may be repeated and skipped, and what may not; without a browser, and without a machine that is starved.
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { test } from "node:test";
import { within } from "./lib/browser.mjs";
import { ask } from "./lib/damson.mjs";
import { Deadline, inTime, unlessStarved } from "./lib/machine.mjs";
import { readPlaylist } from "./lib/playlist.mjs";
import { Child, scope } from "./lib/process.mjs";
import { parse, Recording } from "./lib/record.mjs";
import { RULES } from "./lib/rules.mjs";

/** Runs a body that throws what `tries` says, on a machine that is `starved` or not: `{ runs, skipped, error }`. */
async function outcome(starved, ...tries) {
  const seen = { runs: 0 };
  const t = { name: "a test", skip: (why) => { seen.skipped = why; } };
  await unlessStarved(t, async () => {
    const error = tries[seen.runs];
    seen.runs += 1;
    if (error) throw error;
  }, () => ({ seen: () => ({ starved }) })).catch((error) => { seen.error = error; });
  return seen;
}

test("only a Deadline on a starved machine is repeated, and skipped", async () => {
  const late = new Deadline("3 s\nand a log");
  assert.deepEqual(await outcome(true, undefined), { runs: 1 });
  assert.deepEqual(await outcome(true, late, undefined), { runs: 2 });
  const { runs, skipped, error } = await outcome(true, late, late);
  assert.deepEqual([runs, skipped, error], [2, 'not in time on a starved machine {"starved":true}: 3 s', undefined]);
  // A machine that had time for it.
  assert.deepEqual(await outcome(false, late), { runs: 1, error: late });
  // Whatever else it is.
  for (const wrong of [new Error("wrong bytes"), new assert.AssertionError({ message: "a broken rule" }), new TypeError("a fault of the test")]) {
    assert.deepEqual(await outcome(true, wrong), { runs: 1, error: wrong });
    assert.deepEqual(await outcome(true, late, wrong), { runs: 2, error: wrong });
  }
  assert.throws(() => inTime(false, "stalled"), Deadline);
  inTime(true, "");
});

/** A page that says these things, whose wait runs out of time, or fails otherwise. */
const failing = (said, events, name) => within({ said, asked: [], pending: new Map(), evaluate: async () => events }, "it doesn't play",
  Promise.reject(Object.assign(new Error("Timeout 1 ms exceeded"), { name })));

test("a page that waits is late, and one that is broken is broken", async () => {
  assert.equal(await within({}, "", Promise.resolve(7)), 7);
  await assert.rejects(failing([], [], "TimeoutError"), Deadline);
  await assert.rejects(failing(["log: hls.js · bufferStalledError"], ["stalled"], "TimeoutError"), Deadline);
  const isBroken = (error) => !(error instanceof Deadline) && /it doesn't play/.test(error.message);
  await assert.rejects(failing([], [], "Error"), isBroken);
  await assert.rejects(failing(["exception: TypeError"], [], "TimeoutError"), isBroken);
  for (const words of ["hls.js · levelParsingError", "hls.js · bufferAppendError", "Shaka · DASH_INVALID_XML", "dash.js · the manifest is malformed"]) {
    await assert.rejects(failing([], [words], "TimeoutError"), isBroken, words);
  }
});

/** A server that gives the same answer to everything. */
async function server(use, status, body) {
  const server = createServer((_, to) => to.writeHead(status).end(body));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  use({ close: () => new Promise((resolve) => server.close(resolve).closeAllConnections()) });
  return `http://127.0.0.1:${server.address().port}`;
}

test("an answer that is wrong isn't asked for again", () => scope(async (use) => {
  const url = await server(use, 200, "{ no JSON");
  await assert.rejects(ask(url, (_, text) => JSON.parse(text), 60_000), SyntaxError);
  await assert.rejects(ask(url, () => false, 50), Deadline);
  const broken = await new Recording("case", await server(use, 500, "broken"), "cam1").start().catch((error) => error);
  assert.ok(broken instanceof Error && !(broken instanceof Deadline), broken);
}));

test("a malformed playlist or MPD breaks a rule", async () => {
  const list = parse("#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:9.0,\n0.m4s\n");
  const c = { name: "case", index: "#EXTM3U\n", tracks: { video: { name: "video", lists: [list], deltas: [], bodies: new Map() } }, mpds: ["<MPD>"], late: "<MPD>" };
  const broken = (source, clause) => assert.throws(() => RULES[source][clause](c), (error) => !(error instanceof Deadline), clause);
  broken("rfc8216bis", "4.4.3.1 EXTINF, rounded, is at most EXT-X-TARGETDURATION, which never changes");
  broken("independent parsers", "hls-parser, strict");
  broken("independent parsers", "mpd-parser");
  assert.equal(readPlaylist(list.text).last, 0);
});

test("a process that is silent is late, and one that ended or panicked isn't", async () => {
  const node = (use, words) => use(new Child("node", process.execPath, ["-e", `console.log(${JSON.stringify(words)}); setInterval(() => {}, 1000)`]));
  await assert.rejects(scope(async (use) => node(use, "nothing").said(/ready/, 50)), Deadline);
  await assert.rejects(scope(async (use) => use(new Child("short", process.execPath, ["-e", ""])).said(/ready/)), (error) => !(error instanceof Deadline));
  for (const fails of [true, false]) {
    const panicked = scope(async (use) => {
      await node(use, "thread 'main' panicked at src/main.rs:1:1: no").said(/panicked/);
      inTime(!fails, "late, too");
    });
    await assert.rejects(panicked, (error) => !(error instanceof Deadline) && /panicked at src/.test(error.message));
  }
});

/** Where a timer bounds a wait, or lies between two questions of a bounded number. */
const TIMERS = ["damson.mjs", "process.mjs"];

test("tests wait for events, not for a time", async () => {
  const folder = new URL(".", import.meta.url);
  for (const file of await readdir(folder, { recursive: true })) {
    if (!file.endsWith(".mjs") || file.startsWith("node_modules") || TIMERS.some((name) => file === `lib/${name}`)) continue;
    const text = await readFile(new URL(file, folder), "utf8");
    assert.ok(!/\bsetTimeout\(|from "node:timers/.test(text) || file === "machine.test.mjs", `${file} has a timer of its own`);
  }
});
