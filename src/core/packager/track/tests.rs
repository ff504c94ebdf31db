use super::super::tests::{asc, avcc};
use super::*;
use crate::model::{CodecConfig, InputTrack, PushId, Scheme};
use crate::packager::cutter::tests::record;
use crate::packager::publishers::tests::{attached, track_unit};

const FRAME: u64 = 3_600;

fn muxer(config: &CodecConfig) -> TrackMuxer {
    let codec = Codec::parse(config).expect("headers");
    let name = ("track".to_owned(), None);
    let mut muxer = TrackMuxer::with_codec(TrackId(0), name, &codec, (25_000, 0), None, &record());
    muxer.cut_parts(Duration::from_millis(202), None);
    muxer.restart(0);
    muxer
}

fn stamp(msn: u32, start_ms: u64, forced: bool) -> Stamp {
    let start = Duration::from_millis(start_ms);
    let segment =
        SegmentStart { msn, start, ideal: start, discontinuity: 3, shown: start, keyed: !forced, forced, shift: 0 };
    Stamp { segment, epoch: record().epoch, wall: UnixTime::from_micros(7), irregular: false }
}

/// A frame of a number, at 25 fps; each 50th is a keyframe.
fn frame(n: u64) -> TrackUnit {
    let arrived = UnixTime::from_micros(n);
    TrackUnit {
        dts: n * FRAME,
        composition_offset: 0,
        keyframe: n.is_multiple_of(50),
        data: n.to_string().into(),
        arrived,
    }
}

fn headers(outputs: &[Output]) -> Vec<PartHeader> {
    let header = |output: &Output| if let Output::Part { header, .. } = output { Some(*header) } else { None };
    outputs.iter().filter_map(header).collect()
}

fn push(muxer: &mut TrackMuxer, frames: std::ops::Range<u64>, stamp: &Stamp) -> Vec<PartHeader> {
    let pushed = |n: u64| headers(&muxer.push(frame(n), stamp).expect("in time"));
    frames.flat_map(pushed).collect()
}

#[test]
fn a_part_leaves_with_the_unit_that_would_cross_its_end() {
    let (mut muxer, stamp) = (muxer(&avcc()), stamp(10, 0, false));
    assert_eq!(push(&mut muxer, 0..5, &stamp), []);
    let [part] = push(&mut muxer, 5..6, &stamp)[..] else { panic!("no part") };
    assert_eq!((part.id.msn, part.id.part, part.decode_time, part.duration), (10, 0, 0, 5 * 3_600));
    assert_eq!((part.discontinuity, part.ingested, part.flags.independent), (3, UnixTime::from_micros(4), true));
    let [part] = push(&mut muxer, 6..11, &stamp)[..] else { panic!("no part") };
    assert_eq!((part.id.part, part.flags.independent, part.flags.last), (1, false, false));
    let [last] = headers(&muxer.close(Duration::from_millis(440), Some(11 * FRAME), &stamp))[..] else {
        panic!("none")
    };
    assert_eq!((last.id.part, last.decode_time, last.duration, last.flags.last), (2, 10 * FRAME, 3_600, true));
    assert_eq!(muxer.numbered(), Duration::from_millis(440));
}

#[test]
fn a_hole_is_listed_as_gaps_no_longer_than_a_part() {
    let (mut muxer, stamp) = (muxer(&avcc()), stamp(10, 0, false));
    push(&mut muxer, 0..3, &stamp);
    let parts = headers(&muxer.close(Duration::from_secs(1), None, &stamp));
    assert_eq!(parts.iter().map(|part| part.flags.gap).collect::<Vec<_>>(), [false, true, true, true, true]);
    assert!(parts[1..].iter().all(|part| part.flags.held), "the segment has pictures");
    assert!(parts.iter().all(|part| part.duration <= 18_180), "{parts:?}");
    assert!(parts.windows(2).all(|pair| pair[0].decode_time + u64::from(pair[0].duration) == pair[1].decode_time));
    assert!(parts[4].flags.last && parts[4].ingested == stamp.wall);
    let late = muxer.push(frame(10), &stamp).expect_err("its time is numbered");
    assert_eq!(late, Diagnostic::Late { track: TrackId(0), behind: Duration::from_millis(600) });
}

