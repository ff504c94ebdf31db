// Pictures that stand: where the frame rate varies, one may be shown for longer than a part lasts. Players go on.
import assert from "node:assert/strict";
import { test } from "node:test";
import { launch, openPage, report, SMALL, stats, untilPlaying, watched } from "./lib/browser.mjs";
import { ask, makeFilm, push, segmentsIn, startLine } from "./lib/damson.mjs";
import { inTime, unlessStarved } from "./lib/machine.mjs";
import { scope } from "./lib/process.mjs";

/** Four seconds at 30 pictures a second, and four at one. */
const SELECT = "lt(mod(t,8),4)+not(mod(n,30))";
const WATCHED_S = 12;
/** What LL-DASH has of a second's picture while it stands is its beginning: a player that holds less than a second waits once. */
const STALLS = { hls: 0, "shaka-hls": 0, "shaka-dash": 1 };

test("players play pictures that stand", { timeout: 600_000, concurrency: 2 }, (t) => scope(async (use) => {
  const film = await makeFilm(32, { select: SELECT, keys: "expr:gte(t,2*n_forced)", bframes: 0 });
  const [a, b] = await startLine(use, ["a", "b"]);
  const browser = use(await launch());
  push(use, `${a.rtmp}/cam1`, film);
  const playlist = await ask(`${b.http}/cam1/video/playlist.m3u8`, (_, text) => segmentsIn(text) >= 6 && text, 30_000);
  assert.ok(!playlist.includes("GAP"), playlist);
  await Promise.all(Object.entries(STALLS).map(([player, stalls]) =>
    t.test(player, (t) => unlessStarved(t, async () => {
      const page = await openPage(browser, b.http, { stream: "cam1", player }, SMALL);
      try {
        await untilPlaying(page, { timeout: 30_000, steady: 2 });
        await page.evaluate(() => window.damson.mark());
        await watched(page, WATCHED_S);
        const s = await stats(page);
        inTime(s.stalls <= stalls && s.played > WATCHED_S - 2, `${player}: ${s.stalls} stalls, ${s.played} s played`);
        inTime(s.jumps === 0, `${player} jumped`);
      } catch (error) {
        error.message += `\n${await report(page)}`;
        throw error;
      } finally {
        await page.context().close();
      }
    }))));
}));
