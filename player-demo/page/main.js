// The page: choose an edge, a stream and a player; watch; see the latency and where it comes from.
//
// The URL preselects: ?edge=NAME or URL, &stream=, &player=hls|hls-plain|shaka-hls|shaka-dash|dash|native,
// &autoplay=0, &muted=0, &theme=light|dark, &timecode (the picture carries its time: fixtures/timecode.sh), &debug (hls.js
// logs to the console). `window.damson` is for tests and for the console.
import { isVideo, undecodable } from "./decoding.js";
import { Clock, HttpError, baseUrl, demoNodes, edges, order, streams, swarm, trace } from "./edge.js";
import { element } from "./dom.js";
import { LiveTrace } from "./live-trace.js";
import { MediaTiming } from "./media-timing.js";
import { Meter } from "./meter.js";
import { PartFinder } from "./part-finder.js";
import { PLAYERS, defaultPlayer } from "./players.js";
import { EMBEDDED } from "./sources.js";
import { StackChart, layersOf } from "./stack-chart.js";
import { Tiles } from "./tiles.js";
import { Timecode } from "./timecode.js";
import { TreeView, treeOf } from "./tree.js";
import { Waterfall } from "./waterfall.js";

const POLL_STREAMS_MS = 3000;
/** While there is nothing to watch, the viewer waits. */
const POLL_STREAMS_WAITING_MS = 500;
const POLL_TRACE_MS = 1000;
const POLL_TREE_MS = 1000;
const STACK_MS = 500;
/** A quarter of a minute, at one each STACK_MS. */
const TIMED_KEPT = 30;
const DRAW_MS = 250;
const SYNC_CLOCK_MS = 30_000;
const RETRY_MS = [1000, 2000, 4000, 8000];
const EVENTS_MAX = 300;
/** The push command of README and of the demo's banner, up to the URL. */
const PUSH = "ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine=frequency=440 "
  + "-c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -g 60 -b:v 3M -c:a aac -f flv";
const OTHER = "other";

const $ = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
const video = $("video");
const events = [];
const meter = new Meter(video, note);
const tiles = new Tiles($);
const waterfall = new Waterfall(document);
const timing = new MediaTiming();
timing.watch(video);
const stack = new StackChart($);
const liveTrace = new LiveTrace();
const tree = new TreeView($("tree"), orderNode);

/** The choice, and the session that plays it. */
const now = {
  edge: location.origin /* null: the text given is not an address */, stream: null, player: PLAYERS[asked.get("player")] ? asked.get("player") : defaultPlayer(),
  known: [], state: "idle", error: null, session: null, attempt: 0, failures: 0, retry: null,
  edgeDown: false,
  watched: null, // the presentation (`life` in the API) that was played while it was live
  tree: null, running: null, listed: [], timed: [], clock: null, finder: null, part: null, trace: null, here: [], onScreen: false,
};

/** Reads the time from the picture, where the URL says that it carries one. */
const timecode = asked.has("timecode") ? new Timecode(video, () => now.clock?.now() ?? Date.now()) : null;

function note(words) {
  events.push({ at: Date.now(), words });
  if (events.length > EVENTS_MAX) events.shift();
  const stamp = new Date().toLocaleTimeString([], { hour12: false });
  $("log").prepend(element("li", {}, element("time", {}, stamp), element("span", {}, words)));
  while ($("log").children.length > EVENTS_MAX) $("log").lastChild.remove();
  $("log-count").textContent = events.length;
}

/** Shows a message over the picture until the next call. */
function say(title, { more = "", code = "", busy = false } = {}) {
  const box = $("message");
  box.hidden = !title;
  box.classList.toggle("busy", busy);
  if (!title) return;
  const key = [title, more, code].join("\n");
  if (box.dataset.key === key && box.childElementCount > 0) return;
  box.dataset.key = key;
  box.replaceChildren(element("strong", {}, title));
  if (more) box.append(element("span", {}, more));
  if (code) box.append(element("code", {}, code));
}

