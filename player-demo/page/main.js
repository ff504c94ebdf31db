// The page: choose an edge, a stream and a player; watch; see the latency and where it comes from.
//
// The URL preselects: ?edge=NAME or URL, &stream=, &player=hls|hls-plain|shaka-hls|shaka-dash|dash|native,
// &autoplay=0, &muted=0, &theme=light|dark, &timecode (the picture carries its time: fixtures/timecode.sh), &debug (hls.js
// tells what it does on the console). `window.damson` is for tests and for the console.
import { isVideo, undecodable } from "./decoding.js";
import { Clock, HttpError, baseUrl, demoNodes, edges, order, streams, swarm, trace } from "./edge.js";
import { Feed } from "./feed.js";
import { Journey } from "./journey.js";
import { Meter } from "./meter.js";
import { PLAYERS, defaultPlayer } from "./players.js";
import { PartFinder } from "./position.js";
import { EMBEDDED } from "./sources.js";
import { StackView, layersOf } from "./stack.js";
import { Timecode } from "./timecode.js";
import { TreeView, treeOf } from "./tree.js";
import { WayView, element } from "./way.js";

const POLL_STREAMS_MS = 3000;
/** While there is nothing to watch, somebody waits for it. */
const POLL_STREAMS_WAITING_MS = 500;
const POLL_TRACE_MS = 1000;
const POLL_TREE_MS = 1000;
const STACK_MS = 500;
/** A quarter of a minute. */
const ACCOUNTS_KEPT = 30;
const DRAW_MS = 250;
const SYNC_CLOCK_MS = 30_000;
const RETRY_MS = [1000, 2000, 4000, 8000];
const EVENTS_MAX = 300;
const CHART_SAMPLES = 240;
const OTHER = "other";

const $ = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
const video = $("video");
const events = [];
const meter = new Meter(video, note);
const way = new WayView(document);
const journey = new Journey();
journey.watch(video);
const stack = new StackView($("stack"), $("stack-key"));
const feed = new Feed(() => {});
const tree = new TreeView($("tree"), (name, run) => order(name, run).then(lookAtTree).catch((error) => note(`${name}: ${inWords(error)}`)));

/** What is chosen, and the session that plays it. */
const now = {
  edge: location.origin /* null: what was given is no address */, stream: null, player: PLAYERS[asked.get("player")] ? asked.get("player") : defaultPlayer(),
  known: [], state: "idle", error: null, session: null, attempt: 0, failures: 0, retry: null,
  watched: null, // the life that was played while it was live
  tree: null, listed: [], accounts: [], clock: null, finder: null, part: null, trace: null, here: [], onScreen: false, chart: [],
};

/** Reads the picture, if it is said to carry its time. */
const timecode = asked.has("timecode") ? new Timecode(video, () => now.clock?.now() ?? Date.now()) : null;

function note(words) {
  events.push({ at: Date.now(), words });
  if (events.length > EVENTS_MAX) events.shift();
  const stamp = new Date().toLocaleTimeString([], { hour12: false });
  $("log").prepend(element("li", {}, element("time", {}, stamp), element("span", {}, words)));
  while ($("log").children.length > EVENTS_MAX) $("log").lastChild.remove();
  $("log-count").textContent = events.length;
}

/** Words over the picture; nothing takes them away but the next call. */
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
      say("No such edge", { more: error.message });
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

