//! Several pushes make one presentation: they are aligned, or refused.

mod wild;

use proptest::prelude::*;

use super::*;

const HIGH: PushId = PushId(0);
const LOW: PushId = PushId(1);
const THIRD: PushId = PushId(2);

/// The time at which units are sent, in ms, and the units.
type Script = Vec<(u64, Input)>;

/// A rendition of the programme: its units as its own push sends them, told apart by `mark`.
fn rendition(push: PushId, mark: &str, units: Vec<AccessUnit>) -> Vec<AccessUnit> {
    let data = |unit: &AccessUnit| Bytes::from([mark.as_bytes(), b" ", &unit.data].concat());
    units.into_iter().map(|u| AccessUnit { track: InputTrack::of(push, u.track), data: data(&u), ..u }).collect()
}

fn shifted(units: Vec<AccessUnit>, by: u64) -> Vec<AccessUnit> {
    units.into_iter().map(|unit| AccessUnit { dts: unit.dts + by, ..unit }).collect()
}

/// Each unit at its decode time and `late`.
fn script(units: Vec<AccessUnit>, late: u64) -> Script {
    units.into_iter().map(|unit| (unit.dts + late, Input::Unit(unit))).collect()
}

impl Bench {
    fn rendition(&mut self, push: PushId, name: &str, counter: u32, sound: bool) {
        self.attach_as(push, Some(name), counter);
        if !name.starts_with("audio_") {
            let config = if push == HIGH { avcc() } else { other_avcc() };
            self.send(Input::Config { track: InputTrack::of(push, VIDEO), config });
        }
        if sound {
            self.send(Input::Config { track: InputTrack::of(push, AUDIO), config: asc() });
        }
    }

    /// Runs scripts together, from time 0 at `start`.
    fn run(&mut self, start: u64, scripts: Vec<Script>) {
        let mut all: Script = scripts.concat();
        all.sort_by_key(|(at, _)| *at);
        for (at, input) in all {
            self.wait_until(start + at);
            self.send(input);
        }
    }

    fn refusals(&self) -> Vec<(PushId, Refusal)> {
        let refused = |output: &Output| match output {
            Output::Refused { push, why } => Some((*push, *why)),
            _ => None,
        };
        self.outputs.iter().filter_map(refused).collect()
    }

    fn names(&self) -> Vec<&str> {
        self.record().tracks.iter().map(|track| track.name.as_str()).collect()
    }

    /// Segments begin at the same time on all video tracks: MSN and the start in ms, of what isn't a gap.
    fn check_aligned(&self) {
        let mut starts = std::collections::BTreeMap::new();
        let record = self.record();
        for track in record.tracks.iter().filter(|track| track.is_video()) {
            for (header, _) in self.parts(track.id.0) {
                if header.id.part == 0 && !header.flags.gap {
                    assert!(header.flags.independent, "{} {header:?}", track.name);
                    let said = *starts.entry(header.id.msn).or_insert(header.decode_time);
                    assert_eq!(said, header.decode_time, "{} at {}", track.name, header.id.msn);
                }
            }
        }
        let newest = |track: &crate::model::Track| self.segments(track.id.0).last().map(|segment| segment.0);
        let ends: Vec<_> = record.tracks.iter().filter_map(newest).collect();
        assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{ends:?}");
    }
}

/// Two renditions with the same sound, in step.
fn ladder(seconds: u64, late: u64) -> (Bench, Vec<AccessUnit>, Vec<AccessUnit>) {
    let mut bench = Bench::new(settings());
    bench.rendition(HIGH, "720p", 1, true);
    bench.rendition(LOW, "360p", 1, true);
    let (high, low) = (rendition(HIGH, "h", programme(seconds)), rendition(LOW, "l", programme(seconds)));
    bench.run(10_000, vec![script(high.clone(), 0), script(low.clone(), late)]);
    (bench, high, low)
}

fn of_feed(push: PushId, track: InputTrack) -> InputTrack {
    InputTrack::of(push, track)
}

