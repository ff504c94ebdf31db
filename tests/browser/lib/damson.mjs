// damson processes: a demo, a node, a cluster; and ffmpeg, which pushes to them.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Deadline } from "./machine.mjs";
import { Child } from "./process.mjs";

const run = promisify(execFile);
const ROOT = join(dirname(fileURLToPath(import.meta.url)), "../../..");
export const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");

/** 720p30 with B-frames and AAC, 16 s with 2 s GOPs: fixtures/README.md. */
export const FILM = join(ROOT, "fixtures/media/plum-720p30.mp4");

/** The program to test: `DAMSON_BIN`, or what cargo built, release first. */
export function binary() {
  const candidates = [process.env.DAMSON_BIN, join(TARGET, "release/damson"), join(TARGET, "debug/damson")];
  const found = candidates.find((path) => path && existsSync(path));
  if (!found) throw new Error(`no damson to test; build it (cargo build --release) or set DAMSON_BIN. Looked at ${candidates.filter(Boolean).join(", ")}`);
  return found;
}

const env = { ...process.env, RUST_LOG: process.env.RUST_LOG ?? "damson=info,warn" };

/** `damson demo` on any free ports; `page` is the last edge's URL. */
export async function startDemo(use, args = []) {
  const child = use(new Child("demo", binary(), ["demo", "--http", "127.0.0.1:0", "--rtmp", "127.0.0.1:0", ...args], { env }));
  const page = (await child.said(/watch\s+(http:\/\/\S+?)\/?$/))[1];
  await child.said(/stop\s+Ctrl-C/);
  const edges = {};
  for (const line of child.lines) {
    const [, name, url] = /^\s+(ingest|edge\d+)\s+(http:\/\/\S+?)\/?$/.exec(line) ?? [];
    if (name) edges[name] = url;
  }
  return { child, page, edges };
}

/** A cluster's CA in a temporary folder. */
export async function makeCa(use) {
  const dir = await mkdtemp(join(tmpdir(), "damson-ca-"));
  use({ close: () => rm(dir, { recursive: true, force: true }) });
  await run(binary(), ["pki", "init", dir]);
  return {
    async issue(name) {
      await run(binary(), ["pki", "issue", dir, name]);
      return join(dir, name);
    },
  };
}

/** `damson node`; gives its addresses once it has said them. */
export async function startNode(use, ca, name, { join: peers = [], topology = "static", rtmp = false, args = [] } = {}) {
  const identity = await ca.issue(name);
  const child = use(new Child(name, binary(), [
    "node", "--name", name, "--identity", identity, "--mesh", "127.0.0.1:0", "--topology", topology,
    ...peers.flatMap((peer) => ["--join", peer]),
    "--rtmp", rtmp ? "127.0.0.1:0" : "off", "--http", "127.0.0.1:0", ...args,
  ], { env }));
  const http = (await child.said(/^\s*http\s+(http:\/\/\S+?)\/?$/))[1];
  const mesh = (await child.said(/^\s*mesh\s+(\S+)/))[1];
  const push = rtmp ? (await child.said(/^\s*rtmp\s+rtmp:\/\/([^/\s]+)/))[1] : null;
  return { name, child, http, mesh, rtmp: push && `rtmp://${push}/live` };
}

/** Nodes in a line, the ingest first; each joins the one before it, and takes `args`, the ingest `first`, too. */
export async function startLine(use, names, { args = [], first = [] } = {}) {
  const ca = await makeCa(use);
  const nodes = [];
  for (const name of names) {
    nodes.push(await startNode(use, ca, name, { join: nodes.slice(-1).map((n) => n.mesh), rtmp: nodes.length === 0, args: nodes.length === 0 ? [...args, ...first] : args }));
  }
  return nodes;
}

/** ffmpeg, pushing the film in real time for ever, nothing encoded anew. */
export function push(use, url, file = FILM) {
  return use(new Child("ffmpeg", "ffmpeg", [
    "-hide_banner", "-loglevel", "warning", "-nostdin", "-re", "-stream_loop", "-1", "-i", file, "-c", "copy", "-f", "flv", url,
  ]));
}

/** A picture that carries the time of its making, encoded as it goes. */
export function pushTimecode(use, url) {
  return use(new Child("timecode", join(ROOT, "fixtures/timecode.sh"), [url]));
}

/**
 * A film of so many seconds, quick to decode: 320x180 at 30 fps with a keyframe every `gop` frames, or at the
 * seconds `keys`, so many B-frames in a row, and AAC; of its pictures, those that ffmpeg's expression `select` chooses.
 */
export function makeFilm(seconds, { gop = 60, keys, bframes = 2, size = "320x180", video = true, audio = true, select } = {}) {
  const keyframes = keys ? ["-g", "600", "-force_key_frames", keys] : ["-g", String(gop)];
  return made([
    ...(video ? ["-f", "lavfi", "-i", `testsrc2=s=${size}:r=30${select ? `,select='${select}'` : ""}`] : []), ...(audio ? ["-f", "lavfi", "-i", "sine=r=48000"] : []), "-t", String(seconds),
    ...(video ? ["-c:v", "libx264", "-preset", "veryfast", "-bf", String(bframes), ...keyframes, "-sc_threshold", "0", "-pix_fmt", "yuv420p", "-vsync", "vfr"] : []),
    ...(audio ? ["-c:a", "aac", "-ac", "2"] : []),
  ], "flv");
}

