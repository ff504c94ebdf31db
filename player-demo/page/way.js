// The way of one part, drawn: the nodes it passed, what share of the latency each stage has, and the waterfall of its hops.

const MEDIAN_OVER = 60;

/** Microseconds in words of a fitting unit. */
export function micros(us) {
  if (!Number.isFinite(us)) return "–";
  if (Math.abs(us) < 1000) return `${Math.round(us)} µs`;
  if (Math.abs(us) < 100_000) return `${(us / 1000).toFixed(us < 10_000 ? 2 : 1)} ms`;
  return us < 1e6 ? `${Math.round(us / 1000)} ms` : `${(us / 1e6).toFixed(2)} s`;
}

/** What each stage is, as the account has it (its page in the documentation says more). */
const STAGES = {
  packaging: ["last frame in, to made", "packaging"], dwell: ["in, to first byte out", "dwell"], transit: ["on the way", "transit"],
  tail: ["first byte to last, listed", "tail"],
};
/** The same of those that the page measures. */
const OF_PAGE = {
  idle: ["listed, to asked for", "idle"], arrive: ["to its last byte at the player", "arrive"], append: ["into its SourceBuffer", "append"],
  buffer: ["waiting to be seen", "wait"], player: ["the player’s, all of it", "wait"],
};
/** Where they are measured. */
export const PAGE = "this page";
export const labelOf = (stage) => OF_PAGE[stage];
/** Two stages of one node that are shown as one. */
const JOINED = { queue: "dwell", listing: "tail" };

/**
 * The rows of an account and of what the page adds, `[{ stage, us }]`: `{ key, where, what, kind, us, from }`, `from` the time since
 * the ingest had the part's last frame. A stage may be below zero, within its uncertainty: the bars then overlap, and the sum is right.
 */
export function rows(trace, here = []) {
  const list = [];
  let from = 0;
  for (const { stage, hop, name, to, us } of trace.stages ?? []) {
    const shown = JOINED[stage] ?? stage;
    const key = `${hop} ${shown}`;
    const before = list.find((row) => row.key === key);
    if (before) before.us += us;
    else {
      const [what, kind] = STAGES[shown] ?? [shown, "dwell"];
      const where = shown === "transit" ? `${name} → ${to?.name ?? "?"}` : name;
      list.push({ key, where, what: shown === "dwell" && hop === 0 ? "made, to first byte out" : what, kind, us, from });
    }
    from += us;
  }
  for (const { stage, us } of here) {
    const [what, kind] = OF_PAGE[stage];
    list.push({ key: `page ${stage}`, where: PAGE, what, kind, us, from });
    from += us;
  }
  return list;
}

export class WayView {
  constructor(root) {
    this.$ = (id) => root.getElementById(id);
    this.clear();
  }

  clear() {
    this.seen = new Map();
    this.lastPart = null;
    this.$("hops").hidden = true;
    this.$("share").hidden = true;
    this.$("path").replaceChildren();
    this.$("part").textContent = "";
  }

  /** @param {string} words */
  say(words) {
    this.$("way-note").textContent = words;
    this.$("way-note").hidden = words === "";
  }

  /** Draws a trace, and what the page adds to it. `onScreen` is false where it is the edge's newest part. */
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
    this.$("way-title").firstChild.textContent = onScreen ? "The part on screen " : "The newest part ";
    const nodes = [...(trace.hops ?? []), trace.edge].filter(Boolean);
    this.$("path").replaceChildren(...nodes.map((n) => element("li", {}, element("b", {}, n.name ?? n.node))));
    // The wait for the screen is as long as all else together, and longer: its bar runs out of the picture.
    const scale = 100 / (1.15 * Math.max(1, total, ...list.filter((r) => r.kind !== "wait").map((r) => r.from + r.us)));
    const body = this.$("hops").tBodies[0];
    while (body.rows.length > list.length) body.deleteRow(-1);
    list.forEach((r, i) => {
      const row = body.rows[i] ?? body.append(newRow()) ?? body.rows[i];
      row.cells[0].replaceChildren(r.where, " ", element("small", {}, r.what));
      const bar = row.querySelector("i");
      const left = Math.max(0, Math.min(99, r.from * scale));
      const width = Math.max(0, r.us) * scale;
      bar.className = left + width > 100 ? "on" : "";
      bar.style.cssText = `left:${left}%;width:${Math.min(width, 100 - left)}%;background:var(--${r.kind})`;
      row.cells[2].textContent = micros(r.us);
      row.cells[3].textContent = micros(this.median(r.key));
    });
    this.$("total").textContent = micros(total);
    this.$("total-median").textContent = micros(this.median("total"));
    this.$("shown-row").hidden = here.length === 0;
    this.$("shown").textContent = micros(shown);
    this.$("shown-median").textContent = micros(this.median("shown"));
    this.$("hops").hidden = false;
    const none = nodes.length < 2 ? "It was made at this edge’s own node: no hop to pass. " : "";
    this.say(none + (onScreen ? "" : "This player doesn’t tell which part is on screen; this is the newest one here."));
  }

  /**
   * Where the latency lies: until the part was whole at the ingest, on the relay, in the player.
   * All in microseconds; the picture is `latency` old.
   */
  shares({ filling, relay, latency }) {
    const box = this.$("share");
    const waiting = latency - filling - relay;
    box.hidden = !(waiting > 0 && filling >= 0 && relay >= 0);
    if (box.hidden) return;
    const parts = [
      ["Part being made", filling, "--fill"],
      ["Relay", relay, "--relay"],
      ["Waiting in the player", waiting, "--wait"],
    ];
    box.replaceChildren(
      element("div", { class: "track", "aria-hidden": "true" },
        ...parts.map(([, us, color]) => element("i", { style: `flex:${us} 0 0;background:var(${color})` }))),
      element("div", { class: "key" },
        ...parts.map(([name, us, color]) => element("span", { style: `--c:var(${color})` }, `${name} `, element("b", {}, micros(us)))),
      ),
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
  return element("tr", {}, element("th", { scope: "row" }), element("td", {}, element("div", { class: "lane" }, element("i"))),
    element("td", { class: "num" }), element("td", { class: "num" }));
}

/** A small `document.createElement`. Text goes in as text, never as HTML. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
