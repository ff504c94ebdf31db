//! An endless loop of a film: which unit comes next, and when it is due (no clock in here).
//!
//! The first track leads: its passes follow one another without a gap, and so the film is as long as this track.
//! Another track keeps its own steps and begins again at the frame that is nearest to the leader's beginning. If it is
//! a little longer or shorter, its last frames are left out, or its last frame is repeated. No timestamp ever jumps.

use std::time::Duration;

use bytes::Bytes;

use crate::model::input_clock::rescale;
use crate::model::time::Timescale;
use crate::model::{AccessUnit, CodecConfig, InputClock, InputTrack};

/// The clock of all units: 90 kHz, modulo 2^33, as in MPEG-TS.
pub const CLOCK: InputClock = InputClock { scale: Timescale::MPEG, wrap_bits: 33 };

/// One coded frame of a file.
#[derive(Debug, Clone)]
pub struct FilmSample {
    /// The duration in ticks of its track, never zero.
    pub duration: u32,
    /// Presentation minus decode time, in ticks of its track.
    pub composition_offset: i32,
    /// Whether a decoder can begin here.
    pub keyframe: bool,
    /// The access unit's bytes.
    pub data: Bytes,
}

/// One track of a file.
#[derive(Debug, Clone)]
pub struct Reel {
    /// The track's number in the push.
    pub track: InputTrack,
    /// The codec's headers.
    pub config: CodecConfig,
    /// The scale of its samples' times.
    pub scale: Timescale,
    /// Decode time of the first sample on the film's timeline, in ticks; negative where frames are reordered.
    pub start: i64,
    /// The samples; never empty.
    pub samples: Vec<FilmSample>,
}

/// A unit, and when it is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueUnit {
    /// The time since the film began.
    pub after: Duration,
    /// The unit, on [`CLOCK`].
    pub unit: AccessUnit,
}

/// The film's endless sequence of units, in decoding order.
#[derive(Debug, Clone)]
pub struct Looped {
    reels: Vec<Head>,
    /// The length of one pass, in ticks of the leader.
    length: u64,
    /// The shift of all times that makes none negative, in ticks of [`CLOCK`].
    shift: i64,
}

#[derive(Debug, Clone)]
struct Head {
    reel: Reel,
    /// The next sample's time since the track's first one, in ticks.
    at: u64,
    index: usize,
    pass: u64,
}

impl Looped {
    /// Returns the loop of these tracks, the leader first. Each has samples.
    pub fn new(reels: Vec<Reel>) -> Self {
        let length = reels.first().map_or(0, |reel| reel.samples.iter().map(|sample| u64::from(sample.duration)).sum());
        let shift = reels.iter().map(|reel| -ticks(reel.start, reel.scale)).max().unwrap_or(0);
        let reels = reels.into_iter().map(|reel| Head { reel, at: 0, index: 0, pass: 0 }).collect();
        Looped { reels, length, shift }
    }

    /// Returns the tracks' headers.
    pub fn configs(&self) -> impl Iterator<Item = (InputTrack, CodecConfig)> + '_ {
        self.reels.iter().map(|head| (head.reel.track, head.reel.config.clone()))
    }

    /// Returns the next unit; `None` if there is no track.
    pub fn next_unit(&mut self) -> Option<DueUnit> {
        let (length, scale, shift) = (self.length, self.reels.first()?.reel.scale, self.shift);
        let head = self.reels.iter_mut().min_by_key(|head| head.time(shift))?;
        let dts = head.time(shift);
        let Reel { track, samples, start, scale: own, .. } = &head.reel;
        let sample = &samples[head.index];
        let pts = ticks(start + at(head.at) + i64::from(sample.composition_offset), *own) + shift;
        let unit = AccessUnit {
            track: *track,
            dts: CLOCK.wrapped(dts),
            composition_offset: i32::try_from(pts - dts).unwrap_or(0),
            keyframe: sample.keyframe,
            data: sample.data.clone(),
        };
        head.advance(length, scale);
        Some(DueUnit { after: CLOCK.scale.duration(dts.unsigned_abs()), unit })
    }
}

impl Head {
    /// Returns the next sample's decode time since the film began, in ticks of [`CLOCK`].
    fn time(&self, shift: i64) -> i64 {
        ticks(self.reel.start + at(self.at), self.reel.scale) + shift
    }

    fn advance(&mut self, length: u64, scale: Timescale) {
        self.at += u64::from(self.reel.samples[self.index].duration);
        // The beginning of the leader's next pass, in ticks of this track.
        let next = u128::from(self.pass + 1) * u128::from(length);
        let next = next * u128::from(self.reel.scale.hz()) / u128::from(scale.hz());
        let last = self.reel.samples.len() - 1;
        let following = &self.reel.samples[(self.index + 1).min(last)];
        if u128::from(self.at) + u128::from(following.duration / 2) >= next {
            self.pass += 1;
            self.index = 0;
        } else {
            self.index = (self.index + 1).min(last);
        }
    }
}

/// A film of 2^63 ticks outlasts the machine.
fn at(ticks: u64) -> i64 {
    i64::try_from(ticks).unwrap_or(i64::MAX)
}

