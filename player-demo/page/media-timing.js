// The times of a part in this page, whatever the player: requested, arrived, appended, on screen.
//
// Resource Timing gives the time of a request and of its last byte. LL-DASH players read an answer while it grows: for these,
// this module reads a copy of the answer and notes when each byte arrived. `updateend` gives the time of an append and the
// buffered ranges; `requestVideoFrameCallback` gives the time at which a frame is displayed. All times are `performance.now()`.

/** Enough for half a minute of parts and segments of a few tracks. */
const FILES_KEPT = 600;
const APPENDS_KEPT = 300;

/** Whether one of the ranges `[start, end]` contains the time. */
const holds = (ranges, time) => ranges.some(([start, end]) => time >= start && time < end);

export class MediaTiming {
  constructor() {
    this.clear();
  }

  clear() {
    /** By URL: { asked, done, pieces: [{ at, total }] }, `done` null until the browser reports it. */
    this.files = new Map();
    /** { called, ended, ranges }, newest last. */
    this.appends = [];
    /** The newest frame on screen: { media, at }. */
    this.frame = null;
  }

  /** Observes the page's players from now on. Call it before a player is loaded. */
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
      // The player's own answer stays as the browser made it; an answer that the player aborts ends the copy, too.
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
        return; // the buffer was removed from its MediaSource
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

  /** The append since which this media time has been buffered without a break. */
  appendOf(time) {
    let found = null;
    for (let i = this.appends.length - 1; i >= 0 && holds(this.appends[i].ranges, time); i--) found = this.appends[i];
    // The media may have come with an append that is no longer kept.
    return found === this.appends[0] ? null : found;
  }

  /** The time of a part's request and of its last byte: by its own URL, or as the bytes up to `upTo` of its segment. */
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
   * The stages of a part from `listed`, the time at which the edge listed it, until its last frame is on screen, as `[{ stage, us }]`;
   * they add up to that time. Where the browser does not report enough, several stages are one: `player`, or `arrive` with the time before it.
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
