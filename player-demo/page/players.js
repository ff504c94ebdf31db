// The players, behind one face:
//   start({ video, edge, stream, autoplay, fatal, note }) -> { date(), latency(), stop(), plays }
// `date()` is the wallclock of the picture on screen in ms, `latency()` what the player itself reports in s; null where
// it doesn't tell; `plays` says that it calls `video.play()` itself. `fatal(words)` ends the session, `note(words)` only tells of something.
import { library } from "./sources.js";

const hlsUrl = (edge, stream) => edge + (stream.hls ?? `/${stream.name}/index.m3u8`);
const dashUrl = (edge, stream) => edge + (stream.dash ?? `/${stream.name}/manifest.mpd`);
const finite = (n) => (Number.isFinite(n) ? n : null);

/** How long Shaka waits at the end of what is there. */
const GAP_RETRY_S = 0.2;

/** Two frames: more than the rounding it is for, less than an audio track's last part. */
const BUFFER_PADDING_S = 0.05;

async function startHls({ video, edge, stream, fatal, note }, config) {
  const Hls = await library("hls");
  if (!Hls.isSupported()) throw new Error("this browser has no Media Source Extensions; choose the native player");
  const debug = new URLSearchParams(location.search).has("debug");
  const hls = new Hls({ debug, backBufferLength: 30, ...config });
  // hls.js 1.7 takes a complete segment as buffered when up to 0.2 s of it are missing. That is a last part of ours: a player
  // that is late by a part at a segment's end never loads it, and waits until the segment's parts have left the playlist.
  for (const component of hls.coreComponents ?? []) {
    if ("bufferPadding" in component) component.bufferPadding = BUFFER_PADDING_S;
  }
  let recovered = -Infinity;
  hls.on(Hls.Events.ERROR, (_, data) => {
    const words = hlsWords(data);
    if (!data.fatal) return note(words);
    // As hls.js documents: a media error is worth one try to recover before giving up.
    if (data.type === Hls.ErrorTypes.MEDIA_ERROR && performance.now() - recovered > 5000) {
      recovered = performance.now();
      note(`${words}; recovering`);
      return hls.recoverMediaError();
    }
    fatal(words);
  });
  hls.loadSource(hlsUrl(edge, stream));
  hls.attachMedia(video);
  return {
    date: () => finite(hls.playingDate?.getTime()),
    latency: () => (hls.latency > 0 ? hls.latency : null),
    stop: () => hls.destroy(),
    inner: hls,
  };
}

function hlsWords({ details, response, reason, error, url, frag }) {
  const at = response?.url ?? url ?? frag?.url;
  const status = response?.code ? `HTTP ${response.code}` : null;
  return ["hls.js", details, status, reason ?? error?.message, at].filter(Boolean).join(" · ");
}

async function startShaka({ video, fatal, note }, url) {
  const shaka = await library("shaka");
  shaka.polyfill.installAll();
  if (!shaka.Player.isBrowserSupported()) throw new Error("Shaka doesn't support this browser");
  const player = new shaka.Player();
  player.addEventListener("error", ({ detail }) => {
    const words = shakaWords(shaka, detail);
    // Shaka (5.2) stops at a gap that nothing follows, yet or at the end. Told to go on, it does so behind it.
    const atGap = detail.code === shaka.util.Error.Code.SEGMENT_MISSING && player.retryStreaming(GAP_RETRY_S);
    if (detail.severity === shaka.util.Error.Severity.CRITICAL && !atGap) fatal(words);
    else note(words);
  });
  await player.attach(video);
  player.configure({
    // The MPD says how far behind to stay. Shaka keeps to that within 0.5 s, unless it is told to be more exact.
    streaming: { lowLatencyMode: true, liveSync: { targetLatencyTolerance: 0.1 } },
    // Its default of 8 s is longer than what a low latency player holds: a line that has become narrow would empty it first.
    abr: { switchInterval: 1 },
    // Without it Shaka re-sets a negative timestampOffset now and then, and Chromium drops the parts between keyframes.
    manifest: { hls: { sequenceMode: true } },
  });
  const session = {
    date: () => finite(player.getPlayheadTimeAsDate()?.getTime()),
    latency: () => finite(player.getStats().liveLatency),
    stop: () => player.destroy(),
    inner: player,
  };
  try {
    await player.load(url);
  } catch (error) {
    await player.destroy();
    throw new Error(shakaWords(shaka, error));
  }
  return session;
}

