// The boxes of chunks (ISO/IEC 14496-12), read by hand: nothing is forgiven.

/** Every box in `bytes` as `{ type, from, to }`, those inside moof and traf included; they must fill it without a rest. */
function* boxes(bytes, from = 0, to = bytes.length) {
  while (from < to) {
    const size = from + 8 <= to ? bytes.readUInt32BE(from) : 0;
    const type = bytes.toString("latin1", from + 4, from + 8);
    if (size < 8 || from + size > to) throw new Error(`a box '${type}' of ${size} bytes at ${from}, where ${to - from} are left`);
    yield { type, from: from + 8, to: from + size };
    if (type === "moof" || type === "traf") yield* boxes(bytes, from + 8, from + size);
    from += size;
  }
}

/** The chunks of a part or segment: `{ types, tfdt, samples: [{ duration, size, sync, offset }], bytes, prft }`. */
export function chunks(bytes) {
  const list = [];
  let now = null;
  for (const { type, from, to } of boxes(bytes)) {
    if (now === null || (now.types.includes("mdat") && type !== "mdat")) list.push((now = { types: [], samples: [], tfdt: null, bytes: 0, prft: null }));
    now.types.push(type);
    if (type === "tfdt") now.tfdt = bytes[from] === 1 ? Number(bytes.readBigUInt64BE(from + 4)) : bytes.readUInt32BE(from + 4);
    else if (type === "tfhd") now.defaults = tfhd(bytes, from);
    else if (type === "trun") now.samples.push(...trun(bytes, from, now.defaults));
    else if (type === "mdat") now.bytes += to - from;
    else if (type === "prft") {
      const time = bytes[from] === 1 ? Number(bytes.readBigUInt64BE(from + 16)) : bytes.readUInt32BE(from + 16);
      now.prft = { ntp: bytes.readUInt32BE(from + 8) + bytes.readUInt32BE(from + 12) / 2 ** 32, time };
    }
  }
  return list;
}

function tfhd(bytes, at) {
  const flags = bytes.readUInt32BE(at) & 0xffffff;
  let cursor = at + 8 + (flags & 1 ? 8 : 0) + (flags & 2 ? 4 : 0);
  const next = (present) => (present ? bytes.readUInt32BE((cursor += 4) - 4) : undefined);
  return { duration: next(flags & 8), size: next(flags & 0x10), flags: next(flags & 0x20) };
}

function trun(bytes, at, defaults) {
  const flags = bytes.readUInt32BE(at) & 0xffffff;
  const count = bytes.readUInt32BE(at + 4);
  let cursor = at + 8 + (flags & 1 ? 4 : 0);
  const next = (present, other) => (present ? bytes.readUInt32BE((cursor += 4) - 4) : other);
  const first = next(flags & 4, undefined);
  return Array.from({ length: count }, (_, i) => {
    const duration = next(flags & 0x100, defaults.duration);
    const size = next(flags & 0x200, defaults.size);
    const how = next(flags & 0x400, i === 0 && first !== undefined ? first : defaults.flags);
    const offset = next(flags & 0x800, 0) | 0;
    return { duration, size, sync: (how & 0x10000) === 0, offset };
  });
}

/** The timescale of an init segment's one track (mdhd, 8.4.2). */
export function timescale(init) {
  const at = init.indexOf("mdhd", 0, "latin1");
  if (at < 0) throw new Error("an init segment without mdhd");
  return init.readUInt32BE(at + (init[at + 4] === 1 ? 24 : 16));
}
