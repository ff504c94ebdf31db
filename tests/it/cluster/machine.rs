//! What the machine itself did while a test ran. Processes that live in real time can't be judged on a machine that had none for them.

use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use damson::clock;

use super::deadline::Deadline;

/// Below this share of idle time, or above these of stolen time and of this process's own lateness, a machine is starved.
/// tests/browser/lib/machine.mjs goes by the same.
const IDLE_MIN: f64 = 0.1;
const STOLEN_MAX: f64 = 0.05;
const LATE_MAX: Duration = Duration::from_millis(60);
const FROZEN_MAX: Duration = Duration::from_millis(250);

/// So often it may fail on a machine that has time for it; and on one that hasn't, before it is skipped.
const FAILURES: u32 = 2;

/// Runs a test whose processes live in real time on a machine that others share. A [`Deadline`] that passes runs it again: twice on
/// a machine that had time, and it fails; twice on one that was starved, and it is skipped, which is told, with the figures. Any
/// other failure is one at once.
pub(super) fn unless_starved(test: impl Fn()) {
    if let Some(seen) = starved(test, Machine::watch, Machine::seen) {
        skip(&format!("the machine had no time for it: {seen:?}"));
    }
}

/// Returns what the machine did, if that is why the test can't be judged.
fn starved<M>(test: impl Fn(), watch: impl Fn() -> M, seen: impl Fn(M) -> Seen) -> Option<Seen> {
    let (mut starved, mut failed) = (0, 0);
    loop {
        let machine = watch();
        let panic = catch_unwind(AssertUnwindSafe(&test)).err()?;
        if !panic.is::<Deadline>() {
            resume_unwind(panic);
        }
        let seen = seen(machine);
        eprintln!("a try was too late; the machine: {seen:?}");
        *(if seen.is_starved() { &mut starved } else { &mut failed }) += 1;
        if failed == FAILURES {
            resume_unwind(panic);
        }
        if starved == FAILURES {
            return Some(seen);
        }
    }
}

/// Tells that the test that runs couldn't: on stderr, and in the file that `DAMSON_SKIPPED` names, a line each.
pub(super) fn skip(why: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {why}\n", thread.name().unwrap_or_default());
    eprint!("{line}");
    if let Some(path) = std::env::var_os("DAMSON_SKIPPED") {
        let file = fs::OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("DAMSON_SKIPPED names a file");
    }
}

/// The machine from now on.
struct Machine {
    before: Option<Times>,
    stop: mpsc::Sender<()>,
    /// By how much each wait for `stop` was too long.
    late: JoinHandle<Vec<Duration>>,
}

/// What it did: shares of its time, and this process's lateness.
#[derive(Debug)]
struct Seen {
    idle: f64,
    stolen: f64,
    late_p99: Duration,
    late_max: Duration,
}

impl Machine {
    fn watch() -> Machine {
        const NAP: Duration = Duration::from_millis(10);
        let (stop, stopped) = mpsc::channel();
        let late = std::thread::spawn(move || {
            let (mut late, mut began) = (Vec::new(), clock::now());
            while stopped.recv_timeout(NAP) == Err(RecvTimeoutError::Timeout) {
                let woke = clock::now();
                late.push(woke.since(began).saturating_sub(NAP));
                began = woke;
            }
            late
        });
        Machine { before: Times::now(), stop, late }
    }

    fn seen(self) -> Seen {
        drop(self.stop);
        let mut late = self.late.join().expect("it only waits");
        late.sort_unstable();
        let at =
            |share: f64| late.get((late.len() as f64 * share) as usize).or(late.last()).copied().unwrap_or_default();
        let (idle, stolen) = match (self.before, Times::now()) {
            (Some(before), Some(now)) if now.all > before.all => {
                let share = |now: u64, before: u64| now.saturating_sub(before) as f64;
                let all = share(now.all, before.all);
                (share(now.idle, before.idle) / all, share(now.stolen, before.stolen) / all)
            }
            // Where it isn't told, lateness alone tells.
            _ => (1.0, 0.0),
        };
        Seen { idle, stolen, late_p99: at(0.99), late_max: at(1.0) }
    }
}

impl Seen {
    fn is_starved(&self) -> bool {
        self.idle < IDLE_MIN || self.stolen > STOLEN_MAX || self.late_p99 > LATE_MAX || self.late_max > FROZEN_MAX
    }
}

/// Of all processors since boot, in ticks (proc(5), /proc/stat).
struct Times {
    all: u64,
    idle: u64,
    stolen: u64,
}

impl Times {
    /// None where there is no such file.
    fn now() -> Option<Times> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        let ticks: Option<Vec<u64>> =
            text.lines().next()?.split_whitespace().skip(1).take(8).map(|field| field.parse().ok()).collect();
        let &[user, nice, system, idle, wait, irq, softirq, stolen] = &ticks?[..] else { return None };
        let idle = idle + wait;
        Some(Times { all: user + nice + system + idle + irq + softirq + stolen, idle, stolen })
    }
}

mod tests {
    use std::cell::Cell;

    use super::super::deadline::too_late;
    use super::*;

    /// Runs a test that fails the first `times` on a machine that was so idle. Returns how often it ran, and whether it was skipped, if
    /// it didn't fail.
    fn tried(times: u32, idle: f64, fail: impl Fn()) -> (u32, Option<bool>) {
        let runs = Cell::new(0);
        let seen = |()| Seen { idle, stolen: 0.0, late_p99: Duration::ZERO, late_max: Duration::ZERO };
        let test = || {
            runs.set(runs.get() + 1);
            if runs.get() <= times {
                fail();
            }
        };
        let skipped = catch_unwind(AssertUnwindSafe(|| starved(test, || (), seen).is_some())).ok();
        (runs.get(), skipped)
    }

    #[test]
    fn only_a_deadline_on_a_starved_machine_is_skipped() {
        let late = || too_late("a part".to_owned());
        assert_eq!(tried(1, 0.0, late), (2, Some(false)), "passes at the second time");
        assert_eq!(tried(2, 0.0, late), (2, Some(true)), "is skipped");
        assert_eq!(tried(1, 0.9, late), (2, Some(false)), "passes at the second time");
        assert_eq!(tried(2, 0.9, late), (2, None), "the machine had time");
        for idle in [0.0, 0.9] {
            assert_eq!(tried(1, idle, || panic!("wrong bytes")), (1, None));
        }
    }
}
