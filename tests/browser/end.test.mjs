// The end of a stream: every player comes to it by itself, says so, doesn't begin anew, and starts when the stream is back.
import assert from "node:assert/strict";
import { test } from "node:test";
import { events, launch, openPage, report, SMALL, untilPlaying, within } from "./lib/browser.mjs";
import { ask, makeFilm, push, segmentsIn, startLine } from "./lib/damson.mjs";
import { unlessStarved } from "./lib/machine.mjs";
import { readPlaylist } from "./lib/playlist.mjs";
import { scope } from "./lib/process.mjs";

/** How long the publisher is waited for: gap segments are numbered meanwhile. */
const LINGER_S = 5;
/** How long a player may take to play what it has, and to find out. */
const LATE_MS = 30_000;
/** For how long a life is waited for whose start has left its playlist: 30 s, and some time to start. */
const LONG_MS = 60_000;

/** PLAYERS=dash,native tests only these. */
const chosen = (players) => players.filter((p) => process.env.PLAYERS?.split(",").includes(p) ?? true);

test("every player comes to a stream's end", { timeout: 900_000, concurrency: 2 }, (t) => scope(async (use) => {
  const film = await makeFilm(30);
  const [a, b] = await startLine(use, ["a", "b"], { args: ["--linger", String(LINGER_S)] });
  const browser = use(await launch());
  const publish = (stream) => push(use, `${a.rtmp}/${stream}`, film);
  let long = { name: "long", publisher: publish("long") };

  // Of a life that is shorter than its playlist all is still there at the end.
  const tests = chosen(["hls", "shaka-hls", "shaka-dash", "native"]).map((player) =>
    t.test(player, (t) => unlessStarved(t, async () => {
      const stream = `${player}-${Date.now()}`;
      const publisher = publish(stream);
      const page = await watch(browser, b, stream, player);
      try {
        await publisher.kill("SIGKILL");
        await over(b, stream);
        await ended(player, page);
      } finally {
        await page.context().close();
      }
    })));

  // Who comes afterwards sees it to its end, too: there are gaps behind it, where the publisher was waited for.
  tests.push(t.test("a viewer who comes after the end", (t) => unlessStarved(t, async () => {
    const stream = `after-${Date.now()}`;
    const publisher = publish(stream);
    await listed(b, stream, 3);
    await publisher.kill("SIGKILL");
    await over(b, stream);
    const pages = [];
    for (const player of chosen(["hls", "shaka-hls", "dash"])) pages.push([player, await openPage(browser, b.http, { stream, player }, SMALL)]);
    for (const [player, page] of pages) {
      await ended(player, page);
      await page.context().close();
    }
  })));

  // Of a longer one the start has gone, and is named all the same to who has read of it; and the stream comes back.
  tests.push(t.test("a life longer than its playlist", (t) => unlessStarved(t, async () => {
    const players = chosen(["shaka-dash", "dash"]);
    // Once more: a life of its own.
    if (!long.publisher.running) {
      const name = `long-${Date.now()}`;
      long = { name, publisher: publish(name) };
    }
    const pages = [];
    for (const player of players) pages.push([player, await watch(browser, b, long.name, player)]);
    await ask(`${b.http}/${long.name}/video/playlist.m3u8`, (_, text) => readPlaylist(text).first >= 2, LONG_MS);
    await long.publisher.kill("SIGKILL");
    const asked = await Promise.all(["", "?follow"].map(async (query) => /<Period id="p0" start="(\w+)"/.exec(await over(b, long.name, query))?.[1]));
    assert.ok(asked[0] !== "PT0S" && asked[1] === "PT0S", `a late comer's MPD begins at ${asked[0]}, a follower's at ${asked[1]}`);
    for (const [player, page] of pages) await ended(player, page);
    publish(long.name);
    for (const [player, page] of pages) {
      await untilPlaying(page, { timeout: 40_000, steady: 1 });
      await started(player, page, 2);
      await page.context().close();
    }
  })));
  await Promise.all(tests);
}));

/** Waits until so many segments are there. */
const listed = (node, stream, segments) =>
  ask(`${node.http}/${stream}/video/playlist.m3u8`, (_, text) => segmentsIn(text) >= segments, 30_000);

async function watch(browser, node, stream, player) {
  await listed(node, stream, 3);
  const page = await openPage(browser, node.http, { stream, player }, SMALL);
  await untilPlaying(page, { timeout: 30_000, steady: 2 });
  return page;
}

/** The MPD once the life has ended, with gaps at its end. */
async function over(node, stream, query = "") {
  await ask(`${node.http}/${stream}/video/playlist.m3u8`, (_, text) => /EXT-X-GAP[^]*EXT-X-ENDLIST/.test(text), (LINGER_S + 15) * 1000);
  const mpd = await ask(`${node.http}/${stream}/manifest.mpd${query}`, (_, text) => / type="static"/.test(text));
  assert.ok(!mpd.includes("minimumUpdatePeriod") && mpd.includes("mediaPresentationDuration"), mpd);
  return mpd;
}

async function ended(player, page) {
  const from = Date.now();
  // The player itself, not merely the page.
  await within(page, `${player} doesn't end`, page.waitForFunction(() => window.damson.video.ended, null, { timeout: LATE_MS, polling: 200 }));
  console.log(`${player} ended ${((Date.now() - from) / 1000).toFixed(1)} s after its stream`);
  await within(page, `${player}: the page doesn't say so`, page.locator("#message").getByText("The stream has ended").waitFor({ timeout: 5000 }));
  await started(player, page, 1);
}

/** The page has started its player so many times. */
async function started(player, page, times) {
  const said = await events(page);
  assert.equal(said.filter((w) => / start: /.test(w)).length, times, `${player}: ${await report(page)}`);
}
