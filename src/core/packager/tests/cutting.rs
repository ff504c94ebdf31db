//! Where parts and segments end.

use super::*;
use crate::testing::timing::Timing;

/// Plays frames alone, ends, and says of each segment how long it is and how many parts it has.
fn cut(settings: Settings, units: &[AccessUnit]) -> (Bench, Vec<(u64, usize)>) {
    let mut bench = Bench::new(settings);
    bench.attach(1);
    bench.send(Input::Config { track: VIDEO, config: avcc() });
    bench.play(units, 0);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.units(0), payloads(units, VIDEO), "every unit once, in order");
    let segments = bench.segments(0).into_iter().map(|(_, ms, parts, _)| (ms, parts)).collect();
    (bench, segments)
}

#[test]
fn two_seconds_and_whole_frames_at_broadcast_rates() {
    for (fps, gop) in [(25.0, 50), (30.0, 60), (50.0, 100), (60.0, 120)] {
        let (bench, segments) = cut(settings(), &frames(gop * 5, fps, gop, true));
        assert_eq!(segments, vec![(2_000, 10); 5], "{fps}");
        assert_eq!(check_invariants(&bench.outputs), 0, "{fps}");
        let record = bench.record();
        assert_eq!((record.target_duration, record.part_target.as_millis()), (2, 202), "{fps}");
        let crate::model::TrackKind::Video(video) = record.tracks[0].kind else { panic!("video is video") };
        assert_eq!((video.width, video.height), (1_280, 720));
        assert_eq!(video.frame_rate_milli, fps as u32 * 1_000);
    }
}

#[test]
fn open_gops_are_whole_ones() {
    // As x265 makes them unless told otherwise: each keyframe but the first is decoded before two pictures that are shown
    // before it.
    let frame = |n: u64| (n as f64 * 1_000.0 / 30.0).round() as u64;
    let units = frames(298, 30.0, 1_000, false).into_iter().zip(0..).map(|(unit, n)| {
        let keyframe = n == 0 || n % 60 == 58;
        let shown = frame(if n > 0 && keyframe { n + 4 } else { n + 2 });
        AccessUnit { keyframe, composition_offset: (shown - unit.dts) as i32, ..unit }
    });
    let (bench, segments) = cut(settings(), &units.collect::<Vec<_>>());
    assert_eq!(segments.iter().map(|(ms, _)| *ms).collect::<Vec<_>>(), [1_933, 2_000, 2_000, 2_000, 2_000]);
    assert_eq!(bench.record().target_duration, 2);
    assert_eq!(bench.notices("forced_cut"), 0);
}

#[test]
fn the_latency_is_three_parts_at_least() {
    for (asked, given) in [(0, 606), (500, 606), (1_500, 1_500), (60_000, 10_000)] {
        let latency = Duration::from_millis(asked);
        let (bench, _) = cut(Settings { latency, ..settings() }, &frames(120, 30.0, 60, true));
        assert_eq!(bench.record().latency, Duration::from_millis(given), "{asked}");
    }
}

#[test]
fn ntsc_rates_keep_their_own_length() {
    let (bench, segments) = cut(settings(), &frames(60 * 5, 30_000.0 / 1_001.0, 60, false));
    assert_eq!(segments, vec![(2_002, 10); 5]);
    assert_eq!(bench.record().target_duration, 2);
    assert_eq!(check_invariants(&bench.outputs), 0);
}

#[test]
fn both_timestamps_are_kept() {
    let units = frames(240, 30.0, 60, true);
    let (bench, _) = cut(settings(), &units);
    let (header, body) = bench.parts(0)[1];
    let init = &bench.record().tracks[0].inits[0].bytes;
    let mp4 = re_mp4::Mp4::read_bytes(&[&init[..], &body[..]].concat()).expect("an mp4 file");
    let trun = &mp4.moofs[0].trafs[0].truns[0];
    assert_eq!(trun.version, 1);
    assert_eq!(trun.sample_cts, units[6..12].iter().map(|u| u.composition_offset as u32 * 90).collect::<Vec<_>>());
    assert_eq!(header.decode_time, units[6].dts * 90);
    let shown = units[6..12].iter().map(|u| u.dts + u.composition_offset as u64).min().expect("six");
    let start = bench.record().availability_start;
    assert_eq!(header.program_date_time, start + Duration::from_millis(shown));
}

