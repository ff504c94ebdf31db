//! What a life freezes, found from its first seconds: segment length, TARGETDURATION, PART-TARGET.

use std::time::Duration;

use super::InputClock;
use super::timeline::span;

/// Segments where GOPs are irregular or unfinished when the measure ends (DESIGN, media rules).
const SEGMENT_IRREGULAR: Duration = Duration::from_secs(6);
/// Between the aim and where TARGETDURATION would be broken there is at least this: keyframes come late.
const CUT_SLACK: Duration = Duration::from_millis(250);
/// A part is at least this share of PART-TARGET (rfc8216bis, 4.4.3.7).
pub const PART_SHARE_MIN: f64 = 0.85;
/// The longest part that is chosen, unless a single frame lasts longer.
const PART_MAX: Duration = Duration::from_secs(1);
/// Frame rates of broadcast and film, in frames a thousand seconds: a measure within its error of one is that one.
const FRAME_RATES: [u32; 13] =
    [23_976, 24_000, 25_000, 29_970, 30_000, 48_000, 50_000, 59_940, 60_000, 10_000, 15_000, 100_000, 120_000];

/// What a life freezes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// What the segmenter aims at.
    pub segment: Duration,
    /// EXT-X-TARGETDURATION, in seconds.
    pub target_duration: u32,
    /// EXT-X-PART-INF PART-TARGET, in whole milliseconds.
    pub part_target: Duration,
}

impl Plan {
    /// For frames (or audio units, without video) of `frame`, segments of `segment` and parts that reach
    /// `part`, such that each of `audio` (their units' lengths) fits well.
    pub(super) fn new(segment: Duration, part: Duration, frame: Duration, tick: Duration, audio: &[Duration]) -> Plan {
        let rounded = (segment + CUT_SLACK + Duration::from_millis(500)).as_secs();
        let target_duration = u32::try_from(rounded).unwrap_or(u32::MAX).max(1);
        let frame = frame.max(Duration::from_millis(1));
        // "the smallest n that reaches the setting": 6 x 33.333 ms is meant to reach 200 ms.
        let reach = |n: u32| frame * n + frame / 20 >= part;
        let least = (1..).find(|&n| reach(n)).unwrap_or(1);
        // n frames and two ticks of the input clock, since both ends of a part are rounded to one; up to a millisecond.
        let target = |n: u32| ceil_to_millis(frame * n + tick * 2);
        let fits = |target: Duration| {
            audio.iter().all(|&unit| {
                let whole = (target.as_nanos() / unit.as_nanos().max(1)) as f64 * unit.as_secs_f64();
                whole >= PART_SHARE_MIN * target.as_secs_f64()
            })
        };
        let fitting = (least..).map_while(|n| (frame * n <= PART_MAX).then(|| target(n))).find(|&t| fits(t));
        let part_target = fitting.unwrap_or_else(|| target(least)).min(Duration::from_secs(target_duration.into()));
        Plan { segment, target_duration, part_target }
    }
}

fn ceil_to_millis(duration: Duration) -> Duration {
    // A microsecond of grace: a frame's length was rounded to a nanosecond.
    let millis = duration.saturating_sub(Duration::from_micros(1)).as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// The frame rate in frames a thousand seconds, from decode times in ticks of the input clock; `hint`
/// is what the codec's headers say, and is believed only where the measure agrees.
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
        // Variable, or frames are missing: what most frames last.
        return Some(nearest_rate(median, 1, tick, hint));
    }
    // Both ends are rounded to a tick, and jitter as much as any step does.
    let jitter = longest.saturating_sub(mean).max(mean.saturating_sub(shortest));
    Some(nearest_rate(total, frames, jitter.max(tick * 2), hint))
}

/// The rate at which `frames` last `total`: the hint or the nearest usual one if it is that within `error`.
fn nearest_rate(total: Duration, frames: u32, error: Duration, hint: Option<u32>) -> u32 {
    let off = |rate: u32| (frame_duration(rate) * frames).abs_diff(total);
    let agrees = |rate: &u32| off(*rate) <= error;
    let known = hint.filter(agrees).or_else(|| FRAME_RATES.into_iter().filter(agrees).min_by_key(|&rate| off(rate)));
    known.unwrap_or_else(|| (f64::from(frames) * 1_000.0 / total.as_secs_f64()).round() as u32)
}

