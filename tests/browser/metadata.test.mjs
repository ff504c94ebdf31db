// Timed metadata of a transport stream comes to whoever plays: ID3 tags at their times, and breaks as date ranges and events.
import assert from "node:assert/strict";
import { test } from "node:test";
import { launch, openPage, report, SMALL, untilPlaying, within } from "./lib/browser.mjs";
import { ask, makeFilm, startLine } from "./lib/damson.mjs";
import { unlessStarved } from "./lib/machine.mjs";
import { scope } from "./lib/process.mjs";
import { BREAK_S, pushSpliced } from "./lib/splicer.mjs";

/** So many tags are waited for, one a second. */
const TAGS = 4;
/** A tag's time is that of its second's first picture, as they are decoded: three frames. */
const APART_S = 0.11;

test("players hand on timed metadata", { timeout: 600_000 }, (t) => scope(async (use) => {
  const film = await makeFilm(60);
  const [a, b] = await startLine(use, ["a", "b"], { first: ["--udp", "cam1=udp://127.0.0.1:0"] });
  const [, port] = await a.child.said(/waiting for MPEG-TS.*udp:\/\/127\.0\.0\.1:(\d+)/);
  pushSpliced(use, film, Number(port));
  const browser = use(await launch());
  const ranges = (text) => text.split("\n").filter((line) => line.startsWith("#EXT-X-DATERANGE:"));

  await t.test("the playlist has each break as one date range", (t) => unlessStarved(t, async () => {
    const text = await ask(`${b.http}/cam1/video/playlist.m3u8`, (_, text) => ranges(text).length >= 4 && text, 60_000);
    const found = ranges(text).map((line) => Object.fromEntries([...line.matchAll(/([A-Z0-9-]+)=("[^"]*"|[^,]+)/g)].map((m) => [m[1], m[2].replaceAll('"', "")])));
    const outs = found.filter((range) => range["SCTE35-OUT"]);
    const ins = found.filter((range) => range["SCTE35-IN"] && range["END-DATE"]);
    assert.ok(outs.length >= 1 && ins.length >= 1, text);
    assert.equal(new Set(outs.map((range) => range.ID)).size, outs.length, "announced twice, listed once");
    for (const range of outs) assert.equal(range["PLANNED-DURATION"], `${BREAK_S}.000`);
    for (const range of ins) {
      assert.ok(outs.some((out) => out.ID === range.ID && out["START-DATE"] === range["START-DATE"]), text);
      assert.ok(Math.abs(Date.parse(range["END-DATE"]) - Date.parse(range["START-DATE"]) - BREAK_S * 1000) <= 2, text);
    }
  }));

  for (const player of ["hls", "shaka-hls", "shaka-dash", "dash"]) {
    await t.test(player, (t) => unlessStarved(t, () => hears(browser, b, player)));
  }
}));

/** The player gives a tag for each second, at its time, and breaks. */
async function hears(browser, edge, player) {
  const page = await openPage(browser, edge.http, { stream: "cam1", player }, SMALL);
  try {
    await within(page, "no player", page.waitForFunction(() => window.damson?.inner, null, { timeout: 30_000 }));
    await page.evaluate(listen, player);
    await untilPlaying(page, { timeout: 30_000, steady: 1 });
    await within(page, "tags or breaks are missing",
      page.waitForFunction((tags) => window.heard.tags.length >= tags && window.heard.breaks > 0, TAGS, { timeout: 40_000, polling: 200 }));
    const { tags } = await page.evaluate(() => window.heard);
    console.log(`${player}: ${JSON.stringify(tags.slice(0, TAGS))}`);
    const once = [...new Map(tags.map((tag) => [tag.text, tag])).values()].sort((a, b) => Number(a.text) - Number(b.text));
    for (let n = 1; n < once.length; n += 1) {
      const [seconds, apart] = [Number(once[n].text) - Number(once[n - 1].text), once[n].time - once[n - 1].time];
      assert.ok(Math.abs(apart - seconds) <= APART_S, `${player}: ${JSON.stringify(once)}`);
    }
  } catch (error) {
    error.message += `\n${JSON.stringify(await page.evaluate(() => window.heard).catch(String))}\n${await report(page)}`;
    throw error;
  } finally {
    await page.context().close();
  }
}

/** In the page: gathers what the player says in `heard`. */
function listen(player) {
  const heard = (window.heard = { tags: [], breaks: 0 });
  const { inner } = window.damson;
  // A frame has its name, a zero, and its value.
  const text = (bytes) => /second\0(\d+)/.exec(new TextDecoder("latin1").decode(bytes))?.[1];
  const tag = (bytes, time) => text(bytes) && heard.tags.push({ text: text(bytes), time });
  if (player === "hls") {
    const { Events } = inner.constructor;
    inner.on(Events.FRAG_PARSING_METADATA, (_, data) => {
      for (const sample of data.samples) if (sample.type === "https://aomedia.org/emsg/ID3") tag(sample.data, sample.pts);
    });
    inner.on(Events.LEVEL_UPDATED, (_, { details }) => { heard.breaks = Object.keys(details.dateRanges).length; });
  } else if (player.startsWith("shaka")) {
    // It looks for what an MPD names, and in HLS, where nothing is named, if it is told to.
    inner.configure("mediaSource.dispatchAllEmsgBoxes", player === "shaka-hls");
    inner.addEventListener("emsg", ({ detail }) => {
      if (detail.schemeIdUri === "urn:scte:scte35:2013:bin") heard.breaks += 1;
      else tag(detail.messageData, detail.startTime);
    });
  } else {
    inner.on("https://aomedia.org/emsg/ID3", ({ event }) => tag(event.messageData, event.calculatedPresentationTime), null, { mode: "eventModeOnReceive" });
    inner.on("urn:scte:scte35:2013:bin", () => { heard.breaks += 1; }, null, { mode: "eventModeOnReceive" });
  }
}
