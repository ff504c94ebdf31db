// What the page asks an edge besides media: its streams, its clock, the trace of a part, the other edges.

const TIMEOUT_MS = 6000;

async function get(url) {
  const answer = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
  if (!answer.ok) throw new HttpError(answer.status, url);
  return answer;
}

export class HttpError extends Error {
  constructor(status, url) {
    super(`HTTP ${status} for ${url}`);
    this.status = status;
  }
}

/** A base URL without its last slash; throws in words on what isn't one. */
export function baseUrl(text) {
  const trimmed = text.trim();
  const url = URL.parse?.(trimmed) ?? (URL.canParse(trimmed) ? new URL(trimmed) : null);
  if (!url || !/^https?:$/.test(url.protocol)) throw new Error(`“${text}” is no http:// or https:// address`);
  return (url.origin + url.pathname).replace(/\/+$/, "");
}

/** The cluster's edges, if this node knows them (a demo does), else this one alone. */
export async function edges() {
  const here = { name: "this edge", url: location.origin };
  try {
    const list = (await (await get("/api/v1/edges")).json()).edges ?? [];
    return list.length > 0 ? list.map((e) => ({ name: e.name ?? e.url, url: baseUrl(e.url) })) : [here];
  } catch {
    return [here];
  }
}

/** The streams an edge can serve. */
export async function streams(edge) {
  const list = (await (await get(`${edge}/api/v1/streams`)).json()).streams ?? [];
  return list.filter((s) => typeof s?.name === "string");
}

/** The trace of a part, or of the newest one; null where the edge has none (any more). */
export async function trace(edge, stream, track, part) {
  const query = new URLSearchParams({ track, ...(part && { msn: part.msn, part: part.part }) });
  try {
    return await (await get(`${edge}/api/v1/streams/${stream}/trace?${query}`)).json();
  } catch (error) {
    if (error instanceof HttpError && error.status === 404) return null;
    throw error;
  }
}

/** A node's view of the swarm; null where it doesn't answer, since a node that is down is no fault of the page's. */
export async function swarm(url) {
  return get(`${url}/api/v1/swarm`).then((answer) => answer.json()).catch(() => null);
}

let isDemo = true;

/** The nodes of a demo, `[{ name, running }]`; empty where this is none, which is asked once. */
export async function demoNodes() {
  if (!isDemo) return [];
  try {
    return (await (await get("/api/v1/demo")).json()).nodes ?? [];
  } catch (error) {
    isDemo = !(error instanceof HttpError && error.status === 404);
    return [];
  }
}

/** Has a node of the demo stopped or started. */
export async function order(name, run) {
  const answer = await fetch(`/api/v1/demo/nodes/${encodeURIComponent(name)}/${run ? "start" : "stop"}`, { method: "POST", headers: { "X-Damson-Demo": "1" } });
  if (!answer.ok) throw new HttpError(answer.status, answer.url);
}

/** The edge's wallclock, seen from here: the sample with the shortest round trip of a few (as NTP does). */
export class Clock {
  constructor(edge) {
    this.edge = edge;
    /** Milliseconds to add to `Date.now()`; null until known. */
    this.offset = null;
    /** The offset is right to within this many milliseconds. */
    this.error = Infinity;
  }

  async sync(samples = 4) {
    let best = null;
    for (let i = 0; i < samples; i++) {
      const sent = performance.now();
      const text = await (await get(`${this.edge}/time`)).text();
      const roundTrip = performance.now() - sent;
      const theirs = Date.parse(text.trim());
      if (Number.isNaN(theirs)) throw new Error(`${this.edge}/time gave no time`);
      if (!best || roundTrip < best.roundTrip) best = { roundTrip, offset: theirs + roundTrip / 2 - Date.now() };
    }
    this.offset = best.offset;
    this.error = best.roundTrip / 2;
  }

  /** The edge's time in milliseconds since 1970. */
  now() {
    return Date.now() + (this.offset ?? 0);
  }
}
