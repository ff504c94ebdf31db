// Seeking back at an edge that keeps nothing, and came late: what it plays then, another node keeps.
import assert from "node:assert/strict";
import { test } from "node:test";
import { launch, openPage, report, SMALL, untilPlaying, within } from "./lib/browser.mjs";
import { ask, makeCa, makeFilm, push, segmentsIn, startNode } from "./lib/damson.mjs";
import { unlessStarved } from "./lib/machine.mjs";
import { scope } from "./lib/process.mjs";

/** More segments of 2 s than the 19 that a node holds without an archive, by what is played. */
const SEGMENTS = 25;
/** How much is played there, and how long that may take. */
const PLAYED_S = 6;
const PATIENCE_MS = 30_000;

/** dash.js in its low-latency mode goes back to the live edge by itself. */
const PLAYERS = ["hls", "shaka-hls", "shaka-dash"];
const chosen = (players) => players.filter((p) => process.env.PLAYERS?.split(",").includes(p) ?? true);

test("players seek back into what another node keeps", { timeout: 600_000 }, (t) => scope(async (use) => {
  const film = await makeFilm(120);
  const ca = await makeCa(use);
  const ingest = await startNode(use, ca, "ingest", { rtmp: true });
  const keeper = await startNode(use, ca, "keeper", { join: [ingest.mesh], args: ["--dvr", "10m", "--dvr-memory", "200M"] });
  push(use, `${ingest.rtmp}/cam`, film);
  await ask(`${keeper.http}/cam/video/playlist.m3u8`, (_, text) => segmentsIn(text) >= SEGMENTS, SEGMENTS * 2000 + 30_000);
  const edge = await startNode(use, ca, "edge", { join: [ingest.mesh] });
  await ask(`${edge.http}/cam/video/playlist.m3u8`, (_, text) => segmentsIn(text) >= SEGMENTS, 20_000);
  const browser = use(await launch());
  for (const player of chosen(PLAYERS)) {
    await t.test(player, (t) => unlessStarved(t, async () => {
      const page = await openPage(browser, edge.http, { stream: "cam", player }, SMALL);
      try {
        await untilPlaying(page, { timeout: 30_000, steady: 1 });
        const from = await page.evaluate(() => {
          const { video } = window.damson;
          const start = video.seekable.start(0);
          video.currentTime = start + 3;
          return { at: start + 3, behind: video.seekable.end(video.seekable.length - 1) - start };
        });
        assert.ok(from.behind > SEGMENTS * 2 - 10, `${player} can go back by ${from.behind} s`);
        await within(page, `${player} doesn't play there`, page.waitForFunction(([at, played]) => {
          const now = window.damson.video.currentTime;
          return now > at + played && now < at + 60;
        }, [from.at, PLAYED_S], { timeout: PATIENCE_MS, polling: 200 }));
        // What a seek has made needless is broken off by the player.
        const refused = page.asked.filter((line) => / [45]\d\d /.test(line));
        assert.deepEqual(refused, [], `${player}: ${await report(page)}`);
      } finally {
        await page.context().close();
      }
    }));
  }
  const metrics = await ask(`${edge.http}/metrics`);
  assert.ok(Number(/^damson_dvr_fetched_total (\d+)/m.exec(metrics)?.[1]) > 0, "it was fetched");
}));
