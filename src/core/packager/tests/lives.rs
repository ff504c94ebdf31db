//! Publishers that come and go, and clocks that jump.

use mp4_atom::Decode as _;

use super::*;

fn live(seconds: u64) -> Bench {
    let mut bench = Bench::new(settings());
    bench.attach_av(1);
    bench.play(&programme(seconds), 0);
    bench
}

#[test]
fn the_first_msn_is_the_unix_time() {
    let bench = live(5);
    let first = bench.record().first_msn;
    assert!((u64::from(first)).abs_diff(WALL / 1_000_000 + 14) <= 1, "{first}");
    assert_eq!(bench.parts(0)[0].0.id.msn, first);
    // The first sound is as old as it says; of the pictures, one comes four frames before it is shown.
    assert_eq!(bench.record().availability_start.as_micros(), (WALL + 10_000_000 - 133_000) / 1_000 * 1_000);
}

#[test]
fn program_date_time_is_when_a_picture_was_taken() {
    let units = programme(12);
    let mut bench = Bench::new(settings());
    bench.attach_av(1);
    bench.play(&units, 0);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    // Each unit came at its decode time. None may come before it was taken, and one came at once.
    let lead = units.iter().map(|u| u.composition_offset).max().expect("units");
    let taken = |shown_ms: u64| UnixTime::from_micros(WALL + (10_000 + shown_ms - lead as u64) * 1_000);
    for (track, hz) in [(0, 90_000), (1, 48_000)] {
        for (header, body) in bench.parts(track) {
            let prft = mp4_atom::Prft::decode(&mut &body[..]).expect("a part begins with its reference time");
            let ms = |micros: u64| micros / 1_000;
            assert_eq!(ms(taken(prft.media_time * 1_000 / hz).as_micros()), ms(header.program_date_time.as_micros()));
            let seconds = (prft.ntp_timestamp >> 32) - 2_208_988_800;
            let micros = ((prft.ntp_timestamp & 0xffff_ffff) * 1_000_000) >> 32;
            let said = seconds * 1_000_000 + micros;
            assert!(said.abs_diff(header.program_date_time.as_micros()) <= 1, "{prft:?} {header:?}");
        }
    }
}

#[test]
fn a_push_shorter_than_the_measure_is_published_whole() {
    for count in [1, 2, 10, 100] {
        let units: Vec<_> = programme(4).into_iter().take(count).collect();
        let mut bench = Bench::new(settings());
        bench.attach_av(1);
        bench.play(&units, 0);
        bench.send(Input::Detached(FEED));
        check_invariants(&bench.outputs);
        let n = bench.record().tracks.len();
        let came: usize = (0..n).map(|t| bench.units(t as u8).len()).sum();
        assert_eq!(came, count);
    }
}

#[test]
fn the_32_bit_wrap_goes_unseen() {
    let mut bench = Bench::new(settings());
    bench.attach_av(1);
    let units = programme(16);
    bench.play(&units, (1 << 32) - 7_000);
    bench.send(Input::End);
    assert_eq!(check_invariants(&bench.outputs), 0);
    assert_eq!(bench.units(0), payloads(&units, VIDEO));
    assert_eq!(bench.units(1), payloads(&units, AUDIO));
    assert_eq!((bench.notices("jump"), bench.notices("period_began")), (0, 0));
    assert_eq!(bench.segments(0).len(), 8);
}

