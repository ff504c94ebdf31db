//! Time and its units. Three clocks are kept apart by type:
//!
//! - [`Time`], *now*: one node's monotonic clock, in microseconds from an arbitrary start. Other nodes get it only as an
//!   opaque stamp.
//! - [`UnixTime`], *wallclock*: microseconds since the Unix epoch. Players see it.
//! - *Media time*: ticks of a track's [`Timescale`], or a [`Duration`], since the presentation's `availabilityStartTime`.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use derive_more::Debug;

/// Returns a duration in microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Holds a reading of one node's monotonic clock, in microseconds. Cores receive it and never read it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[debug("{}.{:06}s", _0 / 1_000_000, _0 % 1_000_000)]
pub struct Time(u64);

impl Time {
    /// The clock's start.
    pub const ZERO: Time = Time(0);
    /// Later than any deadline.
    pub const MAX: Time = Time(u64::MAX);

    /// Makes a reading from microseconds since the clock's start.
    pub const fn from_micros(micros: u64) -> Self {
        Time(micros)
    }

    /// Makes a reading from milliseconds since the clock's start.
    pub const fn from_millis(millis: u64) -> Self {
        Time(millis * 1_000)
    }

    /// Returns the microseconds since the clock's start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns how long after `earlier` this is; zero if it isn't.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, rhs: Duration) -> Time {
        Time(self.0.saturating_add(micros(rhs)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    fn sub(self, rhs: Duration) -> Time {
        Time(self.0.saturating_sub(micros(rhs)))
    }
}

/// From the start of NTP's first era to the Unix epoch.
const NTP_EPOCH_SECS: u64 = 2_208_988_800;

/// Holds a wallclock reading: microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[debug("{self}")]
pub struct UnixTime(u64);

impl UnixTime {
    /// Makes a reading from microseconds since the Unix epoch.
    pub const fn from_micros(micros: u64) -> Self {
        UnixTime(micros)
    }

    /// Returns the microseconds since the Unix epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns the milliseconds since the Unix epoch, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// Returns the seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Returns how long after `earlier` this is; zero if it isn't.
    pub const fn since(self, earlier: UnixTime) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Makes a reading from seconds since 1900 and a 32-bit fraction (RFC 5905, 6), of the era that began then or the next.
    pub const fn from_ntp(ntp: u64) -> Self {
        let seconds = match (ntp >> 32).checked_sub(NTP_EPOCH_SECS) {
            Some(seconds) => seconds,
            None => (ntp >> 32) + (1 << 32) - NTP_EPOCH_SECS,
        };
        // To the nearest: `ntp` rounds down.
        let micros = ((ntp & 0xffff_ffff) * 1_000_000 + (1 << 31)) >> 32;
        UnixTime(seconds * 1_000_000 + micros)
    }

    /// Returns the seconds since 1900 and a 32-bit fraction (RFC 5905, 6), modulo the era of 136 years.
    pub const fn ntp(self) -> u64 {
        let fraction = ((self.0 % 1_000_000) << 32) / 1_000_000;
        (self.as_secs().wrapping_add(NTP_EPOCH_SECS) << 32) | fraction
    }

    /// Returns `YYYY-MM-DDTHH:MM:SS.mmmZ` (ISO 8601, as EXT-X-PROGRAM-DATE-TIME and xs:dateTime need it).
    pub fn iso8601(self) -> String {
        self.to_string()
    }
}

impl Add<Duration> for UnixTime {
    type Output = UnixTime;
    fn add(self, rhs: Duration) -> UnixTime {
        UnixTime(self.0.saturating_add(micros(rhs)))
    }
}

impl Sub<Duration> for UnixTime {
    type Output = UnixTime;
    fn sub(self, rhs: Duration) -> UnixTime {
        UnixTime(self.0.saturating_sub(micros(rhs)))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.as_secs();
        let (days, rest) = (secs / 86_400, secs % 86_400);
        let (year, month, day) = civil_from_days(days);
        let (h, m, s) = (rest / 3_600, rest / 60 % 60, rest % 60);
        let millis = self.as_millis() % 1_000;
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{millis:03}Z")
    }
}

/// Returns year, month and day of the proleptic Gregorian calendar.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, day)
}

/// Holds ticks a second (ISO 14496-12 `timescale`), never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timescale(NonZeroU32);

impl Timescale {
    /// 1,000 Hz, the clock of RTMP and FLV.
    pub const MILLIS: Timescale = Timescale(NonZeroU32::new(1_000).unwrap());
    /// 90 kHz, the clock of MPEG-TS, and of damson's video tracks.
    pub const MPEG: Timescale = Timescale(NonZeroU32::new(90_000).unwrap());

