// The traces of a track's parts, as the edge sends them over a WebSocket; the newest ones are kept.

const KEPT = 600;
const AGAIN_MS = [500, 1000, 2000, 5000];

export class LiveTrace {
  constructor() {
    this.socket = null;
    this.clear();
  }

  clear() {
    this.traces = new Map();
    this.newest = null;
  }

  /** Follows one track of a stream, and reconnects when the socket closes. */
  follow(edge, stream, track) {
    this.stop();
    this.clear();
    let failures = 0;
    const url = `${edge.replace(/^http/, "ws")}/api/v1/streams/${stream}/trace/live?track=${track}`;
    const open = () => {
      const socket = new WebSocket(url);
      this.socket = socket;
      socket.addEventListener("message", ({ data }) => {
        if (socket !== this.socket) return;
        failures = 0;
        const message = JSON.parse(data);
        if (message.type === "part") this.keep(message);
      });
      socket.addEventListener("close", () => {
        if (socket !== this.socket) return;
        this.timer = setTimeout(open, AGAIN_MS[Math.min(failures, AGAIN_MS.length - 1)]);
        failures += 1;
      });
    };
    open();
  }

  keep(trace) {
    this.traces.set(`${trace.msn}.${trace.part}`, trace);
    if (this.traces.size > KEPT) this.traces.delete(this.traces.keys().next().value);
    this.newest = trace;
  }

  /** The trace of a part, or of the newest one; null where the edge sent none. */
  of(part) {
    return part ? this.traces.get(`${part.msn}.${part.part}`) ?? null : this.newest;
  }

  stop() {
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }
}