/** The files that `made` makes, by their paths. */
const making = new Map();

/**
 * What ffmpeg makes of these arguments: made once for all tests, and kept beside what cargo builds, since to encode it takes more of a
 * processor than most tests that need it.
 */
function made(args, kind) {
  const path = join(TARGET, "films", `${createHash("sha256").update(args.join(" ")).digest("hex").slice(0, 16)}.${kind}`);
  if (!making.has(path)) making.set(path, existsSync(path) ? Promise.resolve(path) : make(args, path, kind));
  return making.get(path);
}

async function make(args, path, kind) {
  // Whoever finds it finds all of it.
  const whole = `${path}.${process.pid}.${kind}`;
  await mkdir(dirname(path), { recursive: true });
  await run("ffmpeg", ["-v", "error", "-nostdin", "-y", ...args, whole]);
  await rename(whole, path);
  return path;
}

/**
 * Asks until `accept` likes the answer (its result is given), at most `timeout` ms, which is a `Deadline`. Every try is a real
 * question to a server. What `accept` throws is a fault of the answer, and isn't asked for again.
 */
export async function ask(url, accept = (response) => response.ok, timeout = 30_000) {
  const until = Date.now() + timeout;
  let last = "no answer";
  while (Date.now() < until) {
    const answer = await fetch(url, { signal: AbortSignal.timeout(10_000) })
      .then(async (response) => ({ response, text: await response.text() }))
      .catch((error) => void (last = String(error.cause ?? error)));
    if (answer) {
      const accepted = await accept(answer.response, answer.text);
      if (accepted) return accepted === true ? answer.text : accepted;
      last = `HTTP ${answer.response.status}: ${answer.text.slice(0, 400)}`;
    }
    await pause(100); // between two questions, of a number that `timeout` bounds
  }
  throw new Deadline(`${url}: not as wanted within ${timeout} ms; last: ${last}`);
}

/** How many whole segments a media playlist lists. */
export const segmentsIn = (playlist) => (playlist.match(/#EXTINF/g) ?? []).length;

/** Waits until an edge has `segments` whole segments of a stream in its playlist, and gives its streams entry. */
export async function untilLive(edge, stream, { segments = 3, timeout = 60_000 } = {}) {
  const entry = await ask(`${edge}/api/v1/streams`, (_, text) => JSON.parse(text).streams?.find((s) => s.name === stream), timeout);
  for (const track of entry.tracks ?? []) {
    await ask(`${edge}/${stream}/${track.name}/playlist.m3u8`, (r, text) => r.ok && segmentsIn(text) >= segments, timeout);
  }
  return entry;
}

/** The rungs of a ladder for tests: pictures so small that two processors decode them, noise so that each has its bit rate. */
export const RUNGS = [
  { name: "high", height: 180, kbps: 2400 },
  { name: "mid", height: 120, kbps: 1000 },
  { name: "low", height: 90, kbps: 300 },
];

/** A minute of all rungs, and of sound in two languages: GOPs of a second, keyframes at the same times. */
export function makeLadder() {
  const split = RUNGS.map((_, i) => `[s${i}]`).join("");
  const scaled = RUNGS.map(({ height }, i) => `[s${i}]scale=${(height * 16) / 9 & ~1}:${height},noise=alls=40:allf=t[v${i}]`);
  const video = RUNGS.flatMap(({ kbps }, i) => [
    "-map", `[v${i}]`, `-b:v:${i}`, `${kbps}k`, `-maxrate:v:${i}`, `${kbps}k`, `-bufsize:v:${i}`, `${kbps}k`,
  ]);
  return made([
    "-f", "lavfi", "-i", "testsrc2=s=640x360:r=30", "-f", "lavfi", "-i", "sine=f=440:r=48000",
    "-f", "lavfi", "-i", "sine=f=880:r=48000", "-filter_complex", [`[0:v]split=${RUNGS.length}${split}`, ...scaled].join(";"),
    ...video, "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "30", "-sc_threshold", "0", "-pix_fmt", "yuv420p",
    "-map", "1:a", "-map", "2:a", "-c:a", "aac", "-b:a", "64k", "-t", "60",
  ], "mkv");
}

/** One ffmpeg, an output for each rung; the second language is an output of its own. */
export function pushLadder(use, url, file) {
  const out = (name) => ["-c", "copy", "-output_ts_offset", "1", "-f", "flv", `${url}/${name}`];
  return use(new Child("ffmpeg", "ffmpeg", [
    "-hide_banner", "-loglevel", "warning", "-nostdin", "-re", "-stream_loop", "-1", "-i", file,
    ...RUNGS.flatMap(({ name }, i) => ["-map", `0:v:${i}`, "-map", "0:a:0", ...out(name)]),
    "-map", "0:a:1", ...out("audio_de"),
  ]));
}
