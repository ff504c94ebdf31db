use bytes::Bytes;

use super::*;
use crate::model::time::Timescale;
use crate::model::{
    AudioInfo, Epoch, LifeId, NodeId, PushId, SampleAspectRatio, Schemes, StreamName, TrackId, TrackKind, VideoInfo,
};

const HIGH: InputTrack = InputTrack::of(PushId(0), InputTrack(0));
const SOUND: InputTrack = InputTrack::of(PushId(0), InputTrack(1));
const LOW: InputTrack = InputTrack::of(PushId(1), InputTrack(0));
const MID: InputTrack = InputTrack::of(PushId(2), InputTrack(0));

/// Segments of 2 s from MSN 10 on.
pub(crate) fn record() -> Record {
    Record {
        stream: StreamName::parse("cam1").expect("a name"),
        life: LifeId(1),
        epoch: Epoch { counter: 1, node: NodeId(1) },
        revision: 0,
        first_msn: 10,
        target_duration: 2,
        part_target: Duration::from_millis(202),
        latency: Duration::from_millis(606),
        segment_duration: Duration::from_secs(2),
        messages: Schemes::default(),
        availability_start: UnixTime::from_micros(1_000_000_000),
        tracks: Vec::new(),
        periods: Vec::new(),
        ended: None,
    }
}

/// A track in ticks of a millisecond.
fn track(id: u8, video: bool) -> Track {
    let kind = match video {
        true => TrackKind::Video(VideoInfo {
            width: 16,
            height: 16,
            frame_rate_milli: 25_000,
            transfer: 2,
            sar: SampleAspectRatio::SQUARE,
        }),
        false => TrackKind::Audio(AudioInfo { sample_rate: 48_000, channels: 2 }),
    };
    Track {
        id: TrackId(id),
        name: id.to_string(),
        timescale: Timescale::MILLIS,
        codec: String::new(),
        language: None,
        bandwidth: 0,
        average_bandwidth: 0,
        kind,
        inits: Vec::new(),
    }
}

/// Pictures at 25 fps and sound of 20 ms, the first segment begun at 0.
fn cutter(inputs: &[InputTrack]) -> Cutter {
    let mut cutter = Cutter::new(&record(), 10, false);
    for (id, &input) in (0..).zip(inputs) {
        let video = input != SOUND;
        cutter.append(&track(id, video), if video { 40 } else { 20 }, Some(input));
    }
    cutter.begin(Duration::ZERO, Duration::ZERO, 0, false);
    cutter
}

fn unit(dts: u64, keyframe: bool) -> TrackUnit {
    let arrived = UnixTime::from_micros(1_000_000_000 + dts * 1_000);
    TrackUnit { dts, composition_offset: 0, keyframe, data: Bytes::from_static(b"data"), arrived }
}

/// Steps in short: what they do, to which track, in which segment, at which time in ms.
fn short(steps: Vec<Step>) -> Vec<String> {
    let ms = |at: Duration| at.as_millis();
    let short = |step| match step {
        Step::Place { track, unit, segment, .. } => format!("place {track} {} {}", segment.msn, unit.dts),
        Step::Close { track, at, next, segment, .. } => format!("close {track} {} {} {next:?}", segment.msn, ms(at)),
        Step::Began(segment) => format!("began {} {}", segment.msn, ms(segment.start)),
        Step::Tell(notice) => notice.kind().to_owned(),
    };
    steps.into_iter().map(short).collect()
}

/// Takes a unit, and all steps that follow.
fn step(cutter: &mut Cutter, track: usize, unit: TrackUnit) -> Vec<String> {
    cutter.place(track, unit);
    let mut out = Vec::new();
    loop {
        let steps = cutter.advance(false);
        let cut = matches!(steps.last(), Some(Step::Began(_)));
        out.extend(short(steps));
        if !cut {
            out.extend(short(cutter.stalled()));
            return out;
        }
    }
}

/// Takes frames of a track up to a time, with a keyframe each 2 s; returns the last one's steps.
fn play(cutter: &mut Cutter, track: usize, from: u64, to: u64) -> Vec<String> {
    let frames = (from..=to).step_by(40).map(|dts| step(cutter, track, unit(dts, dts.is_multiple_of(2_000))));
    frames.last().unwrap_or_default()
}

