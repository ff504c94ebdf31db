// The stages of a part's latency: one vocabulary for the waterfall, the chart, their legends, the API and docs/latency.md.

/** Every stage and what it measures, in the order in which a part passes them. */
export const STAGES = {
  filling: "from the time of the picture on screen until the part’s last frame reached the ingest node",
  packaging: "from the last frame’s arrival at the ingest node until the part is published",
  dwell: "inside a node, from receiving the part (at the ingest node: publishing it) until its first byte is sent on",
  transit: "on a link, from the first byte sent until the first byte received",
  tail: "at the edge, from the part’s first byte until its last byte is there and the part is listed",
  idle: "from the part’s listing at the edge until the player requests it",
  arrive: "from the player’s request until the part’s last byte is here",
  append: "from the last byte until the part is in the player’s SourceBuffer",
  buffer: "in the player’s buffer, until the part’s last frame is on screen",
  player: "everything in the player, where the browser reports no more than that",
};

/** Where the page's own stages are measured. */
export const PAGE = "this page";

/** Stages of the API that the page adds to another one of the same node. */
const JOINED = { queue: "dwell", listing: "tail" };
const HOP_COLOURS = 6;

/** Nodes have a colour each; a link has a paler shade of the node that sends. */
function colourOf(stage, hop) {
  const node = `var(--hop${hop % HOP_COLOURS})`;
  if (stage === "dwell") return node;
  return stage === "transit" ? `color-mix(in srgb, ${node} 50%, var(--card))` : `var(--${stage})`;
}

/**
 * The stages of a trace and those that the page measured (`[{ stage, us }]`), one after the other:
 * `{ key, where, stage, us, from, colour, uncertainty_us }`. `from` is the time since the ingest node had the part's last frame.
 * A stage may be below zero, within the clocks' uncertainty: the next one then begins before it, and the sum is right.
 */
export function rows(trace, here = []) {
  const list = [];
  let from = 0;
  for (const { stage, hop, name, to, us } of trace.stages ?? []) {
    const shown = JOINED[stage] ?? stage;
    const key = shown === "tail" ? shown : `${hop} ${shown}`;
    const before = list.find((row) => row.key === key);
    if (before) before.us += us;
    else {
      const where = shown === "transit" ? `${name} → ${to?.name ?? "?"}` : name;
      const uncertainty_us = (shown === "transit" && trace.hops?.[hop]?.uncertainty_us) || null;
      list.push({ key, where, stage: shown, us, from, colour: colourOf(shown, hop), uncertainty_us });
    }
    from += us;
  }
  for (const { stage, us } of here) {
    list.push({ key: `page ${stage}`, where: PAGE, stage, us, from, colour: colourOf(stage), uncertainty_us: null });
    from += us;
  }
  return list;
}
