//! The rows, each by every protocol.

use std::fmt;

use super::carrier::{Carrier, Rtmp, Ts};
use super::http::{Cmaf, Http, TsSegments};
use super::*;

/// What a pusher sends at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sends {
    Frames,
    Chunks,
    /// From key picture to key picture.
    Segments,
}

/// A way in.
#[derive(Clone, Copy)]
struct By {
    name: &'static str,
    sends: Sends,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

fn carriers() -> [(By, Box<dyn Carrier>); 5] {
    let by = |name, sends| By { name, sends };
    [
        (by("RTMP", Sends::Frames), Box::new(Rtmp::default())),
        (by("MPEG-TS", Sends::Frames), Box::new(Ts::new())),
        (by("CMAF tracks by HTTP", Sends::Chunks), Box::new(Http::new(Cmaf::tracks()))),
        (by("CMAF segments by HTTP", Sends::Segments), Box::new(Http::new(Cmaf::segments()))),
        (by("MPEG-TS segments by HTTP", Sends::Segments), Box::new(Http::new(TsSegments::default()))),
    ]
}

/// Runs a row over each protocol; `first` is where its clock begins, by how many bits it has.
fn each(first: impl Fn(u32) -> u64, frames: &[Frame], row: impl Fn(&Pushed, By)) {
    for (by, mut carrier) in carriers() {
        let bits = carrier.clock().wrap_bits;
        let pushed = push(&mut *carrier, frames, first(bits), Settings::default());
        pushed.assert_whole(frames, by.name);
        pushed.assert_in_step(frames, by.name);
        row(&pushed, by);
    }
}

fn anywhere(_: u32) -> u64 {
    123_456
}

/// Moves the timestamps from `at` (in s) on.
fn jump(mut frames: Vec<Frame>, at: u64, by: i64) -> Vec<Frame> {
    for frame in frames.iter_mut().filter(|frame| frame.at >= at * HZ) {
        frame.jump = by;
    }
    frames
}

#[test]
fn a_wrap_in_mid_stream_goes_unseen() {
    let frames = mux([pictures(20, 30, 60), sounds(20)]);
    // RTMP's milliseconds wrap after 10 s here, MPEG-TS' ticks too. CMAF's have 64 bits, and don't: its pictures' decode
    // times pass 2^32 there, where a muxer goes from version 0 of `tfdt` to 1.
    let first = |bits: u32| match bits {
        32 => (1 << 32) - 10_000,
        33 => (1 << 33) - 10 * HZ,
        _ => (1 << 32) - 10 * HZ,
    };
    each(first, &frames, |pushed, by| {
        assert_eq!((pushed.discontinuities(), pushed.gaps(true), pushed.gaps(false)), (0, 0.0, 0.0), "{by}");
    });
}

#[test]
fn a_jump_forward_or_back_is_one_discontinuity() {
    for by in [3_600, -600, -7] {
        let frames = jump(mux([pictures(24, 30, 60), sounds(24)]), 12, by * HZ as i64);
        each(
            |bits| if bits == 32 { 4_000_000 } else { 4_000 * HZ },
            &frames,
            |pushed, by| {
                assert_eq!(pushed.discontinuities(), 1, "{by} by {by} s");
            },
        );
    }
}

#[test]
fn a_hole_in_the_timestamps_is_a_gap_and_what_follows_stays_in_its_place() {
    // Three seconds of both are missing; nothing is renumbered.
    let mut frames = mux([pictures(24, 30, 60), sounds(24)]);
    frames.retain(|frame| !(12 * HZ..15 * HZ).contains(&frame.at));
    // As an encoder goes on: with a key picture.
    if let Some(next) = frames.iter_mut().find(|frame| frame.picture && frame.at >= 15 * HZ) {
        next.key = true;
    }
    for (by, mut carrier) in carriers() {
        let pushed = push(&mut *carrier, &frames, anywhere(0), Settings::default());
        // Sound that a muxer held through the hole comes too long before the keyframe with which all goes on.
        let is_held = |f: &Frame| !f.picture && (552..563).contains(&f.number) && matches!(by.sends, Sends::Chunks);
        let whole: Vec<Frame> = frames.iter().filter(|frame| !is_held(frame)).cloned().collect();
        pushed.assert_whole(&whole, by.name);
        pushed.assert_in_step(&whole, by.name);
        let last = pushed.parts(true).last().expect("pictures");
        let end = (last.decode_time + u64::from(last.duration)) as f64 / HZ as f64;
        // What a muxer holds until the next frame comes is late by the hole, and from then on all is: behind it, and behind what it
        // held, which of chunks is given back a little by the end.
        let (expected, breaks) = match by.sends {
            Sends::Frames => (24.0, 1),
            Sends::Chunks => (26.75, 1),
            Sends::Segments => (27.0, 2),
        };
        assert!((expected..expected + 0.05).contains(&end), "{by}: {end} s");
        assert_eq!(pushed.discontinuities(), breaks, "{by}");
    }
}

#[test]
fn sound_may_be_missing_or_begin_three_seconds_late() {
    let silent = mux([pictures(20, 30, 60), Vec::new()]);
    each(anywhere, &silent, |pushed, by| {
        assert_eq!((pushed.record.tracks.len(), pushed.discontinuities()), (1, 0), "{by}");
    });
    // The pictures are measured for 4 s: late sound is still waited for.
    let mut late = mux([pictures(20, 30, 60), sounds(20)]);
    late.retain(|frame| frame.picture || frame.at >= 3 * HZ);
    each(anywhere, &late, |pushed, by| {
        assert_eq!((pushed.record.tracks.len(), pushed.discontinuities()), (2, 0), "{by}");
    });
}

#[test]
fn a_gop_of_thirty_seconds_is_cut_all_the_same() {
    let frames = mux([pictures(90, 30, 900), sounds(90)]);
    each(anywhere, &frames, |pushed, by| {
        assert_eq!(pushed.discontinuities(), 0, "{by}");
        let longest = pushed.record.target_duration;
        assert!(longest <= 10, "{by}: segments of {longest} s");
    });
}

#[test]
fn the_frame_rate_may_vary() {
    // Half of the pictures of every other second are missing, of each fourth all but the key picture.
    let mut frames = mux([pictures(40, 30, 60), sounds(40)]);
    frames.retain(|frame| {
        let second = frame.at / HZ;
        !frame.picture || frame.key || (second % 4 != 1 && (second.is_multiple_of(2) || frame.number.is_multiple_of(2)))
    });
    // None of them is reordered: the ones that others stand behind are missing.
    for frame in &mut frames {
        frame.reordered = 0;
    }
    each(anywhere, &frames, |pushed, by| {
        assert_eq!((pushed.discontinuities(), pushed.gaps(true), pushed.gaps(false)), (0, 0.0, 0.0), "{by}");
    });
}

#[test]
fn a_picture_may_stand_for_seconds() {
    // In the beginning, when all is still measured, and later on.
    for from in [1, 9] {
        let mut frames = mux([pictures(24, 30, 60), sounds(24)]);
        frames.retain(|frame| !frame.picture || !(from * HZ..(from + 5) * HZ).contains(&frame.at));
        for frame in &mut frames {
            frame.reordered = 0;
        }
        each(anywhere, &frames, |pushed, by| {
            // A muxer that waits for a key picture sends a segment of 6 s, after four of silence.
            let late = from == 9 && by.sends == Sends::Segments;
            let (breaks, silence) = if late { (1, 4.0) } else { (0, 0.0) };
            assert_eq!(pushed.discontinuities(), breaks, "{by} from {from} s");
            assert!((pushed.gaps(false) - silence).abs() < 0.01, "{by} from {from} s: {} s", pushed.gaps(false));
        });
    }
}

#[test]
fn another_resolution_in_mid_stream_is_a_new_init_segment_behind_a_discontinuity() {
    let mut frames = mux([pictures(24, 30, 60), sounds(24)]);
    for frame in frames.iter_mut().filter(|frame| frame.at >= 12 * HZ) {
        frame.headers = 1;
    }
    each(anywhere, &frames, |pushed, by| {
        let inits: Vec<usize> = pushed.record.tracks.iter().map(|track| track.inits.len()).collect();
        assert_eq!((pushed.discontinuities(), inits[0]), (1, 2), "{by}");
        let first = pushed.parts(true).find(|header| header.init == 1).expect("a part of the new one");
        assert!(first.id.part == 0 && first.flags.independent && first.discontinuity == 1, "{by}: {first:?}");
    });
}

#[test]
fn sound_hours_from_the_pictures_is_put_beside_them() {
    for hours in [-5, 5] {
        let mut frames = mux([pictures(20, 30, 60), sounds(20)]);
        frames.iter_mut().filter(|frame| !frame.picture).for_each(|frame| frame.jump = hours * 3_600 * HZ as i64);
        for (by, mut carrier) in carriers() {
            let pushed = push(&mut *carrier, &frames, 1 << 31, Settings::default());
            pushed.assert_whole(&frames, by.name);
            let seen = (pushed.discontinuities(), pushed.gaps(true), pushed.gaps(false));
            assert_eq!(seen, (0, 0.0, 0.0), "{by}, {hours} h");
        }
    }
}

/// Eight hours by one of the protocols.
fn eight_hours(of: usize) {
    let hours = mux([pictures(8 * 3_600, 5, 10), sounds_at(8 * 3_600, 8_000, 1)]);
    // Fewer parts and units are sooner read back.
    let settings = Settings { part: Duration::from_secs(1), ..Settings::default() };
    let (by, mut carrier) = carriers().into_iter().nth(of).expect("one of them");
    let pushed = push(&mut *carrier, &hours, 77, settings);
    pushed.assert_whole(&hours, by.name);
    pushed.assert_in_step(&hours, by.name);
    assert_eq!((pushed.discontinuities(), pushed.gaps(true), pushed.gaps(false)), (0, 0.0, 0.0), "{by}");
}

#[test]
fn eight_hours_of_timestamps_keep_sound_beside_the_pictures_by_rtmp() {
    eight_hours(0);
}

#[test]
fn eight_hours_of_timestamps_keep_sound_beside_the_pictures_by_mpeg_ts() {
    eight_hours(1);
}

#[test]
fn eight_hours_of_timestamps_keep_sound_beside_the_pictures_in_cmaf_tracks() {
    eight_hours(2);
}

#[test]
fn eight_hours_of_timestamps_keep_sound_beside_the_pictures_in_cmaf_segments() {
    eight_hours(3);
}

#[test]
fn eight_hours_of_timestamps_keep_sound_beside_the_pictures_in_mpeg_ts_segments() {
    eight_hours(4);
}