/// A packager once began a presentation without tracks, and then looked for the leading track.
#[test]
fn pictures_alone_pushed_as_a_language_are_ignored() {
    let mut bench = Bench::new(settings());
    bench.attach_as(FEED, Some("audio_de"), 1);
    bench.send(Input::Config { track: VIDEO, config: avcc() });
    bench.play(&frames(180, 30.0, 60, false), 0);
    bench.send(Input::Detached(FEED));
    bench.send(Input::End);
    assert_eq!((bench.records().len(), bench.notices("track_ignored")), (0, 1));
}

#[test]
fn renditions_are_one_life() {
    for late in [0, 60, 400] {
        let (mut bench, high, low) = ladder(12, late);
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        bench.check_aligned();
        assert_eq!(bench.names(), ["720p", "360p", "audio"]);
        assert_eq!(bench.units(0), payloads(&high, of_feed(HIGH, VIDEO)));
        assert_eq!(bench.units(1), payloads(&low, of_feed(LOW, VIDEO)));
        // The same sound in every push is served once: the first one's.
        assert_eq!(bench.units(2), payloads(&high, of_feed(HIGH, AUDIO)));
        assert_eq!(bench.segments(0), bench.segments(1), "{late}");
        assert_eq!((bench.record().periods.len(), bench.refusals().len()), (1, 0));
        let first = bench.records()[0];
        assert_eq!(first.tracks.len(), 3, "players that come first see the whole ladder");
    }
}

#[test]
fn encoders_that_reorder_differently_are_in_step() {
    // The muxer of a push with B-frames begins 80 ms earlier with decoding: its timestamps are shifted, or not.
    for (b_frames, low_first) in [(true, false), (false, true)] {
        let mut bench = Bench::new(settings());
        bench.rendition(HIGH, "720p", 1, false);
        bench.rendition(LOW, "360p", 1, false);
        // Both show the keyframe at the same time: 2 frames after its decoding, or 1 frame.
        let frame = |n: u64| (n as f64 * 1_000.0 / 30.0).round() as u64;
        let plain = |n: u64, offset: u64| -> Vec<AccessUnit> {
            let unit = |i: u64| AccessUnit {
                track: VIDEO,
                dts: frame(i + 2 - offset),
                composition_offset: (frame(i + 2) - frame(i + 2 - offset)) as i32,
                keyframe: i.is_multiple_of(60),
                data: format!("{i}").into(),
            };
            (0..n).map(unit).collect()
        };
        let (a, b) = if b_frames { (2, 0) } else { (0, 2) };
        let (high, low) = (rendition(HIGH, "h", plain(360, a)), rendition(LOW, "l", plain(360, b)));
        bench.run(10_000, vec![script(high.clone(), u64::from(low_first)), script(low.clone(), 0)]);
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        assert_eq!(bench.refusals(), []);
        assert_eq!(bench.units(0), payloads(&high, of_feed(HIGH, VIDEO)));
        assert_eq!(bench.units(1), payloads(&low, of_feed(LOW, VIDEO)));
        let counts = |track| bench.segments(track).iter().map(|s| (s.0, s.3)).collect::<Vec<_>>();
        assert_eq!(counts(0), counts(1));
        let keyed =
            |track: u8| bench.parts(track).iter().filter(|(h, _)| h.id.part == 0 && h.flags.independent).count();
        assert_eq!((keyed(0), keyed(1)), (6, 6));
    }
}

#[test]
fn another_offset_is_refused_and_named() {
    let programme = || mux(&[frames(360, 30.0, 60, false), sounds(562)]);
    for (off, before, late) in [(500, false, 0), (40, false, 0), (1_500, true, 0), (300, false, 6_500)] {
        let mut bench = Bench::new(settings());
        bench.rendition(HIGH, "720p", 1, true);
        let high = rendition(HIGH, "h", programme());
        let (first, rest): (Vec<_>, Vec<_>) = high.iter().cloned().partition(|unit| unit.dts < late);
        bench.run(10_000, vec![script(first, 0)]);
        bench.rendition(LOW, "360p", 1, true);
        let low = shifted(rendition(LOW, "l", programme()), off).into_iter().filter(|unit| unit.dts >= late).collect();
        bench.run(10_000, vec![script(rest, 0), script(low, 0)]);
        let refusals = bench.refusals();
        let [(LOW, Refusal::Misaligned { micros })] = refusals[..] else { panic!("{refusals:?}") };
        let expect = if before { off as i64 * 1_000 - 2_000_000 } else { off as i64 * 1_000 };
        assert_eq!(micros, expect);
        let said = refusals[0].1.to_string();
        let side = if before { "before" } else { "after" };
        assert!(said.contains(&format!("{:.1} ms {side}", micros.abs() as f64 / 1_000.0)), "{said}");
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        assert_eq!(bench.names(), ["720p", "audio"]);
        assert_eq!(bench.units(0), payloads(&high, of_feed(HIGH, VIDEO)), "the others aren't disturbed");
        assert_eq!(bench.units(1), payloads(&high, of_feed(HIGH, AUDIO)));
    }
}