/** Asks for the streams, and starts the chosen one when it is there. */
async function refreshStreams() {
  const edge = now.edge;
  if (edge === null) return;
  let list;
  try {
    list = await streams(edge);
  } catch (error) {
    if (edge !== now.edge) return;
    now.edgeDown = true;
    if (!now.session) say("This edge doesn’t answer", { more: `${edge}: ${inWords(error)}. Trying again.`, busy: true });
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
  if (names.length === 0) $("stream").replaceChildren(element("option", { value: "" }, "none is live"));
  const before = now.stream;
  now.stream = list.find((s) => s.name === wanted) ?? (wanted ? null : list.find((s) => s.live !== false) ?? list[0]) ?? null;
  if (now.stream) $("stream").value = now.stream.name;
  else if (wanted) $("stream").value = wanted;
  showFacts();
  const over = now.watched !== null && now.watched === before?.life
    && (!now.stream || (now.stream.life === now.watched && now.stream.live === false));
  if (!now.stream && before) now.stream = before; // what was being watched stays chosen
  if (over) {
    // A player that stands, or has failed, at the end has nothing to wait for; others come to it by themselves.
    if (now.state === "error" || (now.session && meter.read().stalling)) finish();
    if (now.state !== "idle") return;
  }
  if (!now.known.includes(now.stream)) {
    if (!now.session && now.state !== "ended") sayNoStream(wanted);
    return;
  }
  const stands = now.state === "ended" || (now.session && meter.read().stalling);
  const revived = stands && before && now.stream.live !== false && now.stream.life !== before.life;
  if (revived) note("the stream is back, as a new life");
  if (revived || (!now.session && !now.retry && now.state !== "loading" && now.state !== "ended")) start();
}

function sayNoStream(wanted) {
  const host = new URL(now.edge).hostname;
  say(wanted ? `No stream “${wanted}” here yet` : "No stream is live here yet", {
    more: "It starts by itself once somebody pushes one to the ingest:",
    code: `ffmpeg -re -i video.mp4 -c copy -f flv rtmp://${host}:1935/live/${wanted ?? "cam1"}`,
  });
}

// ---- playing

function stop() {
  now.attempt += 1;
  clearTimeout(now.retry);
  now.retry = null;
  const session = now.session;
  now.session = null;
  Object.assign(now, { state: "idle", error: null, finder: null, part: null, trace: null, here: [], chart: [], accounts: [] });
  feed.stop();
  journey.clear();
  way.clear();
  stack.clear();
  way.say("Waiting for the first part…");
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
  feed.follow(edge, stream.name, videoTrack());
  now.finder = new PartFinder(`${edge}/${stream.name}/${videoTrack()}/playlist.m3u8`);
  try {
    const autoplay = asked.get("autoplay") !== "0";
    const session = await PLAYERS[player].start({ video, edge, stream, autoplay, fatal, note });
    if (attempt !== now.attempt) return void session.stop();
    now.session = session;
    if (autoplay && !session.plays) await video.play();
  } catch (error) {
    if (attempt !== now.attempt || error.name === "AbortError") return;
    if (error.name === "NotAllowedError") return say("Press play", { more: "The browser doesn’t let a page start sound by itself." });
    fail(error.message);
  }
}

/** The stream is over. The last picture stays, where the player has left one. */
function finish() {
  if (now.state === "ended") return;
  clearTimeout(now.retry);
  Object.assign(now, { state: "ended", error: null, retry: null });
  note("the stream has ended");
  say("The stream has ended", { more: "If it is pushed again, it starts here by itself." });
}

/** Nothing is played that the browser can't decode: a picture that stays black says nothing. It is asked again with the streams. */
function refuse(missing) {
  const words = `it doesn’t decode ${missing}`;
  if (now.refused !== words) note(words);
  Object.assign(now, { state: "error", error: words, refused: words });
  const more = `It doesn’t decode ${missing}. Another browser may, as Safari does H.265; VLC and ffplay play all:`;
  say("This browser can’t play the stream", { more, code: now.edge + (now.stream.hls ?? `/${now.stream.name}/index.m3u8`) });
}

/** The session has failed; the next one follows by itself, later each time, unless the stream is over. */
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
  if (now.state !== "playing") note("plays");
  now.state = "playing";
  now.failures = 0;
  if (now.stream?.live !== false) now.watched = now.stream?.life ?? null;
  say("");
});
video.addEventListener("ended", finish);
video.addEventListener("resize", showFacts);

function inWords(error) {
  if (error instanceof HttpError) return `it answers ${error.status}`;
  if (error.name === "TimeoutError") return "no answer in time";
  if (error instanceof TypeError) return "no connection (or it doesn’t allow other sites: CORS)";
  return error.message;
}

async function syncClock() {
  if (now.edge === null) return;
  const clock = now.clock?.edge === now.edge ? now.clock : new Clock(now.edge);
  try {
    await clock.sync();
    if (clock.edge === now.edge) now.clock = clock;
  } catch (error) {
    if (!now.clock) note(`the edge’s clock can’t be read: ${inWords(error)}; this machine’s is taken`);
  }
}

// ---- looking

