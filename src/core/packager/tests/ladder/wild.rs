//! Pushes whose timestamps lie far from the others', and pushes that stall.

use super::*;

#[test]
fn a_language_that_jumps_before_all_begins_takes_nobody_with_it() {
    let mut bench = Bench::new(settings());
    bench.rendition(HIGH, "720p", 1, true);
    bench.rendition(THIRD, "audio_de", 1, true);
    // A quarter of the clock ahead, 12 days, and back.
    let wild = |(n, unit): (usize, AccessUnit)| match n {
        20..30 => AccessUnit { dts: unit.dts + (1 << 30), ..unit },
        _ => unit,
    };
    let german = rendition(THIRD, "de", sounds(300)).into_iter().enumerate().map(wild);
    let came = german.enumerate().map(|(n, unit)| (n as u64 * 64 / 3, Input::Unit(unit))).collect();
    bench.run(1_000, vec![script(rendition(HIGH, "high", programme(6)), 0), came]);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    assert!(bench.segments(0).len() < 10, "{} segments of 6 s", bench.segments(0).len());
    assert_eq!(jumped(&bench), 10);
}

/// Returns the number of units that were dropped because of a jump.
fn jumped(bench: &Bench) -> usize {
    let units = |output: &Output| match output {
        Output::Diagnostic(Diagnostic::Unusable { units, why: Unusable::Jumped, .. }) => *units,
        _ => 0,
    };
    bench.outputs.iter().map(units).sum()
}

#[test]
fn a_language_that_jumps_while_it_waits_takes_nobody_with_it() {
    // It waits for the segment at 10 s: before its place, behind it, and live.
    for at in [10, 85, 200] {
        let mut bench = Bench::new(settings());
        bench.rendition(HIGH, "720p", 1, true);
        let high = script(rendition(HIGH, "high", programme(14)), 0);
        let wild = |(n, unit): (usize, AccessUnit)| {
            let jump = u64::from(n == at) * (1 << 30);
            AccessUnit { dts: unit.dts + 8_200 + jump, ..unit }
        };
        let german = rendition(THIRD, "de", sounds(270)).into_iter().enumerate().map(wild);
        // Its first second comes at once, as its publisher's buffer is sent.
        let came =
            german.enumerate().map(|(n, unit)| (8_200 + n.saturating_sub(47) as u64 * 64 / 3, Input::Unit(unit)));
        let joins = vec![(8_100, Input::Config { track: of_feed(THIRD, AUDIO), config: asc() })];
        bench.attach_as(THIRD, Some("audio_de"), 1);
        bench.run(1_000, vec![high, joins, came.collect()]);
        bench.send(Input::End);
        check_invariants(&bench.outputs);
        assert!(bench.segments(0).len() < 12, "{} segments of 14 s", bench.segments(0).len());
        assert!(bench.segments(2).len() >= 2, "it goes on");
        assert_eq!((jumped(&bench), bench.notices("outlier")), (0, 1), "with {at}");
    }
}

#[test]
fn a_unit_that_was_held_of_a_refused_push_is_dropped() {
    let mut bench = Bench::new(settings());
    bench.rendition(HIGH, "720p", 1, false);
    let high = rendition(HIGH, "h", frames(600, 30.0, 60, false));
    bench.run(10_000, vec![script(high[..180].to_vec(), 0)]);
    bench.rendition(LOW, "360p", 1, true);
    let sound = |dts| AccessUnit { track: of_feed(LOW, AUDIO), dts, ..sounds(1)[0].clone() };
    let mut low = script(rendition(LOW, "l", frames(90, 30.0, 60, false)), 6_000);
    // Its timestamps are another clock's, for which it is refused after 2 s.
    low.extend([(7_970, Input::Unit(sound(1_970))), (7_990, Input::Unit(sound(11_000)))]);
    bench.run(10_000, vec![script(high[180..].to_vec(), 0), low]);
    assert!(matches!(bench.refusals()[..], [(LOW, Refusal::Apart { .. })]), "{:?}", bench.refusals());
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    let others = (bench.notices("jump"), bench.notices("track_late"), bench.notices("period_began"));
    assert_eq!(others, (0, 0, 0));
}

#[test]
fn sound_of_a_push_that_stalls_goes_on_with_that_of_another() {
    let mut bench = Bench::new(settings());
    bench.rendition(HIGH, "720p", 1, true);
    bench.rendition(LOW, "360p", 1, true);
    let (mut high, low) = (rendition(HIGH, "h", programme(12)), rendition(LOW, "l", programme(12)));
    high.retain(|unit| unit.dts < 7_000);
    bench.run(10_000, vec![script(high, 0), script(low, 0)]);
    bench.send(Input::End);
    check_invariants(&bench.outputs);
    let sound = |data: &Bytes| data.slice(2..);
    let heard: Vec<Bytes> = bench.units(2).iter().map(sound).collect();
    assert_eq!((heard, bench.notices("silence_filled")), (payloads(&programme(12), AUDIO), 0));
}