#[test]
fn a_rendition_that_loses_its_gops_later_is_refused() {
    let mut bench = Bench::new(settings());
    bench.rendition(HIGH, "720p", 1, false);
    bench.rendition(LOW, "360p", 1, false);
    let high = rendition(HIGH, "h", frames(480, 30.0, 60, false));
    let mut low = rendition(LOW, "l", frames(480, 30.0, 60, false));
    for (i, unit) in low.iter_mut().enumerate() {
        // From 8 s on its keyframes come 10 frames early.
        unit.keyframe = i % 60 == if i < 240 { 0 } else { 50 };
    }
    bench.run(10_000, vec![script(high.clone(), 0), script(low, 5)]);
    let refusals = bench.refusals();
    assert!(matches!(refusals[..], [(LOW, Refusal::Misaligned { micros })] if micros < -300_000), "{refusals:?}");
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.units(0), payloads(&high, of_feed(HIGH, VIDEO)));
}

#[test]
fn another_clock_is_refused() {
    let mut bench = Bench::new(settings());
    bench.rendition(HIGH, "720p", 1, false);
    let high = rendition(HIGH, "h", frames(600, 30.0, 60, false));
    // It starts 6 s later, with 0.
    let low: Vec<_> = rendition(LOW, "l", frames(400, 30.0, 60, false));
    let mut late: Script = script(low, 6_000);
    let config = Input::Config { track: of_feed(LOW, VIDEO), config: other_avcc() };
    let rendition = Some(Rendition::parse("360p").expect("a name"));
    let announced = Announced::default();
    let attached = Input::Attached { push: LOW, rendition, epoch: epoch(1), clock: RTMP, announced };
    late.insert(0, (6_000, config));
    late.insert(0, (6_000, attached));
    bench.run(10_000, vec![script(high, 0), late]);
    let refusals = bench.refusals();
    let [(LOW, Refusal::Apart { micros })] = refusals[..] else { panic!("{refusals:?}") };
    assert!((-6_100_000..=-5_900_000).contains(&micros), "{micros}");
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.names(), ["720p"]);
}

#[test]
fn one_that_comes_late_is_appended_at_a_segments_start() {
    let mut bench = Bench::new(settings());
    bench.rendition(HIGH, "720p", 1, true);
    let high = rendition(HIGH, "h", programme(20));
    let (before, after): (Vec<_>, Vec<_>) = high.iter().cloned().partition(|unit| unit.dts < 7_000);
    bench.run(10_000, vec![script(before, 0)]);
    bench.rendition(LOW, "360p", 1, true);
    // It begins in the middle of a GOP: what comes before the next segment isn't used.
    let low: Vec<_> = rendition(LOW, "l", programme(20)).into_iter().filter(|unit| unit.dts >= 7_000).collect();
    bench.run(10_000, vec![script(after, 0), script(low.clone(), 0)]);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    bench.check_aligned();
    assert_eq!(bench.names(), ["720p", "audio", "360p"]);
    let record = bench.record();
    let joined = record.first_msn_of(TrackId(2));
    assert_eq!(bench.segments(2)[0].0, joined);
    assert_eq!(joined, record.first_msn + 4);
    let [first, second] = record.periods[..] else { panic!("{:?}", record.periods) };
    assert!(second.continues && first.discontinuity == second.discontinuity && second.first_msn == joined);
    assert!(!first.tracks.contains(TrackId(2)) && second.tracks.contains(TrackId(2)));
    let from = |unit: &&AccessUnit| unit.dts >= 8_000;
    let used: Vec<_> = low.iter().filter(from).cloned().collect();
    assert_eq!(bench.units(2), payloads(&used, of_feed(LOW, VIDEO)));
    assert_eq!(bench.units(0), payloads(&high, of_feed(HIGH, VIDEO)));
}

