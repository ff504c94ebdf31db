// Glass to glass as the eye reads it from the picture is what the account of the parts and the player's wait make.
import assert from "node:assert/strict";
import { test } from "node:test";
import { launch, openPage, report, SMALL, stats, untilPlaying, watched } from "./lib/browser.mjs";
import { pushTimecode, startLine, untilLive } from "./lib/damson.mjs";
import { inTime, unlessStarved } from "./lib/machine.mjs";
import { scope } from "./lib/process.mjs";

/** Two frames. */
const APART_S = 0.067;
const STREAM = "timecode";
const WATCHED_S = 10;

test("glass to glass is the account and the wait", { timeout: 600_000 }, (t) => scope(async (use) => {
  const nodes = await startLine(use, ["a", "b", "c", "d"]);
  pushTimecode(use, `${nodes[0].rtmp}/${STREAM}`);
  await untilLive(nodes[3].http, STREAM);
  const browser = use(await launch());
  for (const player of ["hls", "shaka-dash"]) {
    await t.test(player, (t) => unlessStarved(t, async () => {
      const page = await openPage(browser, nodes[3].http, { stream: STREAM, player, timecode: "1" }, SMALL);
      try {
        await untilPlaying(page, { timeout: 30_000, steady: 8 });
        // What it did to find its place is over.
        await page.evaluate(() => window.damson.mark());
        await watched(page, WATCHED_S);
        const { glass, stagesSum, latency, timed, buffer } = await stats(page);
        console.log(`${player}: read ${glass.p50.toFixed(3)} s, account and wait ${stagesSum?.toFixed(3)} s, by the date ${latency?.toFixed(3)} s`);
        inTime(glass.frames > 100, `${glass.frames} frames were read`);
        assert.equal(glass.unread, 0, "every frame can be read");
        // The account and the page's own stages are all of it, and each is what it says.
        assert.deepEqual(timed.here.map(({ stage }) => stage), ["idle", "arrive", "append", "buffer"]);
        const us = Object.fromEntries(timed.here.map(({ stage, us }) => [stage, us]));
        console.log(`${player}: age ${timed.trace.age_us} us, ${timed.here.map(({ stage, us }) => `${stage} ${Math.round(us)}`).join(", ")} us`);
        assert.ok(Math.abs(timed.trace.age_us + us.idle + us.arrive + us.append + us.buffer - timed.shown_us) < 1, "they add up");
        // The clocks are one; this page's is read from the edge's to some ms.
        for (const stage of ["idle", "arrive", "append"]) {
          assert.ok(us[stage] > -10_000, `${stage}: ${us[stage]} us`);
          inTime(us[stage] < 150_000, `${stage}: ${us[stage]} us`);
        };
        // What is in the buffer is what waits there, to a part.
        assert.ok(Math.abs(us.buffer / 1e6 - buffer) < 0.35, `${us.buffer} us waited, ${buffer} s in the buffer`);
        const told = `${glass.p50} s read from the picture, ${stagesSum} s by the account`;
        assert.ok(glass.p50 >= stagesSum - APART_S, told);
        inTime(glass.p50 <= stagesSum + APART_S, told); // a busy machine draws late
      } catch (error) {
        error.message += `\n${await report(page)}`;
        throw error;
      } finally {
        await page.context().close();
      }
    }));
  }
}));
