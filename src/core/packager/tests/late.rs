//! Tracks that come after the others of their push, and sources that return in the middle of a GOP.

use proptest::prelude::*;

use super::*;

/// Units from `from` on.
fn since(units: Vec<AccessUnit>, from: u64) -> Vec<AccessUnit> {
    units.into_iter().filter(|unit| unit.dts >= from).collect()
}

/// Pictures at 30 fps in GOPs of 2 s, the first of which begins at `from`.
fn pictures(from: u64, seconds: u64) -> Vec<AccessUnit> {
    let frames = frames(seconds * 30, 30.0, 60, false).into_iter();
    frames.map(|unit| AccessUnit { dts: unit.dts + from, ..unit }).collect()
}

/// Sends units, each when its decode time and its track's delay have passed, and each track's headers before its first one.
fn push(bench: &mut Bench, units: &[AccessUnit], delay: impl Fn(InputTrack) -> u64) {
    let mut all: Vec<(u64, &AccessUnit)> = units.iter().map(|unit| (unit.dts + delay(unit.track), unit)).collect();
    all.sort_by_key(|(at, _)| *at);
    let (start, mut configured) = (bench.now_ms, Vec::new());
    for (at, unit) in all {
        bench.wait_until(start + at);
        if !configured.contains(&unit.track) {
            configured.push(unit.track);
            let config = if unit.track == VIDEO { avcc() } else { asc() };
            bench.send(Input::Config { track: unit.track, config });
        }
        bench.send(Input::Unit(unit.clone()));
    }
}

fn together(_: InputTrack) -> u64 {
    0
}

fn announce(bench: &mut Bench, counter: u32) {
    let announced = Announced { video: Some(true), audio: Some(true) };
    bench.send(Input::Attached { push: FEED, rendition: None, epoch: epoch(counter), clock: RTMP, announced });
}

/// The periods: whether each continues the one before, and the names of its tracks.
fn periods(bench: &Bench) -> Vec<(bool, Vec<&str>)> {
    let record = bench.record();
    let tracks = |period: &crate::model::Period| {
        let sent = record.tracks.iter().filter(|track| period.tracks.contains(track.id));
        sent.map(|track| track.name.as_str()).collect()
    };
    record.periods.iter().map(|period| (period.continues, tracks(period))).collect()
}

#[test]
fn pictures_that_come_to_sound_lead_from_their_first_keyframe() {
    // In the middle of a segment, and at its edges; sound before or behind the pictures on the line.
    for (from, sound, video) in
        [(7_100, 0, 0), (7_990, 0, 0), (8_010, 60, 0), (7_100, 400, 0), (7_100, 0, 400), (8_030, 0, 400)]
    {
        let mut bench = Bench::new(settings());
        bench.attach(1);
        let units = mux(&[pictures(from, 9), sounds((from + 9_000) * 48 / 1_024)]);
        push(&mut bench, &units, |track| if track == AUDIO { sound } else { video });
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        let of = format!("{from} {sound} {video}");
        assert_eq!(bench.units(0), payloads(&units, AUDIO), "{of}");
        assert_eq!(bench.units(1), payloads(&units, VIDEO), "{of}");
        assert_eq!(periods(&bench), [(false, vec!["audio"]), (true, vec!["audio", "video"])], "{of}");
        assert_eq!((bench.notices("track_late"), bench.notices("period_began")), (1, 0), "{of}");
        let first = bench.parts(1)[0].0;
        assert!(first.flags.independent && first.id.msn == bench.record().periods[1].first_msn, "{of}");
        let start = Timescale::MPEG.duration(first.decode_time);
        assert!(bench.record().periods[1].start <= start + Duration::from_micros(1), "{of}: cut off at {start:?}");
        let independent = |(header, _): &(&PartHeader, &Bytes)| header.id.part > 0 || header.flags.independent;
        assert!(bench.parts(1).iter().all(independent), "each segment begins with a keyframe: {of}");
        let msns = |track| bench.segments(track).last().map(|segment| segment.0);
        assert_eq!(msns(0), msns(1), "{of}");
    }
}

#[test]
fn sound_that_comes_to_pictures_joins_with_a_segment() {
    for from in [6_500, 7_300] {
        let mut bench = Bench::new(settings());
        bench.attach(1);
        let units = mux(&[frames(450, 30.0, 60, true), since(sounds(700), from)]);
        push(&mut bench, &units, together);
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        assert_eq!(periods(&bench), [(false, vec!["video"]), (true, vec!["video", "audio"])]);
        assert_eq!((bench.notices("track_late"), bench.notices("period_began")), (1, 0));
        assert_eq!(bench.units(0), payloads(&units, VIDEO));
        let heard = bench.units(1);
        assert_eq!(heard[..], payloads(&units, AUDIO)[payloads(&units, AUDIO).len() - heard.len()..]);
        let record = bench.record();
        assert_eq!(record.first_msn_of(TrackId(1)), record.first_msn + 4, "the segment at 8 s");
        assert!(bench.parts(1).iter().all(|(header, _)| !header.flags.gap));
    }
}