#[test]
fn a_jump_is_one_discontinuity() {
    // From 8.1 s on timestamps are others: far ahead, far back, a little back; a GOP under way.
    for offset in [3_600_000i64, -8_000, -1_000, 5_000, 1 << 31] {
        let mut units = programme(16);
        for unit in units.iter_mut().filter(|u| u.dts >= 8_100) {
            unit.dts = (unit.dts as i64 + offset) as u64;
        }
        let mut bench = Bench::new(settings());
        bench.attach_av(1);
        let start = bench.now_ms;
        for (unit, timely) in units.iter().zip(programme(16)) {
            bench.wait_until(start + timely.dts);
            bench.send(Input::Unit(unit.clone()));
        }
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        // The period begins at a keyframe, at 10 s, and with the sound around it.
        let decodes: Vec<_> = programme(16).into_iter().filter(|u| !(8_100..10_000).contains(&u.dts)).collect();
        assert_eq!(bench.units(0), payloads(&decodes, VIDEO), "{offset}");
        let heard = bench.heard(1);
        assert!(payloads(&decodes, AUDIO).iter().all(|data| heard.contains(data)), "{offset}");
        assert_eq!((bench.notices("jump"), bench.notices("period_began")), (1, 1), "{offset}");
        let periods = &bench.record().periods;
        assert_eq!(periods.len(), 2, "{offset}");
        assert!((9_400..10_300).contains(&(periods[1].start.as_millis() as u64)), "{offset}: {:?}", periods[1]);
    }
}

#[test]
fn slips_are_nudged() {
    let mut units = frames(300, 30.0, 60, false);
    for i in [100, 150, 151] {
        units[i].dts = units[i - 1].dts;
    }
    units[200].dts = units[199].dts - 20;
    let mut bench = Bench::new(settings());
    bench.attach(1);
    bench.send(Input::Config { track: VIDEO, config: avcc() });
    let start = bench.now_ms;
    for (i, unit) in units.iter().enumerate() {
        bench.wait_until(start + i as u64 * 1_000 / 30);
        bench.send(Input::Unit(unit.clone()));
    }
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.units(0), payloads(&units, VIDEO));
    assert_eq!((bench.notices("jump"), bench.notices("nudged")), (0, 4));
}

#[test]
fn gone_and_back_is_one_discontinuity_and_gaps_meanwhile() {
    for away in [500, 1_900, 4_500, 9_000] {
        let mut bench = live(7);
        bench.send(Input::Detached(FEED));
        let before = bench.segments(0).last().expect("segments").0;
        assert!(bench.parts(0).last().expect("parts").0.flags.last, "flushed at once");
        bench.wait(away);
        bench.attach_av(2);
        bench.play(&programme(7), 123_456);
        bench.send(Input::Detached(FEED));
        check_invariants(&bench.outputs);
        let segments = bench.segments(0);
        assert!(segments.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "{segments:?}");
        let gaps: Vec<_> = segments.iter().filter(|s| s.3).collect();
        assert_eq!(
            gaps.len() as u64,
            if away < 2_000 { 0 } else { (away - 2_000) / 2_000 + 1 },
            "{away}: {segments:?}"
        );
        assert!(gaps.iter().all(|s| s.0 > before));
        assert_eq!(bench.units(0), [payloads(&programme(7), VIDEO), payloads(&programme(7), VIDEO)].concat());
        assert_eq!(bench.units(1), [payloads(&programme(7), AUDIO), payloads(&programme(7), AUDIO)].concat());
        let record = bench.record();
        assert_eq!(record.periods.iter().map(|p| p.discontinuity).collect::<Vec<_>>(), [0, 1]);
        assert_eq!((record.epoch, record.tracks[0].inits.len()), (epoch(2), 1));
        // The second period lies where the wallclock puts it.
        let expect = 7_000 + away;
        assert!((record.periods[1].start.as_millis() as u64).abs_diff(expect) < 150, "{:?}", record.periods[1]);
    }
}

#[test]
fn gaps_after_reordered_pictures_are_dated_as_those() {
    let mut bench = live(7);
    bench.send(Input::Detached(FEED));
    bench.wait(9_000);
    bench.send(Input::End);
    for track in [0, 1] {
        let hz = u64::from(bench.record().tracks[track].timescale.hz());
        let parts = bench.parts(track as u8);
        let gaps = parts.iter().filter(|(header, _)| header.flags.gap).count();
        assert!(gaps > 10, "track {track} has {gaps} gaps");
        // Media and date go on together: a player that places segments by their dates sees neither hole nor overlap.
        let date = |header: &PartHeader| {
            header.program_date_time.as_micros() as i64 - (header.decode_time * 1_000_000 / hz) as i64
        };
        let first = date(parts[0].0);
        for (header, _) in parts.iter().filter(|(header, _)| header.id.part == 0) {
            assert!(date(header).abs_diff(first) < 2_000, "track {track}, {header:?}");
        }
    }
}