// ---- choosing

async function fillEdges() {
  const list = await edges();
  now.listed = list;
  const wanted = asked.get("edge");
  const found = list.find((e) => e.name === wanted || e.url === wanted) ?? (wanted ? null : list.find((e) => e.url === location.origin) ?? list[0]);
  const option = (value, text) => element("option", { value }, text);
  $("edge").replaceChildren(...list.map((e) => option(e.url, e.name)), option(OTHER, "another address…"));
  if (found) {
    now.edge = found.url;
  } else {
    $("edge-url").value = wanted;
    $("edge-url-label").hidden = false;
    try {
      now.edge = baseUrl(wanted);
    } catch (error) {
      now.edge = null;
      say("Not an address", { more: error.message });
    }
  }
  $("edge").value = found ? found.url : OTHER;
}

function chooseEdge() {
  const other = $("edge").value === OTHER;
  $("edge-url-label").hidden = !other;
  if (!other) return setEdge($("edge").value);
  $("edge-url").focus();
}

function setEdge(url) {
  try {
    now.edge = baseUrl(url);
    $("edge-url").setCustomValidity("");
  } catch (error) {
    $("edge-url").setCustomValidity(error.message);
    $("edge-url").reportValidity();
    return;
  }
  now.clock = null;
  now.known = [];
  stop();
  refreshStreams();
}

/** Requests the list of streams, and starts the chosen one when it is live. */
async function refreshStreams() {
  const edge = now.edge;
  if (edge === null) return;
  let list;
  try {
    list = await streams(edge);
  } catch (error) {
    if (edge !== now.edge) return;
    now.edgeDown = true;
    if (!now.session) say("This edge does not answer", { more: `${edge}: ${inWords(error)}. Trying again.`, busy: true });
    return;
  }
  if (edge !== now.edge) return;
  now.edgeDown = false;
  now.known = list;
  const wanted = now.stream?.name ?? asked.get("stream");
  const names = list.map((s) => s.name);
  if (wanted && !names.includes(wanted)) names.push(wanted);
  const shown = [...$("stream").options].map((o) => o.value);
  if (shown.join() !== names.join()) {
    $("stream").replaceChildren(...names.map((n) => element("option", { value: n }, n)));
  }
  if (names.length === 0) $("stream").replaceChildren(element("option", { value: "" }, "no stream is live"));
  const before = now.stream;
  now.stream = list.find((s) => s.name === wanted) ?? (wanted ? null : list.find((s) => s.live !== false) ?? list[0]) ?? null;
  if (now.stream) $("stream").value = now.stream.name;
  else if (wanted) $("stream").value = wanted;
  showFacts();
  const over = now.watched !== null && now.watched === before?.life
    && (!now.stream || (now.stream.life === now.watched && now.stream.live === false));
  if (!now.stream && before) now.stream = before; // the stream that was watched stays chosen
  if (over) {
    // A player that has stalled or failed at the end waits for nothing; the others report the end by themselves.
    if (now.state === "error" || (now.session && meter.read().stalling)) finish();
    if (now.state !== "idle") return;
  }
  if (!now.known.includes(now.stream)) {
    if (!now.session && now.state !== "ended") sayNoStream(wanted);
    return;
  }
  const stands = now.state === "ended" || (now.session && meter.read().stalling);
  const revived = stands && before && now.stream.live !== false && now.stream.life !== before.life;
  if (revived) note("the stream is back, as a new presentation");
  if (revived || (!now.session && !now.retry && now.state !== "loading" && now.state !== "ended")) start();
}

function sayNoStream(wanted) {
  const host = new URL(now.edge).hostname;
  say(wanted ? `No stream “${wanted}” here yet` : "No stream is live here yet", {
    more: "This page starts it as soon as it is published, for example with:",
    code: `${PUSH} rtmp://${host}:1935/live/${wanted ?? "cam1"}`,
  });
}

