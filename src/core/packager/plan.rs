//! The lengths that a presentation freezes, found from its first seconds: segments, TARGETDURATION, PART-TARGET.

use std::time::Duration;

use super::settings::Settings;
use super::unit::{InputUnit, REORDER_MAX};
use crate::codec::codec::Codec;
use crate::model::InputClock;
use crate::model::input_clock::span;

/// Segments where a GOP is longer than what was measured (docs/architecture.md, Media and time).
const SEGMENT_UNMEASURED: Duration = Duration::from_secs(6);
/// The least time between the aim and the end of TARGETDURATION, because keyframes come late.
const CUT_SLACK: Duration = Duration::from_millis(250);
/// A part is at least this share of PART-TARGET (rfc8216bis, 4.4.3.7).
pub const PART_SHARE_MIN: f64 = 0.85;
/// The lengths of units are rounded to a nanosecond.
const GRACE: Duration = Duration::from_micros(1);
/// The longest part that is chosen, unless a single frame lasts longer.
const PART_MAX: Duration = Duration::from_secs(1);
/// Frame rates of broadcast and film, in frames a thousand seconds: a measure within its error of one is that one.
const FRAME_RATES: [u32; 13] =
    [23_976, 24_000, 25_000, 29_970, 30_000, 48_000, 50_000, 59_940, 60_000, 10_000, 15_000, 100_000, 120_000];

/// The frame rate if nothing states it: 25 fps.
pub(super) const FRAME_RATE_UNKNOWN: u32 = 25_000;
/// A frame is never planned to last longer than a second, so that segments can be cut within TARGETDURATION.
pub(super) const FRAME_RATE_MIN: u32 = 1_000;

/// The lengths that a presentation freezes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The segment length that the cutter aims at.
    pub segment: Duration,
    /// EXT-X-TARGETDURATION, in seconds.
    pub target_duration: u32,
    /// EXT-X-PART-INF PART-TARGET, in whole milliseconds.
    pub part_target: Duration,
    /// The planned length of a part: a whole number of the first track's frames.
    pub part: Duration,
}

impl Plan {
    /// Makes a plan for segments of `segment` and parts that reach `part`.
    pub(super) fn new(segment: Duration, part: Duration, parts: Parts) -> Plan {
        let rounded = (segment + CUT_SLACK + Duration::from_millis(500)).as_secs();
        let target_duration = u32::try_from(rounded).unwrap_or(u32::MAX).max(1);
        let frame = parts.frame;
        // "the smallest n that reaches the setting": 6 x 33.333 ms is meant to reach 200 ms.
        let reach = |n: u32| frame * n + frame / 20 >= part;
        let least = (1..).find(|&n| reach(n)).unwrap_or(1);
        let fitting = (least..).map_while(|n| (frame * n <= PART_MAX).then_some(n)).find(|&n| parts.fits(n));
        let frames = fitting.unwrap_or(least);
        let part_target = parts.target(frames).min(Duration::from_secs(target_duration.into()));
        Plan { segment, target_duration, part_target, part: frame * frames }
    }
}

/// Chooses a plan from the unit lengths of the tracks, each with whether it is video, and from the GOPs of the first one.
/// Returns whether a GOP is longer than what was measured, too.
pub(super) fn measure(
    settings: &Settings,
    clock: InputClock,
    lasts: &[(bool, Duration)],
    gops: Option<&Gops>,
) -> (Plan, bool) {
    let frame = lasts.first().map_or(frame_duration(FRAME_RATE_UNKNOWN), |&(_, frame)| frame);
    let audio = lasts.iter().skip(1).filter(|(video, _)| !video).map(|&(_, unit)| unit).collect();
    let measured = gops.map_or(settings.segment_aim, |gops| gops.segment(settings.segment_aim, frame));
    // A set length is published before its GOPs are known, and is believed until a cut has to be forced.
    let irregular = settings.segment.is_none() && gops.is_some_and(|gops| gops.longest(frame).is_none());
    let parts = Parts::new(frame, clock.scale.duration(1), audio);
    (Plan::new(settings.segment.unwrap_or(measured), settings.part, parts), irregular)
}

/// The lengths of parts. The leader's parts are cut by a count of frames. Audio parts are cut at the same times, each at
/// its nearest unit: part n of every track covers the same time, and no segment ends with a very short part, which
/// players treat as loaded (hls.js ignores holes below 0.2 s).
#[derive(Clone, Debug)]
pub(super) struct Parts {
    frame: Duration,
    /// Both ends of a part may be off by a tick of the input clock.
    slack: Duration,
    audio: Vec<Duration>,
}

