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