// ---- playing

function stop() {
  now.attempt += 1;
  clearTimeout(now.retry);
  now.retry = null;
  const session = now.session;
  now.session = null;
  Object.assign(now, { state: "idle", error: null, finder: null, part: null, trace: null, here: [], timed: [] });
  liveTrace.stop();
  timing.clear();
  tiles.clear();
  waterfall.clear();
  stack.clear();
  waterfall.say("Waiting for the first part…");
  return Promise.resolve(session?.stop()).catch(() => {});
}

async function start() {
  const stopped = stop();
  const attempt = now.attempt;
  const { edge, stream, player } = now;
  if (!stream) return;
  const missing = undecodable(stream.tracks ?? [], player === "native");
  if (missing) return refuse(missing);
  now.state = "loading";
  say("Starting", { more: `${stream.name} from ${edge}, with ${PLAYERS[player].label}`, busy: true });
  remember();
  await stopped;
  if (attempt !== now.attempt) return;
  meter.restart();
  timecode?.clear();
  const fatal = (words) => {
    if (attempt === now.attempt) fail(words);
  };
  note(`start: ${stream.name} at ${edge} with ${PLAYERS[player].label}`);
  syncClock();
  liveTrace.follow(edge, stream.name, videoTrack());
  now.finder = new PartFinder(`${edge}/${stream.name}/${videoTrack()}/playlist.m3u8`);
  try {
    const autoplay = asked.get("autoplay") !== "0";
    const session = await PLAYERS[player].start({ video, edge, stream, autoplay, fatal, note });
    if (attempt !== now.attempt) return void session.stop();
    now.session = session;
    if (autoplay && !session.plays) await video.play();
  } catch (error) {
    if (attempt !== now.attempt || error.name === "AbortError") return;
    if (error.name === "NotAllowedError") return say("Press play", { more: "This browser does not let a page start sound by itself." });
    fail(error.message);
  }
}

/** Shows that the stream has ended. The last picture stays, where the player keeps one. */
function finish() {
  if (now.state === "ended") return;
  clearTimeout(now.retry);
  Object.assign(now, { state: "ended", error: null, retry: null });
  note("the stream has ended");
  say("The stream has ended", { more: "This page starts it again when it is published again." });
}

/** Says which codec the browser cannot decode, rather than show a black picture. The next list of streams asks again. */
function refuse(missing) {
  const words = `this browser does not decode ${missing}`;
  if (now.refused !== words) note(words);
  Object.assign(now, { state: "error", error: words, refused: words });
  const more = `It does not decode ${missing}. Another browser may (Safari decodes H.265); VLC and ffplay play everything:`;
  say("This browser cannot play the stream", { more, code: now.edge + (now.stream.hls ?? `/${now.stream.name}/index.m3u8`) });
}

/** Ends a failed session and starts the next one, after a longer wait each time, unless the stream has ended. */
function fail(words) {
  note(words);
  stop();
  now.state = "error";
  now.error = words;
  const wait = RETRY_MS[Math.min(now.failures, RETRY_MS.length - 1)];
  now.failures += 1;
  say("Playback stopped", { more: `${words}. Trying again in ${wait / 1000} s.` });
  now.retry = setTimeout(() => {
    now.retry = null;
    refreshStreams().then(() => {
      if (!now.session && now.state !== "loading" && !now.edgeDown) start();
    });
  }, wait);
  refreshStreams();
}

video.addEventListener("playing", () => {
  if (now.state !== "playing") note("playing");
  now.state = "playing";
  now.failures = 0;
  if (now.stream?.live !== false) now.watched = now.stream?.life ?? null;
  say("");
});
video.addEventListener("ended", finish);
video.addEventListener("resize", showFacts);