/// The leader or the other goes at 7.5 s and is back at 12.5 s.
fn gone_and_back(who: PushId, changed: bool) -> (Bench, Vec<AccessUnit>, Vec<AccessUnit>) {
    gone_and_back_late(who, changed, 0)
}

/// The same; what comes after the return comes so late.
fn gone_and_back_late(who: PushId, changed: bool, late: u64) -> (Bench, Vec<AccessUnit>, Vec<AccessUnit>) {
    let mut bench = Bench::new(settings());
    bench.rendition(HIGH, "720p", 1, true);
    bench.rendition(LOW, "360p", 1, true);
    let (high, low) = (rendition(HIGH, "h", programme(20)), rendition(LOW, "l", programme(20)));
    let all = || [high.clone(), low.clone()].concat().into_iter();
    let part = |from: u64, to: u64| -> Vec<Script> {
        vec![script(all().filter(|unit| (from..to).contains(&unit.dts)).collect(), 0)]
    };
    bench.run(10_000, part(0, 7_500));
    bench.send(Input::Detached(who));
    let others = |from: u64, to: u64| -> Vec<Script> {
        vec![script(all().filter(|u| u.track.push() != who && (from..to).contains(&u.dts)).collect(), 0)]
    };
    bench.run(10_000, others(7_500, 12_500));
    let name = if who == HIGH { "720p" } else { "360p" };
    bench.rendition(who, name, 1, true);
    if changed {
        let config = if who == HIGH { other_avcc() } else { avcc() };
        bench.send(Input::Config { track: of_feed(who, VIDEO), config });
    }
    let own = |unit: &AccessUnit| unit.track.push() == who && (12_500..20_000).contains(&unit.dts);
    bench.run(10_000, [others(12_500, 20_000), vec![script(all().filter(own).collect(), late)]].concat());
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    bench.check_aligned();
    (bench, high, low)
}

#[test]
fn one_that_returns_on_a_slow_line_joins_all_the_same() {
    for late in [700, 1_900, 2_600] {
        let (bench, ..) = gone_and_back_late(LOW, false, late);
        assert!(bench.refusals().is_empty(), "{late}");
        let gaps: Vec<bool> = bench.segments(1).iter().map(|segment| segment.3).collect();
        assert_eq!(gaps[7..], [false, false, false], "{late}");
    }
}

#[test]
fn one_that_stops_is_numbered_in_gaps_until_it_returns() {
    for (who, track, other) in [(HIGH, 0u8, 1u8), (LOW, 1, 0)] {
        let (bench, high, low) = gone_and_back(who, false);
        let (own, others) = if who == HIGH { (&high, &low) } else { (&low, &high) };
        let other_feed = if who == HIGH { LOW } else { HIGH };
        assert_eq!(bench.units(other), payloads(others, of_feed(other_feed, VIDEO)));
        let sent: Vec<_> = own.iter().filter(|u| u.dts < 7_500 || u.dts >= 14_000).cloned().collect();
        assert_eq!(bench.units(track), payloads(&sent, of_feed(who, VIDEO)));
        let gaps: Vec<bool> = bench.segments(track).iter().map(|segment| segment.3).collect();
        assert_eq!(gaps, [false, false, false, false, true, true, true, false, false, false]);
        let record = bench.record();
        assert!(record.periods.iter().all(|period| period.discontinuity == 0), "{:?}", record.periods);
        let sent: Vec<bool> = record.periods.iter().map(|period| period.tracks.contains(TrackId(track))).collect();
        assert_eq!(sent, [true, false, true]);
        // Sound goes on whoever brings it: no gap, and a unit for each.
        let sound = bench.parts(2);
        assert!(sound.iter().all(|(header, _)| !header.flags.gap), "{who:?}");
        assert_eq!(bench.units(2).len(), payloads(&high, of_feed(HIGH, AUDIO)).len());
    }
}

