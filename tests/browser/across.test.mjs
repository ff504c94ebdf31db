// Players two hops away play across a discontinuity, and don't notice; nor does one that is sent to another edge at each request.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { Agent, createServer, request } from "node:http";
import { test } from "node:test";
import { promisify } from "node:util";
import { assertSmooth, events, launch, openPage, report, SMALL, stretch, untilPlaying } from "./lib/browser.mjs";
import { ask, makeFilm, push, startLine, untilLive } from "./lib/damson.mjs";
import { unlessStarved, watchMachine } from "./lib/machine.mjs";
import { readPlaylist } from "./lib/playlist.mjs";
import { scope } from "./lib/process.mjs";

/** The discontinuity comes so long after the start. */
const BEFORE_S = 3;
/** How long each is watched: some seconds more than a player is behind the live edge, so that it is across. SECONDS=60 is longer. */
const seconds = (player) => Number(process.env.SECONDS ?? (["native", "hls-plain"].includes(player) ? 14 : 10));
/** How much of it readers read, from three segments behind the live edge on. */
const READ_S = Number(process.env.SECONDS ?? 14);
/** A player that is late by so much of what came has lost something: a segment of 2 s, for players of whole ones. */
const STEPS = { hls: 0.5, "shaka-hls": 0.5, "shaka-dash": 2, dash: 2, native: 2, "hls-plain": 2 };
/**
 * dash.js (5.2) learns of a period when it reads the MPD again, once a second, and then stands for as long as nobody had pushed: of
 * 20 runs most stood for 0.2 to 0.45 s, the longest for 0.66 s. Without a period it wouldn't go on at all.
 */
const STANDING_MS = { dash: 1000 };
/** PLAYERS=dash,mpv tests only these. mpv is tested where it is asked for: it isn't installed for this alone. */
const CHOSEN = process.env.PLAYERS?.split(",") ?? ["hls", "shaka-hls", "shaka-dash", "dash", "hls-plain", "native", "ffmpeg", "any edge"];

// Two at a time, each with a stream of its own: one takes a quarter of two processors.
test("players play across a discontinuity, two hops away", { timeout: 1_500_000, concurrency: 2 }, (t) => scope(async (use) => {
  const film = await makeFilm(90);
  const nodes = await startLine(use, ["a", "b", "c"]);
  const browser = use(await launch());
  const publish = (stream) => push(use, `${nodes[0].rtmp}/${stream}`, film);
  const watch = { browser, nodes, publish };
  // All streams are live by the time their players come.
  const early = new Map(CHOSEN.map((player, n) => [player, { stream: `s${n}`, first: publish(`s${n}`) }]));
  await Promise.all(CHOSEN.map((player, n) => t.test(player, (t) => unlessStarved(t, () => {
    const again = `s${n}-${Date.now()}`;
    const life = early.get(player) ?? { stream: again, first: publish(again) };
    early.delete(player);
    if (player === "ffmpeg") return reads(watch, life, readByFfmpeg);
    if (player === "mpv") return reads(watch, life, playByMpv);
    return scope(async (inner) => {
      const origin = player === "any edge" ? inner(await anyEdge(nodes)).url : nodes[2].http;
      await plays(watch, life, origin, player === "any edge" ? "hls" : player);
    });
  }))));
}));

/** How often the page has started its player. */
const starts = (said) => said.filter((w) => / start: /.test(w)).length;

/** Another push from the same address takes the stream over: a discontinuity. */
async function takeOver({ publish }, { stream, first }) {
  const second = publish(stream);
  await first.ended;
  return second;
}