#[test]
fn gaps_after_reordered_pictures_keep_their_length() {
    // 4 s GOPs; the last pictures are shown up to 0.6 s after they are decoded, or a day.
    for offset in [None, Some(86_400_000)] {
        let mut bench = Bench::new(settings());
        let mut video = frames(58, 6.5, 26, true);
        video[57].composition_offset = offset.unwrap_or(video[57].composition_offset);
        bench.attach_av(1);
        bench.play(&mux(&[video, sounds(418)]), 0);
        bench.send(Input::Detached(FEED));
        bench.wait(9_000);
        bench.attach_av(2);
        bench.play(&programme(6), 0);
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        assert!(bench.segments(0).iter().filter(|s| s.3).count() >= 1);
        assert!(bench.record().periods[1].start < Duration::from_secs(24), "{:?}", bench.record().periods);
    }
}

#[test]
fn a_push_with_ragged_ends_loses_no_segment() {
    for (missing, gaps) in [(1, 0), (6, 0), (20, 1)] {
        let mut bench = Bench::new(settings());
        bench.attach_av(1);
        let units = programme(7);
        let cut = 7_000 - missing * 1_000 / 30;
        let units: Vec<_> = units.into_iter().filter(|u| u.track == AUDIO || u.dts < cut).collect();
        bench.play(&units, 0);
        bench.send(Input::Detached(FEED));
        bench.wait(5_000);
        check_invariants(&bench.outputs);
        assert_eq!(bench.units(0), payloads(&units, VIDEO));
        let last = bench.parts(1).iter().rev().find(|(header, _)| !header.flags.gap).expect("sound").0.id.msn;
        let of_last = bench.parts(0).iter().filter(|(header, _)| header.id.msn == last && header.flags.gap).count();
        assert_eq!(of_last.min(1), gaps, "{missing} frames less than sound");
    }
}

#[test]
fn sound_past_the_last_cut_begins_no_segment() {
    // The pictures end where a segment does, and their keyframes are no more.
    for sound in [6_010, 6_040, 6_200] {
        let mut bench = Bench::new(settings());
        bench.attach_av(1);
        let units: Vec<_> =
            programme(7).into_iter().filter(|u| u.dts < if u.track == AUDIO { sound } else { 6_000 }).collect();
        bench.play(&units, 0);
        bench.send(Input::Detached(FEED));
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        for track in [0, 1] {
            assert_eq!(bench.segments(track).len(), 3, "{sound} {track}: {:?}", bench.segments(track));
            assert!(bench.parts(track).iter().all(|(header, _)| !header.flags.gap), "{sound} {track}");
        }
    }
}

#[test]
fn back_without_sound_goes_on_with_gaps() {
    let mut bench = live(7);
    bench.send(Input::Detached(FEED));
    bench.wait(1_000);
    bench.attach(2);
    bench.send(Input::Config { track: VIDEO, config: avcc() });
    bench.play(&frames(210, 30.0, 60, true), 0);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.units(0).len(), 420);
    let msns = |track| bench.segments(track).iter().map(|s| s.0).collect::<Vec<_>>();
    assert_eq!(msns(0), msns(1));
}

#[test]
fn silence_is_numbered_like_absence() {
    let mut bench = live(7);
    bench.wait(5_000);
    assert_eq!(bench.notices("silence"), 1);
    assert_eq!(bench.segments(0).iter().filter(|s| s.3).count(), 2);
    bench.play(&programme(5), 12_000);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.units(0).len(), 210 + 150);
    assert_eq!(bench.record().periods.len(), 2);
}

