//! The offset of a peer's clock from ours, and its drift.
//!
//! As in NTP (RFC 5905, clause 8), for a ping sent at t1, received at t2, answered at t3 and back at t4:
//!
//! ```text
//! offset = ((t2 - t1) + (t3 - t4)) / 2        rtt = (t4 - t1) - (t3 - t2)
//! ```
//!
//! Queues only lengthen a trip, so the shortest round trips count (RFC 5905's clock filter, clause 10). Departure: not the
//! one shortest trip of the newest eight, whose offset ages as the clocks drift apart. Least squares fit a line
//! `offset + drift x time` to the last [minute](ClockOffset::HORIZON) instead. The longer a trip took beyond the shortest,
//! the less it weighs: half of the excess is its possible error. The drift is assumed to be zero, within the 100 ppm of a
//! quartz, until the trips say otherwise. What a minute has told of it is remembered, so that the shortest trips stay
//! useful for the whole minute.
//!
//! **A limit**: the fit can't see a path that is longer in one direction than in the other. It assumes equal directions,
//! and is off by half their difference: at most half a round trip, which [`Offset::uncertainty`] states, and the drift
//! since. If the directions of a path become unequal, the fit stays right while it remembers shorter trips, and then takes
//! the path for an equal one.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::time::Time;

#[cfg(test)]
mod tests;

/// One ping and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PingSample {
    /// Ping sent, on our clock.
    pub t1: Time,
    /// Ping received, on the peer's clock.
    pub t2: Time,
    /// Pong sent, on the peer's clock.
    pub t3: Time,
    /// Pong received, on our clock.
    pub t4: Time,
}

/// The offset of a peer's clock from ours at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// The peer's clock minus ours, in microseconds.
    pub micros: i64,
    /// The largest error, in both directions: half the shortest round trip, and the possible drift since.
    pub uncertainty: Duration,
}

/// The time that a message was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transit {
    /// In microseconds; below zero if the error of the offset is larger than the time.
    pub micros: i64,
    /// The largest error, in both directions.
    pub uncertainty: Duration,
}

/// The drift between two quartzes, in microseconds a second (ppm): one standard deviation, before any trip.
const DRIFT: f64 = 100.0;

/// The change of a drift in a minute, in ppm: a quartz that warms up. A guess.
const WANDER: f64 = 5.0;

/// The error of a trip's times without queues, in microseconds: a wake-up of a task. A guess.
const NOISE: f64 = 50.0;

/// The longest transit that is reported, in microseconds, in both directions: 71 minutes.
const TRANSIT_MAX: i128 = u32::MAX as i128;

/// One trip.
#[derive(Debug, Clone, Copy)]
struct Trip {
    /// The middle of it, on our clock.
    at: Time,
    rtt: u64,
    offset: i64,
}

/// The fitted line: `offset + drift x (t - at)`.
#[derive(Debug, Clone, Copy)]
struct Line {
    at: Time,
    /// Added to `offset`, so that the fit works on small numbers.
    base: i64,
    offset: f64,
    /// In microseconds a second.
    drift: f64,
    /// Variances of offset and drift, and their covariance.
    variance: [f64; 3],
    half_rtt: Duration,
}

/// The offset of one peer's clock.
#[derive(Debug, Clone, Default)]
pub struct ClockOffset {
    /// Newest last.
    trips: VecDeque<Trip>,
    /// The mean and variance of the drift, as far as earlier trips have told.
    prior: Option<[f64; 2]>,
    /// When the prior was learned.
    learned: Option<Time>,
    line: Option<Line>,
}

impl ClockOffset {
    /// A trip counts for this long. With a ping each 1.75 s these are 34 trips: enough to measure a drift to some 5 ppm with
    /// 1 ms of jitter. A path that has become longer is measured by trips up to this old; a shorter one at once.
    pub const HORIZON: Duration = Duration::from_secs(60);

    /// The most trips that count, however fast they come.
    const TRIPS_MAX: usize = 64;

    /// The reported round trip is the shortest of this many newest trips: 9 s of them.
    const NEWEST: usize = 5;

    /// A trip that contradicts the line by more than its possible error and this shows that a clock was set.
    const STEP: Duration = Duration::from_millis(5);