#[test]
fn segments_are_the_nearest_number_of_gops() {
    let check = |gop: u64, expect: &[(u64, usize)], target: u32| {
        let (bench, segments) = cut(settings(), &frames(gop * 6, 30.0, gop, false));
        assert_eq!(segments, expect, "GOPs of {gop}");
        assert_eq!(bench.record().target_duration, target);
    };
    check(30, &[(2_000, 10); 3], 2);
    check(90, &[(3_000, 15); 6], 3);
    check(45, &[(1_500, 8); 6], 2);
}

/// Plays what an encoder sent. Returns TARGETDURATION, too, and the lengths of the video segments in ms.
fn encoder(timing: &str) -> (Bench, u32, Vec<u64>) {
    let units = Timing::parse(timing).units;
    let mut bench = Bench::new(settings());
    bench.attach_av(1);
    bench.play(&units, 0);
    bench.send(Input::End);
    assert_eq!(check_invariants(&bench.outputs), 0, "parts below 85 % of PART-TARGET");
    assert_eq!(bench.units(0), payloads(&units, VIDEO));
    let sound: Vec<Bytes> = bench.units(1).into_iter().filter(|unit| unit.starts_with(b"a ")).collect();
    assert_eq!(sound, payloads(&units, AUDIO));
    let nothing_lost = |track| bench.parts(track).iter().all(|(header, _)| !header.flags.gap || header.flags.held);
    assert!(nothing_lost(0) && nothing_lost(1), "every segment has what came");
    let lengths = bench.segments(0).into_iter().map(|segment| segment.1).collect();
    let target = bench.record().target_duration;
    (bench, target, lengths)
}

#[test]
fn x264s_scene_cuts_end_segments() {
    let (bench, target, lengths) = encoder(include_str!("../../../../fixtures/timing/x264-scene-cuts.txt"));
    assert_eq!((target, &lengths[..6]), (2, &[2_000, 1_300, 2_000, 1_300, 2_000, 1_300][..]));
    assert!(bench.parts(0).iter().all(|(header, _)| !header.flags.irregular && !header.flags.forced));
    let (bench, target, lengths) = encoder(include_str!("../../../../fixtures/timing/x264-one-scene-cut.txt"));
    assert_eq!((target, &lengths[4..]), (2, &[2_000, 2_000, 900, 2_000, 2_000, 1_100][..]));
    assert_eq!(bench.notices("forced_cut"), 0);
}

#[test]
fn obs_default_keyframe_interval_is_within_target_duration() {
    let (bench, target, lengths) = encoder(include_str!("../../../../fixtures/timing/x264-keyint-250.txt"));
    assert_eq!((target, &lengths[..4]), (6, &[6_467, 1_867, 6_466, 1_867][..]));
    assert_eq!(bench.notices("forced_cut"), 2);
}

#[test]
fn all_sound_around_the_seams_of_a_loop_is_heard() {
    let (bench, target, lengths) = encoder(include_str!("../../../../fixtures/timing/ffmpeg-stream-loop.txt"));
    assert_eq!((target, &lengths[2..5]), (2, &[2_000, 1_422, 2_000][..]));
    assert_eq!((bench.notices("forced_cut"), bench.notices("period_began")), (0, 0));
}

#[test]
fn gops_longer_than_any_before_are_cut_by_force() {
    let mut units = frames(30 * 20, 30.0, 1_000_000, false);
    for key in [0, 50, 80, 170, 200, 290, 330, 420, 480, 560] {
        units[key].keyframe = true;
    }
    let (bench, segments) = cut(settings(), &units);
    assert_eq!(bench.record().target_duration, 2);
    // Once a GOP of 3 s has been seen, each keyframe may be the last that is in time.
    let lengths: Vec<u64> = segments.iter().map(|s| s.0).collect();
    assert_eq!(lengths[..8], [1_667, 1_000, 2_466, 534, 1_000, 2_466, 534, 1_333]);
}

