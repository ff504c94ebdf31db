// Timed metadata for a transport stream that ffmpeg makes without: ID3 tags, and breaks that are announced as SCTE 35 has it.
import { createSocket } from "node:dgram";
import { Child } from "./process.mjs";

const PACKET = 188;
/** ffmpeg's PIDs, and ours. */
const [PMT, VIDEO, ID3, SPLICES] = [0x1000, 0x100, 0x200, 0x201];
const HZ = 90_000;
/** A tag each second; each EVERY_S a break of BREAK_S, announced AHEAD_S before it begins, and its end as long before. */
const [EVERY_S, AHEAD_S] = [8, 2];
export const BREAK_S = 3;

/** ffmpeg, pushing a film as MPEG-TS over UDP in real time for ever, with metadata. */
export function pushSpliced(use, film, port) {
  const socket = createSocket("udp4");
  use({ close: () => socket.close() });
  const args = ["-hide_banner", "-loglevel", "error", "-nostdin", "-re", "-stream_loop", "-1", "-i", film, "-c", "copy"];
  const splicer = new Splicer();
  const output = (bytes) => {
    const packets = splicer.push(bytes);
    for (let at = 0; at < packets.length; at += 7) socket.send(Buffer.concat(packets.slice(at, at + 7)), port, "127.0.0.1");
  };
  return use(new Child("ffmpeg", "ffmpeg", [...args, "-f", "mpegts", "-mpegts_start_pid", String(VIDEO), "pipe:1"], { output }));
}

/** Transport packets in, and the same with ours among them out. */
class Splicer {
  rest = Buffer.alloc(0);
  counters = new Map();
  second = null;

  push(bytes) {
    this.rest = Buffer.concat([this.rest, bytes]);
    const out = [];
    for (; this.rest.length >= PACKET; this.rest = this.rest.subarray(PACKET)) {
      const packet = Buffer.from(this.rest.subarray(0, PACKET));
      const [pid, starts] = [packet.readUInt16BE(1) & 0x1fff, (packet[1] & 0x40) !== 0];
      if (pid === PMT && starts) {
        out.push(described(packet));
        continue;
      }
      out.push(packet);
      if (pid === VIDEO && starts) out.push(...this.at(time(packet)));
    }
    return out;
  }

  /** What is said when the picture of this PTS comes. */
  at(pts) {
    const second = Math.floor(pts / HZ);
    // Pictures come in the order in which they are decoded.
    if (this.second !== null && second <= this.second) return [];
    this.second = second;
    const out = this.packets(ID3, pes(pts, tag("second", String(second))));
    const [event, phase] = [Math.floor(second / EVERY_S), second % EVERY_S];
    const begins = (event * EVERY_S + AHEAD_S) * HZ;
    // Announced twice.
    if (phase < 2) out.push(...this.packets(SPLICES, Buffer.concat([Buffer.of(0), splice(event, begins, true)])));
    if (phase === BREAK_S) out.push(...this.packets(SPLICES, Buffer.concat([Buffer.of(0), splice(event, begins + BREAK_S * HZ, false)])));
    return out;
  }

  packets(pid, payload) {
    const out = [];
    for (let at = 0; at < payload.length; at += PACKET - 4) {
      const counter = this.counters.get(pid) ?? 0;
      this.counters.set(pid, (counter + 1) & 15);
      const piece = payload.subarray(at, at + PACKET - 4);
      const stuffing = PACKET - 4 - piece.length;
      const field = stuffing === 0 ? [] : stuffing === 1 ? [0] : [stuffing - 1, 0, ...Array(stuffing - 2).fill(0xff)];
      const head = [0x47, (at === 0 ? 0x40 : 0) | (pid >> 8), pid & 0xff, (stuffing ? 0x30 : 0x10) | counter];
      out.push(Buffer.concat([Buffer.from([...head, ...field]), piece]));
    }
    return out;
  }
}

/** A PMT of one packet, with our two streams behind the others. */
function described(packet) {
  const at = 4 + ((packet[3] & 0x20) !== 0 ? 1 + packet[4] : 0) + 1;
  const length = packet.readUInt16BE(at + 1) & 0xfff;
  const stream = (type, pid, descriptors) => Buffer.from([type, 0xe0 | (pid >> 8), pid & 0xff, 0xf0, descriptors.length, ...descriptors]);
  const id3 = [0x26, 13, 0xff, 0xff, ...Buffer.from("ID3 "), 0xff, ...Buffer.from("ID3 "), 0, 0x0f];
  const section = Buffer.concat([packet.subarray(at, at + 3 + length - 4), stream(0x15, ID3, id3), stream(0x86, SPLICES, [])]);
  section.writeUInt16BE((packet.readUInt16BE(at + 1) & 0xf000) | (section.length - 3 + 4), 1);
  return Buffer.concat([packet.subarray(0, at), section, crc(section)], PACKET).fill(0xff, at + section.length + 4);
}

/** The PTS of a PES packet that begins here. */
function time(packet) {
  const p = packet.subarray(4 + ((packet[3] & 0x20) !== 0 ? 1 + packet[4] : 0) + 9);
  return ((p[0] >> 1) & 7) * 2 ** 30 + (p.readUInt16BE(1) >> 1) * 2 ** 15 + (p.readUInt16BE(3) >> 1);
}

function pes(pts, data) {
  const stamp = Buffer.from([0x21 | (Math.floor(pts / 2 ** 30) << 1), 0, 0, 0, 0]);
  stamp.writeUInt16BE((((pts >>> 15) & 0x7fff) << 1) | 1, 1);
  stamp.writeUInt16BE(((pts & 0x7fff) << 1) | 1, 3);
  const length = 3 + stamp.length + data.length;
  return Buffer.concat([Buffer.from([0, 0, 1, 0xbd, length >> 8, length & 0xff, 0x84, 0x80, stamp.length]), stamp, data]);
}

/** An ID3v2.4 tag with one TXXX frame. */
function tag(name, value) {
  const content = Buffer.concat([Buffer.of(3), Buffer.from(name), Buffer.of(0), Buffer.from(value)]);
  const frame = Buffer.concat([Buffer.from("TXXX"), Buffer.from([0, 0, 0, content.length, 0, 0]), content]);
  return Buffer.concat([Buffer.from("ID3"), Buffer.from([4, 0, 0, 0, 0, 0, frame.length]), frame]);
}

/** A splice_info_section with a splice_insert. */
function splice(event, pts, out) {
  const at = (ticks, flags) => {
    const bytes = Buffer.from([flags | Math.floor(ticks / 2 ** 32), 0, 0, 0, 0]);
    bytes.writeUInt32BE(ticks % 2 ** 32, 1);
    return bytes;
  };
  const head = Buffer.alloc(6);
  head.writeUInt32BE(event);
  head.writeUInt16BE(out ? 0x7fef : 0x7f4f, 4);
  const command = Buffer.concat([head, at(pts, 0xfe), ...(out ? [at(BREAK_S * HZ, 0xfe)] : []), Buffer.from([0, 1, 0, 0])]);
  const length = 11 + command.length + 2 + 4;
  const before = Buffer.from([0xfc, 0x30, length, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xf0, command.length, 5]);
  const section = Buffer.concat([before, command, Buffer.from([0, 0])]);
  return Buffer.concat([section, crc(section)]);
}

/** CRC_32 of H.222.0, annex A. */
function crc(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte << 24;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc << 1) ^ (crc & 0x80000000 ? 0x04c11db7 : 0);
  }
  const out = Buffer.alloc(4);
  out.writeUInt32BE(crc >>> 0);
  return out;
}