function inWords(error) {
  if (error instanceof HttpError) return `HTTP ${error.status}`;
  if (error.name === "TimeoutError") return "no answer in time";
  if (error instanceof TypeError) return "no connection, or the edge does not allow this site (CORS)";
  return error.message;
}

async function syncClock() {
  if (now.edge === null) return;
  const clock = now.clock?.edge === now.edge ? now.clock : new Clock(now.edge);
  try {
    await clock.sync();
    if (clock.edge === now.edge) now.clock = clock;
  } catch (error) {
    if (!now.clock) note(`cannot read the edge’s clock: ${inWords(error)}; using this machine’s clock`);
  }
}

// ---- looking

const videoTrack = () => (now.stream?.tracks ?? []).find(isVideo)?.name
  ?? now.stream?.tracks?.[0]?.name ?? "video";

/** Whether the picture is live: not of a stream that has ended, nor of an edge that is gone. */
const isLive = () => now.state !== "ended" && !now.edgeDown;

/** The age of the picture in seconds: the edge's clock minus the picture's PROGRAM-DATE-TIME; null while nothing live plays. */
function pictureAge() {
  const date = isLive() ? now.session?.date() ?? null : null;
  return date === null || !meter.read().started ? null : ((now.clock?.now() ?? Date.now()) - date) / 1000;
}

const middle = (values) => [...values].sort((a, b) => a - b)[values.length >> 1] ?? null;

function stats() {
  return {
    ...meter.read(), state: now.state, error: now.error, edge: now.edge, edgeDown: now.edgeDown, stream: now.stream?.name ?? null, player: now.player,
    latency: pictureAge(), playerLatency: isLive() ? now.session?.latency() ?? null : null, clockError: now.clock?.error ?? null,
    part: now.part, trace: now.trace, here: now.here, tree: now.tree, timed: now.timed.at(-1) ?? null,
    stagesSum: middle(now.timed.map(({ shown_us }) => shown_us / 1e6)), hasTimecode: timecode !== null, glass: timecode?.stats() ?? null, embedded: EMBEDDED,
  };
}

function draw() {
  const s = stats();
  tiles.draw(s, PLAYERS[now.player].label.split(" · ")[0]);
  if (s.stalling && now.state !== "ended") say("Waiting for media", { busy: true });
  else if (now.state === "playing") say("");
  if (s.latency !== null && now.trace && now.onScreen) drawShares(s.latency);
}

/** The part's filling counts from the date of the picture; where frames are reordered, its last pictures have later dates than their arrival. */
function drawShares(latency) {
  const { ingested_unix_us: whole, age_us, stages } = now.trace;
  const date = now.part?.start;
  if (!whole || !date) return;
  const packaging = stages?.find(({ stage }) => stage === "packaging")?.us ?? 0;
  waterfall.shares({ filling: Math.max(0, whole - date * 1000), packaging, relay: age_us - packaging, latency: latency * 1e6 });
}

/** Finds the part on screen and requests its trace; one request at a time. */
async function look() {
  const { attempt, edge, stream, session, finder } = now;
  if (!session || !meter.read().started || document.hidden) return;
  const seen = onScreen();
  const part = seen && (await finder.find(seen.date).catch(() => null));
  // The WebSocket has sent it, unless this page was opened later.
  let found = part && (liveTrace.of(part) ?? (await trace(edge, stream.name, videoTrack(), part)));
  const isSeen = Boolean(found);
  found ??= liveTrace.of(null) ?? (await trace(edge, stream.name, videoTrack(), null));
  if (attempt !== now.attempt) return;
  Object.assign(now, { part: part && { ...part, start: seen.date }, trace: found, onScreen: isSeen });
  if (!found) return waterfall.say("The edge has no trace of this part.");
  now.here = (isSeen && timeOf(seen, part)?.here) || [];
  waterfall.show(found, isSeen, now.here);
  if (!isSeen) {
    $("share").hidden = true;
    if (part) waterfall.say("The edge no longer has the trace of the part on screen; this is the newest part.");
  }
}

