// A stream's broadcast tree: nodes, the eager links that carry its parts (thick, with their transit), and the lazy links that repair
// the tree (thin). Each node of a demo has a button that stops or starts it.
import { element, micros, shape } from "./dom.js";

/** Distance between two levels of the tree, and between two nodes of one level, in pixels: across a wide box, down a narrow one. */
const ACROSS = { level: 214, sibling: 74 };
const DOWN = { level: 92, sibling: 158 };
const NODE = { width: 138, height: 34 };
const PAD = 14;

/**
 * A stream's tree, from the swarm views of some nodes (`/api/v1/swarm`) and the trace of its newest part:
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
  // The nodes that the part passed: some are further away than this edge can see.
  const passed = [...(trace?.hops ?? []), trace?.edge].filter(Boolean);
  passed.forEach((node, i) => {
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

/** The number of eager links between each node and the root; 0 for a node that no eager link reaches. */
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
  /** @param {HTMLElement} box @param {(name: string, run: boolean) => void} order stops or starts a node of a demo */
  constructor(box, order) {
    this.box = box;
    this.order = order;
    this.clear();
    new ResizeObserver(() => this.draw()).observe(box);
  }

  clear() {
    this.drawn = "";
    this.last = null;
    this.box.replaceChildren();
  }

  /** Draws a tree; `here` is the name of the edge that this page watches, `demo` the nodes that can be stopped, `host` the one that serves the page. */
  show(tree, { here, demo, host }) {
    this.last = [tree, { here, demo, host }];
    this.draw();
  }

  draw() {
    if (!this.last) return;
    const [tree, about] = this.last;
    const levels = 1 + Math.max(0, ...tree.nodes.map((n) => n.depth));
    const isDown = this.box.clientWidth > 0 && PAD * 2 + NODE.width + (levels - 1) * ACROSS.level > this.box.clientWidth;
    const key = JSON.stringify([tree, about, isDown]);
    if (key === this.drawn) return;
    this.drawn = key;
    const { at, width, height } = place(tree.nodes, isDown);
    const count = (eager) => tree.links.filter((l) => l.eager === eager).length;
    const title = `${tree.nodes.length} nodes, ${count(true)} eager and ${count(false)} lazy links`;
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": title, class: isDown ? "down" : "across" });
    // Lazy links first, beneath the others.
    for (const link of [...tree.links].sort((a, b) => a.eager - b.eager)) this.link(svg, link, at, isDown);
    for (const node of tree.nodes) this.node(svg, node, at.get(node.id), about);
    // A redraw must not take the focus from the button that was just pressed.
    const focused = this.box.contains(document.activeElement) ? document.activeElement.closest("[data-order]")?.dataset.node : null;
    this.box.replaceChildren(svg);
    if (focused) this.box.querySelector(`button[data-node="${CSS.escape(focused)}"]`)?.focus();
  }

  link(svg, { from, to, eager, transit_us }, at, isDown) {
    const [a, b] = [at.get(from), at.get(to)];
    if (!a || !b) return;
    const [first, second] = (isDown ? a.y <= b.y : a.x <= b.x) ? [a, b] : [b, a];
    const { d, label } = isDown ? pathDown(first, second) : pathAcross(first, second);
    svg.append(shape("path", { d, class: eager ? "eager" : "lazy", "data-link": eager ? "eager" : "lazy" }));
    if (eager && transit_us !== null) svg.append(shape("text", { ...label, class: "transit" }, micros(transit_us)));
  }

  node(svg, { name, down }, { x, y }, { here, demo, host }) {
    const known = demo.find((n) => n.name === name);
    const label = known ? { x: x + 12, class: "name" } : { x: x + NODE.width / 2, class: "name middle" };
    const group = shape("g", { class: ["node", down && "down", name === here && "here"].filter(Boolean).join(" "), "data-node": name },
      shape("rect", { x, y, ...NODE, rx: 10 }), shape("text", { y: y + 22, ...label }, name));
    svg.append(group);
    if (!known) return;
    const verb = known.running ? "Stop" : "Start";
    const does = `${verb} node ${name}${name === host ? ", which serves this page and so cannot be stopped here" : ""}`;
    const button = element("button", { type: "button", "data-order": verb.toLowerCase(), "data-node": name, title: does, "aria-label": does }, verb);
    button.disabled = name === host;
    button.addEventListener("click", () => this.order(name, !known.running));
    svg.append(shape("foreignObject", { x: x + NODE.width - 54, y: y + 3, width: 51, height: 28 }, button));
  }
}

/** The place of each node, and the size of the drawing. */
function place(nodes, isDown) {
  const rows = new Map();
  const at = new Map();
  const step = isDown ? DOWN : ACROSS;
  for (const { id, depth } of nodes) {
    const row = rows.get(depth) ?? 0;
    rows.set(depth, row + 1);
    const [along, beside] = [PAD + depth * step.level, PAD + row * step.sibling];
    at.set(id, isDown ? { x: beside, y: along } : { x: along, y: beside + 16 });
  }
  const right = Math.max(0, ...[...at.values()].map(({ x }) => x)) + NODE.width + PAD;
  const bottom = Math.max(0, ...[...at.values()].map(({ y }) => y)) + NODE.height + PAD + 40;
  return { at, width: isDown ? right + 44 : right, height: bottom };
}

/** A link across the box: straight to the next level or to the neighbour below, else a bow beneath what lies between. */
function pathAcross(a, b) {
  const [y1, y2] = [a.y + NODE.height / 2, b.y + NODE.height / 2];
  const [middleA, middleB, low] = [a.x + NODE.width / 2, b.x + NODE.width / 2, Math.max(y1, y2)];
  const [upper, lower] = a.y <= b.y ? [a, b] : [b, a];
  if (a.x === b.x) return { d: `M${middleA} ${upper.y + NODE.height}L${middleA} ${lower.y}`, label: { x: middleA + 34, y: (y1 + y2) / 2 + 4 } };
  if (b.x - a.x <= ACROSS.level) return { d: `M${a.x + NODE.width} ${y1}L${b.x} ${y2}`, label: { x: (a.x + NODE.width + b.x) / 2, y: (y1 + y2) / 2 - 7 } };
  const d = `M${middleA} ${a.y + NODE.height}C${middleA} ${low + 62} ${middleB} ${low + 62} ${middleB} ${b.y + NODE.height}`;
  return { d, label: { x: (middleA + middleB) / 2, y: low + 44 } };
}

/** The same down a narrow box: the bow passes on the right. */
function pathDown(a, b) {
  const [x1, x2] = [a.x + NODE.width / 2, b.x + NODE.width / 2];
  const [y1, y2] = [a.y + NODE.height / 2, b.y + NODE.height / 2];
  const [left, right] = a.x <= b.x ? [a, b] : [b, a];
  if (a.y === b.y) return { d: `M${left.x + NODE.width} ${y1}L${right.x} ${y2}`, label: { x: (x1 + x2) / 2, y: y1 - 7 } };
  if (b.y - a.y <= DOWN.level) return { d: `M${x1} ${a.y + NODE.height}L${x2} ${b.y}`, label: { x: (x1 + x2) / 2 + 34, y: (a.y + NODE.height + b.y) / 2 + 4 } };
  const end = right.x + NODE.width;
  return { d: `M${a.x + NODE.width} ${y1}C${end + 46} ${y1} ${end + 46} ${y2} ${b.x + NODE.width} ${y2}`, label: { x: end + 10, y: (y1 + y2) / 2 } };
}
