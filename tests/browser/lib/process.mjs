// Processes that never outlive their test, and whose words can be waited for.
import { spawn } from "node:child_process";
import { EventEmitter } from "node:events";
import { createInterface } from "node:readline";
import { Deadline } from "./machine.mjs";

const LINES_MAX = 400;

/** One child process. Its lines are kept (the newest 400) and told as events; `output` takes stdout's bytes instead, where they are no lines. */
export class Child extends EventEmitter {
  constructor(name, file, args, { output, ...options } = {}) {
    super();
    this.name = name;
    this.lines = [];
    this.process = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
    this.pid = this.process.pid;
    if (output) this.process.stdout.on("data", output);
    for (const stream of output ? [this.process.stderr] : [this.process.stdout, this.process.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        this.lines.push(line);
        if (/panicked at/.test(line)) this.panic ??= line;
        if (this.lines.length > LINES_MAX) this.lines.shift();
        this.emit("line", line);
      });
    }
    this.ended = new Promise((resolve) => {
      this.process.once("error", (error) => resolve({ error }));
      this.process.once("close", (code, signal) => resolve({ code, signal }));
    });
    this.running = true;
    this.ended.then((how) => {
      this.running = false;
      this.how = how;
      this.emit("line", "");
    });
  }

  /** The first line that matches, already said or to come. */
  async said(pattern, timeout = 40_000) {
    const found = () => this.lines.map((line) => pattern.exec(line)).find(Boolean);
    const signal = AbortSignal.timeout(timeout);
    while (!found()) {
      if (!this.running) throw new Error(`${this.name} ended (${JSON.stringify(this.how)}) before it said ${pattern}\n${this.log()}`);
      await new Promise((resolve, reject) => {
        const done = () => {
          this.off("line", done);
          signal.removeEventListener("abort", late);
          resolve();
        };
        const late = () => {
          this.off("line", done);
          reject(new Deadline(`${this.name} didn't say ${pattern} within ${timeout} ms\n${this.log()}`));
        };
        this.once("line", done);
        signal.addEventListener("abort", late, { once: true });
        if (signal.aborted) late();
      });
    }
    return found();
  }

  /** Ends it and waits for its end; SIGKILL follows after 6 s. */
  async kill(signal = "SIGTERM") {
    if (!this.running) return this.ended;
    this.process.kill(signal);
    const harder = setTimeout(() => this.process.kill("SIGKILL"), 6000);
    const how = await this.ended;
    clearTimeout(harder);
    return how;
  }

  log() {
    return `--- ${this.name} (pid ${this.pid})\n    ${this.lines.slice(-60).join("\n    ")}`;
  }
}

/**
 * Runs `body` with a `use(thing)` that remembers what must be ended (`kill()` or `close()`), and ends it all, last
 * first, whatever happens. On failure the error carries what the processes said. A panic is a failure of its own, and no `Deadline`.
 */
export async function scope(body) {
  const things = [];
  const use = (thing) => {
    things.push(thing);
    return thing;
  };
  const children = () => things.filter((t) => t instanceof Child);
  const refusePanics = (words) => {
    const panic = children().find((child) => child.panic);
    if (panic) throw new Error(`${panic.name}: ${panic.panic}\n${words}`);
  };
  try {
    const value = await body(use);
    refusePanics("");
    return value;
  } catch (error) {
    error.message += `\n${children().map((t) => t.log()).join("\n")}`;
    refusePanics(error.message);
    throw error;
  } finally {
    for (const thing of things.reverse()) {
      await Promise.resolve(thing.close ? thing.close() : thing.kill()).catch((e) => console.error(e));
    }
  }
}
