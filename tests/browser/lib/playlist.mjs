// A media playlist as a viewer with pencil and paper reads it: on purpose no library, so that nothing is forgiven.

/** `{ first, last, discontinuities, gaps, parts, ended }`; `last` is the newest MSN, its parts count if it is under way. */
export function readPlaylist(text) {
  const lines = text.split(/\r?\n/);
  const number = (tag) => Number(lines.find((l) => l.startsWith(tag))?.slice(tag.length) ?? NaN);
  const first = number("#EXT-X-MEDIA-SEQUENCE:");
  const discontinuities = [];
  let gaps = 0;
  let msn = first;
  let parts = 0;
  for (const line of lines) {
    if (line === "#EXT-X-DISCONTINUITY") discontinuities.push(msn);
    else if (line === "#EXT-X-GAP" || /^#EXT-X-PART:.*GAP=YES/.test(line)) gaps += 1;
    else if (line.startsWith("#EXT-X-PART:")) parts += 1;
    else if (line !== "" && !line.startsWith("#")) {
      msn += 1;
      parts = 0;
    }
  }
  return { first, last: msn - 1, open: parts, discontinuities, gaps, sequence: number("#EXT-X-DISCONTINUITY-SEQUENCE:"), ended: lines.includes("#EXT-X-ENDLIST") };
}

/** The date of a playlist's live edge in ms: the newest PROGRAM-DATE-TIME, and all that follows it. */
export function liveEdge(text) {
  const lines = text.split(/\r?\n/);
  const tag = "#EXT-X-PROGRAM-DATE-TIME:";
  const from = lines.findLastIndex((l) => l.startsWith(tag));
  if (from < 0) return NaN;
  let seconds = 0;
  let parts = 0; // of the segment under way; a whole one has its EXTINF
  for (const line of lines.slice(from)) {
    const part = /^#EXT-X-PART:.*?DURATION=([\d.]+)/.exec(line);
    const whole = /^#EXTINF:([\d.]+)/.exec(line);
    if (part) parts += Number(part[1]);
    if (whole) {
      seconds += Number(whole[1]);
      parts = 0;
    }
  }
  return Date.parse(lines[from].slice(tag.length)) + (seconds + parts) * 1000;
}

/** Reads each state of a playlist by blocking reloads, beside a test, and keeps what must hold over time. */
export class Watch {
  constructor(url) {
    this.url = url;
    this.discontinuities = new Set();
    this.faults = [];
    this.newest = null;
    this.reads = 0;
    this.stopped = false;
    this.done = this.run();
  }

  async run() {
    let before = null;
    while (!this.stopped) {
      const next = before ? `?_HLS_msn=${before.last + 1}&_HLS_part=${before.open}` : "";
      const text = await fetch(this.url + next, { signal: AbortSignal.timeout(15_000) }).then((r) => (r.ok ? r.text() : Promise.reject(new Error(`HTTP ${r.status}`))))
        .catch((e) => this.fault(`${this.url}${next}: ${e}`));
      if (text) {
        const now = readPlaylist(text);
        this.reads += 1;
        if (before && now.first < before.first) this.faults.push(`MEDIA-SEQUENCE went back from ${before.first} to ${now.first}`);
        if (before && now.last < before.last) this.faults.push(`the newest MSN went back from ${before.last} to ${now.last}`);
        if (now.ended) this.fault("ENDLIST");
        now.discontinuities.forEach((msn) => this.discontinuities.add(msn));
        before = now;
        this.newest = now;
        this.text = text;
      }
    }
  }

  /** After which there is nothing to read. */
  fault(words) {
    this.faults.push(words);
    this.stopped = true;
  }

  async close() {
    this.stopped = true;
    await this.done;
  }
}
