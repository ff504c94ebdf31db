// What the machine itself did while something was watched. A player can't be judged on a machine that had no time for it.
import { readFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";

/** Below this share of idle time, or above these of stolen time and of this process's own lateness, a machine is starved. */
const IDLE_MIN = 0.1;
const STOLEN_MAX = 0.05;
const LATE_MAX_MS = 60;

/** Looks at the machine from now on: `seen()` gives `{ idle, stolen, lateMs, starved }` since then, the first two as shares of its time. */
export function watchMachine() {
  const before = times();
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  return {
    seen() {
      const now = times();
      const share = (key) => (now && before && now.all > before.all ? (now[key] - before[key]) / (now.all - before.all) : null);
      const idle = share("idle");
      const stolen = share("stolen");
      const lateMs = delay.percentile(99) / 1e6 - 10;
      const starved = (idle !== null && idle < IDLE_MIN) || (stolen !== null && stolen > STOLEN_MAX) || lateMs > LATE_MAX_MS;
      return { idle: round(idle), stolen: round(stolen), lateMs: Math.round(lateMs), starved };
    },
  };
}

const TRIES = 3;

/** Checks that can only be met in real time: a stall, a rate, a delay. What they throw says so, to `unlessStarved`. */
export function inTime(check) {
  const late = (error) => {
    error.late = true;
    throw error;
  };
  try {
    const result = check();
    return result instanceof Promise ? result.catch(late) : result;
  } catch (error) {
    return late(error);
  }
}

/**
 * Runs `body` of the test `t`; if it fails while the machine is starved, which says nothing about damson, again, at most three times
 * in all. If the last one, too, fails on a starved machine by a check of `inTime` and by no other, the test is skipped, with the
 * figures: players that stand still on a machine that stands still are no finding. What doesn't work at all always fails.
 */
export async function unlessStarved(t, body) {
  for (let tries = 1; ; tries += 1) {
    const machine = watchMachine();
    try {
      return await body();
    } catch (error) {
      const seen = machine.seen();
      const told = `the machine was starved: ${JSON.stringify(seen)}; ${error.message.split("\n", 1)[0]}`;
      error.message += `\nthe machine: ${JSON.stringify(seen)}`;
      if (!seen.starved) throw error;
      if (tries < TRIES) console.log(`${t.name}: once more, ${told}`);
      else if (error.late) return t.skip(told);
      else throw error;
    }
  }
}

const round = (share) => (share === null ? null : Math.round(share * 100) / 100);

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
