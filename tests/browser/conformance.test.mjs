// What live edges serve, by the letter: each case is recorded from a real push through two real nodes; one test a clause.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { ask, makeFilm, makeLadder, push, pushLadder, startLine } from "./lib/damson.mjs";
import { Deadline, unlessStarved } from "./lib/machine.mjs";
import { scope } from "./lib/process.mjs";
import { Recording } from "./lib/record.mjs";
import { RULES } from "./lib/rules.mjs";

const run = promisify(execFile);

/** How much each case has of media, all pushed at once: enough for the playlists to remove what is old. */
const SECONDS = Number(process.env.SECONDS ?? 36);
/** How much of it a publisher pushes before it leaves, where it returns. */
const FIRST_S = 10;
/** A life ends so long after its last publisher: time for one to be missed, and to return. */
const LINGER_S = 8;

/** MPEG's schema has no open licence, so it isn't here: DASH_XSD names a copy (DASH-MPD.xsd of MPEGGroup/DASHSchema). */
const { DASH_XSD } = process.env;

/** The films of a case, one after the other with a pause, and what is to be found. */
const CASES = {
  regular: { films: [{}], regular: true },
  "irregular-gop": { films: [{ keys: "0,1.5,4.1,5,8.3,11,12.2,15.9,17,20.5,23,24.4,28,29,33.3,36,38.5,40,44" }] },
  "long-gop": { films: [{ gop: 300 }] },
  "b-frames": { films: [{ bframes: 4 }], regular: true },
  reconnect: { films: [{}, {}], discontinuities: 1 },
  "codec-change": { films: [{}, { size: "426x240" }], discontinuities: 1 },
  "audio-alone": { films: [{ video: false }], regular: true },
  ladder: { films: ["ladder"], regular: true },
  "video-alone": { films: [{ audio: false }], regular: true },
};

const CHOSEN = process.env.CASES?.split(",") ?? Object.keys(CASES);

test("what an edge serves keeps the rules", { timeout: 900_000 }, (t) => unlessStarved(t, async () => {
  // Only a recording that comes to no end is made anew. What is recorded is judged, and a broken rule is one, however busy the machine.
  const found = await scope(judged);
  for (const [source, clauses] of Object.entries(found)) {
    await t.test(source, async (t) => {
      for (const [clause, faults] of Object.entries(clauses)) {
        await t.test(clause, () => assert.equal(faults.length, 0, faults.map((e) => e.message.slice(0, 1500)).join("\n\n")));
      }
    });
  }
}));

/** Records each case, and gives the faults of each clause of each source. */
async function judged(use) {
  const [a, b] = await startLine(use, ["a", "b"], { args: ["--linger", String(LINGER_S)] });
  const cases = await Promise.all(CHOSEN.map((name) => record(use, a, b, name)));
  const found = {};
  for (const [source, rules] of Object.entries(RULES)) {
    found[source] = {};
    for (const [clause, rule] of Object.entries(rules)) found[source][clause] = await faultsOf(cases, rule);
  }
  found.tools = { "ffprobe reads each track without a word": await faultsOf(cases, (c) => probe(use, c)) };
  if (DASH_XSD) {
    found.tools["the MPD schema"] = await faultsOf(cases, async (c) => {
      for (const mpd of [c.mpds[0], ...c.mpds.slice(-2), c.late]) await xmllint(mpd);
    });
  } else {
    console.log("the MPD schema isn't looked at: DASH_XSD names no copy of MPEG's DASH-MPD.xsd");
  }
  return found;
}

/** The faults that `check` finds, of one case after the other. */
async function faultsOf(cases, check) {
  const faults = [];
  for (const c of cases) {
    try {
      await check(c);
    } catch (error) {
      faults.push(error);
    }
  }
  return faults;
}