#[test]
fn without_keyframes_the_segment_is_cut_all_the_same() {
    let (bench, segments) = cut(settings(), &frames(30 * 20, 30.0, 300, false));
    assert_eq!(bench.record().target_duration, 6);
    // TD + 0.5 s less a frame, then the next keyframe, at 10 s.
    assert_eq!(segments.iter().map(|s| s.0).collect::<Vec<_>>(), [6_467, 3_533, 6_467, 3_533]);
    assert_eq!(bench.notices("forced_cut"), 2);
    assert!(bench.parts(0).iter().all(|(h, _)| h.flags.irregular), "GOPs of 10 s say so from the start");
    let starts: Vec<_> = bench.parts(0).iter().filter(|(h, _)| h.id.part == 0).map(|(h, _)| h.flags).collect();
    assert_eq!(
        starts.iter().map(|f| (f.independent, f.forced)).collect::<Vec<_>>(),
        [(true, false), (false, true), (true, false), (false, true)]
    );
}

#[test]
fn a_forced_cut_is_remembered_for_the_life() {
    let mut units = frames(30 * 30, 30.0, 60, false);
    for unit in units.iter_mut().filter(|u| (8_000..15_000).contains(&u.dts)) {
        unit.keyframe = false;
    }
    let (bench, _) = cut(settings(), &units);
    assert!(bench.notices("forced_cut") > 0);
    let irregular: Vec<bool> = bench.parts(0).iter().map(|(h, _)| h.flags.irregular).collect();
    assert!(!irregular[0] && irregular.is_sorted() && irregular.last() == Some(&true), "{irregular:?}");
}

#[test]
fn a_set_length_needs_no_measure() {
    let set = Settings { segment: Some(Duration::from_secs(4)), ..settings() };
    let mut bench = Bench::new(set);
    bench.attach_av(1);
    bench.play(&programme(1), 0);
    assert!(bench.parts(0).len() >= 3, "published within a second");
    let (bench, segments) = cut(set, &frames(30 * 9, 30.0, 30, false));
    assert_eq!(segments, [(4_000, 20), (4_000, 20), (1_000, 5)]);
    assert_eq!(bench.record().target_duration, 4);
}

#[test]
fn audio_alone_is_cut_on_a_grid() {
    let mut bench = Bench::new(settings());
    bench.attach(1);
    bench.send(Input::Config { track: AUDIO, config: asc() });
    let units = sounds(940);
    bench.play(&units, 0);
    bench.send(Input::End);
    assert_eq!(check_invariants(&bench.outputs), 0);
    assert_eq!(bench.units(0), payloads(&units, AUDIO));
    assert_eq!(bench.record().tracks[0].name, "audio");
    // 93.75 units in 2 s.
    let lengths: Vec<u64> = bench.segments(0).iter().map(|s| s.1).collect();
    assert!(lengths[..9].iter().all(|ms| (1_984..=2_006).contains(ms)), "{lengths:?}");
    assert!(lengths[..8].iter().sum::<u64>().abs_diff(16_000) <= 11, "{lengths:?}");
    assert_eq!(bench.record().target_duration, 2);
}

#[test]
fn audio_is_cut_where_video_is() {
    let mut bench = Bench::new(settings());
    bench.attach_av(1);
    let units = programme(12);
    bench.play(&units, 0);
    bench.send(Input::Detached(FEED));
    assert_eq!(check_invariants(&bench.outputs), 0);
    assert_eq!(bench.units(0), payloads(&units, VIDEO));
    assert_eq!(bench.units(1), payloads(&units, AUDIO));
    let starts = |track: u8, hz: u64| -> Vec<(Msn, u64)> {
        let firsts = bench.parts(track).into_iter().filter(|(h, _)| h.id.part == 0);
        firsts.map(|(h, _)| (h.id.msn, h.decode_time * 1_000 / hz)).collect()
    };
    let (video, audio) = (starts(0, 90_000), starts(1, 48_000));
    assert_eq!(video.len(), 6);
    for (v, a) in video.iter().zip(&audio) {
        assert!(v.0 == a.0 && v.1.abs_diff(a.1) <= 11, "{v:?} {a:?}");
    }
    // And so are the parts in between, to the nearest unit.
    let parts = |track: u8, hz: u64| -> Vec<_> {
        bench.parts(track).into_iter().map(|(h, _)| (h.id.msn, h.id.part, h.decode_time * 1_000 / hz)).collect()
    };
    let (video, audio) = (parts(0, 90_000), parts(1, 48_000));
    assert_eq!((video.len(), audio.len()), (60, 60));
    for (v, a) in video.iter().zip(&audio) {
        assert!((v.0, v.1) == (a.0, a.1) && v.2.abs_diff(a.2) <= 13, "{v:?} {a:?}");
    }
    let record = bench.record();
    let names: Vec<_> = record.tracks.iter().map(|t| (t.name.as_str(), t.codec.as_str())).collect();
    assert_eq!(names, [("video", "avc1.64001f"), ("audio", "mp4a.40.2")]);
    assert!(record.tracks.iter().all(|t| t.bandwidth > 0));
}