#[test]
fn the_linger_ends_the_life_and_a_new_one_goes_higher() {
    let mut bench = live(7);
    bench.send(Input::Detached(FEED));
    bench.wait(40_000);
    let ended = bench.record().ended.expect("after 30 s");
    assert_eq!(bench.segments(0).last().map(|s| s.0), Some(ended));
    assert_eq!(bench.packager.poll_timeout(), None);
    let first = bench.record().clone();
    bench.attach_av(2);
    bench.play(&programme(7), 0);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    let second = bench.record();
    assert!(second.life > first.life && second.first_msn > ended);
    assert_eq!(second.periods[0].discontinuity, 1);
    assert_eq!(second.periods[0].start, Duration::ZERO);
}

#[test]
fn lives_in_quick_succession_still_count_up() {
    let mut bench = Bench::new(settings());
    for n in 1..=5 {
        bench.attach_av(n);
        bench.play(&programme(1), 0);
        bench.send(Input::End);
    }
    check_invariants(&bench.outputs);
    assert_eq!(bench.notices("life_ended"), 5);
}

#[test]
fn lives_that_begin_at_the_same_time_are_told_apart() {
    let mut bench = Bench::new(settings());
    let frame = frames(1, 30.0, 60, false).remove(0);
    // Each frame begins a life of its own, all in the same millisecond.
    for n in 1..=3 {
        bench.attach(n);
        bench.send(Input::Config { track: VIDEO, config: avcc() });
        bench.send(Input::Unit(frame.clone()));
        bench.send(Input::End);
    }
    check_invariants(&bench.outputs);
    assert_eq!(bench.notices("life_ended"), 3);
    assert_eq!(bench.units(0), vec![frame.data; 3]);
}

#[test]
fn a_publisher_silent_for_the_linger_begins_a_life_of_the_same_epoch() {
    let mut bench = live(7);
    bench.wait(40_000);
    assert!(bench.record().ended.is_some());
    bench.play(&programme(7), 47_000);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.notices("life_began"), 2);
}

#[test]
fn the_next_life_is_of_no_older_epoch() {
    // Its first pictures may be those of a push that was there before.
    let mut bench = live(7);
    bench.send(Input::Detached(FEED));
    bench.attach_av(9);
    bench.play(&programme(7), 10_000);
    bench.send(Input::End);
    bench.attach_av(3);
    bench.play(&programme(7), 30_000);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!((bench.notices("life_began"), bench.record().epoch), (2, epoch(9)));
}

#[test]
fn a_period_of_sound_at_44100_hz_begins_behind_the_pictures() {
    let mut bench = Bench::new(settings());
    bench.attach(1);
    bench.attach_as(PushId(1), Some("audio_de"), 1);
    // SVT-AV1's, which says no frame rate: its picture lasts 40 ms.
    let av1c = b"\x81\x00\x0c\x00\x0a\x0b\x02\x00\x00\x05\x21\xe7\xf6\x60\x17\xc0\x02";
    bench.send(Input::Config { track: VIDEO, config: CodecConfig::Av1(Bytes::from_static(av1c)) });
    let (track, data) = (InputTrack::of(PushId(1), AUDIO), Bytes::from_static(b"sound"));
    let unit = |track, dts, composition_offset| AccessUnit {
        track,
        dts,
        composition_offset,
        keyframe: false,
        data: Bytes::from_static(b"\x32\x01\x00"),
    };
    bench.wait(20);
    bench.send(Input::Unit(unit(VIDEO, 1_020, -63)));
    bench.wait(63);
    bench.send(Input::Config { track, config: CodecConfig::Aac(Bytes::from_static(&[0x12, 0x10])) });
    // On a clock of its own, it comes after a pause.
    bench.send(Input::Unit(AccessUnit { data, ..unit(track, (1 << 31) + 1_083, 0) }));
    bench.wait(18_445);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.notices("period_began"), 1);
}

