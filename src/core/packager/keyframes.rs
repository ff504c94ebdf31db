//! How far apart the keyframes of the track that leads are.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::limits::push_bounded;

/// The intervals that are remembered. A guess: an encoder's longest GOP comes back among so many scene cuts, and one GOP that
/// lasted too long, since frames were lost, is forgotten after 2 minutes at 2 s each.
const INTERVALS_MAX: usize = 64;

/// Holds the newest keyframe intervals.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyframeIntervals {
    recent: VecDeque<Duration>,
    longest: Duration,
}

impl KeyframeIntervals {
    /// Notes that a keyframe came this long after the one before.
    pub(super) fn observe(&mut self, interval: Duration) {
        push_bounded(&mut self.recent, interval, INTERVALS_MAX);
        self.longest = self.recent.iter().max().copied().unwrap_or_default();
    }

    /// Returns the longest interval: after a keyframe, the next one is expected by then.
    pub(super) fn longest(&self) -> Duration {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_interval_is_forgotten_at_last() {
        let (usual, long) = (Duration::from_secs(1), Duration::from_secs(3));
        let mut intervals = KeyframeIntervals::default();
        assert_eq!(intervals.longest(), Duration::ZERO);
        intervals.observe(long);
        for _ in 1..INTERVALS_MAX {
            intervals.observe(usual);
            assert_eq!(intervals.longest(), long);
        }
        intervals.observe(usual);
        assert_eq!(intervals.longest(), usual);
    }
}