#[test]
fn languages_that_the_input_tells_are_the_tracks() {
    let mut bench = Bench::new(settings());
    bench.attach_av(1);
    let further = [(2, "de"), (3, "de"), (4, "a language")];
    let mut tracks = vec![sounds(300)];
    for (track, language) in further.map(|(track, language)| (InputTrack(track), language)) {
        bench.send(Input::Language { track, language: language.to_owned() });
        bench.send(Input::Config { track, config: asc() });
        tracks.push(sounds(300).into_iter().map(|unit| AccessUnit { track, ..unit }).collect());
    }
    tracks.push(frames(180, 30.0, 60, false));
    bench.play(&mux(&tracks), 0);
    let named: Vec<_> = bench.record().tracks.iter().map(|t| (t.name.as_str(), t.language.as_deref())).collect();
    let expect = [("video", None), ("audio", None), ("audio1", Some("de")), ("audio2", None), ("audio3", None)];
    assert_eq!(named, expect);
}

#[test]
fn a_part_leaves_with_the_unit_that_would_cross_its_end() {
    let mut bench = Bench::new(settings());
    bench.attach_av(1);
    bench.play(&programme(12), 0);
    for (header, _) in
        bench.parts(0).iter().chain(&bench.parts(1)).filter(|(h, _)| h.id.msn > bench.record().first_msn + 2)
    {
        let hz = u64::from(bench.record().track(header.id.track).expect("a track").timescale.hz());
        let ended = (header.decode_time + u64::from(header.duration)) * 1_000 / hz;
        let ingested = header.ingested.since(bench.record().availability_start);
        let late = ended.saturating_sub(ingested.as_millis() as u64);
        assert!(late <= 34, "the last unit of {header:?} began {late} ms before its end");
    }
}

#[test]
fn variable_frame_rates_keep_below_part_target() {
    let mut units = frames(600, 30.0, 60, false);
    // Every frame of each other second lasts twice as long; and one stands for 0.9 s.
    let mut at = 0;
    for (i, unit) in units.iter_mut().enumerate() {
        unit.dts = at;
        at += if i == 400 {
            900
        } else if i / 30 % 2 == 0 {
            33
        } else {
            66
        };
    }
    let (bench, segments) = cut(Settings { segment: Some(Duration::from_secs(3)), ..settings() }, &units);
    assert!(segments.iter().all(|s| s.0 <= 3_500), "{segments:?}");
    let gaps = bench.parts(0).iter().filter(|(h, _)| h.flags.gap).count();
    assert!((1..=5).contains(&gaps), "{gaps}");
}

#[test]
fn a_frozen_picture_doesnt_stop_the_sound() {
    let mut units = programme(20);
    units.retain(|u| u.track == AUDIO || !(6_100..13_000).contains(&u.dts));
    let mut bench = Bench::new(settings());
    bench.attach_av(1);
    bench.play(&units, 0);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.units(0), payloads(&units, VIDEO));
    assert_eq!(bench.units(1), payloads(&units, AUDIO));
    assert_eq!(bench.segments(1).iter().filter(|s| s.3).count(), 0);
    assert!(bench.segments(0).iter().filter(|s| s.3).count() >= 2);
    assert_eq!(bench.segments(0).len(), bench.segments(1).len());
    assert_eq!(bench.notices("period_began"), 0);
}