#[test]
fn one_that_returns_with_other_headers_makes_a_discontinuity_for_all() {
    let (bench, ..) = gone_and_back(LOW, true);
    let record = bench.record();
    let last = record.periods.last().expect("periods");
    assert!(last.discontinuity == 1 && !last.continues, "{:?}", record.periods);
    assert_eq!(last.first_msn, record.first_msn + 7);
    assert_eq!(record.tracks[1].inits.len(), 2);
    // The others go on without a hole: no gap on any.
    assert!(bench.parts(0).iter().all(|(header, _)| !header.flags.gap));
}

#[test]
fn one_that_stalls_goes_on_with_a_segment() {
    let mut bench = Bench::new(settings());
    bench.rendition(HIGH, "720p", 1, true);
    bench.rendition(LOW, "360p", 1, false);
    let high = rendition(HIGH, "h", programme(20));
    let low = rendition(LOW, "l", frames(600, 30.0, 60, true));
    let came: Vec<_> = low.iter().filter(|u| !(7_000..12_500).contains(&u.dts)).cloned().collect();
    bench.run(10_000, vec![script(high.clone(), 0), script(came, 0)]);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    bench.check_aligned();
    assert_eq!(bench.units(0), payloads(&high, of_feed(HIGH, VIDEO)));
    assert!(bench.refusals().is_empty());
    let gaps: Vec<bool> = bench.segments(1).iter().map(|segment| segment.3).collect();
    assert!(gaps[4] && gaps[5] && !gaps[7] && !gaps[9], "{gaps:?}");
}

#[test]
fn one_that_lags_for_a_moment_loses_nothing() {
    for who in [HIGH, LOW] {
        let mut bench = Bench::new(settings());
        bench.rendition(HIGH, "720p", 1, false);
        bench.rendition(LOW, "360p", 1, false);
        let high = rendition(HIGH, "h", frames(480, 30.0, 60, true));
        let low = rendition(LOW, "l", frames(480, 30.0, 60, true));
        // What is sent from 7 to 9.5 s comes at once, then.
        let held = |push: PushId, units: &[AccessUnit]| -> Script {
            let late = |at: u64| if push == who && (7_000..9_500).contains(&at) { 9_500 } else { at };
            units.iter().map(|unit| (late(unit.dts), Input::Unit(unit.clone()))).collect()
        };
        bench.run(10_000, vec![held(HIGH, &high), held(LOW, &low)]);
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        bench.check_aligned();
        assert_eq!(bench.units(0), payloads(&high, of_feed(HIGH, VIDEO)), "{who:?}");
        assert_eq!(bench.units(1), payloads(&low, of_feed(LOW, VIDEO)), "{who:?}");
        assert_eq!(bench.segments(0), bench.segments(1), "{who:?}");
    }
}

#[test]
fn one_joins_though_sound_is_ahead_of_the_leader() {
    let mut bench = Bench::new(settings());
    bench.rendition(HIGH, "720p", 1, false);
    bench.rendition(THIRD, "audio_de", 1, true);
    let mut high = script(rendition(HIGH, "h", frames(600, 30.0, 60, false)), 800);
    high.extend(script(rendition(THIRD, "de", sounds(930)), 0));
    let (before, after): (Script, Script) = high.into_iter().partition(|(at, _)| *at < 7_000);
    bench.run(10_000, vec![before]);
    bench.rendition(LOW, "360p", 1, false);
    let low = rendition(LOW, "l", frames(600, 30.0, 60, false)).into_iter().filter(|unit| unit.dts >= 7_000).collect();
    bench.run(10_000, vec![after, script(low, 800)]);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    bench.check_aligned();
    let record = bench.record();
    assert_eq!(record.tracks.len(), 3);
    assert_eq!(record.first_msn_of(TrackId(2)), record.first_msn + 4);
}