/// Converts `value` from `scale` to ticks of [`CLOCK`], to the nearest.
fn ticks(value: i64, scale: Timescale) -> i64 {
    rescale(at(value.unsigned_abs()), scale, CLOCK.scale) * value.signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reel(track: u8, hz: u32, start: i64, durations: &[u32]) -> Reel {
        let sample = |(n, duration): (usize, &u32)| FilmSample {
            duration: *duration,
            composition_offset: if track == 0 { 2 } else { 0 },
            keyframe: n == 0,
            data: Bytes::from(vec![u8::try_from(n).expect("few")]),
        };
        Reel {
            track: InputTrack(track),
            config: CodecConfig::Aac(Bytes::new()),
            scale: Timescale::new(hz).expect("not zero"),
            start,
            samples: durations.iter().enumerate().map(sample).collect(),
        }
    }

    /// Track, sample, milliseconds: the first of each.
    fn check(reels: Vec<Reel>, expect: &[(u8, u8, u64)]) {
        let mut film = Looped::new(reels);
        let next = |_: &_| {
            let due = film.next_unit().expect("it has tracks");
            assert_eq!(CLOCK.scale.duration(due.unit.dts), due.after);
            (due.unit.track.0, due.unit.data[0], u64::try_from(due.after.as_millis()).expect("short"))
        };
        assert_eq!(expect.iter().map(next).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn passes_follow_one_another() {
        check(
            vec![reel(0, 1_000, 0, &[100, 100]), reel(1, 1_000, 0, &[50; 4])],
            &[
                (0, 0, 0),
                (1, 0, 0),
                (1, 1, 50),
                (0, 1, 100),
                (1, 2, 100),
                (1, 3, 150),
                (0, 0, 200),
                (1, 0, 200),
                (1, 1, 250),
                (0, 1, 300),
                (1, 2, 300),
                (1, 3, 350),
                (0, 0, 400),
                (1, 0, 400),
            ],
        );
    }

    #[test]
    fn a_longer_track_is_cut_and_a_shorter_one_held() {
        let check = |durations: &[u32], expect: &[(u8, u128)]| {
            let mut film = Looped::new(vec![reel(0, 1_000, 0, &[100, 100]), reel(1, 1_000, 0, durations)]);
            let followers = std::iter::from_fn(|| film.next_unit()).filter(|due| due.unit.track.0 == 1);
            let got = followers.map(|due| (due.unit.data[0], due.after.as_millis())).take(expect.len());
            assert_eq!(got.collect::<Vec<_>>(), expect);
        };
        // Passes begin at 200 and 400 ms: the nearest steps of 60 ms are 180 and 420.
        check(&[60; 5], &[(0, 0), (1, 60), (2, 120), (0, 180), (1, 240), (2, 300), (3, 360), (0, 420)]);
        check(&[50; 3], &[(0, 0), (1, 50), (2, 100), (2, 150), (0, 200), (1, 250)]);
    }

    #[test]
    fn sound_stays_beside_the_pictures_for_eight_hours() {
        // NTSC pictures and AAC, of which 47 frames are a little longer than 30 pictures.
        let mut film = Looped::new(vec![reel(0, 30_000, 0, &[1_001; 30]), reel(1, 48_000, 0, &[1_024; 47])]);
        let pass = 1_001_000;
        let mut after = 0;
        while after < 8 * 3_600 * 1_000_000 {
            let due = film.next_unit().expect("endless");
            after = due.after.as_micros();
            if (due.unit.track.0, due.unit.data[0]) == (1, 0) {
                // Its first frame lies beside a pass's first picture: within half a frame of 21.3 ms.
                let off = (after % pass).min(pass - after % pass);
                assert!(off <= 10_700, "{off} us after {after}");
            }
        }
    }

    #[test]
    fn reordered_frames_start_early_and_nothing_is_negative() {
        // The edit list of a film with B-frames: presentation starts at 0, decoding 2 ticks of 10 ms before.
        let mut film = Looped::new(vec![reel(0, 100, -2, &[4, 4]), reel(1, 1_000, 0, &[80])]);
        let first = film.next_unit().expect("video");
        assert_eq!((first.after, first.unit.composition_offset), (Duration::ZERO, 1_800));
        let second = film.next_unit().expect("audio");
        assert_eq!((second.unit.track.0, second.after), (1, Duration::from_millis(20)));
    }

    #[test]
    fn times_are_exact_after_a_day_and_wrap() {
        let mut film = Looped::new(vec![reel(0, 30_000, 0, &[1_001 * 1_000; 30])]);
        // 30 samples of 33.366... s: a day is 86 passes of 1,001 s.
        let day = film.by_ref_nth(87 * 30);
        assert_eq!(day.after, Duration::from_secs(87 * 1_001));
        let wrapped = film.by_ref_nth(100 * 30 - 1);
        let ticks = CLOCK.scale.ticks(wrapped.after);
        assert_eq!((ticks >> 33, wrapped.unit.dts), (1, ticks - (1 << 33)));
    }

    impl Looped {
        fn by_ref_nth(&mut self, n: usize) -> DueUnit {
            std::iter::from_fn(|| self.next_unit()).nth(n).expect("endless")
        }
    }
}
