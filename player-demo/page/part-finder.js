// Which part is on screen: from the wallclock of the picture (PROGRAM-DATE-TIME) to the part's numbers.
// Any player tells its picture's date, few tell the part; so the page reads the media playlist itself.

const KEPT_SEGMENTS = 60;
const REFRESH_MS = 900;

/**
 * The segments of a media playlist with their parts, dated in milliseconds since 1970.
 * @param {string} text
 */
export function parsePlaylist(text) {
  const segments = [];
  let msn = 0;
  let date = null;
  let parts = [];
  const durationOf = (line) => 1000 * Number(/[:,]DURATION=([\d.]+)/.exec(line)?.[1] ?? NaN);
  for (const line of text.split("\n")) {
    if (line.startsWith("#EXT-X-MEDIA-SEQUENCE:")) msn = Number(line.slice(22));
    else if (line.startsWith("#EXT-X-PROGRAM-DATE-TIME:")) date = Date.parse(line.slice(25));
    else if (line.startsWith("#EXT-X-PART:")) {
      const start = parts.at(-1)?.end ?? date;
      if (start !== null) parts.push({ start, end: start + durationOf(line) });
    } else if (line.startsWith("#EXTINF:") && date !== null) {
      const end = date + 1000 * Number.parseFloat(line.slice(8));
      segments.push({ msn, start: date, end, parts, whole: true });
      date = end;
    } else if (line !== "" && !line.startsWith("#")) {
      msn += 1;
      parts = [];
    }
  }
  if (parts.length > 0) segments.push({ msn, start: parts[0].start, end: parts.at(-1).end, parts, whole: false });
  return segments;
}

export class PartFinder {
  constructor(playlistUrl) {
    this.url = playlistUrl;
    this.segments = new Map();
    this.asked = -Infinity;
  }

  /** The part that holds the picture of `date` (ms); null where the playlist doesn't tell. */
  async find(date) {
    const known = this.lookup(date);
    if (known && (known.exact || performance.now() - this.asked < REFRESH_MS)) return known;
    if (performance.now() - this.asked < REFRESH_MS) return null;
    this.asked = performance.now();
    const answer = await fetch(this.url, { cache: "no-store" });
    if (!answer.ok) return null;
    for (const segment of parsePlaylist(await answer.text())) {
      const before = this.segments.get(segment.msn);
      // PART tags leave the playlist before their segment does; what was seen stays known.
      if (before && before.parts.length > segment.parts.length) segment.parts = before.parts;
      this.segments.set(segment.msn, segment);
    }
    for (const msn of [...this.segments.keys()].sort((a, b) => b - a).slice(KEPT_SEGMENTS)) this.segments.delete(msn);
    return this.lookup(date);
  }

  lookup(date) {
    for (const { msn, start, end, parts, whole } of this.segments.values()) {
      if (date < start || date >= end) continue;
      const part = parts.findIndex((p) => date < p.end);
      if (part >= 0) return { msn, part, exact: true, from: parts[part].start, end: parts[part].end };
      return { msn, part: Math.max(0, parts.length - 1), exact: whole && parts.length > 0 };
    }
    return null;
  }
}
