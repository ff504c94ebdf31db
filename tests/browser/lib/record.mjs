// What an edge serves of a stream while it runs, kept as it came: every state of each media playlist, the MPDs, the bodies.
import { EventEmitter } from "node:events";
import { ask } from "./damson.mjs";
import { Deadline } from "./machine.mjs";

/** The MPD is read at each third state of the first track: parts are 0.2 s long. */
const MPD_EVERY = 3;

/** A media playlist by its lines. On purpose no library. */
export function parse(text) {
  const attributes = (line) => Object.fromEntries([...line.slice(line.indexOf(":") + 1).matchAll(/([A-Z0-9-]+)=("([^"]*)"|[^,]*)/g)].map((m) => [m[1], m[3] ?? m[2]]));
  const fresh = () => ({ parts: [], discontinuities: 0, gap: false, pdt: null, duration: null });
  const list = { text, lines: text.split("\n"), segments: [], hints: [], reports: [], ended: false, skipped: 0, tags: {} };
  list.first = Number(/^#EXT-X-MEDIA-SEQUENCE:(\d+)$/m.exec(text)?.[1]);
  let segment = fresh();
  let map = null;
  for (const line of list.lines) {
    const value = line.slice(line.indexOf(":") + 1);
    const is = (tag) => line === tag || line.startsWith(`${tag}:`);
    if (is("#EXTINF")) segment.duration = Number.parseFloat(value);
    else if (is("#EXT-X-PART")) segment.parts.push(attributes(line));
    else if (is("#EXT-X-GAP")) segment.gap = true;
    else if (is("#EXT-X-DISCONTINUITY")) segment.discontinuities += 1;
    else if (is("#EXT-X-MAP")) segment.map = map = attributes(line).URI;
    else if (is("#EXT-X-PROGRAM-DATE-TIME")) segment.pdt = Date.parse(value);
    else if (is("#EXT-X-PRELOAD-HINT")) list.hints.push(attributes(line));
    else if (is("#EXT-X-RENDITION-REPORT")) list.reports.push(attributes(line));
    else if (is("#EXT-X-ENDLIST")) list.ended = true;
    else if (is("#EXT-X-SKIP")) [list.skipped, list.removed] = [Number(attributes(line)["SKIPPED-SEGMENTS"]), attributes(line)["RECENTLY-REMOVED-DATERANGES"]];
    else if (is("#EXT-X-SERVER-CONTROL") || is("#EXT-X-PART-INF")) list.tags[line.slice(1, line.indexOf(":"))] = attributes(line);
    else if (line.startsWith("#EXT")) list.tags[line.slice(1).split(":")[0]] = value;
    else if (line !== "") {
      list.segments.push({ ...segment, uri: line, msn: list.first + list.skipped + list.segments.length, map });
      segment = fresh();
    }
  }
  /** The segment under way. */
  list.open = segment;
  list.next = () => list.first + list.skipped + list.segments.length;
  return list;
}

/** Follows a stream at an edge until `close()`, and keeps it all; a fault ends it. */
export class Recording extends EventEmitter {
  constructor(name, edge, stream) {
    super();
    Object.assign(this, { name, base: `${edge}/${stream}`, tracks: {}, mpds: [], answers: [] });
  }

  async get(path, init) {
    const late = (error) => {
      throw error.name === "TimeoutError" ? new Deadline(`${this.base}/${path}: no answer in time`) : error;
    };
    const response = await fetch(`${this.base}/${path}`, { signal: AbortSignal.timeout(15_000), redirect: "manual", ...init }).catch(late);
    const body = Buffer.from(await response.arrayBuffer().catch(late));
    this.answers.push({ path, status: response.status, headers: response.headers, length: body.length, held: init?.held });
    if (response.status !== 200) throw new Error(`${this.base}/${path}: ${response.status} ${body}`);
    return body;
  }

  async start() {
    this.index = (await this.get("index.m3u8")).toString();
    const names = [...new Set([...this.index.matchAll(/([\w-]+)\/playlist\.m3u8/g)].map((m) => m[1]))];
    this.done = Promise.all(names.map((name) => this.follow(name, name === names[0])));
    this.done.catch((error) => Object.assign(this, { error })).finally(() => this.emit("list"));
    return this;
  }

  /** Waits until `holds(list)` of the newest media playlist of the first track. A fault is an error; the stream's end is an `Ended`. */
  async until(words, holds, Ended = Error) {
    const newest = () => Object.values(this.tracks)[0]?.lists.at(-1);
    for (;;) {
      if (this.error) throw this.error;
      const list = newest();
      if (list && holds(list)) return;
      if (list?.ended) throw new Ended(`${this.base} ended before ${words}`);
      await new Promise((resolve) => this.once("list", resolve));
    }
  }

  /** Keeps each state of a track, and beside those of the `first` what the MPD is then. */
  async follow(name, first) {
    const track = (this.tracks[name] = { name, lists: [], deltas: [], bodies: new Map() });
    let query = "";
    for (let n = 0; !track.lists.at(-1)?.ended; n++) {
      const list = parse((await this.get(`${name}/playlist.m3u8${query}`)).toString());
      track.lists.push(list);
      // Now and then, the same state as a delta update, of both kinds.
      const skip = { 3: "v2", 7: "YES" }[n % 8];
      if (skip && query) track.deltas.push({ skip, list: parse((await this.get(`${name}/playlist.m3u8${query}&_HLS_skip=${skip}`)).toString()), full: list });
      for (const uri of mediaOf(list)) {
        if (!track.bodies.has(uri)) track.bodies.set(uri, await this.get(`${name}/${uri}`));
      }
      query = `?_HLS_msn=${list.next()}&_HLS_part=${list.open.parts.length}`;
      // More often than minimumUpdatePeriod would have it.
      if (first && (n % MPD_EVERY === 0 || list.ended)) await this.manifest();
      this.emit("list");
    }
    if (first) await ask(`${this.base}/manifest.mpd`, (_, text) => / type="static"/.test(text));
    if (first) await this.manifest();
  }

  async manifest() {
    const text = (await this.get(`manifest.mpd${this.mpds.length ? "?follow" : ""}`)).toString();
    if (text !== this.mpds.at(-1)) this.mpds.push(text);
  }

  /** Waits for the stream's end, which ends the recording. */
  async close() {
    await this.done;
    this.late = (await this.get("manifest.mpd")).toString();
  }
}

/** What a playlist names and has: init segments, whole segments, parts. */
function mediaOf(list) {
  const all = [...list.segments, list.open];
  const maps = all.map((s) => s.map).filter(Boolean);
  const parts = all.flatMap((s) => s.parts).filter((p) => p.GAP !== "YES").map((p) => p.URI);
  return [...maps, ...list.segments.filter((s) => !s.gap).map((s) => s.uri), ...parts];
}
