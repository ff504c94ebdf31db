//! Pushes whose timestamps lie days from the others'.

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
