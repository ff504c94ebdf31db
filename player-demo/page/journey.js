// What a part passes in this page: asked for, at the player, in its SourceBuffer, on screen; seen from outside of any player.
//
// The browser tells when a request was made and when its last byte came (Resource Timing); of an answer that is read while it
// grows, as LL-DASH players do, this reads a copy and notes when which byte was there. When media is in a SourceBuffer, and
// up to where, `updateend` tells; when a frame is seen, `requestVideoFrameCallback`. All times are `performance.now()`'s.

/** Half a minute of parts and segments of a few tracks. */
const FILES_KEPT = 600;
const APPENDS_KEPT = 300;

/** What of a list of ranges `[start, end]` holds the moment. */
const holds = (ranges, time) => ranges.some(([start, end]) => time >= start && time < end);

export class Journey {
  constructor() {
    this.clear();
  }

  clear() {
    /** By URL: { asked, done, pieces: [{ at, total }] }, `done` null where the browser hasn't told. */
    this.files = new Map();
    /** { called, ended, ranges }, newest last. */
    this.appends = [];
    /** The newest frame on screen: { media, at }. */
    this.frame = null;
  }

  /** Looks at all that the page's players do from now on; before any of them is loaded. */
  watch(video) {
    this.watchRequests();
    this.watchBuffers();
    const next = (_, { mediaTime, expectedDisplayTime }) => {
      this.frame = { media: mediaTime, at: expectedDisplayTime };
      video.requestVideoFrameCallback(next);
    };
    video.requestVideoFrameCallback?.(next);
  }

  watchRequests() {
    const seen = (list) => {
      for (const { name, startTime, responseEnd } of list.getEntries()) {
        if (isMedia(name)) Object.assign(this.file(name), { asked: startTime, done: responseEnd });
      }
    };
    new PerformanceObserver(seen).observe({ type: "resource" });
    const native = window.fetch;
    window.fetch = async (input, init) => {
      const url = new URL(input?.url ?? input, location.href).href;
      if (!isMedia(url)) return native(input, init);
      const asked = performance.now();
      const answer = await native(input, init);
      // A copy: the player's own answer stays as the browser made it. One that it gives up ends here, too.
      if (answer.body) this.read(answer.clone().body, Object.assign(this.file(url), { asked, pieces: [] })).catch(() => {});
      return answer;
    };
  }

  async read(body, file) {
    let total = 0;
    for (let reader = body.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) return;
      total += value.byteLength;
      file.pieces.push({ at: performance.now(), total });
    }
  }

  watchBuffers() {
    const pictures = new WeakSet();
    for (const Source of [window.MediaSource, window.ManagedMediaSource].filter(Boolean)) {
      const { addSourceBuffer } = Source.prototype;
      Source.prototype.addSourceBuffer = function (type) {
        const buffer = addSourceBuffer.call(this, type);
        if (/^video\//.test(type)) pictures.add(buffer);
        return buffer;
      };
    }
    if (!window.SourceBuffer) return;
    const { appendBuffer } = SourceBuffer.prototype;
    const appending = (buffer) => this.appending(buffer);
    SourceBuffer.prototype.appendBuffer = function (data) {
      appendBuffer.call(this, data);
      if (pictures.has(this)) appending(this);
    };
  }

  appending(buffer) {
    const called = performance.now();
    buffer.addEventListener("updateend", () => {
      let ranges = [];
      try {
        ranges = Array.from(buffer.buffered, (_, i) => i).map((i) => [buffer.buffered.start(i), buffer.buffered.end(i)]);
      } catch {
        return; // it has left its source
      }
      this.appended({ called, ended: performance.now(), ranges });
    }, { once: true });
  }

  appended(append) {
    this.appends.push(append);
    if (this.appends.length > APPENDS_KEPT) this.appends.shift();
  }

  file(url) {
    let file = this.files.get(url);
    if (!file) {
      file = { asked: null, done: null, pieces: [] };
      this.files.set(url, file);
      if (this.files.size > FILES_KEPT) this.files.delete(this.files.keys().next().value);
    }
    return file;
  }

  /** The append since which this moment of the media has been there. */
  appendOf(time) {
    let found = null;
    for (let i = this.appends.length - 1; i >= 0 && holds(this.appends[i].ranges, time); i--) found = this.appends[i];
    // The oldest that is remembered may not be the one that brought it.
    return found === this.appends[0] ? null : found;
  }

  /** When a part was asked for, and its last byte there: by its own URL, or within its segment, of which it ends at byte `upTo`. */
  request({ part, segment }, upTo, before) {
    const own = this.files.get(part);
    if (own?.done && own.done <= before) return { asked: own.asked, arrived: own.done };
    const whole = this.files.get(segment);
    const piece = upTo === null ? null : whole?.pieces.find(({ total }) => total >= upTo);
    if (piece && piece.at <= before) return { asked: whole.asked, arrived: piece.at };
    if (whole?.done && whole.done <= before) return { asked: whole.asked, arrived: whole.done };
    return null;
  }

  /**
   * The stages of a part from `listed`, when the edge had it, until its last frame is seen, as `[{ stage, us }]`; they add up to
   * that time. Where the browser doesn't tell, several are one: `player`, or `arrive` with what was before it.
   * @param {{ listed: number, urls: { part: string, segment: string }, upTo: number | null, middle: number, end: number,
   *   position: number, rate: number, now: number }} part `middle` and `end` of it and the `position` now, on the media's time
   */
  stages({ listed, urls, upTo, middle, end, position, rate, now }) {
    const frame = this.frame ?? { media: position, at: now };
    const shown = frame.at + (1000 * (end - frame.media)) / (rate || 1);
    const stage = (name, from, to) => ({ stage: name, us: 1000 * (to - from) });
    const append = this.appendOf(middle);
    if (!append) return [stage("player", listed, shown)];
    const request = this.request(urls, upTo, append.ended);
    const waited = [stage("buffer", append.ended, shown)];
    if (!request) return [stage("arrive", listed, append.called), stage("append", append.called, append.ended), ...waited];
    const begun = Math.max(listed, request.asked);
    return [
      stage("idle", listed, begun), stage("arrive", begun, request.arrived), stage("append", request.arrived, append.ended), ...waited,
    ];
  }
}

const isMedia = (url) => /\.m4s(\?|$)/.test(url);
