// The live tree of a stream: nodes, the eager links that carry its parts (thick, with their transit), the lazy ones that would
// repair the tree (thin); of a demo's nodes each can be stopped and started.

import { element, micros } from "./way.js";

const SVG = "http://www.w3.org/2000/svg";
const COLUMN = 190;
const ROW = 74;
const NODE = { width: 118, height: 34 };
const PAD = 14;

/**
 * What is known of a stream's tree, from the swarm views of some nodes (`/api/v1/swarm`) and the way of its newest part:
 * `{ nodes: [{ id, name, depth, down }], links: [{ from, to, eager, transit_us, uncertainty_us }] }`, parents first.
 * @param {Array<object>} views @param {object | null} trace @param {Array<{name: string, running: boolean}>} demo
 */
export function treeOf(views, stream, trace, demo = []) {
  const names = new Map();
  const links = new Map();
  const meet = (id, name) => names.set(id, name ?? names.get(id) ?? id.slice(0, 6));
  const link = (a, b) => {
    const key = [a, b].sort().join();
    if (!links.has(key)) links.set(key, { from: a, to: b, eager: false, transit_us: null, uncertainty_us: null });
    return links.get(key);
  };
  for (const view of views) {
    meet(view.node, view.name);
    for (const { node, name } of view.nodes ?? []) if (names.has(node) || view.links?.some((l) => l.peer === node)) meet(node, name);
    const swarm = view.swarms?.find((s) => s.stream === stream);
    for (const peer of swarm?.active ?? []) {
      const of = view.links?.find((l) => l.peer === peer);
      if (of) meet(peer, of.name);
      link(view.node, peer);
    }
    if (swarm?.parent) {
      const up = link(view.node, swarm.parent);
      const of = view.links?.find((l) => l.peer === swarm.parent);
      Object.assign(up, { from: swarm.parent, to: view.node, eager: true, transit_us: of?.transit_us ?? null, uncertainty_us: of?.uncertainty_us ?? null });
    }
  }
  // The part's own way: nodes further off than this edge can see.
  const way = [...(trace?.hops ?? []), trace?.edge].filter(Boolean);
  way.forEach((node, i) => {
    meet(node.node, node.name);
    const hop = trace.hops[i - 1];
    if (!hop) return;
    const up = link(hop.node, node.node);
    if (up.transit_us === null) Object.assign(up, { from: hop.node, to: node.node, transit_us: hop.transit_us, uncertainty_us: hop.uncertainty_us, eager: true });
  });
  const seen = new Set([...names.values()]);
  for (const { name, running } of demo) if (!running && !seen.has(name)) names.set(`down ${name}`, name);
  const down = new Set(demo.filter((n) => !n.running).map((n) => n.name));
  const list = [...links.values()].filter((l) => !down.has(names.get(l.from)) && !down.has(names.get(l.to)));
  const depths = depthsOf([...names.keys()], list);
  const nodes = [...names].map(([id, name]) => ({ id, name, depth: depths.get(id) ?? 0, down: down.has(name) }));
  const order = new Map(demo.map(({ name }, i) => [name, i]));
  nodes.sort((a, b) => a.depth - b.depth || (order.get(a.name) ?? 0) - (order.get(b.name) ?? 0) || a.name.localeCompare(b.name));
  return { nodes, links: list };
}

/** How many eager links each node is from the root; what no eager link reaches is at 0. */
function depthsOf(ids, links) {
  const parent = new Map(links.filter((l) => l.eager).map((l) => [l.to, l.from]));
  const depth = (id, seen = new Set()) => {
    const up = parent.get(id);
    if (up === undefined || seen.has(id)) return 0;
    return 1 + depth(up, seen.add(id));
  };
  return new Map(ids.map((id) => [id, depth(id)]));
}

export class TreeView {
  /** @param {HTMLElement} box @param {(name: string, run: boolean) => void} order */
  constructor(box, order) {
    this.box = box;
    this.order = order;
    this.drawn = "";
  }