/// Sends units, each when its decode time has come, and ends.
fn sent(units: &[AccessUnit], sound: CodecConfig) -> Bench {
    let mut bench = Bench::new(settings());
    bench.attach(1);
    bench.send(Input::Config { track: VIDEO, config: avcc() });
    bench.send(Input::Config { track: AUDIO, config: sound });
    bench.play(units, 0);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.units(0), payloads(units, VIDEO));
    bench
}

#[test]
fn sound_that_stops_is_silent_until_it_returns_in_sync() {
    for (from, to) in [(5_000, 15_000), (5_000, 5_045), (5_980, 6_130), (5_000, 5_700)] {
        let mut units = programme(20);
        units.retain(|u| u.track == VIDEO || !(from..to).contains(&u.dts));
        let bench = sent(&units, asc());
        assert!(bench.parts(1).iter().all(|(h, _)| !h.flags.gap), "{from} {to}");
        let came = bench.heard(1);
        assert_eq!(came, payloads(&units, AUDIO), "{from} {to}");
        let silent = bench.units(1).len() - came.len();
        let missing = sounds(20 * 48_000 / 1_024).len() - came.len();
        assert_eq!((silent, bench.notices("silence_filled")), (missing, 1), "{from} {to}");
        assert_eq!((bench.notices("period_began"), bench.notices("late")), (0, 0));
        let (header, body) = *bench.parts(1).last().expect("sound at the end");
        let (n, of) = (bench_samples(&bench, header, body), header.decode_time);
        assert_eq!(of, n * 1_024, "each unit is where it was meant to be");
    }
}

#[test]
fn sound_that_returns_seconds_late_is_told_of_once() {
    let late = |unit: &AccessUnit| if unit.track == AUDIO && unit.dts >= 5_000 { 6_000 } else { 0 };
    let mut units: Vec<(u64, AccessUnit)> =
        programme(60).into_iter().map(|unit| (unit.dts + late(&unit), unit)).collect();
    units.sort_by_key(|(at, _)| *at);
    let mut bench = Bench::new(settings());
    bench.attach_av(1);
    let start = bench.now_ms;
    for (at, unit) in units.into_iter().filter(|(at, _)| *at < 60_000) {
        bench.wait_until(start + at);
        bench.send(Input::Unit(unit));
    }
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    let told = bench.notices("silence_filled");
    assert!(told <= 2, "{told}");
}

/// The number of the first unit of a part, by its text.
fn bench_samples(bench: &Bench, header: &PartHeader, body: &Bytes) -> u64 {
    let first = samples(bench.record(), header, body).swap_remove(0);
    let text = std::str::from_utf8(&first).expect("text");
    text.strip_prefix("audio ").and_then(|n| n.parse().ok()).expect("a number")
}

#[test]
fn a_lone_timestamp_that_is_off_costs_nothing() {
    for (track, off) in [(VIDEO, 300), (VIDEO, 36_000_000), (AUDIO, 300), (AUDIO, -300), (VIDEO, -300)] {
        let mut bench = Bench::new(settings());
        bench.attach_av(1);
        let (units, start) = (programme(12), bench.now_ms);
        for (n, unit) in units.iter().enumerate() {
            bench.wait_until(start + unit.dts);
            let nth = units[..n].iter().filter(|other| other.track == unit.track).count();
            let off = if unit.track == track && nth % 60 == 21 { off } else { 0 };
            bench.send(Input::Unit(AccessUnit { dts: unit.dts.wrapping_add_signed(off) % (1 << 32), ..unit.clone() }));
        }
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        for (place, input) in [(0, VIDEO), (1, AUDIO)] {
            let (came, sent) = (bench.units(place), payloads(&units, input));
            let differ = came.iter().zip(&sent).position(|(came, sent)| came != sent);
            assert_eq!((came.len(), differ), (sent.len(), None), "{input:?}: {track:?} {off}");
        }
        let periods = (bench.notices("jump"), bench.notices("period_began"), bench.notices("silence_filled"));
        assert_eq!(periods, (0, 0, 0), "{track:?} {off}");
        assert!(bench.notices("outlier") >= 5, "{track:?} {off}: {}", bench.notices("outlier"));
    }
}