    /// Makes a timescale of `hz` ticks a second; `None` for zero.
    pub const fn new(hz: u32) -> Option<Self> {
        match NonZeroU32::new(hz) {
            Some(hz) => Some(Timescale(hz)),
            None => None,
        }
    }

    /// Returns the ticks a second.
    pub const fn hz(self) -> u32 {
        self.0.get()
    }

    /// Returns how long `ticks` last, rounded down to a nanosecond.
    pub fn duration(self, ticks: u64) -> Duration {
        let hz = u64::from(self.hz());
        let nanos = (ticks % hz) * 1_000_000_000 / hz;
        Duration::from_secs(ticks / hz) + Duration::from_nanos(nanos)
    }

    /// Returns the whole number of ticks that is nearest to `duration`.
    pub fn ticks(self, duration: Duration) -> u64 {
        let exact = duration.as_nanos() * u128::from(self.hz()) + 500_000_000;
        u64::try_from(exact / 1_000_000_000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::input_clock::rescale;
    use super::*;

    #[test]
    fn wallclock_is_printed_as_iso_8601() {
        let check = |secs: u64, text: &str| assert_eq!(UnixTime::from_micros(secs * 1_000_000 + 7_000).iso8601(), text);
        check(0, "1970-01-01T00:00:00.007Z");
        check(951_782_400, "2000-02-29T00:00:00.007Z");
        check(1_795_359_753, "2026-11-22T15:02:33.007Z");
        check(4_102_444_799, "2099-12-31T23:59:59.007Z");
    }

    #[test]
    fn wallclock_is_ntps_within_a_microsecond_and_through_its_era() {
        let check =
            |micros: u64| assert_eq!(UnixTime::from_ntp(UnixTime::from_micros(micros).ntp()).as_micros(), micros);
        // 2036-02-07T06:28:16Z begins the next era.
        let next_era = ((1 << 32) - NTP_EPOCH_SECS) * 1_000_000;
        for micros in [0, 1, 999_999, 1_795_359_753_123_457, next_era - 1, next_era] {
            check(micros);
        }
        assert_eq!(UnixTime::from_micros(500_000).ntp(), NTP_EPOCH_SECS << 32 | 1 << 31);
        assert_eq!(UnixTime::from_micros(5) - Duration::from_secs(1), UnixTime::default());
    }

    #[test]
    fn media_time_changes_scale_to_the_nearest_tick() {
        let audio = Timescale::new(44_100).expect("not zero");
        assert_eq!(rescale(90_000, Timescale::MPEG, audio), 44_100);
        assert_eq!(rescale(1_024, audio, Timescale::MILLIS), 23);
        assert_eq!(audio.ticks(audio.duration(1_024 * 1_000_000)), 1_024 * 1_000_000);
    }
}

/// Holds both clocks at one moment: cores take `now` for deadlines and `wall` for what players see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clocks {
    /// The monotonic clock.
    pub now: Time,
    /// The wallclock.
    pub wall: UnixTime,
}

/// Describes the clock of an input's timestamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InputClock {
    /// Ticks a second.
    pub scale: Timescale,
    /// Timestamps are modulo 2^this: 32 for RTMP and FLV, 33 for MPEG-TS, 62 for ISO BMFF.
    pub wrap_bits: u32,
}

impl InputClock {
    /// Returns whether one clock certainly stamps all tracks: a program has one system time clock (ISO 13818-1, 2.4.2.1), a
    /// file one timeline. Some of RTMP's tracks run on clocks of their own.
    pub fn is_common(self) -> bool {
        self.wrap_bits >= 33
    }

    /// Returns ticks, which may be negative, as timestamps show them.
    pub fn wrapped(self, ticks: i64) -> u64 {
        ticks.cast_unsigned() & (u64::MAX >> (64 - self.wrap_bits.clamp(1, 64)))
    }
}