  clear() {
    this.drawn = "";
    this.box.replaceChildren();
  }

  /** Draws a tree; `here` is the name of the edge that this page watches, `demo` the nodes that can be stopped. */
  show(tree, { here, demo, host }) {
    const key = JSON.stringify([tree, here, demo]);
    if (key === this.drawn) return;
    this.drawn = key;
    const rows = new Map();
    const at = new Map();
    for (const node of tree.nodes) {
      const row = rows.get(node.depth) ?? 0;
      rows.set(node.depth, row + 1);
      at.set(node.id, { x: PAD + node.depth * COLUMN, y: PAD + 16 + row * ROW });
    }
    const width = PAD * 2 + NODE.width + Math.max(0, ...tree.nodes.map((n) => n.depth)) * COLUMN;
    const height = PAD * 2 + 40 + Math.max(1, ...rows.values()) * ROW - (ROW - NODE.height);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
    svg.append(draw("title", {}, `The stream’s tree: ${tree.links.filter((l) => l.eager).length} eager and ${tree.links.filter((l) => !l.eager).length} lazy links`));
    // Lazy ones first, beneath the others.
    for (const link of [...tree.links].sort((a, b) => a.eager - b.eager)) this.link(svg, link, at);
    for (const node of tree.nodes) this.node(svg, node, at.get(node.id), { here, demo, host });
    this.box.replaceChildren(svg);
  }

  link(svg, { from, to, eager, transit_us }, at) {
    const [a, b] = [at.get(from), at.get(to)];
    if (!a || !b) return;
    const [y1, y2] = [a.y + NODE.height / 2, b.y + NODE.height / 2];
    const straight = Math.abs(a.x - b.x) <= COLUMN && a.x !== b.x;
    const [left, right] = a.x <= b.x ? [a, b] : [b, a];
    const d = straight
      ? `M${left.x + NODE.width} ${left.y + NODE.height / 2}L${right.x} ${right.y + NODE.height / 2}`
      // Around what lies between: beneath it.
      : `M${a.x + NODE.width / 2} ${a.y + NODE.height}C${a.x + NODE.width / 2} ${Math.max(y1, y2) + 62} ${b.x + NODE.width / 2} ${Math.max(y1, y2) + 62} ${b.x + NODE.width / 2} ${b.y + NODE.height}`;
    svg.append(draw("path", { d, class: eager ? "eager" : "lazy", "data-link": eager ? "eager" : "lazy" }));
    if (!eager || transit_us === null) return;
    const label = draw("text", { x: (left.x + NODE.width + right.x) / 2, y: (y1 + y2) / 2 - 7, class: "transit" }, micros(transit_us));
    if (!straight) Object.entries({ x: (a.x + b.x + NODE.width) / 2, y: Math.max(y1, y2) + 44 }).forEach(([k, v]) => label.setAttribute(k, v));
    svg.append(label);
  }

  node(svg, { name, down }, { x, y }, { here, demo, host }) {
    const group = draw("g", { class: ["node", down && "down", name === here && "here"].filter(Boolean).join(" "), "data-node": name });
    const known = demo.find((n) => n.name === name);
    const label = known ? { x: x + 12, class: "name" } : { x: x + NODE.width / 2, class: "name middle" };
    group.append(draw("rect", { x, y, ...NODE, rx: 10 }), draw("text", { y: y + 22, ...label }, name));
    svg.append(group);
    if (!known) return;
    const own = name === host;
    const box = draw("foreignObject", { x: x + NODE.width - 36, y: y + 3, width: 34, height: 28 });
    const button = element("button", {
      type: "button", "data-order": known.running ? "stop" : "start", title: own ? "This page comes from it" : known.running ? `Stop ${name}` : `Start ${name}`,
      "aria-label": known.running ? `Stop ${name}` : `Start ${name}`,
    }, known.running ? "■" : "▶");
    button.disabled = own;
    button.addEventListener("click", () => this.order(name, !known.running));
    box.append(button);
    svg.append(box);
  }
}

function draw(name, attributes = {}, text = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}