#[test]
fn a_segment_begins_with_the_leaders_keyframe() {
    let mut cutter = cutter(&[HIGH]);
    assert_eq!(play(&mut cutter, 0, 0, 1_960), ["place 0 10 1960"]);
    assert_eq!(play(&mut cutter, 0, 2_000, 2_000), ["began 11 2000", "close 0 10 2000 Some(2000)", "place 0 11 2000"]);
    assert_eq!((cutter.next_msn(), cutter.msn(0)), (12, 11));
    assert!(cutter.segment(10).is_some(), "kept for a push that joins");
    cutter.reserve(None, &[]);
    cutter.stalled();
    assert_eq!(cutter.segment(10), None);
}

#[test]
fn without_a_keyframe_the_segment_is_cut_before_it_gets_too_long() {
    let mut cutter = cutter(&[HIGH]);
    play(&mut cutter, 0, 0, 1_960);
    for dts in (2_000..2_480).step_by(40) {
        step(&mut cutter, 0, unit(dts, false));
    }
    cutter.place(0, unit(2_480, false));
    assert_eq!(short(cutter.advance(false)), ["forced_cut", "began 11 2480"]);
    assert!(matches!(cutter.advance(false)[..], [Step::Close { irregular: true, .. }, Step::Place { .. }]));
}

/// Returns when segments begin that a leader with keyframes at these times cuts, and how many of the cuts are forced.
fn cuts(keyframes: &[u64], until: u64) -> (Vec<u64>, usize) {
    let mut cutter = cutter(&[HIGH]);
    let (mut starts, mut forced) = (Vec::new(), 0);
    for dts in (0..until).step_by(40) {
        for step in step(&mut cutter, 0, unit(dts, keyframes.contains(&dts))) {
            forced += usize::from(step == "forced_cut");
            starts.extend(
                step.strip_prefix("began ").and_then(|began| began.split_once(' ')).map(|(_, ms)| ms.to_owned()),
            );
        }
    }
    (starts.iter().map(|ms| ms.parse().expect("ms")).collect(), forced)
}

#[test]
fn a_segment_ends_at_the_last_keyframe_that_is_in_time() {
    let check = |keyframes: &[u64], until, expect: &[u64], forced| {
        assert_eq!(cuts(keyframes, until), (expect.to_vec(), forced), "{keyframes:?}");
    };
    // A scene cut, after which the next keyframe would come too late.
    check(&[0, 2_000, 4_000, 4_920, 6_920], 8_000, &[2_000, 4_000, 4_920, 6_920], 0);
    // Soon after a keyframe, the next one is in time.
    check(&[0, 2_000, 2_400, 4_400, 6_400], 6_440, &[2_000, 4_400, 6_400], 0);
    // GOPs of a second, and a scene cut among them: two are a segment again.
    check(&[0, 1_000, 2_000, 2_600, 3_600, 4_600], 4_800, &[2_000, 3_600], 0);
    // The GOP is longer than any before: it can't be known. The next keyframe begins a segment at once.
    check(&[0, 1_000, 2_000, 2_600, 5_000, 6_000], 6_200, &[2_000, 4_480, 5_000, 6_000], 1);
    // Never more than a segment a second in the long run.
    let (starts, _) = cuts(&(0..100).map(|n| n * 600).collect::<Vec<_>>(), 30_000);
    assert!(starts.iter().zip(1..).all(|(&ms, n)| n <= ms / 1_000 + 1), "{starts:?}");
}

#[test]
fn sound_before_the_first_keyframe_is_no_segment() {
    let mut cutter = cutter(&[HIGH, SOUND]);
    cutter.expect_keyframes(Some(Duration::from_secs(2)));
    step(&mut cutter, 1, unit(0, true));
    assert_eq!(step(&mut cutter, 0, unit(480, true)), ["place 0 10 480"]);
}

#[test]
fn a_hole_is_no_keyframe_interval() {
    let mut cutter = cutter(&[HIGH]);
    play(&mut cutter, 0, 0, 2_000);
    step(&mut cutter, 0, unit(9_000, true));
    assert_eq!(cutter.intervals.longest(), Duration::from_secs(2));
}

