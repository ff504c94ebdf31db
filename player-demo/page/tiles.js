// The tiles beside the picture: its latency, with a chart of the last minute, and the player's figures.
import { element, shape } from "./dom.js";

const CHART_SAMPLES = 240;

export class Tiles {
  /** @param {(id: string) => HTMLElement} $ */
  constructor($) {
    this.$ = $;
    this.clear();
  }

  clear() {
    this.history = [];
  }

  /** @param s the page's figures @param {string} player its name, as the page shows it */
  draw(s, player) {
    const { $ } = this;
    const figure = (value, unit) => (s.started ? [value, element("span", { class: "unit" }, unit)] : ["–"]);
    const shown = s.latency ?? s.playerLatency;
    $("latency-kind").textContent = s.latency !== null ? "from ingest to screen" : shown !== null ? `behind the live edge, as ${player} reports it` : "";
    $("latency").replaceChildren(...(shown === null ? ["–"] : figure(shown.toFixed(2), "s")));
    $("latency-note").textContent = s.started ? this.note(s, player) : "";
    $("buffer").replaceChildren(...figure(s.buffer.toFixed(2), "s"));
    $("rate").replaceChildren(...figure(s.rate.toFixed(2), "×"));
    $("dropped").replaceChildren(...figure(s.dropped, `of ${s.frames}`));
    $("stalls").replaceChildren(...figure(s.stalls, s.stalls > 0 ? `${(s.stalledMs / 1000).toFixed(1)} s` : ""));
    $("stalls").classList.toggle("bad", s.stalling);
    this.history.push(s.started ? shown : null);
    if (this.history.length > CHART_SAMPLES) this.history.shift();
    this.chart();
  }

  note(s, player) {
    const seconds = (value) => `${value?.toFixed(2) ?? "–"} s`;
    if (s.state === "ended") return "The stream has ended.";
    if (s.edgeDown) return "The edge does not answer.";
    const words = [];
    if (s.latency === null) words.push(s.playerLatency === null ? "This player does not report how old its picture is." : "This player does not report its picture’s date.");
    else {
      words.push(`The edge’s clock (±${Math.max(1, Math.ceil(s.clockError ?? 0))} ms) minus the picture’s date.`);
      if (s.playerLatency !== null) words.push(`${player} itself reports ${seconds(s.playerLatency)} behind its live edge.`);
    }
    if (s.glass) words.push(`Glass to glass, read from the picture: ${seconds(s.glass.p50)}; the sum of the stages: ${seconds(s.stagesSum)}.`);
    else if (s.hasTimecode) words.push("The picture carries no time that can be read.");
    return words.join(" ");
  }

  chart() {
    const known = this.history.filter((v) => v !== null);
    if (known.length < 2) return this.$("chart").replaceChildren();
    const low = Math.min(...known);
    const high = Math.max(...known, low + 0.2);
    const start = CHART_SAMPLES - this.history.length;
    let line = "";
    let last = start;
    this.history.forEach((v, i) => {
      if (v === null) return;
      line += `${line === "" || this.history[i - 1] === null ? "M" : "L"}${start + i} ${(44 - (40 * (v - low)) / (high - low)).toFixed(1)}`;
      last = start + i;
    });
    const first = start + this.history.findIndex((v) => v !== null);
    this.$("chart").replaceChildren(shape("path", { d: `${line}L${last} 48L${first} 48Z`, class: "under" }), shape("path", { d: line }));
    this.$("chart-range").textContent = `${low.toFixed(2)} to ${high.toFixed(2)} s`;
  }
}