/// AAC units of a track, from one to another.
fn sounds(muxer: &mut TrackMuxer, units: std::ops::Range<u64>, stamp: &Stamp) -> Vec<PartHeader> {
    let unit = |n: u64| TrackUnit { dts: n * 1_024, keyframe: true, ..frame(n) };
    units.flat_map(|n| headers(&muxer.push(unit(n), stamp).expect("in time"))).collect()
}

fn ends(parts: &[PartHeader]) -> Vec<(u64, bool)> {
    parts.iter().map(|part| ((part.decode_time + u64::from(part.duration)) * 1_000 / 48_000, part.flags.gap)).collect()
}

#[test]
fn sound_that_is_missing_where_a_segment_begins_costs_no_sound() {
    // Two units are missing: the one before lasts until the next one, with which the segment begins.
    let mut short = muxer(&asc());
    sounds(&mut short, 0..47, &stamp(10, 0, false));
    let parts = headers(&short.close(Duration::from_secs(1), Some(49 * 1_024), &stamp(10, 0, false)));
    assert_eq!(ends(&parts), [(1_045, false)]);
    assert_eq!(sounds(&mut short, 49..59, &stamp(11, 1_000, false))[0].decode_time, 49 * 1_024);
    // 24 units are missing: the segment begins without sound, and isn't a gap.
    let mut long = muxer(&asc());
    sounds(&mut long, 0..47, &stamp(10, 0, false));
    let parts = headers(&long.close(Duration::from_secs(1), Some(71 * 1_024), &stamp(10, 0, false)));
    assert_eq!(ends(&parts), [(1_002, false)]);
    let parts = sounds(&mut long, 71..90, &stamp(11, 1_000, false));
    assert_eq!(ends(&parts)[..3], [(1_204, true), (1_406, true), (1_600, false)]);
    assert!(parts[0].flags.held && parts[1].flags.held);
}

#[test]
fn sound_that_ends_before_its_segment_is_played() {
    let mut muxer = muxer(&asc());
    let mut parts = sounds(&mut muxer, 0..30, &stamp(10, 0, false));
    parts.extend(headers(&muxer.close(Duration::from_secs(1), None, &stamp(10, 0, false))));
    assert_eq!(parts.iter().filter(|part| !part.flags.gap).count(), 4);
    assert!(parts.iter().all(|part| part.flags.held == part.flags.gap), "{parts:?}");
    assert_eq!(ends(&parts).last(), Some(&(1_000, true)));
    let parts = headers(&muxer.close(Duration::from_secs(2), None, &stamp(11, 1_000, false)));
    assert!(parts.iter().all(|part| part.flags.gap && !part.flags.held), "nothing came at all");
}

#[test]
fn no_segment_lasts_longer_than_target_duration_says() {
    let mut muxer = muxer(&asc());
    sounds(&mut muxer, 0..116, &stamp(10, 0, false));
    muxer.close(Duration::from_millis(2_510), Some(120 * 1_024), &stamp(10, 0, false));
    assert!(muxer.numbered() <= record().segment_longest(), "{:?}", muxer.numbered());
}

#[test]
fn parts_are_long_enough_however_uneven_frames_are() {
    let (mut muxer, stamp) = (muxer(&avcc()), stamp(10, 0, false));
    // As some muxers move decode times, and a hole of 1 s.
    let steps = [43, 21, 42, 22, 5, 67, 90, 3, 40].into_iter().cycle().take(60).chain([1_000]).chain([40; 20]);
    let mut parts = Vec::new();
    let mut at = 0;
    for (n, step) in (1..).zip(steps) {
        at += step * 90;
        parts.extend(headers(&muxer.push(TrackUnit { dts: at, ..frame(n) }, &stamp).expect("in time")));
    }
    let shortest = parts.iter().map(|part| part.duration).min().expect("parts");
    assert!(f64::from(shortest) >= PART_SHARE_MIN * 18_180.0 && parts.iter().all(|part| part.duration <= 18_180));
}

#[test]
fn a_segment_without_a_keyframe_says_so() {
    let mut muxer = muxer(&avcc());
    push(&mut muxer, 1..3, &stamp(10, 0, true));
    let parts = headers(&muxer.close(Duration::from_millis(120), Some(3 * FRAME), &stamp(10, 0, true)));
    assert!(parts.iter().any(|part| !part.flags.gap && part.flags.forced && !part.flags.independent), "{parts:?}");
}