impl Parts {
    /// Returns the lengths for frames (or audio units, without video) of `frame`, for `tick`s of the input clock, and for the
    /// units of the other audio tracks.
    pub(super) fn new(frame: Duration, tick: Duration, audio: Vec<Duration>) -> Parts {
        Parts { frame: frame.max(Duration::from_millis(1)), slack: tick * 2, audio }
    }

    /// Returns the planned length of parts for a PART-TARGET, for a node that takes a presentation over. Above 100 fps several
    /// counts of frames have the same PART-TARGET; the lowest is taken.
    pub(super) fn meant(&self, target: Duration) -> Duration {
        let (mut frames, mut reached) = (1, self.target(1));
        for (n, next) in (2..).map(|n| (n, self.target(n))).take_while(|&(_, next)| next <= target) {
            if next > reached {
                (frames, reached) = (n, next);
            }
        }
        self.frame * frames
    }

    /// Returns the longest part if the planned length is `meant`.
    pub(super) fn longest(&self, meant: Duration) -> Duration {
        meant + self.slack
    }

    /// Returns PART-TARGET: the length of the longest part, rounded up to a millisecond.
    fn target(&self, frames: u32) -> Duration {
        let longest = self.longest(self.frame * frames);
        let audio = self.audio.iter().map(|&unit| unit * whole(longest.saturating_sub(GRACE) + unit, unit));
        ceil_to_millis(audio.max().unwrap_or_default().max(longest))
    }

    /// Returns whether no part is too short compared with the longest.
    fn fits(&self, frames: u32) -> bool {
        let meant = self.frame * frames;
        let audio = self.audio.iter().map(|&unit| unit * whole(meant + GRACE, unit));
        let shortest = audio.min().unwrap_or(meant).min(meant);
        shortest.as_secs_f64() >= PART_SHARE_MIN * self.target(frames).as_secs_f64()
    }
}

/// Returns how many whole units fit `duration`.
fn whole(duration: Duration, unit: Duration) -> u32 {
    u32::try_from(duration.as_nanos() / unit.as_nanos().max(1)).unwrap_or(u32::MAX)
}