#[test]
fn another_ingest_goes_on() {
    let mut first = live(7);
    first.send(Input::Detached(FEED));
    let last = first.segments(0).last().expect("segments").0;
    let end = |track: u8| {
        let (header, _) = *first.parts(track).last().expect("parts");
        (TrackId(track), header.decode_time + u64::from(header.duration))
    };
    let ends = vec![end(0), end(1)];
    let resume = Resume { record: first.record().clone(), newest_msn: last, discontinuity: 0, ends };
    let mut second = Bench::resumed(settings(), Some(resume));
    assert_eq!(second.packager.poll_timeout(), None);
    second.now_ms = first.now_ms + 3_000;
    second.attach_av(2);
    second.play(&programme(7), 0);
    second.send(Input::End);
    let outputs: Vec<Output> = first.outputs.iter().chain(&second.outputs).cloned().collect();
    check_invariants(&outputs);
    assert_eq!(second.segments(0)[0].0, last + 1);
    assert_eq!(second.parts(0)[0].0.discontinuity, 1);
    assert_eq!(second.units(0), payloads(&programme(7), VIDEO));
    assert_eq!(second.record().life, first.record().life);
    assert_eq!(second.record().availability_start, first.record().availability_start);
}

#[test]
fn an_ended_life_isnt_resumed() {
    let mut first = live(7);
    first.send(Input::End);
    let record = first.record().clone();
    let (ended, life) = (record.ended.expect("ended"), record.life);
    let resume = Resume { record, newest_msn: ended, discontinuity: 4, ends: Vec::new() };
    let mut second = Bench::resumed(settings(), Some(resume));
    second.now_ms = first.now_ms;
    second.attach_av(2);
    second.play(&programme(5), 0);
    assert!(second.record().life > life && second.record().first_msn > ended);
    assert_eq!(second.parts(0)[0].0.discontinuity, 5);
}

#[test]
fn repeated_headers_are_no_change() {
    let mut bench = live(5);
    for _ in 0..3 {
        bench.send(Input::Config { track: VIDEO, config: avcc() });
        bench.send(Input::Config { track: AUDIO, config: asc() });
    }
    bench.wait(33);
    bench.play(&programme(5), 5_033);
    assert_eq!((bench.notices("config_changed"), bench.notices("period_began")), (0, 0));
    assert_eq!(bench.record().tracks[0].inits.len(), 1);
}

#[test]
fn changed_headers_are_a_new_init_segment_and_a_discontinuity() {
    let mut bench = live(7);
    bench.send(Input::Config { track: VIDEO, config: other_avcc() });
    bench.wait(33);
    bench.play(&programme(5), 7_033);
    bench.send(Input::Config { track: VIDEO, config: avcc() });
    bench.wait(33);
    bench.play(&programme(5), 12_066);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.units(0).len(), 210 + 150 + 150);
    let record = bench.record();
    assert_eq!((record.periods.len(), record.tracks[0].inits.len()), (3, 2), "the first init segment is used again");
    let mut inits: Vec<u16> = bench.parts(0).iter().map(|(h, _)| h.init).collect();
    inits.dedup();
    assert_eq!(inits, [0, 1, 0]);
}

#[test]
fn bad_headers_are_named_and_change_nothing() {
    let mut bench = live(5);
    bench.send(Input::Config { track: VIDEO, config: CodecConfig::Avc(Bytes::from_static(&[1, 2])) });
    assert_eq!(bench.notices("bad_config"), 1);
    bench.send(Input::Config { track: AUDIO, config: avcc() });
    assert_eq!(bench.notices("track_ignored"), 1, "sound becomes no pictures");
    bench.send(Input::Unit(AccessUnit { track: InputTrack(9), ..sounds(1)[0].clone() }));
    bench.send(Input::Unit(AccessUnit { data: Bytes::new(), ..sounds(1)[0].clone() }));
    assert_eq!(bench.notices("unusable_unit"), 2);
    assert_eq!(bench.notices("period_began"), 0);
}

#[test]
fn a_flood_of_jumps_makes_few_periods() {
    let mut bench = live(5);
    let start = bench.now_ms;
    for i in 0..300u64 {
        bench.wait_until(start + i * 33);
        let dts = if i % 2 == 0 { i * 33 } else { 1_000_000 + i * 33 };
        let unit = AccessUnit { dts, ..frames(300, 30.0, 60, false)[i as usize].clone() };
        bench.send(Input::Unit(unit));
    }
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert!(bench.record().periods.len() <= 14, "{}", bench.record().periods.len());
    assert_eq!(bench.units(0).len(), 150 + 300);
}

