// Independent parsers find no fault in what a live edge serves.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import HLS from "hls-parser";
import { Parser } from "m3u8-parser";
import { parse as parseMpd } from "mpd-parser";
import { ask, push, startLine, untilLive } from "./lib/damson.mjs";
import { scope } from "./lib/process.mjs";

/** Playlists are looked at so many times, a part apart: each state of a segment under way is another text. */
const LOOKS = 14;

/** MPEG's schema has no open licence, so it isn't here: DASH_XSD names a copy (DASH-MPD.xsd of MPEGGroup/DASHSchema). */
const { DASH_XSD } = process.env;

test("strict parsers find no fault", { timeout: 120_000 }, (t) => scope(async (use) => {
  const [a, b] = await startLine(use, ["a", "b"]);
  push(use, `${a.rtmp}/cam1`);
  const { tracks } = await untilLive(b.http, "cam1", { segments: 4 });
  const playlists = tracks.map((track) => `${b.http}/cam1/${track.name}/playlist.m3u8`);
  assert.equal(tracks.length, 2, "video and audio");

  await t.test("hls-parser, strict, and m3u8-parser: the multivariant playlist", async () => {
    const text = await ask(`${b.http}/cam1/index.m3u8`);
    HLS.setOptions({ strictMode: true });
    const master = HLS.parse(text);
    assert.ok(master.isMasterPlaylist);
    assert.equal(master.variants.length, 1);
    assert.deepEqual({ ...master.variants[0].resolution }, { width: 1280, height: 720 });
    assert.equal(Math.round(master.variants[0].frameRate), 30);
    assert.match(master.variants[0].codecs, /^avc1\.[0-9a-f]{6},mp4a\.40\.2$/i);
    checkM3u8Parser(text, (manifest) => assert.equal(manifest.playlists.length, 1));
  });

  await t.test("hls-parser, strict, and m3u8-parser: media playlists, as they grow", async () => {
    HLS.setOptions({ strictMode: true });
    for (const url of playlists) {
      let query = "";
      for (let look = 0; look < LOOKS; look++) {
        const text = await ask(url + query);
        const playlist = parsed(text);
        assert.ok(playlist.partTargetDuration > 0 && playlist.lowLatencyCompatibility.canBlockReload, `${url} is low-latency`);
        checkM3u8Parser(text, (manifest) => assert.ok(manifest.segments.length >= 4));
        query = nextPart(playlist);
      }
    }
  });

  await t.test("mpd-parser", async () => {
    const url = `${b.http}/cam1/manifest.mpd`;
    const manifest = parseMpd(await ask(url), { manifestUri: url, clientOffset: 0, eventHandler: ({ type, message }) => assert.fail(`${type}: ${message}`) });
    assert.equal(manifest.playlists.length, 1);
    assert.ok(manifest.playlists[0].segments.length > 0);
    assert.ok(Object.keys(manifest.mediaGroups.AUDIO.audio ?? {}).length > 0, "audio is there");
  });

  await t.test("the MPD schema", { skip: DASH_XSD ? false : "DASH_XSD names no copy of MPEG's DASH-MPD.xsd" }, async () => {
    await xmllint(await ask(`${b.http}/cam1/manifest.mpd`));
  });
}));

function parsed(text) {
  try {
    return HLS.parse(text);
  } catch (error) {
    throw new Error(`hls-parser: ${error.message}\n${text}`);
  }
}

/** The blocking reload of the part after the last one (rfc8216bis 6.2.5.2). */
function nextPart({ segments }) {
  const last = segments.at(-1);
  const whole = Boolean(last.uri);
  return whole ? `?_HLS_msn=${last.mediaSequenceNumber + 1}&_HLS_part=0` : `?_HLS_msn=${last.mediaSequenceNumber}&_HLS_part=${last.parts.length}`;
}

function checkM3u8Parser(text, check) {
  const parser = new Parser();
  const complaints = [];
  parser.on("warn", ({ message }) => complaints.push(message));
  parser.push(text);
  parser.end();
  assert.deepEqual(complaints, [], text);
  check(parser.manifest);
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
    await promisify(execFile)("xmllint", ["--nonet", "--noout", "--schema", join(dir, "DASH-MPD.xsd"), join(dir, "live.mpd")])
      .catch((e) => assert.fail(`${e.stderr}\n${mpd}`));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
