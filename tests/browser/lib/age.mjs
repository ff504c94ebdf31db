// How old a part's last frame is when a client has the part: from the frame leaving ffmpeg to the part's last byte.
//
// One ffmpeg writes the same packets to two outputs: RTMP, to the ingest, and FLV on its stdout, read here. The client
// asks for each hinted part ahead of time. A frame is found again in a part by the lengths of the samples: a run of
// them has no second like it near by, and no clock, timestamp or trust in the server is needed.
import { spawn } from "node:child_process";
import { Agent, get } from "node:http";
import { FILM } from "./damson.mjs";

/** Reads FLV (Adobe's FLV 10.1, Annex E) as it comes; calls `frame(length)` for each coded H.264 frame. */
export class FlvReader {
  constructor(frame) {
    this.frame = frame;
    this.rest = Buffer.alloc(0);
    this.skip = 9 + 4; // file header, PreviousTagSize0
  }

  push(chunk) {
    this.rest = Buffer.concat([this.rest, chunk]);
    for (;;) {
      if (this.skip > 0) {
        const n = Math.min(this.skip, this.rest.length);
        this.skip -= n;
        this.rest = this.rest.subarray(n);
        if (this.skip > 0) return;
      }
      if (this.rest.length < 11) return;
      const size = this.rest.readUIntBE(1, 3);
      if (this.rest.length < 11 + size) return;
      // VIDEODATA: codec 7 (AVC), AVCPacketType 1 (NALUs), composition time, then the sample.
      const video = this.rest[0] === 9 && (this.rest[11] & 15) === 7 && this.rest[12] === 1;
      if (video) this.frame(size - 5);
      this.rest = this.rest.subarray(11 + size);
      this.skip = 4;
    }
  }
}

/** Pushes the film in real time; `frames` has the length of each frame and when it left. */
export function pushAndListen(use, url) {
  const frames = [];
  const child = spawn("ffmpeg", [
    "-hide_banner", "-loglevel", "error", "-nostdin", "-re", "-stream_loop", "-1", "-i", FILM,
    "-map", "0", "-c", "copy", "-f", "flv", "-flush_packets", "1", url,
    "-map", "0:v", "-c", "copy", "-f", "flv", "-flush_packets", "1", "pipe:1",
  ], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.once("close", resolve));
  use({
    close() {
      child.kill("SIGKILL");
      return ended;
    },
  });
  const reader = new FlvReader((length) => frames.push({ length, at: performance.now() }));
  child.stdout.on("data", (chunk) => reader.push(chunk));
  return frames;
}

/** The sample sizes of a part (ISO/IEC 14496-12 8.8.8, `trun`). */
export function sampleSizes(part) {
  const sizes = [];
  const walk = (from, to) => {
    for (let at = from; at + 8 <= to; ) {
      const size = part.readUInt32BE(at);
      const type = part.toString("latin1", at + 4, at + 8);
      if (size < 8) throw new Error(`a ${type} box of ${size} bytes`);
      if (type === "moof" || type === "traf") walk(at + 8, at + size);
      if (type === "trun") readTrun(at + 8);
      at += size;
    }
  };
  const readTrun = (at) => {
    const flags = part.readUInt32BE(at) & 0xffffff;
    if (!(flags & 0x200)) throw new Error("trun without sample sizes");
    const count = part.readUInt32BE(at + 4);
    let cursor = at + 8 + (flags & 1 ? 4 : 0) + (flags & 4 ? 4 : 0);
    for (let i = 0; i < count; i++) {
      if (flags & 0x100) cursor += 4;
      sizes.push(part.readUInt32BE(cursor));
      cursor += 4 + (flags & 0x400 ? 4 : 0) + (flags & 0x800 ? 4 : 0);
    }
  };
  walk(0, part.length);
  return sizes;
}

const agent = new Agent({ keepAlive: true });

function body(url) {
  return new Promise((resolve, reject) => {
    get(url, { agent }, (response) => {
      const chunks = [];
      response.on("data", (c) => chunks.push(c));
      response.on("end", () => resolve({ status: response.statusCode, body: Buffer.concat(chunks), at: performance.now() }));
      response.on("error", reject);
    }).on("error", reject);
  });
}

/** Fetches `count` hinted parts of a playlist, one after the other; gives the age of each one's last frame in ms. */
export async function partAges(playlistUrl, frames, count) {
  const ages = [];
  let query = "";
  while (ages.length < count) {
    const { body: text } = await body(playlistUrl + query);
    const playlist = text.toString();
    const hint = /#EXT-X-PRELOAD-HINT:.*URI="([^"]+)"/.exec(playlist)?.[1];
    if (!hint) throw new Error(`no PRELOAD-HINT\n${playlist}`);
    const { status, body: part, at } = await body(new URL(hint, playlistUrl));
    if (status === 404) {
      query = ""; // the segment ended before the hinted part: the next one is in the next segment
      continue;
    }
    if (status !== 200) throw new Error(`${hint}: HTTP ${status}`);
    const last = find(frames, sampleSizes(part));
    if (last) ages.push(at - last.at);
    const [msn, index] = /(\d+)\.(\d+)\.m4s/.exec(hint).slice(1).map(Number);
    query = `?_HLS_msn=${msn}&_HLS_part=${index}`;
  }
  return ages;
}

/** The newest frame that ends a run of frames of these lengths. */
function find(frames, sizes) {
  for (let end = frames.length - 1; end >= sizes.length - 1 && end > frames.length - 200; end--) {
    if (sizes.every((size, i) => frames[end - sizes.length + 1 + i].length === size)) return frames[end];
  }
  return null;
}

/** `{ p50, p99, n }` of a list, rounded to 0.1. */
export function quantiles(list) {
  const sorted = [...list].sort((a, b) => a - b);
  const at = (q) => Math.round(10 * sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]) / 10;
  return { p50: at(0.5), p99: at(0.99), n: sorted.length };
}