#[test]
fn silence_comes_as_the_pictures_do() {
    let mut units = programme(12);
    units.retain(|u| u.track == VIDEO || u.dts < 5_000);
    let mut bench = Bench::new(settings());
    bench.attach_av(1);
    bench.play(&units, 0);
    let end = |track: u8, hz: u64| {
        let (header, _) = *bench.parts(track).last().expect("parts");
        (header.decode_time + u64::from(header.duration)) * 1_000 / hz
    };
    let (pictures, sound) = (end(0, 90_000), end(1, 48_000));
    assert!(sound + 450 > pictures && sound < pictures + 30, "{sound} beside {pictures}");
}

#[test]
fn lost_sound_of_a_codec_without_silence_gets_gaps_in_step() {
    let mut units = programme(16);
    units.retain(|u| u.track == VIDEO || !(5_000..11_000).contains(&u.dts));
    for unit in units.iter_mut().filter(|u| u.track == AUDIO) {
        unit.dts = unit.dts / 32 * 32;
    }
    units.dedup_by_key(|u| (u.track, u.dts));
    // 48 kHz, stereo, 192 kbit/s.
    let bench = sent(&units, CodecConfig::Ac3(Bytes::from_static(&[0x10, 0x11, 0x40])));
    let msns = |track| bench.segments(track).iter().map(|s| s.0).collect::<Vec<_>>();
    assert_eq!(msns(0), msns(1));
    assert!(bench.segments(1).iter().any(|s| s.3));
}

#[test]
fn sound_that_lags_or_leads_is_waited_for() {
    for lag in [-400i64, -60, 60, 400, 800] {
        let mut units: Vec<(i64, AccessUnit)> = programme(12).into_iter().map(|u| (u.dts as i64, u)).collect();
        for (at, _) in units.iter_mut().filter(|(_, u)| u.track == AUDIO) {
            *at += lag;
        }
        units.sort_by_key(|(at, _)| *at);
        let mut bench = Bench::new(settings());
        bench.attach_av(1);
        for (at, unit) in &units {
            bench.wait_until((11_000 + at) as u64);
            bench.send(Input::Unit(unit.clone()));
        }
        bench.send(Input::End);
        assert_eq!(check_invariants(&bench.outputs), 0, "{lag}");
        let plain: Vec<AccessUnit> = units.into_iter().map(|(_, u)| u).collect();
        assert_eq!(bench.units(0), payloads(&plain, VIDEO), "{lag}");
        assert_eq!(bench.units(1), payloads(&plain, AUDIO), "{lag}");
        assert_eq!(bench.notices("period_began"), 0);
    }
}

#[test]
fn a_second_rendition_and_language_are_cut_in_step() {
    let retrack = |units: Vec<AccessUnit>, track: u8| -> Vec<AccessUnit> {
        let data = |u: &AccessUnit| Bytes::from([&u.data[..], &[track]].concat());
        units.into_iter().map(|u| AccessUnit { track: InputTrack(track), data: data(&u), ..u }).collect()
    };
    let units = mux(&[
        frames(360, 30.0, 60, true),
        sounds(562),
        retrack(frames(360, 30.0, 60, true), 2),
        retrack(sounds(562), 3),
    ]);
    let mut bench = Bench::new(settings());
    bench.attach_av(1);
    bench.send(Input::Config { track: InputTrack(2), config: other_avcc() });
    bench.send(Input::Config { track: InputTrack(3), config: asc() });
    bench.play(&units, 0);
    bench.send(Input::End);
    assert_eq!(check_invariants(&bench.outputs), 0);
    let names: Vec<_> = bench.record().tracks.iter().map(|t| t.name.clone()).collect();
    assert_eq!(names, ["video", "video1", "audio", "audio1"]);
    for (track, input) in [(0, 0), (1, 2), (2, 1), (3, 3)] {
        assert_eq!(bench.units(track), payloads(&units, InputTrack(input)), "{track}");
    }
    assert_eq!(bench.segments(0), bench.segments(1));
    assert_eq!(bench.segments(2), bench.segments(3));
}

