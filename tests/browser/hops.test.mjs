// The page's waterfall, chart and tree hold what the API says; a node of the demo is stopped by the page's button, and the tree heals.
import assert from "node:assert/strict";
import { mkdtemp, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { events, launch, openPage, report, untilPlaying, within } from "./lib/browser.mjs";
import { ask, startDemo } from "./lib/damson.mjs";
import { inTime, unlessStarved } from "./lib/machine.mjs";
import { scope } from "./lib/process.mjs";

const AXE = new URL("node_modules/axe-core/axe.min.js", import.meta.url);
const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true };

test("the page shows the latency of every hop", { timeout: 600_000 }, (t) => unlessStarved(t, () => scope(async (use) => {
  const { page: url, edges } = await startDemo(use, ["--link-delay", "20ms..80ms"]);
  const browser = use(await launch());
  const page = await openPage(browser, url, { player: "hls", theme: "light" }, { viewport: { width: 1280, height: 800 } });
  const shots = await mkdtemp(join(tmpdir(), "damson-page-"));
  const shoot = async (of, name) => {
    await of.screenshot({ path: join(shots, name), fullPage: true });
    console.log(`screenshot: ${join(shots, name)}`);
  };
  try {
    await untilPlaying(page, { timeout: 30_000, steady: 3 });
    await until(page, "no trace of three hops, seen through", () => window.damson.stats().trace?.hops?.length === 3 && window.damson.stats().here.length === 4);
    await until(page, "no chart of nine layers", () => document.querySelectorAll("#stack path").length >= 9);

    await waterfall(page, edges.edge3);
    await chart(page);
    await drawnTree(page, edges, ["ingest edge1", "edge1 edge2", "edge2 edge3"]);
    await shoot(page, "playing.png");
    await accessible(page);
    for (const width of [2560, 1280]) {
      await page.setViewportSize({ width, height: 900 });
      await fits(page, width);
    }

    await page.click('button[data-node="edge1"]');
    await healed(page, "edge1");
    const { trace } = await page.evaluate(() => window.damson.stats());
    assert.ok(trace.hops.every((hop) => hop.name !== "edge1"), "the parts go around it");
    await shoot(page, "healed.png");
    await gone(page, "edge1");
    await page.focus('button[data-node="edge1"]');
    await page.keyboard.press("Enter"); // starts it
    await until(page, "edge1 doesn't start", () => !document.querySelector('[data-node="edge1"]')?.classList.contains("down"));
    const noted = (await events(page)).map((w) => w.replace(/^\S+ /, ""));
    assert.equal(noted.filter((w) => /^start: /.test(w)).length, 1, "the player has not been started anew");
    assert.ok(noted.includes("node edge1 stopped") && noted.includes("node edge1 started"), `both are events: ${noted}`);

    const phone = await openPage(browser, url, { player: "hls", theme: "dark" }, PHONE);
    await untilPlaying(phone, { timeout: 30_000, steady: 3 });
    await until(phone, "no chart, or no tree", () => document.querySelectorAll("#stack path").length >= 7 && document.querySelector("#tree svg"));
    await fits(phone, 390);
    const tree = await phone.evaluate(() => [document.querySelector("#tree svg").clientWidth, document.querySelector("#tree").clientWidth]);
    assert.ok(tree[0] <= tree[1], `the tree is cut: ${tree}`);
    await accessible(phone);
    await shoot(phone, "phone.png");
  } catch (error) {
    error.message += `\n${await report(page)}`;
    throw error;
  }
})));

const until = (page, words, holds, arg = null) => within(page, words, page.waitForFunction(holds, arg, { timeout: 30_000 }));

