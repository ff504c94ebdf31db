// One part's latency, drawn: the nodes that it passed, the share of each section, and the waterfall of its stages.
import { element, micros, tickLabel, ticks } from "./dom.js";
import { STAGES, rows } from "./stages.js";

const MEDIAN_OVER = 60;
/** Where the time axis ends, in percent of the drawing, when a bar goes on behind a break. */
const AXIS_END = 86;

export class Waterfall {
  constructor(root) {
    this.$ = (id) => root.getElementById(id);
    this.$("stages").replaceChildren(...Object.entries(STAGES).flatMap(([name, what]) => [element("dt", {}, name), element("dd", {}, what)]));
    this.clear();
  }

  clear() {
    this.seen = new Map();
    this.lastPart = null;
    for (const id of ["hops", "share", "glossary"]) this.$(id).hidden = true;
    this.$("path").replaceChildren();
    this.$("part").textContent = "";
  }

  /** @param {string} words */
  say(words) {
    this.$("part-note").textContent = words;
    this.$("part-note").hidden = words === "";
  }

  /** Draws a trace and the page's own stages. `onScreen` is false where it is the edge's newest part. */
  show(trace, onScreen, here = []) {
    const list = rows(trace, here);
    const total = trace.age_us;
    const shown = total + here.reduce((sum, { us }) => sum + us, 0);
    const part = `${trace.msn}.${trace.part}`;
    if (part !== this.lastPart) {
      for (const { key, us } of [...list, { key: "total", us: total }, { key: "shown", us: shown }]) this.remember(key, us);
      this.lastPart = part;
    }
    const size = Number.isFinite(trace.bytes) ? `, ${(trace.bytes / 1000).toFixed(trace.bytes < 10_000 ? 1 : 0)} kB` : "";
    this.$("part").textContent = `${trace.track} ${part}${size}`;
    this.$("part-title").firstChild.textContent = onScreen ? "The part on screen " : "The newest part ";
    const nodes = [...(trace.hops ?? []), trace.edge].filter(Boolean);
    this.$("path").replaceChildren(...nodes.map((n) => element("li", {}, element("b", {}, n.name ?? n.node))));
    this.draw(list, total);
    this.$("total").textContent = micros(total);
    this.$("total-median").textContent = micros(this.median("total"));
    this.$("shown-row").hidden = here.length === 0;
    this.$("shown").textContent = micros(shown);
    this.$("shown-median").textContent = micros(this.median("shown"));
    for (const id of ["hops", "glossary"]) this.$(id).hidden = false;
    const none = nodes.length < 2 ? "This edge is the ingest node itself, so the part passed no link. " : "";
    this.say(none + (onScreen ? "" : "This player does not report which part is on screen; this is the newest part at the edge."));
  }

  /** The bars. The axis holds all stages but the player's buffer, which is longer than all of them together: its bar goes on behind a break. */
  draw(list, total) {
    const ends = list.filter(({ stage }) => !["buffer", "player"].includes(stage)).map(({ from, us }) => from + us);
    const marks = ticks(Math.max(1, total, ...ends));
    const end = marks.at(-1);
    const cut = list.some(({ from, us }) => from + us > end);
    const scale = (cut ? AXIS_END : 100) / end;
    this.$("time-axis").replaceChildren(...marks.map((us) => element("span", { style: `left:${us * scale}%` }, tickLabel(us))));
    this.$("hops").style.setProperty("--tick", `${(marks[1] ?? end) * scale}%`);
    const body = this.$("hops").tBodies[0];
    while (body.rows.length > list.length) body.deleteRow(-1);
    list.forEach((row, i) => this.row(body.rows[i] ?? body.appendChild(newRow()), row, scale, end));
  }

  row(tr, { key, where, stage, us, from, colour, uncertainty_us }, scale, end) {
    const negative = us < 0 ? ` below zero, within the clocks’ uncertainty${uncertainty_us ? ` (±${micros(uncertainty_us)})` : ""}` : "";
    tr.cells[0].replaceChildren(where, " ", element("small", { title: STAGES[stage] ?? "" }, stage), element("small", { class: "note" }, negative));
    const bar = tr.querySelector("i");
    const left = Math.max(0, Math.min(99, from * scale));
    const isCut = from + us > end;
    bar.className = isCut ? "cut" : "";
    bar.style.cssText = `left:${left}%;width:${isCut ? 100 - left : Math.max(0, us) * scale}%;background:${colour}`;
    tr.cells[2].textContent = micros(us);
    tr.cells[3].textContent = micros(this.median(key));
  }

  /**
   * The sections of the picture's age, all in microseconds: the part's filling, its packaging, the relay from the ingest node to this
   * edge, and the rest, which is the player's.
   */
  shares({ filling, packaging, relay, latency }) {
    const box = this.$("share");
    const player = latency - filling - packaging - relay;
    box.hidden = !(player > 0 && filling >= 0);
    if (box.hidden) return;
    const parts = [["Filling the part", filling, "--filling"], ["Packaging", packaging, "--packaging"], ["Relay", Math.max(0, relay), "--hop0"], ["Player", player, "--buffer"]];
    box.replaceChildren(
      element("div", { class: "track", "aria-hidden": "true" }, ...parts.map(([, us, colour]) => element("i", { style: `flex:${us} 0 0;background:var(${colour})` }))),
      element("div", { class: "key" }, ...parts.map(([name, us, colour]) => element("span", { style: `--c:var(${colour})` }, `${name} `, element("b", {}, micros(us))))),
    );
  }

  remember(key, us) {
    const list = this.seen.get(key) ?? [];
    list.push(us);
    if (list.length > MEDIAN_OVER) list.shift();
    this.seen.set(key, list);
  }

  median(key) {
    const sorted = [...(this.seen.get(key) ?? [])].sort((a, b) => a - b);
    return sorted.length === 0 ? NaN : sorted[Math.floor((sorted.length - 1) / 2)];
  }
}

function newRow() {
  return element("tr", {}, element("th", { scope: "row" }), element("td", { "aria-hidden": "true" }, element("div", { class: "bar-track" }, element("i"))),
    element("td", { class: "num" }), element("td", { class: "num" }));
}
