// Where the latency was in the last minute, stacked by stage and hop: from the part's making to the screen.
import { PAGE, labelOf } from "./way.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600;
const HEIGHT = 132;
export const SAMPLES_MAX = 120;

/**
 * The layers of a picture's age, bottom up, as `[key, label, kind, µs]`: the part being made, its account, and what the page has
 * measured of it, `[{ stage, us }]`. They add up to the picture's age: what is left of `since_us`, the time since the edge listed the
 * part, is the last one's.
 */
export function layersOf(account, filling_us, here, since_us) {
  const layers = [["fill", "part being made", "fill", filling_us]];
  for (const { stage, hop, name, to, us } of account.stages) {
    const place = stage === "transit" ? `${name} → ${to?.name ?? "?"}` : name;
    const kind = stage === "transit" ? "transit" : ["tail", "listing"].includes(stage) ? "tail" : stage === "packaging" ? "packaging" : "dwell";
    const joined = kind === "dwell" ? `${hop} dwell` : kind === "tail" ? "tail" : `${hop} ${stage}`;
    const label = kind === "dwell" ? `${name}: dwell` : kind === "tail" ? `${name}: last byte` : kind === "packaging" ? `${name}: packaging` : place;
    const before = layers.find(([key]) => key === joined);
    if (before) before[3] += us;
    else layers.push([joined, label, kind, us]);
  }
  let left = since_us;
  for (const { stage, us } of here.slice(0, -1)) {
    const [what, kind] = labelOf(stage);
    layers.push([`page ${stage}`, `${PAGE}: ${what}`, kind, us]);
    left -= us;
  }
  const { stage } = here.at(-1);
  const [what, kind] = labelOf(stage);
  layers.push([`page ${stage}`, `${PAGE}: ${what}`, kind, left]);
  return layers;
}

export class StackView {
  constructor(box, legend) {
    this.box = box;
    this.legend = legend;
    this.samples = [];
  }

  clear() {
    this.samples = [];
    this.box.replaceChildren();
    this.legend.replaceChildren();
  }

  /** A second's layers. */
  push(layers) {
    this.samples.push(layers);
    if (this.samples.length > SAMPLES_MAX) this.samples.shift();
    this.draw();
  }

  draw() {
    const keys = new Map();
    for (const sample of this.samples) for (const [key, label, kind] of sample) keys.set(key, { label, kind });
    const order = [...keys.keys()].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b, undefined, { numeric: true }));
    const totals = this.samples.map((s) => s.reduce((sum, [, , , us]) => sum + Math.max(0, us), 0));
    const top = Math.max(...totals, 100_000) * 1.05;
    const x = (i) => WIDTH - (this.samples.length - 1 - i) * (WIDTH / (SAMPLES_MAX - 1));
    const y = (us) => HEIGHT - (us / top) * HEIGHT;
    let under = this.samples.map(() => 0);
    const made = [];
    order.forEach((key, n) => {
      const over = this.samples.map((sample, i) => under[i] + Math.max(0, sample.find(([k]) => k === key)?.[3] ?? 0));
      const up = over.map((us, i) => `${x(i).toFixed(1)} ${y(us).toFixed(1)}`);
      const down = under.map((us, i) => `${x(i).toFixed(1)} ${y(us).toFixed(1)}`).reverse();
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("d", `M${up.join("L")}L${down.join("L")}Z`);
      path.setAttribute("data-layer", key);
      path.style.fill = `var(--${keys.get(key).kind})`;
      if (n % 2) path.style.fillOpacity = ".72";
      made.push(path);
      under = over;
    });
    this.box.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.box.replaceChildren(...made);
    const newest = this.samples.at(-1) ?? [];
    this.legend.replaceChildren(...order.map((key) => {
      const { label, kind } = keys.get(key);
      const us = newest.find(([k]) => k === key)?.[3];
      const row = document.createElement("span");
      row.style.setProperty("--c", `var(--${kind})`);
      row.append(`${label} `);
      const value = document.createElement("b");
      value.textContent = us === undefined ? "–" : Math.abs(us) < 10_000 ? `${(us / 1000).toFixed(1)} ms` : `${Math.round(us / 1000)} ms`;
      row.append(value);
      return row;
    }));
  }
}

/** Bottom up: the part's making, the hops, the player. */
const ORDER = ["fill", "0 packaging", null, "tail", "page idle", "page arrive", "page append", "page buffer", "page player"];
const rank = (key) => ORDER.indexOf(ORDER.includes(key) ? key : null);