/** The picture on screen: its wallclock `date`, its `position` in the media, and `at`, which is now; null where the player does not report it. */
function onScreen() {
  const date = now.session?.date() ?? null;
  return date === null ? null : { date, position: video.currentTime, at: performance.now() };
}

/**
 * The part on screen with all its stages: `{ trace, here, since_us, filling_us, shown_us }`. `here` are the page's own stages, from the
 * edge's listing until the part's last frame is on screen; with the trace's they add up to `shown_us`, the time since the last frame
 * reached the ingest node. Only this edge's clock is read. `since_us` is the time since the listing, and `filling_us` the time from the
 * picture now on screen to the part's last frame, by the ingest node's clock. Null while the page cannot measure.
 */
function timeOf({ date, position, at }, part) {
  const found = part?.exact ? liveTrace.of(part) : null;
  if (!found || !now.clock || video.paused || meter.read().stalling) return null;
  const listed = found.available_unix_us / 1000 - now.clock.now() + performance.now();
  const media = (when) => position + (when - date) / 1000;
  const sizes = Array.from({ length: part.part + 1 }, (_, i) => liveTrace.of({ msn: part.msn, part: i })?.bytes ?? null);
  const file = `${now.edge}/${now.stream.name}/${videoTrack()}/${part.msn}`;
  const here = timing.stages({
    listed, position, now: at, rate: video.playbackRate, middle: media((part.from + part.end) / 2), end: media(part.end),
    urls: { part: `${file}.${part.part}.m4s`, segment: `${file}.m4s` }, upTo: sizes.includes(null) ? null : sizes.reduce((a, b) => a + b, 0),
  });
  return {
    trace: found, here, since_us: 1000 * (at - listed), filling_us: found.ingested_unix_us - 1000 * date,
    shown_us: here.reduce((sum, { us }) => sum + us, found.age_us),
  };
}

/** Adds the picture's age, stage by stage, to the chart. */
function stackNow() {
  const latency = pictureAge();
  if (latency === null || !now.trace || !now.onScreen || document.hidden) return;
  const seen = onScreen();
  const timed = seen && now.finder ? timeOf(seen, now.finder.lookup(seen.date)) : null;
  if (!timed) return;
  now.timed = [...now.timed, timed].slice(-TIMED_KEPT);
  stack.push(layersOf(timed.trace, timed.filling_us, timed.here, timed.since_us));
}

/** Stops or starts a node of the demo. */
async function orderNode(name, run) {
  note(`${run ? "starting" : "stopping"} node ${name}`);
  try {
    await order(name, run);
    await lookAtTree();
  } catch (error) {
    note(`node ${name}: ${inWords(error)}`);
  }
}

/** Notes each node of the demo that stopped or started, from whichever page that was ordered. */
function noteNodes(demo) {
  const before = now.running;
  now.running = new Map(demo.map(({ name, running }) => [name, running]));
  for (const { name, running } of demo) if (before?.has(name) && before.get(name) !== running) note(`node ${name} ${running ? "started" : "stopped"}`);
}

/** Draws the tree as this edge sees it; in a demo as each running node sees it. */
async function lookAtTree() {
  const { edge, stream, attempt } = now;
  if (edge === null || !stream || document.hidden) return;
  const demo = edge === location.origin || now.listed.some((e) => e.url === edge) ? await demoNodes() : [];
  noteNodes(demo);
  const running = new Set(demo.filter((n) => n.running).map((n) => n.name));
  const asked = demo.length > 0 ? now.listed.filter((e) => running.has(e.name)).map((e) => e.url) : [edge];
  const views = (await Promise.all(asked.map(swarm))).filter(Boolean);
  if (attempt !== now.attempt) return;
  now.tree = treeOf(views, stream.name, demo.length > 0 ? null : now.trace, demo);
  const here = now.listed.find((e) => e.url === edge)?.name ?? views.find((v) => v.node === now.trace?.edge?.node)?.name;
  const host = now.listed.find((e) => e.url === location.origin)?.name;
  tree.show(now.tree, { here, demo, host });
}