fn ceil_to_millis(duration: Duration) -> Duration {
    let millis = duration.saturating_sub(GRACE).as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// Returns the frame rate in frames a thousand seconds, from decode times in ticks of the input clock. `hint` is the rate in
/// the codec's headers, which counts only if the measure agrees.
pub(super) fn frame_rate_milli(stamps: &[i64], clock: InputClock, hint: Option<u32>) -> Option<u32> {
    let (Some(&first), Some(&last)) = (stamps.first(), stamps.last()) else { return hint };
    let frames = u32::try_from(stamps.len() - 1).unwrap_or(u32::MAX);
    let total = span(first, last, clock);
    if frames == 0 || total.is_zero() {
        return hint;
    }
    let mut steps: Vec<Duration> = stamps.windows(2).map(|pair| span(pair[0], pair[1], clock)).collect();
    steps.sort_unstable();
    let (tick, mean) = (clock.scale.duration(1), total / frames);
    let (shortest, median, longest) = (steps[0], steps[steps.len() / 2].max(tick), steps[steps.len() - 1]);
    if shortest < mean / 2 || longest > mean + mean / 2 {
        let off = |rate: u32| (frame_duration(rate) * frames).abs_diff(total) > mean * 3 / 2;
        if let Some(hint) = hint.filter(|&hint| !off(hint)) {
            // Decode times come unevenly, as GStreamer's flvmux makes them, and keep the pace that the headers state.
            return Some(hint);
        }
        let whole = |step: &Duration| {
            let n = (step.as_secs_f64() / median.as_secs_f64()).round();
            step.abs_diff(median.mul_f64(n)) <= (tick * 2).max(median / 10)
        };
        if !steps.iter().all(whole) {
            return Some(nearest_rate(total, frames, mean / 2, None));
        }
        // Variable, or frames are missing: what most frames last.
        return Some(nearest_rate(median, 1, tick, hint));
    }
    // Both ends are rounded to a tick, and jitter as much as any step does.
    let jitter = longest.saturating_sub(mean).max(mean.saturating_sub(shortest));
    Some(nearest_rate(total, frames, jitter.max(tick * 2), hint))
}

/// Returns the rate at which `frames` last `total`: the hint, or the nearest usual rate within `error`.
fn nearest_rate(total: Duration, frames: u32, error: Duration, hint: Option<u32>) -> u32 {
    let off = |rate: u32| (frame_duration(rate) * frames).abs_diff(total);
    let agrees = |rate: &u32| off(*rate) <= error;
    let known = hint.filter(agrees).or_else(|| FRAME_RATES.into_iter().filter(agrees).min_by_key(|&rate| off(rate)));
    known.unwrap_or_else(|| (f64::from(frames) * 1_000.0 / total.as_secs_f64()).round() as u32)
}

/// Returns the duration of a frame at this rate; NTSC's rates are n x 1000/1001.
pub(super) fn frame_duration(rate_milli: u32) -> Duration {
    let exact = match rate_milli {
        23_976 => 1_001.0 / 24_000.0,
        29_970 => 1_001.0 / 30_000.0,
        59_940 => 1_001.0 / 60_000.0,
        rate => 1_000.0 / f64::from(rate.max(1)),
    };
    Duration::from_secs_f64(exact.min(3_600.0))
}

/// Returns the duration of a unit: of this unit, or of any unit of an audio codec; of a frame of a video codec.
pub(super) fn unit_duration(codec: &Codec, unit: Option<&[u8]>, rate_milli: u32) -> Duration {
    let seconds = |samples: u32| f64::from(samples) / f64::from(codec.sample_rate().max(1));
    codec.samples(unit).map_or_else(|| frame_duration(rate_milli), |samples| Duration::from_secs_f64(seconds(samples)))
}

/// Holds the GOPs that are measured before the first publication.
#[derive(Clone, Debug, Default)]
pub(super) struct Gops {
    /// The complete GOPs, oldest first.
    pub complete: Vec<Duration>,
    /// The length so far of the last GOP.
    pub open: Duration,
}

impl Gops {
    /// Measures the units of a video track, the first of which is a keyframe. The times at which keyframes are shown count: the
    /// keyframe of an open GOP is decoded before the last pictures of the GOP before it.
    pub(super) fn measure<'a>(units: impl Iterator<Item = &'a InputUnit>, clock: InputClock) -> Gops {
        let mut gops = Gops::default();
        let mut start = None;
        let latest = i64::try_from(clock.scale.ticks(REORDER_MAX)).unwrap_or(i64::MAX);
        for unit in units {
            let shown = unit.shown().min(unit.dts.saturating_add(latest));
            let (dts_then, shown_then) = *start.get_or_insert((unit.dts, shown));
            if unit.keyframe && (unit.dts, shown) != (dts_then, shown_then) {
                gops.complete.push(span(shown_then, shown, clock));
            }
            if unit.keyframe {
                start = Some((unit.dts, shown));
            }
            gops.open = if unit.keyframe { Duration::ZERO } else { span(dts_then, unit.dts, clock) };
        }
        gops
    }

    /// Returns the length of the measured time.
    pub(super) fn span(&self) -> Duration {
        self.complete.iter().sum::<Duration>() + self.open
    }

    /// Returns whether two equal GOPs in a row end the measure.
    pub(super) fn settled(&self, frame: Duration) -> bool {
        matches!(self.complete[..], [.., a, b] if a.abs_diff(b) <= frame / 2)
    }

    /// Returns the longest GOP, unless the one under way is longer already.
    pub(super) fn longest(&self, frame: Duration) -> Option<Duration> {
        let longest = self.complete.iter().max().copied();
        longest.filter(|&longest| !longest.is_zero() && self.open <= longest + frame)
    }

    /// Returns whether all GOPs have one length, to a frame.
    fn regular(&self, longest: Duration, frame: Duration) -> bool {
        self.complete.iter().all(|&gop| longest - gop <= frame + frame / 2)
    }

    /// "the whole number of GOPs nearest to the setting, at least the longest GOP seen". Where scene cuts end GOPs early, a
    /// segment isn't a whole number of the longest.
    pub(super) fn segment(&self, aim: Duration, frame: Duration) -> Duration {
        let Some(longest) = self.longest(frame) else { return SEGMENT_UNMEASURED };
        // A GOP is a whole number of frames: takes the input clock's rounding out.
        let frames = (longest.as_secs_f64() / frame.as_secs_f64()).round().max(1.0);
        let gop = frame.mul_f64(frames);
        let segment = match self.regular(longest, frame) {
            true => gop.as_secs_f64() * (aim.as_secs_f64() / gop.as_secs_f64()).round().max(1.0),
            false => aim.max(gop).as_secs_f64(),
        };
        // The record and the MPD say it in microseconds.
        Duration::from_micros((segment * 1e6).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timescale;

    const RTMP: InputClock = InputClock { scale: Timescale::MILLIS, wrap_bits: 32 };
    const TICK: Duration = Duration::from_millis(1);

    fn units(samples: u32, rate: u32) -> Vec<Duration> {
        vec![Duration::from_secs_f64(f64::from(samples) / f64::from(rate))]
    }

    #[test]
    fn part_target_is_whole_frames_and_the_audio_beside_them() {
        let check = |rate: u32, audio: Vec<Duration>, part: u64, frames: u32, expect: u64| {
            let parts = Parts::new(frame_duration(rate), TICK, audio);
            let plan = Plan::new(Duration::from_secs(2), Duration::from_millis(part), parts.clone());
            assert_eq!(plan.part_target, Duration::from_millis(expect), "{rate}");
            assert_eq!(plan.target_duration, 2);
            assert_eq!(plan.part, frame_duration(rate) * frames, "{rate}");
            // A node that takes the presentation over finds the same count from PART-TARGET.
            if rate < 100_000 {
                assert_eq!(parts.meant(plan.part_target), plan.part, "{rate}");
            }
        };
        for (rate, frames) in [(25_000, 5), (30_000, 6), (50_000, 10), (60_000, 12), (120_000, 24)] {
            check(rate, Vec::new(), 200, frames, 202);
            // Ten units of 21.3 ms, nine of 23.2 ms.
            check(rate, units(1_024, 48_000), 200, frames, 214);
            check(rate, units(1_024, 44_100), 200, frames, 209);
        }
        // Opus, ten units of 20 ms; AC-3, six of 32 ms.
        for (rate, frames) in [(25_000, 5), (30_000, 6), (50_000, 10), (60_000, 12), (24_000, 5)] {
            check(rate, units(960, 48_000), 200, frames, 220);
            check(rate, units(1_536, 48_000), 200, frames, 224);
        }
        check(30_000, units(1_536, 48_000), 100, 6, 224);
        check(30_000, units(1_536, 48_000), 500, 15, 512);
        check(29_970, Vec::new(), 200, 6, 203);
        check(24_000, Vec::new(), 200, 5, 211);
        check(30_000, units(1_024, 48_000), 500, 15, 512);
        check(1_000, units(1_024, 48_000), 200, 1, 1_003);
        // Four and five units would be 80 and 100 ms in parts of 0.1 s: one frame more.
        check(30_000, units(1_024, 48_000), 100, 4, 150);
        check(30_000, units(2_048, 48_000), 200, 8, 299);
    }

    #[test]
    fn frame_rates_are_measured() {
        let check = |rate: f64, n: i32, hint: Option<u32>, expect: u32| {
            let stamps: Vec<i64> = (0..n).map(|i| (f64::from(i) * 1_000.0 / rate).round() as i64).collect();
            assert_eq!(frame_rate_milli(&stamps, RTMP, hint), Some(expect), "{rate}");
        };
        check(25.0, 50, None, 25_000);
        check(30.0, 60, None, 30_000);
        check(60.0, 240, None, 60_000);
        check(30_000.0 / 1_001.0, 120, None, 29_970);
        check(30_000.0 / 1_001.0, 12, Some(29_970), 29_970);
        check(30.0, 60, Some(60_000), 30_000);
        check(12.5, 50, None, 12_500);
        assert_eq!(frame_rate_milli(&[], RTMP, Some(25_000)), Some(25_000));
        // flvmux moves decode times to those of the sound before them.
        let mut at = 0;
        let steps = [43, 21, 42, 22, 0, 43, 42, 43, 43, 34].into_iter().cycle().take(60);
        let uneven: Vec<i64> = steps
            .map(|step| {
                at += step;
                at
            })
            .collect();
        assert_eq!(frame_rate_milli(&uneven, RTMP, Some(30_000)), Some(30_000));
        assert_eq!(frame_rate_milli(&uneven, RTMP, None), Some(30_000));
        // A frame is missing; and jitter of several ms.
        assert_eq!(frame_rate_milli(&[0, 40, 80, 160, 200, 240, 280], RTMP, None), Some(25_000));
        let jittery: Vec<i64> = (0..60).map(|i| i * 100 / 3 + i * 7 % 5).collect();
        assert_eq!(frame_rate_milli(&jittery, RTMP, Some(30_000)), Some(30_000));
    }

    #[test]
    fn segments_are_whole_gops() {
        let frame = frame_duration(30_000);
        let check = |gops: &[u64], open: u64, expect: u64| {
            let complete = gops.iter().map(|&ms| Duration::from_millis(ms)).collect();
            let gops = Gops { complete, open: Duration::from_millis(open) };
            let segment = gops.segment(Duration::from_secs(2), frame);
            assert!(segment.abs_diff(Duration::from_millis(expect)) < TICK, "{gops:?}: {segment:?}");
        };
        check(&[2_000, 2_000], 0, 2_000);
        check(&[1_000, 1_000, 1_000], 500, 2_000);
        check(&[500; 6], 0, 2_000);
        check(&[3_000], 900, 3_000);
        check(&[1_467; 2], 700, 1_467);
        check(&[], 4_000, 6_000);
        check(&[1_000], 2_500, 6_000);
        // Scene cuts.
        check(&[2_000, 1_300], 700, 2_000);
        check(&[900, 1_300], 200, 2_000);
        check(&[1_000, 3_000], 0, 3_000);
    }
}