function shakaWords(shaka, error) {
  const name = Object.entries(shaka.util.Error.Code).find(([, code]) => code === error.code)?.[0];
  const data = (error.data ?? []).filter((d) => ["string", "number"].includes(typeof d));
  return ["Shaka", name ?? `error ${error.code ?? error.message}`, ...data.slice(0, 2)].join(" · ");
}

async function startDash({ video, edge, stream, autoplay, fatal, note }) {
  const dashjs = await library("dash");
  const player = dashjs.MediaPlayer().create();
  player.updateSettings({
    debug: { logLevel: dashjs.Debug.LOG_LEVEL_NONE },
    streaming: {
      liveCatchup: { enabled: true },
      // The MPD's UTCTiming goes first; its default otherwise is a host outside, which this page never asks.
      utcSynchronization: { defaultTimingSource: { scheme: "urn:mpeg:dash:utc:http-xsdate:2014", value: `${edge}/time` } },
    },
  });
  const { ERROR, PLAYBACK_ERROR } = dashjs.MediaPlayer.events;
  let started = false;
  player.on(dashjs.MediaPlayer.events.PLAYBACK_PLAYING, () => (started = true));
  player.on(ERROR, ({ error }) => {
    const words = ["dash.js", error?.message ?? error?.code ?? String(error)].join(" · ");
    // dash.js goes on after a segment that failed; without a manifest, or before the first picture, it doesn't.
    if (started && /segment|fragment|content/i.test(words)) note(words);
    else fatal(words);
  });
  player.on(PLAYBACK_ERROR, ({ error }) => fatal(`dash.js · ${error?.message || "the browser can't play this"}`));
  // dash.js must see the `play` event: it reads the MPD again from there on only.
  player.initialize(video, dashUrl(edge, stream), autoplay);
  return {
    plays: true,
    date: () => {
      const seconds = player.isReady() ? player.timeAsUTC() : 0;
      return seconds > 1e9 ? seconds * 1000 : null;
    },
    latency: () => (player.isReady() ? finite(player.getCurrentLiveLatency()) : null),
    stop: () => player.destroy(),
    inner: player,
  };
}

const MEDIA_ERRORS = { 1: "aborted", 2: "network error", 3: "the media can't be decoded", 4: "this browser can't play the stream" };

async function startNative({ video, edge, stream, fatal }) {
  const broken = () => fatal(`native · ${MEDIA_ERRORS[video.error?.code] ?? "unknown error"} ${video.error?.message ?? ""}`.trim());
  video.addEventListener("error", broken);
  video.src = hlsUrl(edge, stream);
  return {
    // Safari dates its media; Chromium doesn't.
    date: () => finite((video.getStartDate?.()?.getTime() ?? NaN) + video.currentTime * 1000),
    latency: () => (video.seekable.length > 0 ? finite(video.seekable.end(video.seekable.length - 1) - video.currentTime) : null),
    stop: () => {
      video.removeEventListener("error", broken);
      video.removeAttribute("src");
      video.load();
    },
  };
}

/** By the name used in the URL, in the order they are offered. */
export const PLAYERS = {
  hls: {
    label: "hls.js · low latency",
    // Its default of 1 never catches up once it has fallen behind.
    start: (to) => startHls(to, { lowLatencyMode: true, maxLiveSyncPlaybackRate: 1.5 }),
  },
  "hls-plain": { label: "hls.js · plain HLS", start: (to) => startHls(to, { lowLatencyMode: false }) },
  "shaka-hls": { label: "Shaka · LL-HLS", start: (to) => startShaka(to, hlsUrl(to.edge, to.stream)) },
  "shaka-dash": { label: "Shaka · LL-DASH", start: (to) => startShaka(to, dashUrl(to.edge, to.stream)) },
  dash: { label: "dash.js · LL-DASH", start: startDash },
  native: { label: "The browser's own HLS", start: startNative },
};

/** The player to begin with: hls.js, or the browser's own where there is no MSE (older iPhones). */
export function defaultPlayer() {
  const mse = "MediaSource" in window || "ManagedMediaSource" in window;
  return mse ? "hls" : "native";
}