function showFacts() {
  const fact = (label, value) => value && element("span", {}, `${label} `, element("b", {}, value));
  const tracks = now.stream?.tracks ?? [];
  const size = video.videoWidth ? `${video.videoWidth}×${video.videoHeight}` : null;
  const picture = tracks.find((t) => t.name === videoTrack());
  const list = [
    fact("picture", [size, picture?.frame_rate && `${Number(picture.frame_rate.toFixed(2))} fps`].filter(Boolean).join(", ")),
    ...tracks.map((t) => fact(t.name, [t.codec, t.bandwidth && `${(t.bandwidth / 1e6).toFixed(2)} Mb/s`].filter(Boolean).join(", "))),
    fact("ingest", now.stream?.ingest_name ?? now.stream?.ingest),
  ];
  $("facts").replaceChildren(...list.filter(Boolean));
  const link = (path, text) => path && element("a", { href: now.edge + path }, text);
  $("urls").replaceChildren(...(now.stream ? [
    link(now.stream.hls ?? `/${now.stream.name}/index.m3u8`, "HLS playlist"),
    link(now.stream.dash ?? `/${now.stream.name}/manifest.mpd`, "DASH manifest"),
    link(`/api/v1/streams/${now.stream.name}/trace?track=${videoTrack()}`, "Trace (JSON)"),
  ] : []));
}

/** Keeps the choice in the address bar, so that the link can be shared and reloaded. */
function remember() {
  const url = new URL(location.href);
  url.searchParams.set("stream", now.stream.name);
  url.searchParams.set("player", now.player);
  if (now.edge === location.origin) url.searchParams.delete("edge");
  else url.searchParams.set("edge", now.edge);
  history.replaceState(null, "", url);
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

/** Runs `task` again and again, `every()` ms after each end. */
function loop(task, every) {
  const run = () => Promise.resolve().then(task).catch((error) => note(inWords(error))).finally(() => setTimeout(run, every()));
  run();
}

// ---- the start

setTheme(asked.get("theme"));
$("cdn").hidden = EMBEDDED;
$("licences").hidden = !EMBEDDED;
video.muted = asked.get("muted") !== "0";
$("player").replaceChildren(...Object.entries(PLAYERS).map(([value, p]) => element("option", { value }, p.label)));
$("player").value = now.player;
$("player").addEventListener("change", () => {
  now.player = $("player").value;
  now.failures = 0;
  start();
});
$("stream").addEventListener("change", () => {
  now.stream = now.known.find((s) => s.name === $("stream").value) ?? now.stream;
  now.failures = 0;
  showFacts();
  start();
});
$("edge").addEventListener("change", chooseEdge);
$("edge-url").addEventListener("change", () => setEdge($("edge-url").value));
$("choice").addEventListener("submit", (e) => {
  e.preventDefault();
  if ($("edge").value === OTHER) setEdge($("edge-url").value);
});
$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  setTheme(dark ? "light" : "dark");
});

window.damson = {
  video, events, stats, timecode,
  get player() { return now.player; },
  get inner() { return now.session?.inner ?? null; },
  mark: () => meter.mark(),
};

say("Looking for streams", { busy: true });
fillEdges().then(() => {
  loop(refreshStreams, () => (now.session ? POLL_STREAMS_MS : POLL_STREAMS_WAITING_MS));
  loop(look, () => POLL_TRACE_MS);
  loop(lookAtTree, () => POLL_TREE_MS);
});
setInterval(draw, DRAW_MS);
setInterval(stackNow, STACK_MS);
setInterval(syncClock, SYNC_CLOCK_MS);
