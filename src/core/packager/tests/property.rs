//! For any input there is no panic, the invariants hold, and every unit comes out once.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    /// A picture (true) or sound after a number of ms, with an offset of its timestamp, and whether it is a keyframe.
    Unit {
        video: bool,
        after: u64,
        off: i32,
        keyframe: bool,
        composition: i32,
        len: usize,
    },
    Config {
        video: bool,
        other: bool,
    },
    Wait(u64),
    Attach,
    Detach,
    End,
}

fn op() -> impl Strategy<Value = Op> {
    let off = prop_oneof![40 => -3..=3i32, 1 => -300..=300i32, 1 => any::<i32>()];
    let unit = (any::<bool>(), 0..40u64, off, prop::bool::weighted(0.05), -200..200i32, 1..300usize);
    prop_oneof![
        200 => unit.prop_map(|(video, after, off, keyframe, composition, len)| {
            Op::Unit { video, after, off, keyframe, composition, len }
        }),
        3 => (any::<bool>(), any::<bool>()).prop_map(|(video, other)| Op::Config { video, other }),
        1 => (0..5_000u64).prop_map(Op::Wait),
        1 => Just(Op::Attach),
        1 => Just(Op::Detach),
        1 => Just(Op::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything_goes(ops in prop::collection::vec(op(), 1..600)) {
        let mut bench = Bench::new(Settings { segment: Some(Duration::from_secs(2)), ..settings() });
        let mut counter = 0;
        for (n, op) in ops.into_iter().enumerate() {
            match op {
                Op::Unit { video, after, off, keyframe, composition, len } => {
                    bench.wait(after);
                    let dts = (bench.now_ms as i64 + i64::from(off)) as u64 % (1 << 32);
                    let mut data = format!("{n} ").into_bytes();
                    data.resize(data.len() + len, b'.');
                    let track = if video { VIDEO } else { AUDIO };
                    let data = data.into();
                    bench.send(Input::Unit(AccessUnit { track, dts, composition_offset: composition, keyframe, data }));
                }
                Op::Config { video: true, other } => {
                    let config = if other { other_avcc() } else { avcc() };
                    bench.send(Input::Config { track: VIDEO, config });
                }
                Op::Config { video: false, .. } => bench.send(Input::Config { track: AUDIO, config: asc() }),
                Op::Wait(ms) => bench.wait(ms),
                Op::Attach => { counter += 1; bench.attach(counter); bench.send(Input::Config { track: VIDEO, config: avcc() }); }
                Op::Detach => bench.send(Input::Detached(FEED)),
                Op::End => bench.send(Input::End),
            }
        }
        bench.send(Input::End);
        check_invariants(&bench.outputs);
    }

    /// Real frame sequences: random rates, GOPs, jitter, small slips, skew between the tracks.
    #[test]
    fn every_unit_comes_out_once(
        fps in 5.0..120.0f64,
        gop in 1..300u64,
        b_frames in any::<bool>(),
        skew in 0..300u64,
        jitter in prop::collection::vec(0..12u64, 64),
        away in prop::option::of(0..8_000u64),
    ) {
        let mut bench = Bench::new(settings());
        let mut video = frames((fps * 9.0) as u64, fps, gop, b_frames);
        // A publisher sends in decode order: jitter may bring two frames together, never past each other.
        let mut last = 0;
        for (unit, jitter) in video.iter_mut().zip(jitter.iter().cycle()) {
            last = last.max(unit.dts + jitter);
            unit.dts = last;
        }
        let mut units: Vec<(u64, AccessUnit)> = video.into_iter().map(|u| (u.dts, u)).collect();
        units.extend(sounds(420).into_iter().map(|u| (u.dts + skew, u)));
        units.sort_by_key(|(at, _)| *at);
        for counter in 1..=2 {
            bench.attach_av(counter);
            let start = bench.now_ms;
            for (at, unit) in &units {
                bench.wait_until(start + at);
                bench.send(Input::Unit(unit.clone()));
            }
            bench.send(Input::Detached(FEED));
            let Some(away) = away else { break };
            bench.wait(away);
        }
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        let times = 1 + usize::from(away.is_some());
        let units: Vec<AccessUnit> = units.into_iter().map(|(_, u)| u).collect();
        for (track, input) in [(0, VIDEO), (1, AUDIO)] {
            prop_assert_eq!(bench.units(track), vec![payloads(&units, input); times].concat());
        }
    }
}

/// A publisher's programme: pictures with keyframes where they come, sound, and what is missing.
#[derive(Clone, Debug)]
struct Programme {
    fps: f64,
    /// Frames from keyframe to keyframe, which repeat.
    gops: Vec<u64>,
    hz: u32,
    /// The decode times of pictures are off by so many thousandths of a frame.
    jitter: Vec<i64>,
    /// Sound begins that much later than pictures, in ms.
    skew: i64,
    /// Sound is missing from here on, for so long, in ms.
    holes: Vec<(u64, u64)>,
    /// The publisher is gone after so many seconds of each push, for so many ms.
    away: Option<(u64, u64)>,
}

const SECONDS: u64 = 24;

fn programme_of() -> impl Strategy<Value = Programme> {
    let fps = prop_oneof![Just(25.0), Just(30.0), Just(30_000.0 / 1_001.0), Just(50.0), Just(60.0), 8.0..100.0f64];
    let gops = prop_oneof![
        (1..200u64).prop_map(|gop| vec![gop]),
        prop::collection::vec(prop_oneof![2 => Just(60u64), 1 => 6..60u64], 1..12),
        prop::collection::vec(1..240u64, 1..12),
    ];
    let hz = prop_oneof![Just(1_000u32), Just(90_000), Just(48_000)];
    let holes = prop::collection::vec((0..SECONDS * 1_000, prop_oneof![20..300u64, 300..3_000u64]), 0..4);
    let jitter = prop::collection::vec(0..400i64, 1..32);
    let away = prop::option::of((3..10u64, 0..6_000u64));
    (fps, gops, hz, jitter, -450..450i64, holes, away)
        .prop_map(|(fps, gops, hz, jitter, skew, holes, away)| Programme { fps, gops, hz, jitter, skew, holes, away })
}

impl Programme {
    /// Returns the units with their times in ms, in the order in which they are sent.
    fn units(&self) -> Vec<(u64, AccessUnit)> {
        let ticks = |seconds: f64| (seconds * f64::from(self.hz)).round() as u64;
        let mut keyframes = std::collections::BTreeSet::from([0]);
        let mut next = 0;
        for gop in self.gops.iter().cycle().take(4_000) {
            next += gop;
            keyframes.insert(next);
        }
        let frames = (SECONDS as f64 * self.fps) as u64;
        let mut units: Vec<(u64, AccessUnit)> = (0..frames)
            .map(|n| {
                let off = self.jitter[n as usize % self.jitter.len()] as f64 / 1_000.0;
                let seconds = 1.0 + (n as f64 + off) / self.fps;
                (
                    seconds,
                    AccessUnit {
                        track: VIDEO,
                        dts: ticks(seconds),
                        composition_offset: 0,
                        keyframe: keyframes.contains(&n),
                        data: Bytes::from(format!("video {n}")),
                    },
                )
            })
            .map(|(seconds, unit)| ((seconds * 1_000.0) as u64, unit))
            .collect();
        units.extend(sounds(SECONDS * 48_000 / 1_024).into_iter().filter_map(|unit| {
            let ms = unit.dts;
            let missing = self.holes.iter().any(|&(from, lasts)| (from..from + lasts).contains(&ms));
            let seconds = 1.0 + (ms as f64 + self.skew as f64) / 1_000.0;
            (!missing).then(|| ((seconds * 1_000.0) as u64, AccessUnit { dts: ticks(seconds), ..unit }))
        }));
        units.sort_by_key(|(at, _)| *at);
        units
    }
}

/// Asserts that no segment begins without a keyframe where one came in time, but for one that nobody could expect: the interval
/// after it is longer than any before.
fn check_cuts(bench: &Bench, programme: &Programme) {
    let (record, parts) = (bench.record(), bench.parts(0));
    let scale = record.tracks[0].timescale;
    let latest = record.segment_longest().saturating_sub(Duration::from_secs_f64(3.0 / programme.fps));
    let mut begun = None;
    let mut keyframes: Vec<Duration> = Vec::new();
    for (header, _) in parts {
        let at = scale.duration(header.decode_time);
        if header.id.part == 0 {
            if let Some(start) = begun.filter(|_| header.flags.forced && header.discontinuity == 0) {
                let in_time = keyframes.iter().filter(|&&key| key > start && key < at && key <= start + latest);
                let longest = keyframes.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
                let after = |key: Duration| at - key;
                assert!(
                    in_time.clone().all(|&key| after(key) + latest / 8 >= longest.min(latest)),
                    "{header:?} {keyframes:?}"
                );
            }
            begun = Some(at);
        }
        if header.flags.independent {
            keyframes.push(at);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the keyframes, frame rate, time base, jitter, holes and starts of tracks: the rules of parts and segments hold, what
    /// came is served, and an interruption is one discontinuity.
    #[test]
    fn what_came_is_served_by_the_rules(programme in programme_of()) {
        check_rules(&programme)?;
    }
}

/// Asserts the rules for a programme.
fn check_rules(programme: &Programme) -> Result<(), TestCaseError> {
    let mut bench = Bench::new(settings());
    let units = programme.units();
    let clock = InputClock { scale: Timescale::new(programme.hz).expect("not zero"), wrap_bits: 33 };
    let mut sent: Vec<AccessUnit> = Vec::new();
    let pushes = 1 + u32::from(programme.away.is_some());
    for counter in 1..=pushes {
        let announced = Announced::default();
        bench.send(Input::Attached { push: FEED, rendition: None, epoch: epoch(counter), clock, announced });
        bench.send(Input::Config { track: VIDEO, config: avcc() });
        bench.send(Input::Config { track: AUDIO, config: asc() });
        let start = bench.now_ms;
        let until = programme.away.filter(|_| counter == 1).map_or(u64::MAX, |(seconds, _)| seconds * 1_000);
        for (at, unit) in units.iter().filter(|(at, _)| *at < until) {
            bench.wait_until(start + at);
            bench.send(Input::Unit(unit.clone()));
            sent.push(unit.clone());
        }
        bench.send(Input::Detached(FEED));
        bench.wait(programme.away.map_or(0, |(_, ms)| ms));
    }
    bench.send(Input::End);
    prop_assert_eq!(check_invariants(&bench.outputs), 0, "parts below 85 % of PART-TARGET");
    prop_assert_eq!(bench.units(0), payloads(&sent, VIDEO));
    let sounds = bench.units(1).iter().filter(|unit| unit.starts_with(b"audio")).count();
    let late = bench.notices("late");
    prop_assert_eq!(sounds + late, payloads(&sent, AUDIO).len());
    prop_assert!(late == 0 || programme.holes.iter().any(|(_, lasts)| *lasts > 700), "{} are late", late);
    prop_assert!(bench.notices("period_began") < pushes as usize);
    if programme.away.is_none() {
        // Sound may go on behind the last picture.
        let parts = bench.parts(0);
        let gap = |header: &PartHeader| header.flags.gap && !header.flags.held;
        let first_gap = parts.iter().position(|(header, _)| gap(header)).unwrap_or(parts.len());
        prop_assert!(parts[first_gap..].iter().all(|(header, _)| gap(header)), "all pictures came");
    }
    check_cuts(&bench, programme);
    Ok(())
}

#[test]
fn a_keyframe_just_past_the_latest_cut_is_no_hole() {
    let jitter = [0, 0, 0, 0, 0, 0, 0, 0, 347, 0, 16, 150, 172, 214, 189, 312, 156, 260, 343, 349, 156, 160];
    let programme = Programme {
        fps: 31.760_294_202_584_944,
        gops: vec![206, 91, 115],
        hz: 90_000,
        jitter: jitter.to_vec(),
        skew: 128,
        holes: vec![(11_245, 279)],
        away: None,
    };
    check_rules(&programme).expect("the rules");
}
