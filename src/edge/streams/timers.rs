//! The deadlines of the streams.

use std::collections::BTreeSet;

use damson_core::model::StreamName;
use damson_core::model::time::Time;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock;

/// The next deadline of each stream.
#[derive(Debug, Default)]
pub(crate) struct StreamTimers {
    queue: Mutex<BTreeSet<(Time, StreamName)>>,
    sooner: Notify,
}

impl StreamTimers {
    /// Moves the deadline of a stream from `before`, if it has one, to `at`.
    pub(crate) fn arm(&self, name: &StreamName, before: Option<Time>, at: Time) {
        let mut queue = self.queue.lock();
        if let Some(before) = before {
            queue.remove(&(before, name.clone()));
        }
        queue.insert((at, name.clone()));
        let is_first = queue.first().is_some_and(|(first, _)| *first == at);
        drop(queue);
        if is_first {
            self.sooner.notify_one();
        }
    }

    /// Waits until a stream is due.
    pub(crate) async fn due(&self) {
        loop {
            let next = self.queue.lock().first().map(|(at, _)| *at);
            let sooner = self.sooner.notified();
            let Some(at) = next else {
                sooner.await;
                continue;
            };
            let due = tokio::time::sleep_until(clock::instant(at).into());
            tokio::select! { () = due => return, () = sooner => {} }
        }
    }

    /// Takes the next stream that is due by `now`.
    pub(crate) fn pop(&self, now: Time) -> Option<StreamName> {
        let mut queue = self.queue.lock();
        queue.first().filter(|(at, _)| *at <= now)?;
        queue.pop_first().map(|(_, name)| name)
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
        timers.arm(&name("a"), None, at(300));
        timers.arm(&name("b"), None, at(200));
        timers.arm(&name("a"), Some(at(300)), at(100));
        assert_eq!([timers.pop(at(99)), timers.pop(at(100)), timers.pop(at(199))], [None, Some(name("a")), None]);
        assert_eq!([timers.pop(at(900)), timers.pop(at(900))], [Some(name("b")), None]);
    }
}