#[test]
fn sound_near_a_cut_waits_for_the_leader() {
    let mut cutter = cutter(&[HIGH, SOUND]);
    play(&mut cutter, 0, 0, 1_960);
    assert_eq!(step(&mut cutter, 1, unit(1_940, true)), ["place 1 10 1940"]);
    assert_eq!(step(&mut cutter, 1, unit(1_985, true)), [""; 0]);
    let steps = step(&mut cutter, 0, unit(2_000, true));
    assert_eq!(steps[2..], ["place 0 11 2000", "place 1 10 1985"]);
    assert_eq!(step(&mut cutter, 1, unit(1_995, true)), ["close 1 10 2000 Some(1995)", "place 1 11 1995"]);
}

#[test]
fn a_track_that_stays_behind_gets_gaps_and_is_reserved_for_a_push() {
    let mut cutter = cutter(&[HIGH, SOUND]);
    step(&mut cutter, 1, unit(0, true));
    play(&mut cutter, 0, 0, 2_960);
    assert_eq!(play(&mut cutter, 0, 3_000, 3_000), ["place 0 11 3000", "close 1 10 2000 None"]);
    cutter.release(|input| input == SOUND);
    cutter.reserve(Some(11), &[(1, 11)]);
    assert_eq!(play(&mut cutter, 0, 3_040, 9_000).len(), 1, "nobody pushes it, but a push may join with segment 11");
    cutter.reserve(None, &[]);
    assert_eq!(short(cutter.stalled())[0], "close 1 11 4000 None");
}

#[test]
fn a_rendition_without_a_keyframe_there_is_given_up() {
    let mut cutter = cutter(&[HIGH, LOW]);
    cutter.reserve(Some(10), &[(1, 10)]);
    for dts in (0..=2_080).step_by(40) {
        step(&mut cutter, 0, unit(dts, dts.is_multiple_of(2_000)));
        step(&mut cutter, 1, unit(dts, dts == 0 || dts == 1_800));
    }
    assert_eq!(cutter.poll_lost(), Some(Lost { track: 1, push: PushId(1), misaligned: Some(-200_000) }));
    assert_eq!((cutter.input(1), cutter.track_of(LOW), cutter.poll_lost()), (None, None, None));
    let segment = cutter.segment(11).expect("under way");
    let (fresh, steps) = cutter.join(1, LOW, &segment);
    assert_eq!((fresh, short(steps)), (false, vec!["close 1 10 2000 None".to_owned()]));
    assert_eq!((cutter.msn(1), cutter.track_of(LOW)), (11, Some(1)));
}

#[test]
fn another_track_leads_where_the_first_one_stalls() {
    let mut cutter = cutter(&[HIGH, SOUND]);
    step(&mut cutter, 0, unit(0, true));
    for dts in (0..1_980).step_by(20) {
        step(&mut cutter, 1, unit(dts, true));
    }
    assert_eq!(cutter.lead().0, Duration::from_millis(1_960));
    cutter.place(1, unit(1_990, true));
    assert_eq!(short(cutter.advance(false)), ["began 11 1990"], "sound cuts at any unit");
}

#[test]
fn at_the_end_tracks_end_together_or_with_a_gap() {
    for (sound, at) in [(2_900, 2_900), (2_000, 3_000)] {
        let mut cutter = cutter(&[HIGH, SOUND]);
        step(&mut cutter, 1, unit(1_000, true));
        play(&mut cutter, 0, 0, 2_960);
        let end = |ms| {
            let at = Duration::from_millis(ms);
            TrackEnd { decoded: at, shown: at, ragged: true }
        };
        cutter.join(1, SOUND, &cutter.segment(11).expect("under way"));
        let (steps, shown) = cutter.flush(&[end(3_000), end(sound)]).expect("a segment under way");
        let expect = ["close 0 11 3000 None".to_owned(), format!("close 1 11 {at} None")];
        assert_eq!((short(steps), shown.as_millis()), (expect.to_vec(), 3_000));
        let (steps, end) = cutter.gap(shown, shown, 0);
        assert_eq!(short(steps), ["close 0 12 5000 None", "close 1 12 5000 None"]);
        assert_eq!((end.as_millis(), cutter.next_msn()), (5_000, 13));
    }
}

