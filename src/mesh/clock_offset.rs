//! How far a peer's clock is from ours; pure.
//!
//! As NTP has it (RFC 5905, clause 8 and its clock filter in clause 10): of a ping sent at t1, received
//! at t2, answered at t3 and back at t4,
//!
//! ```text
//! offset = ((t2 - t1) + (t3 - t4)) / 2        rtt = (t4 - t1) - (t3 - t2)
//! ```
//!
//! and among the newest samples the one with the shortest round trip is believed, since queues only
//! ever lengthen a trip. The error is at most half the asymmetry of that trip.

use std::collections::VecDeque;
use std::time::Duration;

use crate::units::Time;

/// One ping and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Ping sent, on our clock.
    pub t1: Time,
    /// Ping received, on the peer's clock.
    pub t2: Time,
    /// Pong sent, on the peer's clock.
    pub t3: Time,
    /// Pong received, on our clock.
    pub t4: Time,
}

/// The offset of one peer's clock.
#[derive(Debug, Clone, Default)]
pub struct ClockOffset {
    /// (round trip, offset) in microseconds, newest last.
    newest: VecDeque<(u64, i64)>,
}

impl ClockOffset {
    /// How many samples are looked at: RFC 5905's clock filter has 8 stages. With a ping in two seconds,
    /// two clocks that part by 100 ppm (a bad quartz) are then at most 1.6 ms off.
    const SAMPLES: usize = 8;

    /// Takes a sample. One whose times can't be (a peer may send anything) is ignored.
    pub fn record(&mut self, sample: Sample) {
        let signed = |t: Time| i64::try_from(t.as_micros()).ok();
        let (Some(t1), Some(t2), Some(t3), Some(t4)) =
            (signed(sample.t1), signed(sample.t2), signed(sample.t3), signed(sample.t4))
        else {
            return;
        };
        // All four lie in 0..2^63, so that no difference overflows.
        let (Some(away), Some(there)) = (t4.checked_sub(t1), t3.checked_sub(t2)) else { return };
        let Ok(rtt) = u64::try_from(away.saturating_sub(there)) else { return };
        if away < 0 || there < 0 {
            return;
        }
        let twice = i128::from(t2 - t1) + i128::from(t3 - t4);
        let Ok(offset) = i64::try_from(twice / 2) else { return };
        if self.newest.len() == Self::SAMPLES {
            self.newest.pop_front();
        }
        self.newest.push_back((rtt, offset));
    }

    /// The peer's clock minus ours, in microseconds; `None` before the first sample.
    pub fn offset_us(&self) -> Option<i64> {
        self.best().map(|(_, offset)| offset)
    }

    /// The shortest round trip of the newest samples.
    pub fn rtt(&self) -> Option<Duration> {
        self.best().map(|(rtt, _)| Duration::from_micros(rtt))
    }

    /// How long something sent at `sent` on the peer's clock and received at `received` on ours was
    /// under way; zero if the clocks are further off than that. `None` before the first sample.
    pub fn transit(&self, sent: Time, received: Time) -> Option<Duration> {
        let sent_here = i128::from(sent.as_micros()) - i128::from(self.offset_us()?);
        let transit = i128::from(received.as_micros()) - sent_here;
        Some(Duration::from_micros(u64::try_from(transit.max(0)).unwrap_or(u64::MAX)))
    }

    fn best(&self) -> Option<(u64, i64)> {
        self.newest.iter().copied().min_by_key(|(rtt, _)| *rtt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(t1: u64, t2: u64, t3: u64, t4: u64) -> Sample {
        let at = Time::from_micros;
        Sample { t1: at(t1), t2: at(t2), t3: at(t3), t4: at(t4) }
    }

    fn check(samples: &[Sample], offset_us: Option<i64>, rtt_us: Option<u64>) {
        let mut clock = ClockOffset::default();
        samples.iter().for_each(|s| clock.record(*s));
        assert_eq!(clock.offset_us(), offset_us, "{samples:?}");
        assert_eq!(clock.rtt(), rtt_us.map(Duration::from_micros), "{samples:?}");
    }

    #[test]
    fn the_shortest_trip_is_believed() {
        check(&[], None, None);
        // The peer's clock is 1,000 ahead; 50 each way, 10 there.
        check(&[sample(100, 1_150, 1_160, 210)], Some(1_000), Some(100));
        // A queue of 400 on the way back would say 800.
        check(&[sample(100, 1_150, 1_160, 210), sample(300, 1_350, 1_360, 810)], Some(1_000), Some(100));
        // The peer's clock is behind ours.
        check(&[sample(5_000, 1_050, 1_060, 5_110)], Some(-4_000), Some(100));
    }

    #[test]
    fn old_samples_are_forgotten() {
        let mut samples = vec![sample(0, 1_010, 1_010, 20)];
        samples.extend((1..=8).map(|i| sample(i * 100, i * 100 + 2_050, i * 100 + 2_050, i * 100 + 100)));
        check(&samples, Some(2_000), Some(100));
    }

    #[test]
    fn samples_that_cannot_be_are_ignored() {
        check(&[sample(100, 0, 0, 90)], None, None);
        check(&[sample(100, 50, 40, 200)], None, None);
        check(&[sample(100, 0, 500, 200)], None, None);
        check(&[sample(0, u64::MAX, u64::MAX, 1)], None, None);
    }

    #[test]
    fn transit_is_on_our_clock_and_never_negative() {
        let mut clock = ClockOffset::default();
        assert_eq!(clock.transit(Time::ZERO, Time::ZERO), None);
        clock.record(sample(100, 1_150, 1_160, 210));
        let check = |sent, received, transit| {
            let got = clock.transit(Time::from_micros(sent), Time::from_micros(received));
            assert_eq!(got, Some(Duration::from_micros(transit)));
        };
        check(2_000, 1_060, 60);
        check(2_000, 900, 0);
        check(u64::MAX, 0, 0);
        check(0, u64::MAX, u64::MAX);
    }
}
