//! When each stream wants to be told the time.

use std::collections::{BTreeMap, BTreeSet};

use damson_core::model::StreamName;
use damson_core::model::time::Time;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock;

/// The next deadline of each stream. It may be sooner than what the stream waits for by now, never later.
#[derive(Debug, Default)]
pub(crate) struct StreamTimers {
    armed: Mutex<Armed>,
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Armed {
    queue: BTreeSet<(Time, StreamName)>,
    by_stream: BTreeMap<StreamName, Time>,
}

impl StreamTimers {
    /// Has a stream told by `at` at the latest.
    pub(crate) fn arm(&self, name: &StreamName, at: Time) {
        let mut armed = self.armed.lock();
        let before = armed.by_stream.get(name).copied();
        if before.is_some_and(|before| before <= at) {
            return;
        }
        if let Some(before) = before {
            armed.queue.remove(&(before, name.clone()));
        }
        armed.by_stream.insert(name.clone(), at);
        armed.queue.insert((at, name.clone()));
        let is_first = armed.queue.first().is_some_and(|(first, _)| *first == at);
        drop(armed);
        if is_first {
            self.sooner.notify_one();
        }
    }

    /// Waits until a stream is to be told.
    pub(crate) async fn due(&self) {
        loop {
            let next = self.armed.lock().queue.first().map(|(at, _)| *at);
            let sooner = self.sooner.notified();
            let Some(at) = next else {
                sooner.await;
                continue;
            };
            let due = tokio::time::sleep_until(clock::instant(at).into());
            tokio::select! { () = due => return, () = sooner => {} }
        }
    }

    /// Takes the next stream that is to be told by `now`.
    pub(crate) fn pop(&self, now: Time) -> Option<StreamName> {
        let mut armed = self.armed.lock();
        armed.queue.first().filter(|(at, _)| *at <= now)?;
        let (_, name) = armed.queue.pop_first()?;
        armed.by_stream.remove(&name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_told_once_and_by_the_soonest() {
        let timers = StreamTimers::default();
        let name = |name| StreamName::parse(name).expect("a name");
        let at = Time::from_millis;
        for (stream, ms) in [("a", 300), ("b", 200), ("a", 100), ("b", 900)] {
            timers.arm(&name(stream), at(ms));
        }
        assert_eq!([timers.pop(at(99)), timers.pop(at(100)), timers.pop(at(199))], [None, Some(name("a")), None]);
        assert_eq!([timers.pop(at(900)), timers.pop(at(900))], [Some(name("b")), None]);
    }
}
