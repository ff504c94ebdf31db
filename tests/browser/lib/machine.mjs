// What the machine itself did while something was watched. A player can't be judged on a machine that had no time for it.
import { readFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";

/** Below this share of idle time, or above these of stolen time, of time in which somebody waits for a processor, and of this process's
 * own lateness, a machine is starved. */
const IDLE_MIN = 0.1;
const STOLEN_MAX = 0.05;
const PRESSED_MAX = 0.6;
const LATE_MAX_MS = 60;
/** Nor does one that has time stand still for so long. */
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

/** So often a body may fail on a machine that has time for it; and on one that hasn't, before it is excused. tests/it/cluster/machine.rs does the same. */
const FAILURES = 2;

/**
 * Runs `body`, whose players live in real time on a machine that others share: again if it fails, and what failed is told. Gives
 * `{ value }`; or `{ error }` if it has failed twice while the machine had time; or `{ error, excuse }` if it has failed twice while the
 * machine was starved: players that stand still on a machine that stands still are no finding.
 */
export async function tryAgain(name, body) {
  let [starved, failed] = [0, 0];
  for (;;) {
    const machine = watchMachine();
    try {
      return { value: await body() };
    } catch (error) {
      const seen = machine.seen();
      const told = `the machine ${JSON.stringify(seen)}; ${error.message.split("\n", 1)[0]}`;
      if (seen.starved) starved += 1;
      else failed += 1;
      if (failed === FAILURES) return { error };
      if (starved === FAILURES) return { error, excuse: told };
      console.log(`${name}: once more after ${told}`);
    }
  }
}

/** The test `t` is `body`, by `tryAgain`: excused, it is skipped, with the figures. */
export async function unlessStarved(t, body) {
  const { error, excuse } = await tryAgain(t.name, body);
  if (excuse) t.skip(excuse);
  else if (error) throw error;
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
