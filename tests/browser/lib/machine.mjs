// What the machine itself did while something was watched. A player can't be judged on a machine that had no time for it.
import { readFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";

/** Below this share of idle time, or above these of stolen time, of time in which somebody waits for a processor, and of this process's
 * own lateness, a machine is starved. */
const IDLE_MIN = 0.1;
const STOLEN_MAX = 0.05;
const PRESSED_MAX = 0.6;
const LATE_MAX_MS = 60;

/** Looks at the machine from now on: `seen()` gives `{ idle, stolen, pressed, lateMs, starved }` since then, the first three as shares of its time. */
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
      const lateMs = delay.percentile(99) / 1e6 - 10;
      const starved = (idle !== null && idle < IDLE_MIN) || (stolen !== null && stolen > STOLEN_MAX)
        || (pressed !== null && pressed > PRESSED_MAX) || lateMs > LATE_MAX_MS;
      return { idle: round(idle), stolen: round(stolen), pressed: round(pressed), lateMs: Math.round(lateMs), starved };
    },
  };
}

const TRIES = 3;
const EXCUSED_TRIES = 2;

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
 * Runs `body` of the test `t`, whose players live in real time on a machine that others share: if it fails, again, at most three times
 * in all, and what failed is told. If the first two fail by checks of `inTime` and by no others, and the machine was starved both times,
 * the test is skipped, with the figures: players that stand still on a machine that stands still are no finding. What doesn't work always
 * fails.
 */
export async function unlessStarved(t, body) {
  let excused = true;
  for (let tries = 1; ; tries += 1) {
    const machine = watchMachine();
    try {
      return await body();
    } catch (error) {
      const seen = machine.seen();
      excused &&= seen.starved && error.late === true;
      const told = `try ${tries} of ${TRIES}, the machine ${JSON.stringify(seen)}; ${error.message.split("\n", 1)[0]}`;
      if (excused && tries >= EXCUSED_TRIES) return t.skip(told);
      if (tries < TRIES) console.log(`${t.name}: once more after ${told}`);
      else {
        error.message += `\nthe machine: ${JSON.stringify(seen)}`;
        throw error;
      }
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