/** No serious fault by axe-core's rules (WCAG 2 A and AA among them). */
async function accessible(page) {
  await page.evaluate(await readFile(AXE, "utf8"));
  const faults = await page.evaluate(async () => (await window.axe.run()).violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`));
  assert.deepEqual(faults, []);
}

async function fits(page, width) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= width, `the page is ${wide} px wide in a window of ${width} px`);
}

/** A stopped node leaves the chart's legend. */
async function gone(page, name) {
  await until(page, `${name} stays in the legend`, (name) => !document.querySelector("#stack-key").textContent.includes(name), name);
}

/** Its rows are the stages of the part it names, as the edge tells them. */
async function waterfall(page, edge) {
  const shown = await page.evaluate(() => ({ // of one moment
    part: document.querySelector("#part").textContent,
    rows: [...document.querySelectorAll("#hops tbody tr")].map((row) => [row.cells[0].firstChild.textContent.trim(), row.cells[2].textContent]),
    total: document.querySelector("#total").textContent,
    seen: document.querySelector("#shown").textContent,
    here: window.damson.stats().here,
  }));
  const [, track, msn, part] = /^(\w+) (\d+)\.(\d+)/.exec(shown.part);
  const told = JSON.parse(await ask(`${edge}/api/v1/streams/demo/trace?track=${track}&msn=${msn}&part=${part}`));
  const sum = (hop, ...stages) => told.stages.filter((s) => s.hop === hop && stages.includes(s.stage)).reduce((us, s) => us + s.us, 0);
  const names = [...told.hops.map((h) => h.name), told.edge.name];
  const expected = [[names[0], sum(0, "packaging")], ...told.hops.flatMap((_, i) => [
    [names[i], sum(i, "dwell", "queue")], [`${names[i]} → ${names[i + 1]}`, sum(i, "transit")],
  ]), [names.at(-1), sum(told.hops.length, "tail", "listing")]];
  // What the edge can't know: the same stages as the page has measured them.
  assert.deepEqual(shown.here.map(({ stage }) => stage), ["idle", "arrive", "append", "buffer"]);
  expected.push(...shown.here.map(({ us }) => ["this page", us]));
  assert.deepEqual(shown.rows.map(([where]) => where), expected.map(([where]) => where));
  expected.forEach(([where, us], i) => assert.ok(near(shown.rows[i][1], us), `${where}: ${shown.rows[i][1]} on the page, ${us} us told`));
  assert.ok(near(shown.total, told.age_us), `${shown.total} on the page, ${told.age_us} us told`);
  const seen = shown.here.reduce((sum, { us }) => sum + us, told.age_us);
  assert.ok(near(shown.seen, seen), `${shown.seen} on the page, ${seen} us in all`);
  // The links are 20 to 80 ms long, and the clocks one.
  for (const { transit_us, name } of told.hops) {
    assert.ok(transit_us > 19_000, `${name}: ${transit_us} us`);
    inTime(transit_us < 100_000, `${name}: ${transit_us} us`);
  }
}

/** Its newest layers are those of the part on screen, and add up to the picture's age. */
async function chart(page) {
  const layers = await page.evaluate(() => [...document.querySelectorAll("#stack path")].map((p) => p.dataset.layer));
  const expected = ["filling", "0 packaging", "0 dwell", "0 transit", "2 transit", "tail", "page idle", "page arrive", "page append", "page buffer"];
  for (const layer of expected) assert.ok(layers.includes(layer), `${layer} of ${layers}`);
  // A player that is still about to find its place is nearer to the edge than it was when the newest part was asked for.
  await until(page, "the layers don't make the picture's age", () => {
    const key = [...document.querySelectorAll("#stack-key span")].map((s) => Number.parseFloat(s.querySelector("b").textContent) || 0); // "–": not of late
    return Math.abs(key.reduce((all, ms) => all + ms, 0) - window.damson.stats().latency * 1000) < 250;
  });
}

/** Each node's parent is what its own API says. */
async function drawnTree(page, edges, expected) {
  await until(page, "the tree isn't drawn", (n) => window.damson.stats().tree?.links.filter((l) => l.eager).length === n, expected.length);
  const { tree } = await page.evaluate(() => window.damson.stats());
  const name = new Map(tree.nodes.map((n) => [n.id, n.name]));
  const eager = tree.links.filter((l) => l.eager).map((l) => `${name.get(l.from)} ${name.get(l.to)}`).sort();
  assert.deepEqual(eager, [...expected].sort());
  for (const link of tree.links.filter((l) => l.eager)) {
    const view = JSON.parse(await ask(`${edges[name.get(link.to)]}/api/v1/swarm`));
    assert.equal(view.swarms.find((s) => s.stream === "demo").parent, link.from);
  }
  assert.ok(tree.links.some((l) => !l.eager), "lazy links are drawn, too");
  assert.equal(await page.locator("#tree path.eager").count(), expected.length);
  assert.equal(await page.locator("#tree g.node").count(), Object.keys(edges).length);
}

/** The tree goes around what is down, and what is played goes on. */
async function healed(page, down) {
  await until(page, `the tree doesn't go around ${down}`, (down) => {
    const { tree } = window.damson.stats();
    const gone = tree.nodes.find((n) => n.name === down);
    const eager = tree.links.filter((l) => l.eager);
    return gone?.down && eager.length === tree.nodes.length - 2 && eager.every((l) => l.from !== gone.id && l.to !== gone.id);
  }, down);
  const from = await page.evaluate(() => window.damson.video.currentTime);
  await until(page, "it doesn't play on", (from) => window.damson.video.currentTime > from + 4 && window.damson.stats().state === "playing", from);
  await until(page, `parts still come by ${down}`, (down) => window.damson.stats().trace?.hops.every((h) => h.name !== down), down);
}

/** As the page writes it: within a unit of the last digit. */
function near(text, us) {
  const [, number, unit] = /^(−?-?[\d.]+) (µs|ms|s)$/.exec(text) ?? [];
  const shown = Number(number) * { "µs": 1, ms: 1000, s: 1e6 }[unit];
  const digits = (number.split(".")[1] ?? "").length;
  return Math.abs(shown - us) <= ({ "µs": 1, ms: 1000, s: 1e6 }[unit] / 10 ** digits);
}