#[test]
fn sound_that_lags_for_good_is_waited_for_longer() {
    let lag = 1_500;
    let mut units: Vec<(u64, AccessUnit)> = programme(20).into_iter().map(|u| (u.dts, u)).collect();
    for (at, _) in units.iter_mut().filter(|(_, u)| u.track == AUDIO && u.dts > 6_000) {
        *at += lag;
    }
    units.sort_by_key(|(at, _)| *at);
    let mut bench = Bench::new(settings());
    bench.attach_av(1);
    for (at, unit) in &units {
        bench.wait_until(10_000 + at);
        bench.send(Input::Unit(unit.clone()));
    }
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.units(0).len(), 600);
    let (came, late) = (bench.heard(1).len(), bench.notices("late"));
    assert_eq!(came + late, payloads(&programme(20), AUDIO).len(), "lost units are counted");
    assert!(late <= 90, "{late}");
    // From some time on nothing is lost any more.
    let ends = bench.segments(1).iter().rev().take(3).filter(|s| !s.3).count();
    assert_eq!(ends, 3);
}

#[test]
fn what_is_gathered_is_bounded() {
    let mut bench = Bench::new(settings());
    bench.attach(1);
    bench.send(Input::Config { track: VIDEO, config: avcc() });
    let large = Bytes::from(vec![7; 8 << 20]);
    for unit in frames(10, 30.0, 300, false) {
        bench.wait(33);
        bench.send(Input::Unit(AccessUnit { data: large.clone(), ..unit }));
    }
    assert!(bench.notices("life_began") == 1, "64 MiB are published before anything is measured");
    bench.send(Input::End);
    // A part takes 16 MiB at most: here one unit each.
    assert!(bench.parts(0).iter().all(|(h, _)| h.length <= crate::model::part_header::BODY_LEN_MAX));
    assert_eq!(bench.units(0).len(), 10);
    bench.send(Input::Unit(AccessUnit {
        data: vec![0; UNIT_LEN_MAX + 1].into(),
        ..frames(1, 30.0, 1, false)[0].clone()
    }));
}

#[test]
fn equal_timestamps_make_no_flood_of_parts() {
    let mut bench = Bench::new(settings());
    bench.attach(1);
    bench.send(Input::Config { track: VIDEO, config: avcc() });
    let units = frames(150, 30.0, 60, false);
    bench.play(&units, 0);
    for n in 0..30_000u32 {
        let data = Bytes::copy_from_slice(&n.to_be_bytes());
        bench.send(Input::Unit(AccessUnit { dts: 4_967, keyframe: false, data, ..units[0].clone() }));
    }
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.units(0).len(), 150 + 30_000);
    assert!(bench.parts(0).len() < 60, "{}", bench.parts(0).len());
}

#[test]
fn a_picture_that_comes_after_seconds_ends_no_segment_late() {
    // Two frames 3 s apart look like a frame a second.
    let mut bench = Bench::new(Settings { segment: Some(Duration::from_secs(2)), ..settings() });
    bench.attach_av(1);
    let first = frames(1, 30.0, 1, false).remove(0);
    bench.send(Input::Unit(AccessUnit { keyframe: false, ..first.clone() }));
    bench.wait(3_010);
    bench.send(Input::Unit(AccessUnit { dts: 3_010, ..sounds(1).remove(0) }));
    bench.send(Input::Unit(AccessUnit { dts: 3_010, keyframe: false, ..first }));
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert!(bench.segments(0).iter().all(|segment| segment.1 <= 2_570), "{:?}", bench.segments(0));
}

#[test]
fn sound_that_is_ahead_at_the_end_makes_no_segment_too_long() {
    let mut bench = Bench::new(Settings { segment: Some(Duration::from_secs(2)), ..settings() });
    bench.attach_av(1);
    // No keyframe comes at 4 s, and the last picture just before the segment would be cut by force.
    let pictures =
        frames(134, 30.0, 60, false).into_iter().map(|unit| AccessUnit { keyframe: unit.dts <= 2_000, ..unit });
    let units = mux(&[pictures.collect(), sounds(218)]);
    bench.play(&units, 0);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!((bench.heard(0), bench.heard(1)), (payloads(&units, VIDEO), payloads(&units, AUDIO)));
}
