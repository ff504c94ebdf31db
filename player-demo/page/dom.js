// Small helpers for elements, and for figures in words.

const SVG = "http://www.w3.org/2000/svg";

/** A small `document.createElement`. Text goes in as text, never as HTML. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The same for SVG. */
export function shape(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Microseconds as text, in the unit that fits. */
export function micros(us) {
  if (!Number.isFinite(us)) return "–";
  if (Math.abs(us) < 1000) return `${Math.round(us)} µs`;
  if (Math.abs(us) < 100_000) return `${(us / 1000).toFixed(us < 10_000 ? 2 : 1)} ms`;
  return us < 1e6 ? `${Math.round(us / 1000)} ms` : `${(us / 1e6).toFixed(2)} s`;
}

/** Round axis ticks from 0 to at least `max`, about `wanted` of them: 1, 2 or 5 times a power of ten apart. */
export function ticks(max, wanted = 5) {
  const rough = Math.max(max, 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((n) => n * power >= rough) * power;
  return Array.from({ length: Math.ceil(max / step) + 1 }, (_, i) => i * step);
}

/** An axis label: microseconds without needless digits. */
export const tickLabel = (us) => (us === 0 ? "0" : us < 1e6 ? `${+(us / 1000).toFixed(2)} ms` : `${+(us / 1e6).toFixed(2)} s`);
