// The accounts of a stream's parts as they come: a WebSocket, and what it has said kept for a while.

const KEPT = 600;
const AGAIN_MS = [500, 1000, 2000, 5000];

export class Feed {
  /** @param {() => void} heard is called at each part */
  constructor(heard) {
    this.heard = heard;
    this.socket = null;
    this.clear();
  }

  clear() {
    this.accounts = new Map();
    this.newest = null;
  }

  /** Listens to a track of a stream from now on, and goes on after a break. */
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
        const said = JSON.parse(data);
        if (said.type === "part") this.keep(said);
      });
      socket.addEventListener("close", () => {
        if (socket !== this.socket) return;
        this.timer = setTimeout(open, AGAIN_MS[Math.min(failures, AGAIN_MS.length - 1)]);
        failures += 1;
      });
    };
    open();
  }

  keep(account) {
    this.accounts.set(`${account.msn}.${account.part}`, account);
    if (this.accounts.size > KEPT) this.accounts.delete(this.accounts.keys().next().value);
    this.newest = account;
    this.heard();
  }

  /** The account of a part, or of the newest one; null where none was heard. */
  of(part) {
    return part ? this.accounts.get(`${part.msn}.${part.part}`) ?? null : this.newest;
  }

  stop() {
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }
}