#[test]
fn dates_go_forward_from_segment_to_segment() {
    let mut muxer = muxer(&avcc());
    push(&mut muxer, 0..1, &stamp(10, 0, false));
    let [first] = headers(&muxer.close(Duration::from_millis(40), Some(FRAME), &stamp(10, 0, false)))[..] else {
        panic!("one part")
    };
    assert_eq!(first.program_date_time, record().availability_start);
    let back = stamp(11, 40, false);
    let back = Stamp { segment: SegmentStart { shift: -90_000, ..back.segment }, ..back };
    push(&mut muxer, 1..2, &back);
    let next = headers(&muxer.close(Duration::from_millis(80), Some(2 * FRAME), &back))[0];
    assert_eq!(next.program_date_time, first.program_date_time + DATE_TIME_STEP_MIN);
}

#[test]
fn bit_rates_are_measured_over_whole_segments() {
    let mut muxer = muxer(&avcc());
    push(&mut muxer, 0..50, &stamp(10, 0, false));
    assert_eq!(muxer.track().bandwidth, 0);
    muxer.close(Duration::from_secs(2), Some(50 * FRAME), &stamp(10, 0, false));
    let first = muxer.track().bandwidth;
    assert!(first > 0 && muxer.track().average_bandwidth == first);
    push(&mut muxer, 50..51, &stamp(11, 2_000, false));
    muxer.close(Duration::from_millis(2_040), None, &stamp(11, 2_000, false));
    assert_eq!(muxer.track().bandwidth, first, "a stump says nothing");
}

#[test]
fn timestamps_that_jump_are_told() {
    let mut publishers = attached(&[(PushId(0), None)]);
    let input = InputTrack(0);
    publishers.configure(input, &avcc());
    let source = publishers.source(input).expect("configured");
    let clock = publishers.get(PushId(0)).expect("attached").clock;
    let period = PeriodStart { clock, base: 100, start: Duration::from_secs(1) };
    let mut muxer = muxer(&avcc());
    let at = |muxer: &TrackMuxer, dts: i64, due_ms: u64| {
        muxer.timing(dts, Duration::from_secs(1), Duration::from_millis(due_ms))
    };
    assert_eq!(at(&muxer, 100, 1_000), UnitTiming::Unknown);
    muxer.follow(&period, source, None);
    assert_eq!(at(&muxer, 100, 1_000), UnitTiming::InStep);
    assert!(matches!(at(&muxer, 5_000, 9_000), UnitTiming::Jump { .. }), "the others are elsewhere");
    let unit = track_unit(input, 100, true);
    let (unit, notice) = muxer.time(unit, &period).expect("timed");
    assert_eq!((unit.dts, notice), (90_000, None));
    assert_eq!(at(&muxer, 140, 1_040), UnitTiming::InStep);
    assert_eq!(at(&muxer, 2_000, 2_900), UnitTiming::InStep, "frames were lost on the way");
    let ahead = Duration::from_millis(1_900);
    assert_eq!(at(&muxer, 2_000, 1_100), UnitTiming::Jump { behind: Duration::ZERO, ahead });
    muxer.stop();
    assert_eq!(at(&muxer, 140, 1_040), UnitTiming::Unknown);
}

#[test]
fn events_go_into_the_next_part() {
    let (mut muxer, stamp) = (muxer(&asc()), stamp(10, 0, false));
    let event = |id: u32| EventMessage {
        scheme: Scheme::Id3,
        id,
        time: 5,
        duration: None,
        data: vec![7; PART_MESSAGES_LEN_MAX / 2].into(),
    };
    (0..3).for_each(|id| muxer.announce(event(id)));
    let mut carried = Vec::new();
    for n in 0..30 {
        let unit = TrackUnit { dts: n * 1_024, keyframe: true, ..frame(n) };
        for output in muxer.push(unit, &stamp).expect("in time") {
            let Output::Part { body, .. } = output else { continue };
            carried.push(cmaf::events(&body, muxer.scale()).into_iter().map(|(event, _)| event.id).collect::<Vec<_>>());
        }
    }
    assert_eq!(carried[..2], [vec![0, 1], vec![2]]);
}