#[test]
fn languages_are_tracks_of_their_own() {
    let mut bench = Bench::new(settings());
    // Sound comes first, and waits for the pictures.
    bench.rendition(THIRD, "audio_de", 1, true);
    bench.rendition(HIGH, "720p", 1, true);
    let high = rendition(HIGH, "h", programme(14));
    let german = rendition(THIRD, "de", sounds(656));
    bench.run(10_000, vec![script(german.clone(), 0), script(high.clone(), 30)]);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.names(), ["720p", "audio", "audio_de"]);
    assert_eq!(bench.record().tracks[2].language.as_deref(), Some("de"));
    assert_eq!(bench.units(1), payloads(&high, of_feed(HIGH, AUDIO)));
    assert_eq!(bench.units(2), payloads(&german, of_feed(THIRD, AUDIO)));
    assert_eq!(bench.segments(1).len(), bench.segments(2).len());
}

#[test]
fn a_language_comes_late_and_goes() {
    let mut bench = Bench::new(settings());
    bench.rendition(HIGH, "720p", 1, true);
    let high = rendition(HIGH, "h", programme(20));
    let (before, after): (Vec<_>, Vec<_>) = high.into_iter().partition(|unit| unit.dts < 7_000);
    bench.run(10_000, vec![script(before, 0)]);
    bench.rendition(THIRD, "audio_de", 1, true);
    let german: Vec<_> =
        rendition(THIRD, "de", sounds(938)).into_iter().filter(|u| (7_000..15_000).contains(&u.dts)).collect();
    bench.run(10_000, vec![script(after, 0), script(german, 0), vec![(15_100, Input::Detached(THIRD))]]);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert_eq!(bench.names(), ["720p", "audio", "audio_de"]);
    let segments = bench.segments(2);
    assert_eq!(segments.iter().map(|s| s.3).collect::<Vec<_>>(), [false, false, false, false, true, true]);
    assert!(bench.parts(1).iter().all(|(header, _)| !header.flags.gap));
}

#[test]
fn the_life_outlasts_its_pushes_until_all_are_gone() {
    let (mut bench, ..) = ladder(7, 0);
    bench.send(Input::Detached(HIGH));
    bench.send(Input::Detached(LOW));
    bench.wait(10_000);
    assert!(bench.record().ended.is_none());
    // An encoder that begins anew brings all of them, with timestamps of its own.
    bench.rendition(LOW, "360p", 2, true);
    bench.rendition(HIGH, "720p", 2, true);
    let start = bench.now_ms;
    let (high, low) = (rendition(HIGH, "h", programme(7)), rendition(LOW, "l", programme(7)));
    bench.run(start, vec![script(low, 0), script(high, 3)]);
    bench.send(Input::Detached(HIGH));
    bench.send(Input::Detached(LOW));
    bench.wait(40_000);
    check_invariants(&bench.outputs);
    assert!(bench.record().ended.is_some());
    assert_eq!(bench.notices("life_began"), 1);
    assert_eq!(bench.names(), ["720p", "360p", "audio"]);
    let discontinuities: Vec<_> = bench.record().periods.iter().map(|p| p.discontinuity).collect();
    assert_eq!(discontinuities, [0, 1], "{:?}", bench.record().periods);
    assert_eq!((bench.units(0).len(), bench.units(1).len()), (420, 420));
}