#[test]
fn a_further_language_is_appended() {
    let mut bench = live_av();
    let second = InputTrack(3);
    bench.send(Input::Language { track: second, language: "de".to_owned() });
    let more = since(sounds(600), 7_000).into_iter().map(|unit| AccessUnit { track: second, ..unit });
    bench.now_ms = 10_000;
    push(&mut bench, &mux(&[since(programme(12), 7_000), more.collect()]), together);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(periods(&bench)[1], (true, vec!["video", "audio", "audio1"]));
    assert_eq!(bench.record().tracks[2].language.as_deref(), Some("de"));
}

fn live_av() -> Bench {
    let mut bench = Bench::new(settings());
    bench.attach_av(1);
    bench.play(&programme(7), 0);
    bench
}

#[test]
fn a_push_that_returns_with_a_further_track_appends_it() {
    for first in [VIDEO, AUDIO] {
        let mut bench = Bench::new(settings());
        bench.attach(1);
        let only: Vec<AccessUnit> = programme(7).into_iter().filter(|unit| unit.track == first).collect();
        push(&mut bench, &only, together);
        bench.send(Input::Detached(FEED));
        bench.wait(1_500);
        announce(&mut bench, 2);
        push(&mut bench, &programme(7), together);
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        let (own, other) = if first == VIDEO { ("video", "audio") } else { ("audio", "video") };
        assert_eq!(periods(&bench), [(false, vec![own]), (false, vec![own, other])]);
        let came = if first == VIDEO { AUDIO } else { VIDEO };
        assert_eq!(bench.units(1), payloads(&programme(7), came));
        assert_eq!((bench.notices("period_began"), bench.notices("track_ignored")), (1, 0));
    }
}

/// A source whose line was down, and is back in the middle of a GOP: sound comes at once, a keyframe `key` ms later.
fn back_in_mid_gop(gone: bool, key: u64) -> Bench {
    let mut bench = live_av();
    if gone {
        bench.send(Input::Detached(FEED));
    }
    bench.wait(4_000);
    if gone {
        announce(&mut bench, 2);
    }
    let back = mux(&[pictures(key, 8), sounds((key + 8_000) * 48 / 1_024)]);
    let units: Vec<AccessUnit> = back.into_iter().map(|unit| AccessUnit { dts: unit.dts + 11_000, ..unit }).collect();
    bench.now_ms -= 11_000;
    push(&mut bench, &units, together);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    bench
}

#[test]
fn a_source_back_in_mid_gop_makes_one_discontinuity_with_both_tracks() {
    for (gone, key) in [(true, 300), (true, 1_500), (false, 1_500), (true, 4_700), (false, 4_700)] {
        let bench = back_in_mid_gop(gone, key);
        assert_eq!(bench.notices("period_began"), 1, "{gone} {key}");
        let both = vec!["video", "audio"];
        // Segments that end early make further periods, without a discontinuity.
        let broken: Vec<_> = periods(&bench).into_iter().filter(|(continues, _)| !continues).collect();
        assert_eq!(broken, [(false, both.clone()), (false, both)], "{gone} {key}");
        let msn = bench.record().periods[1].first_msn;
        for track in [0, 1] {
            let parts = bench.parts(track);
            let (first, _) = parts.iter().find(|(header, _)| header.id.msn == msn).expect("parts");
            assert!(first.flags.independent && !first.flags.gap, "{gone} {key} {track}");
            assert_eq!(parts.iter().filter(|(header, _)| header.id.msn >= msn && header.flags.gap).count(), 0);
        }
        assert_eq!(bench.units(0).len(), 210 + 240, "{gone} {key}");
        // Gaps go on in real time while the keyframe is waited for.
        let gaps = bench.segments(0).iter().filter(|segment| segment.3).count() as u64;
        assert!(gaps + 1 >= (4_000 + key) / 2_000 - 1, "{gaps} {gone} {key}");
        let start = bench.record().periods[1].start.as_millis() as u64;
        assert!(start.abs_diff(11_000 + key) < 600, "{start} {gone} {key}");
    }
}

#[test]
fn a_track_that_is_announced_is_waited_for() {
    // A transport stream joined in a GOP of 5 s; a camera whose pictures or sound start up.
    for (video, audio, gop) in [(4_000, 0, 150), (3_000, 0, 60), (0, 3_000, 60)] {
        let mut bench = Bench::new(settings());
        announce(&mut bench, 1);
        let pictures = frames(360, 30.0, gop, false).into_iter();
        let pictures = pictures.map(|unit| AccessUnit { dts: unit.dts + video, ..unit }).collect();
        let units = mux(&[pictures, since(sounds(700), audio)]);
        push(&mut bench, &units, together);
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        assert_eq!(periods(&bench), [(false, vec!["video", "audio"])], "{video} {audio}");
        assert_eq!(bench.units(0), payloads(&units, VIDEO));
        assert_eq!(bench.notices("track_late"), 0);
    }
}

