// What can be seen from outside of any player: progress, stalls, jumps, frames, buffer.

const SAMPLE_MS = 100;
/** Progress missing for so long is a stall: longer than a frame at 10 fps and than the sampling. */
const STALL_MS = 300;
/** A move beyond what the clock and the rate explain is a jump. */
const JUMP_S = 0.5;

export class Meter {
  /** @param {HTMLVideoElement} video @param {(words: string) => void} note */
  constructor(video, note) {
    this.video = video;
    this.note = note;
    this.restart();
    this.timer = setInterval(() => this.sample(), SAMPLE_MS);
    video.addEventListener("seeking", () => (this.seeks += 1));
  }

  /** A new session: nothing has played yet. */
  restart() {
    this.startedAt = null;
    this.last = { at: performance.now(), time: this.video.currentTime };
    this.advancedAt = null;
    this.stalledSince = null;
    this.mark();
  }

  /** Counts from here. */
  mark() {
    const quality = this.video.getVideoPlaybackQuality();
    this.marked = {
      at: performance.now(), time: this.video.currentTime, total: quality.totalVideoFrames, dropped: quality.droppedVideoFrames,
      buffer: this.buffer(),
    };
    this.stalls = 0;
    this.stalledMs = 0;
    this.jumps = 0;
    this.seeks = 0;
  }

  sample() {
    const at = performance.now();
    const { video, last } = this;
    const time = video.currentTime;
    const moved = time - last.time;
    const passed = at - last.at;
    this.last = { at, time };
    const idle = video.paused || video.ended || document.hidden;
    if (idle || passed > 5 * SAMPLE_MS) {
      // Nobody watches, or this page's timers were held up: nothing can be said.
      this.advancedAt = this.startedAt === null ? null : at;
      return;
    }
    if (moved !== 0) {
      if (this.startedAt !== null && Math.abs(moved - (passed / 1000) * video.playbackRate) > JUMP_S) {
        this.jumps += 1;
        this.note(`jumped ${moved > 0 ? "ahead" : "back"} by ${Math.abs(moved).toFixed(2)} s`);
      }
      if (this.startedAt === null && !video.seeking && video.readyState > 2) {
        this.startedAt = at;
        this.mark();
      }
      if (this.stalledSince !== null) {
        const held = at - this.stalledSince;
        this.stalledMs += held;
        this.note(`went on after ${(held / 1000).toFixed(2)} s`);
        this.stalledSince = null;
      }
      this.advancedAt = at;
    } else if (this.startedAt !== null && this.stalledSince === null && at - this.advancedAt > STALL_MS) {
      this.stalledSince = this.advancedAt;
      this.stalls += 1;
      this.note("stalled");
    }
  }

  /** Seconds of media ready to play. */
  buffer() {
    const { buffered, currentTime } = this.video;
    for (let i = 0; i < buffered.length; i++) {
      if (buffered.start(i) <= currentTime + 0.1 && buffered.end(i) > currentTime) return buffered.end(i) - currentTime;
    }
    return 0;
  }

  read() {
    const quality = this.video.getVideoPlaybackQuality();
    const seconds = (performance.now() - this.marked.at) / 1000;
    const frames = quality.totalVideoFrames - this.marked.total;
    const stalledNow = this.stalledSince === null ? 0 : performance.now() - this.stalledSince;
    return {
      started: this.startedAt !== null,
      stalling: this.stalledSince !== null,
      stalls: this.stalls,
      stalledMs: this.stalledMs + stalledNow,
      jumps: this.jumps,
      seeks: this.seeks,
      seconds,
      played: this.video.currentTime - this.marked.time,
      loaded: this.video.currentTime - this.marked.time + this.buffer() - this.marked.buffer,
      frames,
      dropped: quality.droppedVideoFrames - this.marked.dropped,
      buffer: this.buffer(),
      rate: this.video.playbackRate,
      currentTime: this.video.currentTime,
    };
  }
}