const videoTrack = () => (now.stream?.tracks ?? []).find(isVideo)?.name
  ?? now.stream?.tracks?.[0]?.name ?? "video";

/** The age of the picture in seconds: the edge's clock against the picture's PROGRAM-DATE-TIME. */
function pictureAge() {
  const date = now.session?.date() ?? null;
  return date === null || !meter.read().started ? null : ((now.clock?.now() ?? Date.now()) - date) / 1000;
}

const middle = (values) => [...values].sort((a, b) => a - b)[values.length >> 1] ?? null;

function stats() {
  const latency = pictureAge();
  return {
    ...meter.read(), state: now.state, error: now.error, edge: now.edge, stream: now.stream?.name ?? null, player: now.player,
    latency, playerLatency: now.session?.latency() ?? null, clockError: now.clock?.error ?? null,
    part: now.part, trace: now.trace, here: now.here, tree: now.tree,
    journey: now.accounts.at(-1) ?? null, accounted: middle(now.accounts.map((a) => a.shown_us / 1e6)), glass: timecode?.stats() ?? null, embedded: EMBEDDED,
  };
}

function draw() {
  const s = stats();
  const figure = (value, unit) => [value, element("span", { class: "unit" }, unit)];
  const shown = s.latency ?? s.playerLatency;
  $("latency-kind").textContent = s.latency !== null ? "ingest to screen" : shown !== null ? "behind the live edge" : "";
  $("latency").replaceChildren(...(shown === null || !s.started ? ["–"] : figure(shown.toFixed(2), "s")));
  $("latency-note").textContent = s.started ? latencyInWords(s, shown) : "";
  $("buffer").replaceChildren(...(s.started ? figure(s.buffer.toFixed(2), "s") : ["–"]));
  $("rate").replaceChildren(...(s.started ? figure(s.rate.toFixed(2), "×") : ["–"]));
  $("dropped").replaceChildren(...(s.started ? figure(s.dropped, `of ${s.frames}`) : ["–"]));
  $("stalls").replaceChildren(...(s.started ? figure(s.stalls, s.stalls > 0 ? `${(s.stalledMs / 1000).toFixed(1)} s` : "") : ["–"]));
  $("stalls").classList.toggle("bad", s.stalling);
  if (s.stalling && now.state !== "ended") say("Waiting for media", { busy: true });
  else if (now.state === "playing") say("");
  now.chart.push(s.started ? shown : null);
  if (now.chart.length > CHART_SAMPLES) now.chart.shift();
  drawChart();
  if (s.latency !== null && now.trace && now.onScreen) {
    const { ingested_unix_us: whole, age_us: relay } = now.trace;
    const date = now.part?.start;
    // From this picture's date until the part around it was whole; its last pictures are dated later than their arrival
    // where frames are reordered.
    if (whole && date) way.shares({ filling: Math.max(0, whole - date * 1000), relay, latency: s.latency * 1e6 });
  }
}

function latencyInWords(s, shown) {
  const seconds = (value) => `${value?.toFixed(2) ?? "–"} s`;
  const words = [];
  if (shown === null) words.push("This player doesn’t tell how old its picture is.");
  else if (s.latency === null) words.push("As this player sees it; it doesn’t tell the picture’s date.");
  else {
    words.push(`From the edge’s clock (to within ${Math.max(1, Math.ceil(s.clockError ?? 0))} ms) and the picture’s date.`);
    if (s.playerLatency !== null) words.push(`The player says ${seconds(s.playerLatency)}.`);
  }
  if (timecode && s.glass) {
    words.push(`Glass to glass, read from the picture: ${seconds(s.glass.p50)}; the account and the player’s wait make ${seconds(s.accounted)}.`);
  } else if (timecode) words.push("The picture carries no time that can be read.");
  return words.join(" ");
}

function drawChart() {
  const known = now.chart.filter((v) => v !== null);
  if (known.length < 2) return $("chart").replaceChildren();
  const low = Math.min(...known);
  const high = Math.max(...known, low + 0.2);
  const start = CHART_SAMPLES - now.chart.length;
  let line = "";
  now.chart.forEach((v, i) => {
    if (v === null) return;
    line += `${line === "" || now.chart[i - 1] === null ? "M" : "L"}${start + i} ${(44 - (40 * (v - low)) / (high - low)).toFixed(1)}`;
  });
  const path = (d, kind) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", "path");
    made.setAttribute("d", d);
    if (kind) made.setAttribute("class", kind);
    return made;
  };
  const first = start + now.chart.findIndex((v) => v !== null);
  $("chart").replaceChildren(path(`${line}L239 48L${first} 48Z`, "under"), path(line));
  $("chart-range").textContent = `${low.toFixed(2)} to ${high.toFixed(2)} s`;
}

