// Reads the wallclock out of the picture, as fixtures/timecode.sh draws it: what a viewer really waits, whatever clocks, playlists
// and players say.

const CELLS = 32;
const CELL_PX = 10;
/** The two rows are a ninth of the picture. */
const SHARE = 1 / 9;
/** A cell darker or lighter than this is read. Between them it is neither. */
const DARK = 90;
const LIGHT = 160;
/** Frames: two minutes. */
const KEPT = 3600;

/**
 * The milliseconds that two rows of cells tell, modulo 2^32; null where a cell and its complement don't agree.
 * @param {(row: 0 | 1, cell: number) => number} luma of a cell, 0 to 255
 */
export function decode(luma) {
  let ms = 0;
  for (let cell = CELLS - 1; cell >= 0; cell--) {
    const [bit, not] = [luma(0, cell), luma(1, cell)];
    if (bit > LIGHT && not < DARK) ms = ms * 2 + 1;
    else if (bit < DARK && not > LIGHT) ms *= 2;
    else return null;
  }
  return ms;
}

/** The moment before `now` (ms since 1970) that a code of 32 bits tells; it may be a second ahead, for clocks differ. */
export function unwrap(code, now) {
  const turn = 2 ** CELLS;
  return now + 1000 - ((((now + 1000 - code) % turn) + turn) % turn);
}

export class Timecode {
  /** @param {HTMLVideoElement} video @param {() => number} wallclock in ms since 1970, when asked */
  constructor(video, wallclock) {
    this.video = video;
    this.wallclock = wallclock;
    /** { at: when it was shown, made: when it was made }, in ms since 1970, newest last. */
    this.seen = [];
    this.unread = 0;
    const canvas = document.createElement("canvas");
    canvas.width = CELLS * CELL_PX;
    canvas.height = 2 * CELL_PX;
    this.canvas = canvas.getContext("2d", { willReadFrequently: true });
    const next = (now, frame) => {
      this.read(now, frame);
      video.requestVideoFrameCallback(next);
    };
    video.requestVideoFrameCallback(next);
  }

  /** `now` is when the callback runs, and `frame.expectedDisplayTime` when the picture is seen, both on `performance.now()`. */
  read(now, frame) {
    const { width, height } = this.canvas.canvas;
    this.canvas.drawImage(this.video, 0, 0, this.video.videoWidth, this.video.videoHeight * SHARE, 0, 0, width, height);
    const { data } = this.canvas.getImageData(0, 0, width, height);
    const code = decode((row, cell) => {
      const at = 4 * ((row * CELL_PX + CELL_PX / 2) * width + cell * CELL_PX + CELL_PX / 2);
      return 0.2126 * data[at] + 0.7152 * data[at + 1] + 0.0722 * data[at + 2];
    });
    if (code === null) {
      this.unread += 1;
      return;
    }
    const at = this.wallclock() + frame.expectedDisplayTime - performance.now();
    this.seen.push({ at, made: unwrap(code, at), media: frame.mediaTime });
    if (this.seen.length > KEPT) this.seen.shift();
  }

  clear() {
    this.seen = [];
    this.unread = 0;
  }

  /** Glass to glass in seconds, over what was seen in the last `seconds`: { newest, p50, p99, frames, unread }; null before the first. */
  stats(seconds = 10) {
    const newest = this.seen.at(-1);
    if (!newest) return null;
    const ages = this.seen.filter((s) => s.at > newest.at - seconds * 1000).map((s) => (s.at - s.made) / 1000).sort((a, b) => a - b);
    const quantile = (q) => ages[Math.min(ages.length - 1, Math.floor(q * ages.length))];
    return { newest: (newest.at - newest.made) / 1000, p50: quantile(0.5), p99: quantile(0.99), frames: ages.length, unread: this.unread };
  }
}
