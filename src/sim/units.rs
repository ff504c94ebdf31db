//! The numbers of a scenario file, whose keys name their units.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A number that is neither negative nor absurd.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "f64")]
pub struct Number(pub(super) f64);

impl TryFrom<f64> for Number {
    type Error = &'static str;

    fn try_from(value: f64) -> Result<Self, Self::Error> {
        // A year of virtual seconds is more than anybody waits for.
        if (0.0..=3e7).contains(&value) { Ok(Number(value)) } else { Err("not between 0 and 30 million") }
    }
}

impl Number {
    pub(super) fn seconds(self) -> Duration {
        Duration::from_micros((self.0 * 1e6).round() as u64)
    }

    pub(super) fn millis(self) -> Duration {
        Duration::from_micros((self.0 * 1e3).round() as u64)
    }

    /// Returns a number of Mb/s in bytes/s.
    pub(super) fn bytes_per_s(self) -> u64 {
        (self.0 * 125_000.0).round() as u64
    }

    pub(super) fn permille(self) -> u32 {
        (self.0 * 10.0).round() as u32
    }
}

pub(super) fn seconds<'de, D: Deserializer<'de>>(number: D) -> Result<Duration, D::Error> {
    Number::deserialize(number).map(Number::seconds)
}

pub(super) fn seconds_from_to<'de, D: Deserializer<'de>>(numbers: D) -> Result<(Duration, Duration), D::Error> {
    <(Number, Number)>::deserialize(numbers).map(|(from, to)| (from.seconds(), to.seconds()))
}

pub(super) fn millis<'de, D: Deserializer<'de>>(number: D) -> Result<Duration, D::Error> {
    Number::deserialize(number).map(Number::millis)
}

pub(super) fn millis_from_to<'de, D: Deserializer<'de>>(numbers: D) -> Result<(Duration, Duration), D::Error> {
    <(Number, Number)>::deserialize(numbers).map(|(from, to)| (from.millis(), to.millis()))
}

pub(super) fn mbps<'de, D: Deserializer<'de>>(number: D) -> Result<Option<u64>, D::Error> {
    Number::deserialize(number).map(|rate| Some(rate.bytes_per_s()))
}

pub(super) fn percent<'de, D: Deserializer<'de>>(number: D) -> Result<u32, D::Error> {
    Number::deserialize(number).map(Number::permille)
}

/// Returns a length of time in whole microseconds.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
