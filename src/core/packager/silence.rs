//! The events that are due while the publisher sends nothing.

use std::time::Duration;

use crate::model::time::Time;

/// An event that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// The publisher is silent.
    Silent,
    /// The packager must number a segment in which nothing came.
    Gap,
    /// The presentation ends.
    Ended,
}

/// Measures the silence of the publishers.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// The time of the last unit, or of a publisher that resumes a presentation; `None`: this node has never published it.
    heard: Option<Time>,
    /// The same, of units that were published at once: those that wait for a keyframe fill no segment.
    published: Option<Time>,
    /// Gap segments numbered since then.
    gaps: u32,
}

impl Silence {
    /// Notes that a unit has come, which is published, or waits for the next period.
    pub(super) fn heard(&mut self, now: Time, published: bool) {
        self.heard = Some(now);
        if published || self.published.is_none() {
            self.begun();
        }
    }

    /// Notes that a publisher has come.
    pub(super) fn attached(&mut self, now: Time) {
        self.published.get_or_insert(*self.heard.get_or_insert(now));
    }

    /// Notes that a gap segment is numbered.
    pub(super) fn numbered(&mut self) {
        self.gaps += 1;
    }

    /// Notes that a period begins: all that has come is published.
    pub(super) fn begun(&mut self) {
        (self.published, self.gaps) = (self.heard, 0);
    }

    /// Returns the time at which the publisher of a live presentation counts as silent.
    /// "Publisher gone: after 1xTD of silence the ingest numbers GAP segments" (docs/architecture.md, Media and time).
    pub(super) fn live(&self, target: Duration) -> Option<(Time, Due)> {
        Some((self.heard? + target, Due::Silent))
    }

    /// Returns the next event while nothing is published, and its time.
    pub(super) fn away(&self, target: Duration, segment: Duration, linger: Duration) -> Option<(Time, Due)> {
        let (gap, end) = (self.published? + target + segment * self.gaps, self.heard? + linger);
        Some(if end <= gap { (end, Due::Ended) } else { (gap, Due::Gap) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_secs(2);
    const LINGER: Duration = Duration::from_secs(7);

    const fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1_000)
    }

    #[test]
    fn gaps_are_numbered_until_the_linger_is_over() {
        let mut silence = Silence::default();
        assert_eq!((silence.away(TARGET, TARGET, LINGER), silence.live(TARGET)), (None, None), "of another node");
        silence.heard(at(10), true);
        assert_eq!(silence.live(TARGET), Some((at(12), Due::Silent)));
        let mut due = Vec::new();
        while let Some((at, Due::Gap)) = silence.away(TARGET, TARGET, LINGER) {
            due.push(at);
            silence.numbered();
        }
        assert_eq!(due, [12, 14, 16].map(at));
        assert_eq!(silence.away(TARGET, TARGET, LINGER), Some((at(17), Due::Ended)));
        silence.heard(at(16), true);
        assert_eq!(silence.away(TARGET, TARGET, LINGER), Some((at(18), Due::Gap)));
    }

    #[test]
    fn units_that_wait_for_a_keyframe_fill_no_segment() {
        let mut silence = Silence::default();
        silence.heard(at(10), true);
        silence.numbered();
        silence.heard(at(13), false);
        assert_eq!(silence.away(TARGET, TARGET, LINGER), Some((at(14), Due::Gap)));
        (0..5).for_each(|_| silence.numbered());
        assert_eq!(silence.away(TARGET, TARGET, LINGER), Some((at(20), Due::Ended)), "the publisher is there");
        silence.begun();
        assert_eq!(silence.away(TARGET, TARGET, LINGER), Some((at(15), Due::Gap)));
    }

    #[test]
    fn a_publisher_that_resumes_counts_once() {
        let mut silence = Silence::default();
        silence.attached(at(3));
        silence.attached(at(5));
        assert_eq!(silence.live(TARGET), Some((at(5), Due::Silent)));
    }
}
