// Headless Chromium, and damson's page in it.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";
import { ask } from "./damson.mjs";
import { Deadline, inTime } from "./machine.mjs";
import { liveEdge } from "./playlist.mjs";

const CANDIDATES = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The browser to drive: `CHROMIUM`, or where distributions put it. */
export function chromiumPath() {
  const found = CANDIDATES.find((path) => path && existsSync(path));
  if (!found) throw new Error("no Chromium found; set CHROMIUM to its path (Debian: apt-get install chromium)");
  return found;
}

/** A browser with a new, empty profile. */
export function launch() {
  return chromium.launch({
    executablePath: chromiumPath(),
    headless: true,
    args: [
      "--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-gpu", "--mute-audio",
      "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
      // Several pages play at once, and none of them is in front.
      "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding", "--disable-background-timer-throttling",
    ],
  });
}

/** A small picture, for tests that don't look at it: drawing is what a browser without a GPU is busiest with. */
export const SMALL = { viewport: { width: 480, height: 480 } };

const REQUESTS_MAX = 200;

/**
 * damson's page at an edge, as a viewer of its own: a shared HTTP cache would serve one player the playlists that another one
 * asked for before (rfc8216bis B.1 lets it), and keep it behind. `page.said` keeps what it said on its console, `page.asked` its
 * newest requests for media. `prepare(context)` comes before the page is loaded.
 */
export async function openPage(browser, origin, query = {}, { prepare = () => {}, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  await prepare(context);
  const page = await context.newPage();
  page.said = [];
  page.asked = [];
  page.pending = new Map();
  page.on("request", (r) => page.pending.set(r, Date.now()));
  const asked = (request, how) => {
    page.pending.delete(request);
    const { pathname, search } = new URL(request.url());
    if (/^\/(api|player|time)/.test(pathname)) return;
    const { startTime, responseStart, responseEnd } = request.timing();
    const at = new Date(startTime).toISOString().slice(11, 23);
    page.asked.push(`${at} ${how} ${Math.round(responseStart)}/${Math.round(responseEnd)} ms ${pathname}${search}`);
    if (page.asked.length > REQUESTS_MAX) page.asked.shift();
  };
  page.on("requestfinished", async (r) => asked(r, (await r.response().catch(() => null))?.status()));
  page.on("requestfailed", (r) => asked(r, r.failure()?.errorText));
  page.on("console", (m) => page.said.push(`${m.type()}: ${m.text()}`));
  page.on("pageerror", (e) => page.said.push(`exception: ${e.stack ?? e}`));
  await within(page, "the page doesn't load", (async () => {
    await page.goto(`${origin}/?${new URLSearchParams({ muted: "1", ...query })}`, { waitUntil: "domcontentloaded" });
    await page.waitForFunction(() => "damson" in window);
  })());
  return page;
}

/** What a page or a player says of media or documents that it can't take, however much time it has. */
const BROKEN = /exception|pars(e|ing)|decod|append|invalid|malformed|MEDIA_SOURCE|VIDEO_ERROR/i;

/**
 * Gives what `wait`, one of Playwright's, gives. That its time runs out is a `Deadline`, with what the page says; not so where the
 * page says that something is broken.
 */
export async function within(page, words, wait) {
  try {
    return await wait;
  } catch (error) {
    const [told, said] = [await report(page), [...page.said, ...await events(page).catch(() => [])]];
    const late = error.name === "TimeoutError" && !said.some((line) => BROKEN.test(line));
    throw new (late ? Deadline : Error)(`${words}: ${error.message}\n${told}`);
  }
}

/** Waits until the page's figures count so many seconds since the mark: for so long it is watched. */
export const watched = (page, seconds) => within(page, `${seconds} s aren't over`,
  page.waitForFunction((s) => window.damson.stats().seconds >= s, seconds, { timeout: (seconds + 20) * 1000, polling: 200 }));

export const stats = (page) => page.evaluate(() => window.damson.stats());
export const events = (page) => page.evaluate(() => window.damson.events.map((e) => `${new Date(e.at).toISOString()} ${e.words}`));

/**
 * Counts from here; `after(seconds)` waits for so many, and gives the page's figures since, with `came`: by how many seconds the
 * edge's own live edge moved meanwhile. That is what there was to be played, however late the machine's ffmpeg was.
 */
export async function stretch(page, edge, stream) {
  const playlist = `${edge}/${stream}/video/playlist.m3u8`;
  const live = async () => liveEdge(await ask(playlist));
  const [from] = await Promise.all([live(), page.evaluate(() => window.damson.mark())]);
  return {
    async after(seconds) {
      await watched(page, seconds);
      const [to, s] = await Promise.all([live(), stats(page)]);
      return { ...s, came: (to - from) / 1000 };
    },
  };
}

/**
 * Since the mark, nothing has stopped, and media came in as it came to the edge: in steps of `step` seconds, which is a segment
 * for players of whole segments. The clock of a starved machine's browser runs slow while its buffer grows: only then may less
 * than the time be played, and not by much. `standing` ms in all are let pass.
 */
export const assertSmooth = (s, player = s.player, step = 0.5, standing = 0) => {
  inTime(s.stalls === 0 || s.stalledMs <= standing, `${player} stalled for ${s.stalledMs.toFixed(0)} ms`);
  // What has fallen behind is skipped.
  inTime(s.jumps === 0, `${player} jumped`);
  const told = `${player}: in ${s.seconds.toFixed(2)} s it played ${s.played.toFixed(2)} s and loaded ${s.loaded.toFixed(2)} s of ${s.came.toFixed(2)} s`;
  inTime(s.loaded > s.came - 0.5 - step, told);
  inTime(s.played > s.seconds * 0.85, told);
  // It may be catching up.
  assert.ok(s.played < s.seconds * 1.1 + 0.5, told);
};

/** Waits until the page plays and has gone on for `steady` seconds of media; says what the page says if it doesn't. */
export async function untilPlaying(page, { timeout = 20_000, steady = 1 } = {}) {
  await page.evaluate(() => { window.damsonFrom = undefined; });
  await within(page, "the page doesn't play", page.waitForFunction((steady) => {
    const s = window.damson.stats();
    if (!s.started || s.state !== "playing") return false;
    window.damsonFrom ??= s.currentTime;
    return s.currentTime - window.damsonFrom >= steady;
  }, steady, { timeout, polling: 100 }));
}

const REPORTED = Number(process.env.REPORTED ?? 40);

/** What a failed test needs to be understood. */
export async function report(page) {
  const [said, seen] = await Promise.all([events(page), stats(page)]).catch((e) => [[String(e)], {}]);
  const { trace, ...rest } = seen;
  const pending = [...page.pending].map(([r, since]) => `unanswered for ${Date.now() - since} ms: ${r.url()}`);
  return [JSON.stringify({ ...rest, hops: trace?.hops?.length }), ...said, ...page.said, ...page.asked.slice(-REPORTED), ...pending].join("\n  ");
}