#[test]
fn a_late_unit_makes_it_wait_longer() {
    let mut cutter = cutter(&[HIGH, SOUND]);
    step(&mut cutter, 1, unit(0, true));
    cutter.late();
    assert_eq!(play(&mut cutter, 0, 0, 3_960), ["place 0 11 3960"]);
    assert_eq!(play(&mut cutter, 0, 4_000, 4_000)[3..], ["close 1 10 2000 None"]);
}

#[test]
fn a_break_is_the_next_segments() {
    let mut cutter = cutter(&[HIGH]);
    cutter.break_next();
    play(&mut cutter, 0, 0, 4_000);
    let of = |msn| cutter.segment(msn).map(|segment| segment.discontinuity);
    assert_eq!(of(12), Some(1));
}

#[test]
fn a_push_that_was_misaligned_at_a_flush_may_begin_the_next_period() {
    let mut cutter = cutter(&[HIGH, LOW, MID]);
    for track in 0..3 {
        play(&mut cutter, track, 0, 1_960);
    }
    // The leader is silent. The others are ahead, and their keyframes differ.
    for dts in (2_000..=2_480).step_by(40) {
        cutter.place(1, unit(dts, dts == 2_200));
        cutter.place(2, unit(dts, dts == 2_320));
    }
    while matches!(cutter.advance(true).last(), Some(Step::Began(_))) {}
    assert_eq!(cutter.lost.len(), 1, "the third push has no keyframe at the second one's");
    let end = Duration::from_millis(2_520);
    cutter.flush(&[TrackEnd { decoded: end, shown: end, ragged: false }; 3]);
    cutter.begin(Duration::from_secs(3), Duration::from_secs(3), 1, false);
    assert_eq!(cutter.poll_lost(), None);
}

/// Takes all steps of what has come; `all`: before a flush.
fn run(cutter: &mut Cutter, all: bool) -> Vec<Step> {
    let mut out = Vec::new();
    loop {
        let steps = cutter.advance(all);
        let cut = matches!(steps.last(), Some(Step::Began(_)));
        out.extend(steps);
        if !cut {
            return out;
        }
    }
}

/// The segments of a track, from their first unit to the end of their last one, of `frame` ms.
fn lengths(steps: &[Step], of: usize, frame: u64) -> Vec<u64> {
    let mut segments = std::collections::BTreeMap::<Msn, (u64, u64)>::new();
    for step in steps {
        if let Step::Place { track, unit, segment, .. } = step
            && *track == of
        {
            segments.entry(segment.msn).or_insert((unit.dts, 0)).1 = unit.dts + frame;
        }
    }
    segments.into_values().map(|(start, end)| end - start).collect()
}

#[test]
fn sound_ahead_at_the_end_gets_a_segment_of_its_own() {
    let mut cutter = cutter(&[HIGH, SOUND]);
    (0..=2_400).step_by(40).for_each(|dts| cutter.place(0, unit(dts, dts == 0)));
    (0..=2_640).step_by(20).for_each(|dts| cutter.place(1, unit(dts, true)));
    let steps = run(&mut cutter, true);
    assert_eq!((lengths(&steps, 0, 40), lengths(&steps, 1, 20)), (vec![2_440], vec![2_480, 180]));
    assert!(!cutter.irregular, "no picture is left for the second one");
}

#[test]
fn a_rendition_that_began_before_the_cut_gets_no_segment_that_is_too_long() {
    let mut cutter = cutter(&[HIGH, LOW]);
    cutter.set_frame(1, 150);
    let mut steps = Vec::new();
    for dts in (0..=6_000).step_by(10) {
        let (high, low) = (dts % 40 == 0, dts % 150 == 0);
        if high {
            cutter.place(0, unit(dts, dts == 0 || dts == 2_000));
        }
        if low {
            cutter.place(1, unit(dts, dts == 1_950));
        }
        steps.extend(run(&mut cutter, false));
    }
    assert!(lengths(&steps, 1, 150).iter().all(|&ms| ms < 2_500), "{:?}", lengths(&steps, 1, 150));
    assert!(lengths(&steps, 0, 40).iter().all(|&ms| ms < 2_500), "{:?}", lengths(&steps, 0, 40));
    assert!(cutter.irregular);
}