#[test]
fn another_ingest_goes_on_with_the_ladder() {
    let (mut first, ..) = ladder(7, 0);
    first.send(Input::Detached(HIGH));
    first.send(Input::Detached(LOW));
    let last = first.segments(0).last().expect("segments").0;
    let end = |track: u8| {
        let (header, _) = *first.parts(track).last().expect("parts");
        (TrackId(track), header.decode_time + u64::from(header.duration))
    };
    let resume = Resume {
        record: first.record().clone(),
        newest_msn: last,
        discontinuity: 0,
        ends: vec![end(0), end(1), end(2)],
    };
    let mut second = Bench::resumed(settings(), Some(resume));
    second.now_ms = first.now_ms + 3_000;
    second.rendition(LOW, "360p", 2, true);
    second.rendition(HIGH, "720p", 2, true);
    let start = second.now_ms;
    let (high, low) = (rendition(HIGH, "h", programme(7)), rendition(LOW, "l", programme(7)));
    second.run(start, vec![script(low.clone(), 0), script(high.clone(), 3)]);
    second.send(Input::End);
    let outputs: Vec<Output> = first.outputs.iter().chain(&second.outputs).cloned().collect();
    check_invariants(&outputs);
    assert_eq!(second.names(), ["720p", "360p", "audio"]);
    assert_eq!(second.units(0), payloads(&high, of_feed(HIGH, VIDEO)));
    assert_eq!(second.units(1), payloads(&low, of_feed(LOW, VIDEO)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever order the units of the renditions come in, the same segments and parts are numbered.
    #[test]
    fn any_interleaving_is_cut_alike(
        late in prop::collection::vec(0..700u64, 3),
        jitter in prop::collection::vec(0..120u64, 97),
        gop in prop::sample::select(vec![15u64, 30, 60]),
    ) {
        let mut bench = Bench::new(settings());
        let pushes = [(HIGH, "720p"), (LOW, "360p"), (THIRD, "180p")];
        let mut scripts = Vec::new();
        let mut sent = Vec::new();
        for (n, (push, name)) in pushes.into_iter().enumerate() {
            bench.rendition(push, name, 1, n == 0);
            let mut units = frames(360, 30.0, gop, true);
            if n == 0 {
                units = mux(&[units, sounds(562)]);
            }
            let units = rendition(push, name, units);
            let mut at = 0;
            let script: Script = units.iter().enumerate().map(|(i, unit)| {
                at = at.max(unit.dts + late[n] + jitter[(i * (n + 3)) % jitter.len()]);
                (at, Input::Unit(unit.clone()))
            }).collect();
            scripts.push(script);
            sent.push(units);
        }
        bench.run(10_000, scripts);
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        bench.check_aligned();
        prop_assert_eq!(bench.refusals(), vec![]);
        prop_assert_eq!(bench.names(), vec!["720p", "360p", "180p", "audio"]);
        let parts = |track: u8| -> Vec<_> {
            bench.parts(track).iter().map(|(h, _)| (h.id.msn, h.id.part, h.decode_time, h.duration)).collect()
        };
        prop_assert_eq!(parts(0), parts(1));
        prop_assert_eq!(parts(0), parts(2));
        for (n, (push, _)) in pushes.into_iter().enumerate() {
            prop_assert_eq!(bench.units(n as u8), payloads(&sent[n], of_feed(push, VIDEO)));
        }
    }

    /// Pushes that come, go and send anything: no panic, and the invariants hold.
    #[test]
    fn anything_goes_with_several_pushes(
        ops in prop::collection::vec((0..12u8, 0..3u8, 0..60u64, -5..=5i64, prop::bool::weighted(0.1)), 1..500),
    ) {
        let mut bench = Bench::new(Settings { segment: Some(Duration::from_secs(2)), ..settings() });
        let names = ["720p", "360p", "audio_de"];
        // A frame rate is measured first: at one of 1 fps, the frame that a cut comes in lasts too long.
        bench.rendition(HIGH, "720p", 1, true);
        bench.run(10_000, vec![script(rendition(HIGH, "h", frames(45, 30.0, 60, false)), 0)]);
        for (kind, push, after, off, keyframe) in ops {
            let push = PushId(push);
            match kind {
                0 => bench.rendition(push, names[usize::from(push.0)], 1, true),
                1 if after < 10 => bench.send(Input::Detached(push)),
                2 if after < 5 => bench.wait(3_000),
                _ => {
                    bench.wait(after);
                    let track = if kind < 4 { AUDIO } else { VIDEO };
                    let jump = if after == 59 { 5_000 } else { 0 };
                    let dts = (bench.now_ms as i64 - 10_000 + off + jump) as u64;
                    bench.send(Input::Unit(AccessUnit {
                        track: InputTrack::of(push, track),
                        dts,
                        composition_offset: off as i32 * 10,
                        keyframe,
                        data: Bytes::from(format!("{kind} {after}")),
                    }));
                }
            }
        }
        bench.send(Input::End);
        check_invariants(&bench.outputs);
    }
}