/** Pushes a case's films, and records what the second node serves of it until it has ended. */
async function record(use, a, b, name) {
  const { films, ...facts } = CASES[name];
  // No film comes to its end: where it begins again, its frames aren't as far apart as within.
  const made = await Promise.all(films.map((film) => (film === "ladder" ? makeLadder() : makeFilm(SECONDS + 10, film))));
  let publisher = (films[0] === "ladder" ? pushLadder : push)(use, `${a.rtmp}/${name}`, made[0]);
  await ask(`${b.http}/${name}/index.m3u8`, (r) => r.ok, 30_000);
  const recording = await new Recording(name, b.http, name).start();
  const has = (seconds) => (list) => mediaSeconds(list, Object.values(recording.tracks)[0].lists[0].first) >= seconds;
  for (const film of made.slice(1)) {
    await recording.until("its publisher returns", has(FIRST_S));
    await publisher.kill("SIGKILL");
    await recording.until("its publisher is missed", (list) => list.segments.some((s) => s.gap));
    publisher = push(use, `${a.rtmp}/${name}`, film);
  }
  // A publisher that is slow to return finds that its stream has ended.
  await recording.until("enough is recorded", has(SECONDS), made.length > 1 ? Deadline : Error);
  recording.delisted = await delisted(recording);
  await publisher.kill("SIGKILL");
  await recording.close();
  recording.lateIndex = (await recording.get("index.m3u8")).toString();
  return Object.assign(recording, facts);
}

/** The listed segments' length, and of those that have left since `from`, about as long as each other. */
const mediaSeconds = (list, from) => {
  const listed = list.segments.reduce((sum, s) => sum + s.duration, 0);
  return listed + (list.first - from) * (list.segments.length ? listed / list.segments.length : 0);
};

/** The newest segment and parts that have left each playlist, and what is answered when they are asked for. */
async function delisted({ base, tracks }) {
  const asked = Object.values(tracks).flatMap((track) => {
    const now = track.lists.at(-1);
    const gone = [`${now.first - 1}.m4s`, `${now.first - 1}.0.m4s`].filter((uri) => track.bodies.has(uri));
    return gone.map((uri) => `${track.name}/${uri}`);
  });
  return Promise.all(asked.map(async (path) => [path, (await fetch(`${base}/${path}`)).status]));
}

async function probe(use, c) {
  const dir = await mkdtemp(join(tmpdir(), "damson-probe-"));
  use({ close: () => rm(dir, { recursive: true, force: true }) });
  for (const track of Object.values(c.tracks)) {
    const segments = [...new Map(track.lists.flatMap((list) => list.segments).map((s) => [s.msn, s])).values()].filter((s) => !s.gap);
    for (const map of new Set(segments.map((s) => s.map))) {
      const file = join(dir, `${c.name}-${track.name}-${map}`);
      await writeFile(file, Buffer.concat([track.bodies.get(map), ...segments.filter((s) => s.map === map).map((s) => track.bodies.get(s.uri))]));
      const { stdout, stderr } = await run("ffprobe", ["-v", "warning", "-count_packets", "-show_entries", "stream=codec_name,nb_read_packets", "-of", "csv=p=0", file]);
      assert.equal(stderr, "", `${c.name}/${track.name}`);
      assert.match(stdout, track.name.startsWith("audio") ? /^aac,\d\d/ : /^h264,\d\d/, `${c.name}/${track.name}`);
    }
  }
}

/** `xmllint` with MPEG's schema. Its only import, xlink, is named by a URL: the attributes that the schema uses are declared here instead. */
async function xmllint(mpd) {
  const dir = await mkdtemp(join(tmpdir(), "damson-mpd-"));
  try {
    const folder = dirname(DASH_XSD);
    const schema = (await readFile(DASH_XSD, "utf8"))
      .replace(/schemaLocation="http:\/\/www\.w3\.org\/[^"]*xlink\.xsd"/, 'schemaLocation="xlink.xsd"')
      .replace(/schemaLocation="(DASH-[^"]+)"/g, (_, name) => `schemaLocation="${join(folder, name)}"`);
    const attributes = ["href", "role", "arcrole", "title", "show", "actuate", "type"].map((n) => `<xs:attribute name="${n}" type="xs:string"/>`).join("");
    await writeFile(join(dir, "DASH-MPD.xsd"), schema);
    await writeFile(join(dir, "xlink.xsd"),
      `<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="http://www.w3.org/1999/xlink">${attributes}</xs:schema>`);
    await writeFile(join(dir, "live.mpd"), mpd);
    await run("xmllint", ["--nonet", "--noout", "--schema", join(dir, "DASH-MPD.xsd"), join(dir, "live.mpd")])
      .catch((e) => assert.fail(`${e.stderr}\n${mpd}`));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
