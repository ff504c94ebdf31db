// What the machine itself did while something was watched. A player can't be judged on a machine that had no time for it.
import { readFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";

/**
 * A machine is starved below this share of idle time, or above these of time stolen by its host, of time in which a process waits
 * for a processor, and of this process's own lateness.
 */
const IDLE_MIN = 0.1;
const STOLEN_MAX = 0.05;
const PRESSED_MAX = 0.6;
const LATE_MAX_MS = 60;
/** A process of a machine that has time never stands still for so long. */
const FROZEN_MAX_MS = 250;

/** Looks at the machine from now on: `seen()` gives `{ idle, stolen, pressed, lateMs, frozenMs, starved }` since then, the first three as shares of its time. */
export function watchMachine() {
  const [before, waited, began] = [times(), pressure(), performance.now()];
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  return {
    seen() {
      const now = times();
      const share = (key) => (now && before && now.all > before.all ? (now[key] - before[key]) / (now.all - before.all) : null);
      const idle = share("idle");
      const stolen = share("stolen");
      const waits = pressure();
      const pressed = waits !== null && waited !== null ? (waits - waited) / 1000 / (performance.now() - began) : null;
      const [lateMs, frozenMs] = [delay.percentile(99) / 1e6 - 10, delay.max / 1e6 - 10];
      const starved = (idle !== null && idle < IDLE_MIN) || (stolen !== null && stolen > STOLEN_MAX)
        || (pressed !== null && pressed > PRESSED_MAX) || lateMs > LATE_MAX_MS || frozenMs > FROZEN_MAX_MS;
      return { idle: round(idle), stolen: round(stolen), pressed: round(pressed), lateMs: Math.round(lateMs), frozenMs: Math.round(frozenMs), starved };
    },
  };
}

/** What didn't come in time. Only a wait throws it, or `inTime`. A starved machine excuses nothing else. */
export class Deadline extends Error {
  name = "Deadline";
}

/** Asserts that nothing was late: no stall, no long latency, each step in time. What is wrong at any speed is for `assert`. */
export function inTime(held, words) {
  if (!held) throw new Deadline(words);
}

/** A body is run so many times before it is skipped. */
const TRIES = 2;

/**
 * Runs `body`, whose processes live in real time on a machine that others share, as the test `t`. What fails fails the test at once,
 * except a `Deadline` while the machine was starved: then the body runs once more, and the second time `t` is skipped, with the
 * machine's figures. tests/it/cluster/machine.rs does the same, with one more try on a machine that had time.
 */
export async function unlessStarved(t, body, watch = watchMachine) {
  for (let tries = 1; ; tries += 1) {
    const machine = watch();
    try {
      return await body();
    } catch (error) {
      const seen = machine.seen();
      if (!(error instanceof Deadline) || !seen.starved) throw error;
      const told = `not in time on a starved machine ${JSON.stringify(seen)}: ${error.message.split("\n", 1)[0]}`;
      if (tries === TRIES) return t.skip(told);
      console.log(`${t.name}: once more, ${told}`);
    }
  }
}

const round = (share) => (share === null ? null : Math.round(share * 100) / 100);

/** For how many microseconds since boot somebody waited for a processor (/proc/pressure/cpu); null where that isn't told. */
function pressure() {
  try {
    return Number(/^some .* total=(\d+)/.exec(readFileSync("/proc/pressure/cpu", "utf8"))?.[1] ?? NaN) || null;
  } catch {
    return null;
  }
}

/** Of all processors since boot, in ticks (proc(5), /proc/stat); null where there is no such file. */
function times() {
  try {
    const [, ...t] = readFileSync("/proc/stat", "utf8").split("\n", 1)[0].trim().split(/\s+/);
    const [user, nice, system, idle, wait, irq, softirq, stolen] = t.map(Number);
    return { all: user + nice + system + idle + wait + irq + softirq + stolen, idle: idle + wait, stolen };
  } catch {
    return null;
  }
}