/// How long a frame lasts at this rate; NTSC's rates are n x 1000/1001.
pub(super) fn frame_duration(rate_milli: u32) -> Duration {
    let exact = match rate_milli {
        23_976 => 1_001.0 / 24_000.0,
        29_970 => 1_001.0 / 30_000.0,
        59_940 => 1_001.0 / 60_000.0,
        rate => 1_000.0 / f64::from(rate.max(1)),
    };
    Duration::from_secs_f64(exact.min(3_600.0))
}

/// GOPs as they are measured before the first publication.
#[derive(Clone, Debug, Default)]
pub(super) struct Gops {
    /// Those that are complete, oldest first.
    pub complete: Vec<Duration>,
    /// How long the last one has gone on.
    pub open: Duration,
}

impl Gops {
    /// From (decode time, keyframe) of a video track's units, its first a keyframe.
    pub(super) fn measure(units: impl Iterator<Item = (i64, bool)>, clock: InputClock) -> Gops {
        let mut gops = Gops::default();
        let mut start = None;
        for (dts, keyframe) in units {
            let open = span(start.unwrap_or(dts), dts, clock);
            if keyframe && start.is_some() {
                gops.complete.push(open);
            }
            if keyframe {
                start = Some(dts);
            }
            gops.open = if keyframe { Duration::ZERO } else { open };
        }
        gops
    }

    /// How long the measure has gone on.
    pub(super) fn span(&self) -> Duration {
        self.complete.iter().sum::<Duration>() + self.open
    }

    /// Whether two equal GOPs in a row say all that there is to know.
    pub(super) fn settled(&self, frame: Duration) -> bool {
        matches!(self.complete[..], [.., a, b] if a.abs_diff(b) <= frame / 2)
    }

    /// "the whole number of GOPs nearest to the setting, at least the longest GOP seen, or 6 s where
    /// they are irregular or unfinished".
    pub(super) fn segment(&self, aim: Duration, frame: Duration) -> Duration {
        let (Some(&longest), Some(&shortest)) = (self.complete.iter().max(), self.complete.iter().min()) else {
            return SEGMENT_IRREGULAR;
        };
        if longest - shortest > frame + frame / 2 || self.open > longest + frame || longest.is_zero() {
            return SEGMENT_IRREGULAR;
        }
        // A GOP is a whole number of frames: takes the input clock's rounding out.
        let frames = (longest.as_secs_f64() / frame.as_secs_f64()).round().max(1.0);
        let gop = frame.mul_f64(frames);
        let n = (aim.as_secs_f64() / gop.as_secs_f64()).round().max(1.0);
        // The record and the MPD say it in microseconds.
        Duration::from_micros((gop.as_secs_f64() * n * 1e6).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Timescale;

    const RTMP: InputClock = InputClock { scale: Timescale::MILLIS, wrap_bits: 32 };
    const TICK: Duration = Duration::from_millis(1);

    #[test]
    fn part_target_is_whole_frames_and_two_ticks() {
        let audio = [Duration::from_secs_f64(1_024.0 / 48_000.0)];
        let check = |rate: u32, part: u64, expect: u64| {
            let part = Duration::from_millis(part);
            let plan = Plan::new(Duration::from_secs(2), part, frame_duration(rate), TICK, &audio);
            assert_eq!(plan.part_target, Duration::from_millis(expect), "{rate}");
            assert_eq!(plan.target_duration, 2);
        };
        for rate in [25_000, 30_000, 50_000, 60_000] {
            check(rate, 200, 202);
        }
        check(29_970, 200, 203);
        check(24_000, 200, 211);
        check(30_000, 500, 502);
        check(1_000, 200, 1_002);
        // Four units of 21.3 ms would be 84 % of 0.102 s: one frame more.
        check(30_000, 100, 136);
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
        check(&[1_000, 2_000], 500, 6_000);
        check(&[1_000], 2_500, 6_000);
    }
}
