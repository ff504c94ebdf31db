//! Values that the parts of a packager exchange: access units, and the starts of segments and periods.

use std::time::Duration;

use bytes::Bytes;

use crate::model::input_clock::rescale;
use crate::model::time::{Time, Timescale, UnixTime};
use crate::model::{Epoch, InputClock, InputTrack, Msn};

/// The longest reordering that PROGRAM-DATE-TIME believes: H.264 reorders 16 frames at most, which are 0.67 s at 24 fps.
pub(super) const REORDER_MAX: Duration = Duration::from_secs(1);
/// If a track stops, and others go on for longer than this, the rest of its segment is listed without units.
pub(super) const HOLE_MIN: Duration = Duration::from_millis(100);

/// An access unit as the input sent it.
#[derive(Clone, Debug)]
pub(super) struct InputUnit {
    pub track: InputTrack,
    /// The decode time, unwrapped, in ticks of the input clock.
    pub dts: i64,
    /// The ticks that were subtracted from `dts` to align its track with the others.
    pub shifted: i64,
    /// The ticks by which `dts` was lowered; see [`Publishers::lower`](super::publishers::Publishers::lower).
    pub lowered: i64,
    pub composition_offset: i32,
    pub keyframe: bool,
    pub data: Bytes,
    pub arrived: UnixTime,
    pub now: Time,
}

impl InputUnit {
    /// Lowers the decode time by `ticks` in all, and keeps the presentation time.
    pub(super) fn lower(&mut self, ticks: i64) {
        let more = ticks.saturating_sub(self.lowered);
        let offset = i64::from(self.composition_offset).saturating_add(more);
        if let Ok(offset) = i32::try_from(offset) {
            (self.dts, self.composition_offset, self.lowered) = (self.dts.saturating_sub(more), offset, ticks);
        }
    }

    /// Returns the presentation time, in ticks of the input clock.
    pub(super) fn shown(&self) -> i64 {
        self.dts.saturating_add(self.composition_offset.into())
    }

    /// Returns the wallclock of `base` as if the unit's picture had been taken when the unit came, which is the latest
    /// possible time.
    pub(super) fn origin(&self, base: i64, scale: Timescale) -> UnixTime {
        let reorder_max = i64::try_from(scale.ticks(REORDER_MAX)).unwrap_or(i64::MAX);
        let shown = self.dts.saturating_add(i64::from(self.composition_offset).min(reorder_max));
        let after = scale.duration(u64::try_from(shown.saturating_sub(base)).unwrap_or(0));
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        UnixTime::from_micros(self.arrived.as_micros().saturating_sub(micros))
    }

    /// Returns the decode or presentation time, whichever is earlier.
    pub(super) fn earliest(&self) -> i64 {
        self.dts.saturating_add(self.composition_offset.min(0).into())
    }
}

/// An access unit on its track's timeline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TrackUnit {
    /// Decode time in ticks of the track.
    pub dts: u64,
    /// The composition offset, in ticks of the track.
    pub composition_offset: i32,
    pub keyframe: bool,
    pub data: Bytes,
    /// The arrival time of its last byte.
    pub arrived: UnixTime,
}

impl TrackUnit {
    /// Returns the presentation time in ticks of the track.
    pub(super) fn shown(&self) -> u64 {
        self.dts.saturating_add_signed(self.composition_offset.into())
    }
}

/// The start of a segment, which all tracks share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentStart {
    pub msn: Msn,
    /// The media time at which it begins.
    pub start: Duration,
    /// With audio alone: the media time at which the segment would begin if audio units were infinitely short. Else `start`.
    pub ideal: Duration,
    pub discontinuity: u32,
    /// The presentation time of its first picture, on the leading track.
    pub shown: Duration,
    /// The segment begins with a keyframe of the leading track, so other renditions begin with theirs.
    pub keyed: bool,
    /// The segment was cut without a keyframe.
    pub forced: bool,
    /// PROGRAM-DATE-TIME's shift, in microseconds.
    pub shift: i64,
}

/// The start of a period: the reading `base` of the input clock is the media time `start`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PeriodStart {
    pub clock: InputClock,
    pub base: i64,
    pub start: Duration,
}

impl PeriodStart {
    /// Returns the media time of a reading of the input clock, in microseconds.
    pub(super) fn micros(&self, ticks: i64) -> i64 {
        let scale = Timescale::new(1_000_000).unwrap_or(Timescale::MILLIS);
        rescale(ticks.saturating_sub(self.base), self.clock.scale, scale).saturating_add(micros(self.start))
    }

    /// Returns microseconds in ticks of the input clock.
    pub(super) fn ticks(&self, micros: i64) -> i64 {
        let scale = self.clock.scale;
        rescale(micros, Timescale::new(1_000_000).unwrap_or(scale), scale)
    }
}

/// The facts that the parts of one step share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    pub segment: SegmentStart,
    pub epoch: Epoch,
    pub wall: UnixTime,
    /// See [`Flags::irregular`](crate::model::Flags::irregular).
    pub irregular: bool,
}

/// Returns a duration in microseconds.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTMP: InputClock = InputClock { scale: Timescale::MILLIS, wrap_bits: 32 };

    fn unit(dts: i64, composition_offset: i32) -> InputUnit {
        let (arrived, now) = (UnixTime::from_micros(10_000_000), Time::ZERO);
        InputUnit {
            track: InputTrack(0),
            dts,
            shifted: 0,
            lowered: 0,
            composition_offset,
            keyframe: true,
            data: Bytes::new(),
            arrived,
            now,
        }
    }

    #[test]
    fn the_origin_is_as_far_back_as_the_unit_is_shown() {
        let check = |dts, offset, expect_ms: u64| {
            assert_eq!(unit(dts, offset).origin(1_000, Timescale::MILLIS).as_millis(), expect_ms, "{dts} {offset}");
        };
        check(1_000, 0, 10_000);
        check(3_000, 0, 8_000);
        check(3_000, 40, 7_960);
        // An absurd composition offset counts as a second.
        check(3_000, 60_000, 7_000);
        check(0, 0, 10_000);
    }

    #[test]
    fn a_lowered_unit_is_shown_when_it_was() {
        let mut lowered = unit(100, -30);
        lowered.lower(40);
        assert_eq!((lowered.dts, lowered.composition_offset, lowered.shown()), (60, 10, 70));
        lowered.lower(50);
        assert_eq!((lowered.dts, lowered.composition_offset), (50, 20), "in all");
        lowered.lower(0);
        assert_eq!((lowered.dts, lowered.composition_offset), (100, -30));
    }

    #[test]
    fn a_negative_offset_is_the_earliest() {
        assert_eq!((unit(100, -30).earliest(), unit(100, 30).earliest(), unit(100, 30).shown()), (70, 100, 130));
    }

    #[test]
    fn periods_place_readings_of_the_input_clock() {
        let period = PeriodStart { clock: RTMP, base: 500, start: Duration::from_secs(2) };
        assert_eq!((period.micros(500), period.micros(520), period.micros(400)), (2_000_000, 2_020_000, 1_900_000));
        assert_eq!(period.ticks(-33_000), -33);
    }
}
