// The picture's age over the last minute, stacked by stage and hop.
import { element, micros, shape, tickLabel, ticks } from "./dom.js";
import { PAGE, rows } from "./stages.js";

const WIDTH = 600;
const HEIGHT = 132;
export const SAMPLES_MAX = 120;
/** A layer that these newest samples don't have belongs to a node that is gone, or to another player: it leaves the legend. */
const CURRENT = 4;
const IN_PLAYER = ["page buffer", "page player"];

/**
 * The layers of a picture's age, bottom up, as `{ key, label, colour, us }`: the part's filling, the stages of its trace, and those that
 * the page measured. They add up to the picture's age: the last layer is what the others leave of `since_us`, the time since the edge
 * listed the part.
 */
export function layersOf(trace, filling_us, here, since_us) {
  const layers = [{ key: "filling", label: "filling", colour: "var(--filling)", us: filling_us }];
  for (const { key, where, stage, us, colour } of rows(trace, here)) layers.push({ key, label: `${where === PAGE ? "player" : where}: ${stage}`, colour, us });
  layers.at(-1).us = since_us - here.slice(0, -1).reduce((sum, { us }) => sum + us, 0);
  return layers;
}

export class StackChart {
  /** @param {(id: string) => HTMLElement} $ */
  constructor($) {
    this.box = $("stack");
    this.axis = $("stack-axis");
    this.legend = $("stack-key");
    this.withPlayer = $("stack-player");
    this.withPlayer.addEventListener("change", () => this.draw());
    this.clear();
  }

  clear() {
    this.samples = [];
    for (const box of [this.box, this.axis, this.legend]) box.replaceChildren();
  }

  push(layers) {
    this.samples.push(layers);
    if (this.samples.length > SAMPLES_MAX) this.samples.shift();
    this.draw();
  }

  /** The samples as drawn: without the player's buffer where the viewer of the page doesn't want it. */
  shown() {
    if (this.withPlayer.checked) return this.samples;
    return this.samples.map((layers) => layers.filter(({ key }) => !IN_PLAYER.includes(key)));
  }

  draw() {
    const samples = this.shown();
    if (samples.length === 0) return;
    const layers = new Map(samples.flat().map((layer) => [layer.key, layer]));
    const order = [...layers.keys()].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b, undefined, { numeric: true }));
    const marks = ticks(Math.max(...samples.map(height), 1000), 4);
    const y = (us) => HEIGHT - (us / marks.at(-1)) * HEIGHT;
    const x = (i) => WIDTH - (samples.length - 1 - i) * (WIDTH / (SAMPLES_MAX - 1));
    let under = samples.map(() => 0);
    const paths = order.map((key) => {
      const over = samples.map((sample, i) => under[i] + Math.max(0, sample.find((layer) => layer.key === key)?.us ?? 0));
      const up = over.map((us, i) => `${x(i).toFixed(1)} ${y(us).toFixed(1)}`);
      const down = under.map((us, i) => `${x(i).toFixed(1)} ${y(us).toFixed(1)}`).reverse();
      under = over;
      return shape("path", { d: `M${up.join("L")}L${down.join("L")}Z`, "data-layer": key, style: `fill:${layers.get(key).colour}` });
    });
    const grid = marks.map((us) => shape("line", { x1: 0, x2: WIDTH, y1: y(us), y2: y(us) }));
    this.box.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.box.replaceChildren(...paths, ...grid);
    this.axis.replaceChildren(...marks.map((us) => element("span", { style: `bottom:${(100 * us) / marks.at(-1)}%` }, tickLabel(us))));
    this.drawLegend(order, layers, samples);
  }

  drawLegend(order, layers, samples) {
    const current = new Set(samples.slice(-CURRENT).flat().map(({ key }) => key));
    const newest = new Map(samples.at(-1).map((layer) => [layer.key, layer]));
    this.legend.replaceChildren(...order.filter((key) => current.has(key)).map((key) => {
      const { label, colour } = newest.get(key) ?? layers.get(key);
      return element("span", { style: `--c:${colour}` }, `${label} `, element("b", {}, micros(newest.get(key)?.us)));
    }));
  }
}

const height = (sample) => sample.reduce((sum, { us }) => sum + Math.max(0, us), 0);

/** Bottom up: the part's filling, the hops, the player. */
const ORDER = ["filling", "0 packaging", null, "tail", "page idle", "page arrive", "page append", "page buffer", "page player"];
const rank = (key) => ORDER.indexOf(ORDER.includes(key) ? key : null);
