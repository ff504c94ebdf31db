use std::collections::BTreeMap;

use super::super::align::Aligned;
use super::super::opening;
use super::super::settings::Settings;
use super::super::tests::{asc, avcc, other_avcc};
use super::*;
use crate::model::{StreamName, TrackId};
use crate::packager::publishers::tests::{attached, track_unit};

const HIGH: PushId = PushId(0);
const LOW: PushId = PushId(1);
const VIDEO: InputTrack = InputTrack::of(HIGH, InputTrack(0));
const AUDIO: InputTrack = InputTrack::of(HIGH, InputTrack(1));
const LOW_VIDEO: InputTrack = InputTrack::of(LOW, InputTrack(0));
const LOW_AUDIO: InputTrack = InputTrack::of(LOW, InputTrack(1));

fn publishers() -> Publishers {
    let mut publishers = attached(&[(HIGH, Some("720p")), (LOW, Some("360p"))]);
    for (track, config) in [(VIDEO, avcc()), (AUDIO, asc()), (LOW_VIDEO, other_avcc()), (LOW_AUDIO, asc())] {
        publishers.configure(track, &config);
    }
    publishers
}

/// Pictures at 25 fps with GOPs of 2 s, and sound, from one time to another in ms.
fn units(from: i64, to: i64) -> Vec<InputUnit> {
    let pictures = (from..to).filter(|ms| ms % 40 == 0).map(|ms| track_unit(VIDEO, ms, ms % 2_000 == 0));
    let sound = (from..to).filter(|ms| ms % 64 == 0).map(|ms| track_unit(AUDIO, ms, true));
    let mut units: Vec<InputUnit> = pictures.chain(sound).collect();
    units.sort_by_key(|unit| unit.dts);
    units
}

/// A presentation of the first push, up to a time in ms.
fn live(publishers: &Publishers, to: i64) -> (Presentation, Vec<Output>) {
    let aligned = Aligned { units: units(0, 4_100), base: 0, others: BTreeMap::new() };
    let stream = StreamName::parse("cam1").expect("a name");
    let start = StartNumbers { msn: 10, ..StartNumbers::default() };
    let opening = opening::open(&stream, &Settings::default(), HIGH, publishers, &aligned, start).expect("a publisher");
    let clock = publishers.get(HIGH).expect("attached").clock;
    let (mut presentation, notice) = Presentation::begin(opening, 0);
    let mut out = vec![Output::Diagnostic(notice)];
    out.extend(presentation.begin_period(clock, publishers, &aligned.units, 0, true));
    let later = units(4_100, to);
    for unit in aligned.units.into_iter().chain(later) {
        let track = presentation.track_of(unit.track).expect("it has its place");
        assert_eq!(presentation.timing(track, &unit), UnitTiming::InStep);
        out.extend(presentation.feed(track, unit));
    }
    (presentation, out)
}

fn msns(outputs: &[Output], track: u8) -> Vec<(Msn, bool)> {
    let mut msns: Vec<(Msn, bool)> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Part { header, .. } if header.id.track == TrackId(track) => Some((header.id.msn, header.flags.gap)),
            _ => None,
        })
        .collect();
    msns.dedup();
    msns
}

fn record(outputs: &[Output]) -> &Record {
    outputs
        .iter()
        .rev()
        .find_map(|output| if let Output::Record(record) = output { Some(record) } else { None })
        .expect("a record")
}

#[test]
fn a_record_comes_before_its_parts_and_the_last_one_ends_it() {
    let publishers = publishers();
    let (presentation, out) = live(&publishers, 5_000);
    assert!(matches!(
        out[..2],
        [Output::Diagnostic(Diagnostic::PresentationBegan { first_msn: 10, .. }), Output::Record(_)]
    ));
    let names: Vec<&str> = record(&out).tracks.iter().map(|track| track.name.as_str()).collect();
    assert_eq!(names, ["720p", "audio"]);
    assert_eq!(msns(&out, 0), [(10, false), (11, false), (12, false)]);
    let (out, start) = presentation.end();
    assert_eq!(record(&out).ended, Some(12));
    assert_eq!((start.msn, start.discontinuity, start.life), (13, 1, record(&out).life.0 + 1));
}

#[test]
fn while_nobody_publishes_gaps_are_numbered_on() {
    let publishers = publishers();
    let (mut presentation, _) = live(&publishers, 5_000);
    presentation.flush();
    presentation.release(HIGH);
    assert!(!presentation.is_fed());
    let out = presentation.gap();
    assert!(matches!(out.last(), Some(Output::Diagnostic(Diagnostic::GapSegment { msn: 13 }))));
    assert_eq!((msns(&out, 0), msns(&out, 1)), (vec![(13, true)], vec![(13, true)]));
}

