//! The timings of real encoders: `fixtures/timing/`, named by their producer.
//!
//! `#` begins a comment. `clock 1000` says the ticks a second. Any other line is a unit, in the order in which it was sent: `v` or
//! `a`, its decode time, its presentation time if that differs, and `k` if it is a keyframe (sound always is).

use bytes::Bytes;

use crate::model::time::Timescale;
use crate::model::{AccessUnit, InputClock, InputTrack};

/// The input tracks of the units.
pub(crate) const VIDEO: InputTrack = InputTrack(0);
pub(crate) const AUDIO: InputTrack = InputTrack(1);

/// The units that an encoder sent, each with made-up data that tells it apart.
pub(crate) struct Timing {
    pub(crate) clock: InputClock,
    pub(crate) units: Vec<AccessUnit>,
}

impl Timing {
    /// Reads a fixture.
    pub(crate) fn parse(text: &str) -> Timing {
        let mut timing = Timing { clock: InputClock { scale: Timescale::MILLIS, wrap_bits: 32 }, units: Vec::new() };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line.strip_prefix("clock ") {
                Some(hz) => timing.clock.scale = Timescale::new(hz.parse().expect(line)).expect("not zero"),
                None => timing.units.push(unit(line)),
            }
        }
        timing
    }
}

fn unit(line: &str) -> AccessUnit {
    let (track, times) = line.split_once(' ').unwrap_or_else(|| panic!("a unit: {line:?}"));
    let track = match track {
        "v" => VIDEO,
        "a" => AUDIO,
        _ => panic!("v or a: {line:?}"),
    };
    let (times, keyframe) = times.strip_suffix(" k").map_or((times, track == AUDIO), |times| (times, true));
    let (dts, pts) = times.split_once(' ').unwrap_or((times, times));
    let (dts, pts): (i64, i64) = (dts.parse().expect(line), pts.parse().expect(line));
    AccessUnit {
        track,
        dts: u64::try_from(dts).expect(line),
        composition_offset: i32::try_from(pts - dts).expect(line),
        keyframe,
        data: Bytes::copy_from_slice(line.as_bytes()),
    }
}

#[test]
fn a_line_is_a_unit() {
    let timing = Timing::parse("# by hand\nclock 90000\nv 0 180 k\nv 90\na 5\n");
    assert_eq!(timing.clock.scale.hz(), 90_000);
    let read: Vec<_> = timing.units.iter().map(|u| (u.track, u.dts, u.composition_offset, u.keyframe)).collect();
    assert_eq!(read, [(VIDEO, 0, 180, true), (VIDEO, 90, 0, false), (AUDIO, 5, 0, true)]);
}