#[test]
fn the_encoders_drift_moves_program_date_time_gently() {
    // An encoder whose clock is 0.5 % slow, for 3 minutes: 0.9 s.
    let units = frames(30 * 180, 30.0, 60, false);
    let mut bench = Bench::new(settings());
    bench.attach(1);
    bench.send(Input::Config { track: VIDEO, config: avcc() });
    let start = bench.now_ms;
    for unit in &units {
        bench.wait_until(start + unit.dts * 1_005 / 1_000);
        bench.send(Input::Unit(unit.clone()));
    }
    check_invariants(&bench.outputs);
    let (header, _) = *bench.parts(0).last().expect("parts");
    let media = bench.record().availability_start + Timescale::MPEG.duration(header.decode_time);
    let shift = header.program_date_time.since(media).as_millis();
    assert!((600..=900).contains(&shift), "{shift}");
    let off = header.ingested.since(header.program_date_time).as_millis();
    assert!(off <= 500, "{off}");
}

#[test]
fn a_track_that_begins_late_on_a_clock_of_its_own_is_put_beside_the_others() {
    let mut bench = live(7);
    bench.send(Input::Detached(FEED));
    bench.wait(500);
    bench.attach_av(2);
    // Sound comes 3 s later, and its timestamps are 20 days ahead.
    let units: Vec<AccessUnit> = programme(12).into_iter().filter(|u| u.track == VIDEO || u.dts >= 3_000).collect();
    let start = bench.now_ms;
    for unit in &units {
        bench.wait_until(start + unit.dts);
        let dts = if unit.track == AUDIO { unit.dts + 20 * 86_400_000 } else { unit.dts };
        bench.send(Input::Unit(AccessUnit { dts, ..unit.clone() }));
    }
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.notices("jump"), 1);
    // The period in which they are beside each other begins at a keyframe.
    let lost = payloads(&programme(7), AUDIO).len() + payloads(&units, AUDIO).len() - bench.heard(1).len();
    assert!(lost <= 47, "{lost}");
    let ends = |track: u8| {
        let (header, _) = *bench.parts(track).last().expect("parts");
        header.program_date_time + Duration::from_millis(200)
    };
    let apart = ends(0).as_millis().abs_diff(ends(1).as_millis());
    assert!(apart < 400, "{apart}");
}

/// DASH players that count by `$Number$` and `@duration` find each segment less than half of one from where it is.
#[test]
fn a_period_begins_where_segments_have_drifted_from_their_numbers() {
    let mut units = frames(30 * 30, 30.0, 1_000_000, false);
    // As x264 with -g 60 and a scene cut each 3.3 s.
    for key in (0..30 * 30).filter(|key| key % 99 == 0 || key % 99 == 60) {
        units[key].keyframe = true;
    }
    let mut bench = Bench::new(settings());
    bench.attach(1);
    bench.send(Input::Config { track: VIDEO, config: avcc() });
    bench.play(&units, 0);
    let record = bench.record();
    let scale = record.tracks[0].timescale;
    let firsts: Vec<_> = bench.parts(0).into_iter().filter(|(header, _)| header.id.part == 0).collect();
    for (header, _) in &firsts {
        let period = record.periods.iter().rfind(|p| p.first_msn <= header.id.msn).expect("one for each");
        let nominal = period.start + record.segment_duration * (header.id.msn - period.first_msn);
        let drift = scale.duration(header.decode_time).abs_diff(nominal);
        assert!(drift * 2 < record.segment_duration, "{:?}: {drift:?} off in {:?}", header.id, record.periods);
    }
    let (_, later) = record.periods.split_first().expect("never empty");
    assert!(!later.is_empty() && later.iter().all(|period| period.continues), "{:?}", record.periods);
    assert!(firsts.iter().all(|(header, _)| header.discontinuity == 0));
}