#[test]
fn one_that_is_taken_over_is_numbered_on() {
    let publishers = publishers();
    let (presentation, _) = live(&publishers, 5_000);
    let (out, _) = presentation.end();
    let record = Record { ended: None, ..record(&out).clone() };
    let ends = vec![(TrackId(0), 450_000), (TrackId(1), 240_000)];
    let epoch = record.epoch;
    let mut resumed = Presentation::resume(Resume { record, newest_msn: 12, discontinuity: 0, ends });
    let next = Epoch { counter: epoch.counter + 1, ..epoch };
    resumed.attach(next);
    let out = resumed.gap();
    assert_eq!((msns(&out, 0), msns(&out, 1)), (vec![(13, true)], vec![(13, true)]));
    let Output::Part { header, .. } = out.iter().find(|output| matches!(output, Output::Part { .. })).expect("parts")
    else {
        unreachable!("found as one");
    };
    assert_eq!((header.id.epoch, header.decode_time), (next, 450_000));
}

#[test]
fn a_push_takes_free_places_and_appends_others() {
    let publishers = publishers();
    let (mut presentation, _) = live(&publishers, 4_100);
    let source = |track| publishers.source(track).expect("configured");
    let low = publishers.rendition(LOW);
    assert_eq!(presentation.claim(LOW_AUDIO, source(LOW_AUDIO), low), None, "sound is there");
    assert_eq!(presentation.claim(LOW_VIDEO, source(LOW_VIDEO), low), Some(2));
    assert!(presentation.is_fed_beside(HIGH) && presentation.release(HIGH) && !presentation.is_fed_beside(LOW));
    assert_eq!(presentation.place_of(&source(VIDEO).codec, publishers.rendition(HIGH)), Some(0));
    assert_eq!(presentation.claim(LOW_AUDIO, source(LOW_AUDIO), low), Some(1));
}

#[test]
fn a_track_joins_with_a_segment_that_others_have_begun() {
    let publishers = publishers();
    let (mut presentation, _) = live(&publishers, 6_500);
    let segment = presentation.segment(13).expect("under way");
    let source = publishers.source(LOW_VIDEO).expect("configured");
    let track = presentation.claim(LOW_VIDEO, source, publishers.rendition(LOW)).expect("a place");
    let first = track_unit(LOW_VIDEO, 6_000, true);
    let mut out = presentation.join(track, source, &first, &segment);
    assert!(matches!(out.last(), Some(Output::Diagnostic(Diagnostic::Joined { track: TrackId(2), first_msn: 13 }))));
    let sent: Vec<_> = record(&out).periods.iter().map(|p| (p.first_msn, p.tracks.contains(TrackId(2)))).collect();
    assert_eq!(sent, [(10, false), (13, true)]);
    for dts in (6_000..6_500).step_by(40) {
        out.extend(presentation.put(track, track_unit(LOW_VIDEO, dts, dts == 6_000)));
    }
    out.extend(presentation.cut(false));
    assert_eq!(msns(&out, 2), [(13, false)]);
}

#[test]
fn sound_that_stops_is_taken_from_another_push() {
    let publishers = publishers();
    let (mut presentation, _) = live(&publishers, 4_100);
    assert!(presentation.silent_sound().is_none());
    for dts in (4_120..5_000).step_by(40) {
        presentation.feed(0, track_unit(VIDEO, dts, false));
    }
    let (track, _) = presentation.silent_sound().expect("it lags by 0.9 s");
    let source = publishers.source(LOW_AUDIO).expect("configured");
    let old: VecDeque<InputUnit> = (0..10).map(|n| track_unit(LOW_AUDIO, n * 21, true)).collect();
    assert!(presentation.take_sound(track, source, &old).is_none(), "all of it is over");
    let new = (0..60).map(|n| track_unit(LOW_AUDIO, 4_000 + n * 64 / 3, true)).collect();
    let mut out = presentation.take_sound(track, source, &new).expect("sound to come");
    for dts in (5_000..5_400).step_by(40) {
        out.extend(presentation.feed(0, track_unit(VIDEO, dts, false)));
    }
    assert!(!msns(&out, 1).is_empty());
    assert_eq!(presentation.track_of(LOW_AUDIO), Some(1));
}
