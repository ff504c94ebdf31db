//! The bit rate of a push (pure).

use std::time::Duration;

use damson_core::model::time::Time;

/// The time for which a push may save up its limit, to send it in one burst: after a pause, or for a keyframe.
pub(super) const BURST: Duration = Duration::from_secs(10);

/// A leaky bucket: it leaks at the limit, and overflows at [`BURST`] of it.
#[derive(Debug, Default)]
pub(super) struct BitRate {
    /// The level of the bucket, in bytes.
    level: u64,
    /// The time at which the level was computed.
    at: Time,
}

impl BitRate {
    /// Counts received bytes, and tells whether they exceed `limit`, in bits per second.
    pub(super) fn overflows(&mut self, limit: u64, now: Time, bytes: usize) -> bool {
        let of = |span: Duration| u64::try_from(u128::from(limit) * span.as_micros() / 8_000_000).unwrap_or(u64::MAX);
        self.level = self.level.saturating_sub(of(now.since(self.at))).saturating_add(bytes as u64);
        self.at = now;
        self.level > of(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_for_long_above_the_limit_overflows() {
        // Returns the second in which the bucket overflows, with `bytes` each 100 ms and a limit of 1 Mb/s.
        let overflows = |bytes: usize| {
            let mut rate = BitRate::default();
            (0..3_000_u64).find(|n| rate.overflows(1_000_000, Time::from_millis(n * 100), bytes)).map(|n| n / 10)
        };
        assert_eq!(overflows(12_500), None, "at the limit");
        assert_eq!(overflows(25_000), Some(9), "twice as much");
        assert_eq!(overflows(13_750), Some(99), "a tenth more");
    }

    #[test]
    fn a_burst_is_none_of_it() {
        let mut rate = BitRate::default();
        assert!(!rate.overflows(1_000_000, Time::from_millis(1), 1_000_000));
        assert!(!rate.overflows(1_000_000, Time::from_millis(8_001), 1_000_000), "it has run off");
        assert!(rate.overflows(1_000_000, Time::from_millis(8_001), 300_000));
    }
}