#[test]
fn pictures_of_a_very_long_gop_join_the_sound() {
    let mut bench = Bench::new(settings());
    announce(&mut bench, 1);
    let pictures = frames(600, 30.0, 300, false).into_iter().map(|unit| AccessUnit { dts: unit.dts + 9_000, ..unit });
    let units = mux(&[pictures.collect(), sounds(1_360)]);
    push(&mut bench, &units, together);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.record().target_duration, 6, "the GOPs are unknown");
    assert_eq!(bench.units(1), payloads(&units, VIDEO));
}

#[test]
fn a_late_rendition_out_of_step_is_ignored_and_told_once() {
    let mut bench = live_av();
    let second = InputTrack(2);
    bench.send(Input::Config { track: second, config: other_avcc() });
    let off = pictures(7_500, 12).into_iter().map(|unit| AccessUnit { track: second, ..unit });
    bench.now_ms = 10_000;
    for unit in mux(&[since(programme(18), 7_000), off.collect()]) {
        bench.wait_until(10_000 + unit.dts);
        bench.send(Input::Unit(unit));
    }
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!((bench.notices("track_late"), bench.notices("track_ignored")), (1, 1));
    assert_eq!((bench.record().tracks.len(), bench.record().periods.len()), (2, 1));
}

#[test]
fn pictures_that_are_shown_before_they_are_decoded_stay_beside_the_sound() {
    for early in [0, 40, 200] {
        let mut bench = Bench::new(settings());
        bench.attach_av(1);
        let pictures = frames(300, 25.0, 50, true).into_iter();
        let pictures: Vec<AccessUnit> = pictures
            .map(|unit| AccessUnit {
                composition_offset: unit.composition_offset - early,
                dts: unit.dts + 1_000,
                ..unit
            })
            .collect();
        let sound = sounds(560).into_iter().map(|unit| AccessUnit { dts: unit.dts + 1_000, ..unit }).collect();
        bench.play(&mux(&[pictures.clone(), sound]), 0);
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        let init = &bench.record().tracks[0].inits[0].bytes;
        let (mut shown, mut offsets) = (Vec::new(), Vec::new());
        for (header, body) in bench.parts(0).into_iter().filter(|(header, _)| !header.flags.gap) {
            let mp4 = re_mp4::Mp4::read_bytes(&[&init[..], &body[..]].concat()).expect("an mp4 file");
            let run = &mp4.moofs[0].trafs[0].truns[0];
            let mut dts = header.decode_time;
            for (cts, duration) in run.sample_cts.iter().zip(&run.sample_durations) {
                offsets.push(*cts as i32);
                shown.push(dts.saturating_add_signed(i64::from(*cts as i32)) / 90);
                dts += u64::from(*duration);
            }
        }
        assert!(offsets.iter().all(|offset| *offset >= 0), "{early}: {offsets:?}");
        let first = bench.parts(1)[0].0.decode_time / 48;
        let pushed: Vec<u64> =
            pictures.iter().map(|unit| unit.dts.saturating_add_signed(unit.composition_offset.into())).collect();
        let apart = |all: &[u64]| all.iter().map(|at| *at as i64 - first as i64).collect::<Vec<_>>();
        let moved = apart(&shown)[0] - (pushed[0] as i64 - 1_000);
        assert!(moved.abs() <= 1, "{early}: the pictures have moved by {moved} ms");
        assert_eq!(shown.len(), pushed.len(), "{early}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Tracks that start when they like are both served, with no discontinuity, and nothing is lost of the one that leads.
    #[test]
    fn tracks_start_when_they_like(video in 0..9_000u64, audio in 0..9_000u64, lag in 0..500u64, fps in 12.0..60.0f64, gop in 10..90u64) {
        let mut bench = Bench::new(settings());
        bench.attach(1);
        let pictures = frames((fps * 16.0) as u64, fps, gop, false).into_iter();
        let pictures = pictures.map(|unit| AccessUnit { dts: unit.dts + video, ..unit }).collect();
        let units = mux(&[pictures, since(sounds(1_000), audio)]);
        push(&mut bench, &units, |track| if track == AUDIO { lag } else { 0 });
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        prop_assert_eq!(bench.record().tracks.len(), 2);
        prop_assert_eq!(bench.notices("period_began"), 0);
        let track = bench.record().tracks.iter().position(|track| track.is_video()).expect("pictures");
        let (got, all) = (bench.units(track as u8), payloads(&units, VIDEO));
        prop_assert_eq!((got.len(), got.iter().zip(&all).position(|(got, all)| got != all)), (all.len(), None));
    }
}