/** Finds the part on screen and asks for its trace; one question under way at a time. */
async function look() {
  const { attempt, edge, stream, session, finder } = now;
  if (!session || !meter.read().started || document.hidden) return;
  const seen = onScreen();
  const part = seen && (await finder.find(seen.date).catch(() => null));
  // The WebSocket has told of it, unless this page came later.
  let found = part && (feed.of(part) ?? (await trace(edge, stream.name, videoTrack(), part)));
  const isSeen = Boolean(found);
  found ??= feed.of(null) ?? (await trace(edge, stream.name, videoTrack(), null));
  if (attempt !== now.attempt) return;
  Object.assign(now, { part: part && { ...part, start: seen.date }, trace: found, onScreen: isSeen });
  if (!found) return way.say("The edge has no trace of this part.");
  now.here = (isSeen && passing(seen, part)?.here) || [];
  way.show(found, isSeen, now.here);
  if (!isSeen) {
    $("share").hidden = true;
    if (part) way.say("The edge no longer has the trace of the part on screen; this is its newest one.");
  }
}

/** What is on screen now: its wallclock `date` and its `position` in the media, and `at`, which is now; null where the player doesn't tell. */
function onScreen() {
  const date = now.session?.date() ?? null;
  return date === null ? null : { date, position: video.currentTime, at: performance.now() };
}

/**
 * The part on screen with all its stages: `{ account, here, since_us, filling_us, shown_us }`. `here` are the page's own stages, from the
 * edge's listing until the part's last frame is seen; with the account they make `shown_us`, the time from the last frame's coming in at
 * the ingest to its being seen. No clock but this edge's is read. `since_us` is the time since the listing, and `filling_us` from the
 * picture now on screen to the part's last frame, by the ingest's clock.
 */
function passing({ date, position, at }, part) {
  const account = part?.exact ? feed.of(part) : null;
  if (!account || !now.clock || video.paused || meter.read().stalling) return null;
  const listed = account.available_unix_us / 1000 - now.clock.now() + performance.now();
  const media = (when) => position + (when - date) / 1000;
  const parts = Array.from({ length: part.part + 1 }, (_, i) => feed.of({ msn: part.msn, part: i })?.bytes ?? null);
  const file = `${now.edge}/${now.stream.name}/${videoTrack()}/${part.msn}`;
  const here = journey.stages({
    listed, position, now: at, rate: video.playbackRate, middle: media((part.from + part.end) / 2), end: media(part.end),
    urls: { part: `${file}.${part.part}.m4s`, segment: `${file}.m4s` }, upTo: parts.includes(null) ? null : parts.reduce((a, b) => a + b, 0),
  });
  return {
    account, here, since_us: 1000 * (at - listed), filling_us: account.ingested_unix_us - 1000 * date,
    shown_us: here.reduce((sum, { us }) => sum + us, account.age_us),
  };
}

/** What each stage has of the latency now. */
function stackNow() {
  const latency = pictureAge();
  if (latency === null || !now.trace || !now.onScreen || document.hidden) return;
  const seen = onScreen();
  const passed = seen && now.finder ? passing(seen, now.finder.lookup(seen.date)) : null;
  if (!passed) return;
  now.accounts = [...now.accounts, passed].slice(-ACCOUNTS_KEPT);
  stack.push(layersOf(passed.account, passed.filling_us, passed.here, passed.since_us));
}

/** The tree as this edge sees it; in a demo as each node does. */
async function lookAtTree() {
  const { edge, stream, attempt } = now;
  if (edge === null || !stream || document.hidden) return;
  const demo = edge === location.origin || now.listed.some((e) => e.url === edge) ? await demoNodes() : [];
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

/** Keeps the choice in the address bar, to be shared or reloaded. */
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

/** Runs `task` for ever, `every()` ms after its last end. */
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