async function plays(watch, life, origin, player) {
  const { stream, first } = life;
  await untilLive(watch.nodes[2].http, stream);
  const page = await openPage(watch.browser, origin, { stream, player }, SMALL);
  let second = null;
  try {
    await untilPlaying(page, { timeout: 30_000, steady: 4 });
    // Shaka's LL-HLS sometimes fails while it loads a young stream, and the page starts it again.
    const begun = starts(await events(page));
    const machine = watchMachine();
    const s = await stretch(page, watch.nodes[2].http, stream);
    await s.after(BEFORE_S);
    second = await takeOver(watch, life);
    const seen = await s.after(seconds(player));
    const playlist = await ask(`${watch.nodes[2].http}/${stream}/video/playlist.m3u8`);
    const { latency, came, played, stalls, jumps, dropped } = seen;
    const figures = { latency: latency?.toFixed(2), came: came.toFixed(2), played: played.toFixed(2), stalls, jumps, dropped };
    console.log(`${player}: ${JSON.stringify({ ...figures, ...machine.seen() })}`);
    // Listed, or gone with its segment and counted.
    const counted = Number(/^#EXT-X-DISCONTINUITY-SEQUENCE:(\d+)/m.exec(playlist)?.[1] ?? 0);
    assert.equal(counted + readPlaylist(playlist).discontinuities.length, 1);
    assertSmooth(seen, player, STEPS[player], STANDING_MS[player]);
    const said = await events(page);
    assert.equal(starts(said), begun, said.join("\n"));
  } catch (error) {
    error.message += `\n${await report(page)}`;
    throw error;
  } finally {
    await page.context().close();
    await (second ?? first).kill();
  }
}

/** HLS and DASH are read, across the discontinuity, without a word of a fault: `read(url)` gives what was said, and the frames. */
async function reads(watch, life, read) {
  const { stream } = life;
  await untilLive(watch.nodes[2].http, stream);
  const reading = Promise.all(["index.m3u8", "manifest.mpd"].map((path) => read(`${watch.nodes[2].http}/${stream}/${path}`)));
  // Another segment: they are in the midst of it.
  const playlist = `${watch.nodes[2].http}/${stream}/video/playlist.m3u8`;
  const { last } = readPlaylist(await ask(playlist));
  await ask(`${playlist}?_HLS_msn=${last + 2}`);
  const second = await takeOver(watch, life);
  try {
    for (const { said, frames } of await reading) {
      assert.equal(said, "");
      assert.ok(frames >= READ_S * 30 * 0.9, `${frames} frames in ${READ_S} s`);
    }
  } finally {
    await second.kill();
  }
}

async function readByFfmpeg(url) {
  const { stdout, stderr } = await promisify(execFile)("ffmpeg", [
    "-v", "error", "-nostdin", "-i", url, "-t", String(READ_S), "-map", "0:v", "-map", "0:a", "-f", "null", "-progress", "-", "-",
  ]);
  return { said: stderr, frames: Number([...stdout.matchAll(/^frame=\s*(\d+)/gm)].at(-1)[1]) };
}

/** It ends by itself after so many frames, shown in their time. */
async function playByMpv(url) {
  const frames = READ_S * 30;
  const { stdout, stderr } = await promisify(execFile)("mpv", [
    "--no-config", "--vo=null", "--ao=null", "--no-terminal", "--msg-level=all=error", `--frames=${frames}`, url,
  ], { timeout: (READ_S + 60) * 1000 });
  return { said: stdout + stderr, frames };
}

/** Sends each request to any of the edges, at random. */
async function anyEdge(nodes) {
  const agent = new Agent({ keepAlive: true });
  const asked = nodes.map(() => 0);
  const server = createServer((from, to) => {
    const n = Math.floor(Math.random() * nodes.length);
    asked[n] += 1;
    const onward = request(nodes[n].http + from.url, { agent, method: from.method, headers: from.headers }, (answer) => {
      to.writeHead(answer.statusCode, answer.headers);
      answer.pipe(to);
    });
    onward.on("error", () => to.destroy());
    to.on("close", () => onward.destroy());
    from.pipe(onward);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close() {
      console.log(`requests to each edge: ${asked}`);
      assert.ok(asked.every((n) => n > 20), "every edge was asked");
      agent.destroy();
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}