    /// Takes a sample. Impossible times, which a peer may send, are ignored.
    pub fn record(&mut self, sample: PingSample) {
        let Some(trip) = Trip::of(sample) else { return };
        // The true offset is within half of the round trip, wherever in the trip the time went.
        if let Some(offset) = self.at(trip.at) {
            let most = Duration::from_micros(trip.rtt / 2) + offset.uncertainty + Self::STEP;
            if Duration::from_micros(offset.micros.abs_diff(trip.offset)) > most {
                self.trips.clear();
            }
        }
        // A trip that was overtaken tells nothing new.
        if self.trips.back().is_some_and(|newest| newest.at > trip.at) {
            return;
        }
        let learned = *self.learned.get_or_insert(trip.at);
        if let Some(line) = self.line.filter(|_| trip.at.since(learned) >= Self::HORIZON) {
            // Once a horizon, so that no trip counts much more than once.
            self.learned = Some(trip.at);
            self.prior = Some([line.drift, line.variance[2] + WANDER * WANDER]);
        }
        self.trips.push_back(trip);
        while self.trips.len() > Self::TRIPS_MAX
            || self.trips.front().is_some_and(|oldest| trip.at.since(oldest.at) > Self::HORIZON)
        {
            self.trips.pop_front();
        }
        self.line = Line::fit(&self.trips, self.prior.unwrap_or([0.0, DRIFT * DRIFT]));
    }

    /// Returns the offset at a moment of our clock; `None` before the first sample.
    pub fn at(&self, now: Time) -> Option<Offset> {
        let line = self.line.as_ref()?;
        let x = seconds(line.at, now);
        let micros = line.base.saturating_add((line.offset + line.drift * x).round() as i64);
        let [offset, both, drift] = line.variance;
        let deviation = (offset + 2.0 * both * x + drift * x * x).max(0.0).sqrt();
        let uncertainty = line.half_rtt.saturating_add(Duration::from_micros(deviation.ceil() as u64));
        Some(Offset { micros, uncertainty })
    }

    /// Returns how much faster the peer's clock runs than ours, in parts per million.
    pub fn drift_ppm(&self) -> Option<f64> {
        self.line.map(|line| line.drift)
    }

    /// Returns the shortest round trip of the newest samples.
    pub fn rtt(&self) -> Option<Duration> {
        let newest = self.trips.iter().rev().take(Self::NEWEST);
        newest.map(|trip| trip.rtt).min().map(Duration::from_micros)
    }

    /// Returns how long a message was under way that left at `sent` on the peer's clock and came at `received` on ours;
    /// `None` before the first sample.
    pub fn transit(&self, sent: Time, received: Time) -> Option<Transit> {
        let Offset { micros: offset, uncertainty } = self.at(received)?;
        let sent_here = i128::from(sent.as_micros()) - i128::from(offset);
        let micros = (i128::from(received.as_micros()) - sent_here).clamp(-TRANSIT_MAX, TRANSIT_MAX);
        Some(Transit { micros: i64::try_from(micros).unwrap_or(0), uncertainty })
    }
}

impl Trip {
    fn of(sample: PingSample) -> Option<Trip> {
        let signed = |t: Time| i64::try_from(t.as_micros()).ok();
        let (t1, t2, t3, t4) = (signed(sample.t1)?, signed(sample.t2)?, signed(sample.t3)?, signed(sample.t4)?);
        // All four lie in 0..2^63, so that no difference overflows.
        let (away, there) = (t4 - t1, t3 - t2);
        if away < 0 || there < 0 {
            return None;
        }
        let rtt = u64::try_from(away - there).ok()?;
        let twice = i128::from(t2 - t1) + i128::from(t3 - t4);
        let offset = i64::try_from(twice / 2).ok()?;
        let at = Time::from_micros(sample.t1.as_micros().midpoint(sample.t4.as_micros()));
        Some(Trip { at, rtt, offset })
    }
}

impl Line {
    /// Fits by weighted least squares; `drift` and `variance` are what is known of the drift beforehand.
    fn fit(trips: &VecDeque<Trip>, [drift, variance]: [f64; 2]) -> Option<Line> {
        let newest = trips.back()?;
        let shortest = trips.iter().map(|trip| trip.rtt).min()?;
        let known = 1.0 / variance;
        let (mut w, mut wx, mut wy, mut wxx, mut wxy) = (0.0, 0.0, 0.0, known, known * drift);
        for trip in trips {
            let off = NOISE + (trip.rtt - shortest) as f64 / 2.0;
            let weight = 1.0 / (off * off);
            let (x, y) = (seconds(newest.at, trip.at), trip.offset.saturating_sub(newest.offset) as f64);
            w += weight;
            wx += weight * x;
            wy += weight * y;
            wxx += weight * x * x;
            wxy += weight * x * y;
        }
        // At least the shortest trip weighs something, and the drift is held: never zero.
        let det = w * wxx - wx * wx;
        Some(Line {
            at: newest.at,
            base: newest.offset,
            offset: (wxx * wy - wx * wxy) / det,
            drift: (w * wxy - wx * wy) / det,
            variance: [wxx / det, -wx / det, w / det],
            half_rtt: Duration::from_micros(shortest / 2),
        })
    }
}

/// Returns the time from `from` to `to` in seconds; below zero if `to` is earlier.
fn seconds(from: Time, to: Time) -> f64 {
    let (ahead, behind) = (to.since(from), from.since(to));
    ahead.as_secs_f64() - behind.as_secs_f64()
}
