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
    /// Gap segments numbered since.
    gaps: u32,
}

impl Silence {
    /// Notes that a unit has come.
    pub(super) fn heard(&mut self, now: Time) {
        (self.heard, self.gaps) = (Some(now), 0);
    }

    /// Notes that a publisher has come.
    pub(super) fn attached(&mut self, now: Time) {
        self.heard.get_or_insert(now);
    }

    /// Notes that a gap segment is numbered.
    pub(super) fn numbered(&mut self) {
        self.gaps += 1;
    }

    /// Notes that a period begins.
    pub(super) fn begun(&mut self) {
        self.gaps = 0;
    }

    /// Returns the time at which the publisher of a live presentation counts as silent.
    /// "Publisher gone: after 1xTD of silence the ingest numbers GAP segments" (docs/architecture.md, Media and time).
    pub(super) fn live(&self, target: Duration) -> Option<(Time, Due)> {
        Some((self.heard? + target, Due::Silent))
    }

    /// Returns the next event while nothing is published, and its time.
    pub(super) fn away(&self, target: Duration, segment: Duration, linger: Duration) -> Option<(Time, Due)> {
        let heard = self.heard?;
        let (gap, end) = (heard + target + segment * self.gaps, heard + linger);
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
        silence.heard(at(10));
        assert_eq!(silence.live(TARGET), Some((at(12), Due::Silent)));
        let mut due = Vec::new();
        while let Some((at, Due::Gap)) = silence.away(TARGET, TARGET, LINGER) {
            due.push(at);
            silence.numbered();
        }
        assert_eq!(due, [12, 14, 16].map(at));
        assert_eq!(silence.away(TARGET, TARGET, LINGER), Some((at(17), Due::Ended)));
        silence.heard(at(16));
        assert_eq!(silence.away(TARGET, TARGET, LINGER), Some((at(18), Due::Gap)));
    }

    #[test]
    fn a_publisher_that_resumes_counts_once() {
        let mut silence = Silence::default();
        silence.attached(at(3));
        silence.attached(at(5));
        assert_eq!(silence.live(TARGET), Some((at(5), Due::Silent)));
    }
}
