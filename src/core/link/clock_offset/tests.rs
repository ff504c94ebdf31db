use super::*;

fn sample(t1: u64, t2: u64, t3: u64, t4: u64) -> PingSample {
    let at = Time::from_micros;
    PingSample { t1: at(t1), t2: at(t2), t3: at(t3), t4: at(t4) }
}

fn check(samples: &[PingSample], offset_us: Option<i64>, rtt_us: Option<u64>) {
    let mut clock = ClockOffset::default();
    samples.iter().for_each(|s| clock.record(*s));
    let got = clock.line.and_then(|line| clock.at(line.at)).map(|offset| offset.micros);
    let near = got.zip(offset_us).is_none_or(|(got, expect)| got.abs_diff(expect) < 20);
    assert!(near && got.is_some() == offset_us.is_some(), "{got:?} {samples:?}");
    assert_eq!(clock.rtt(), rtt_us.map(Duration::from_micros), "{samples:?}");
}

#[test]
fn the_shortest_trip_is_believed() {
    check(&[], None, None);
    // The peer's clock is 1,000 ahead; 50 each way, 10 there.
    check(&[sample(100, 1_150, 1_160, 210)], Some(1_000), Some(100));
    // A queue of 4,000 on the way back would say -1,000.
    check(&[sample(100, 1_150, 1_160, 210), sample(300, 1_350, 1_360, 4_410)], Some(1_000), Some(100));
    // The peer's clock is behind ours.
    check(&[sample(5_000, 1_050, 1_060, 5_110)], Some(-4_000), Some(100));
}

#[test]
fn a_clock_that_was_set_is_believed_at_once() {
    let later = |n: u64, offset: u64| {
        let t = n * 1_750_000;
        sample(t, t + offset + 50, t + offset + 50, t + 100)
    };
    let mut samples: Vec<PingSample> = (0..10).map(|n| later(n, 1_000)).collect();
    samples.push(later(10, 900_000));
    check(&samples, Some(900_000), Some(100));
}

#[test]
fn samples_that_cannot_be_are_ignored() {
    check(&[sample(100, 0, 0, 90)], None, None);
    check(&[sample(100, 50, 40, 200)], None, None);
    check(&[sample(100, 0, 500, 200)], None, None);
    check(&[sample(0, u64::MAX, u64::MAX, 1)], None, None);
}

#[test]
fn transit_is_on_our_clock_and_never_clamped() {
    let mut clock = ClockOffset::default();
    assert_eq!(clock.transit(Time::ZERO, Time::ZERO), None);
    clock.record(sample(100, 1_150, 1_160, 210));
    let check = |sent, received, transit| {
        let got = clock.transit(Time::from_micros(sent), Time::from_micros(received));
        let Transit { micros, uncertainty } = got.expect("a sample is there");
        assert_eq!(micros, transit);
        assert!(uncertainty >= Duration::from_micros(50), "half the round trip");
    };
    check(2_000, 1_060, 60);
    check(2_000, 900, -100);
    check(u64::MAX, 0, -i64::from(u32::MAX));
    check(0, u64::MAX, i64::from(u32::MAX));
}

/// A node's clock in a world with a true time: set apart, and too fast or too slow.
#[derive(Clone, Copy)]
struct Quartz {
    ahead_us: i64,
    ppm: i64,
}

impl Quartz {
    fn read(self, truth: u64) -> Time {
        let (truth, hour) = (truth as i64, 3_600_000_000);
        Time::from_micros((hour + truth + self.ahead_us + truth * self.ppm / 1_000_000) as u64)
    }
}

/// SplitMix64: the same jitter in every run.
struct Chance(u64);

impl Chance {
    fn up_to(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % (most + 1)
    }
}

const MS: u64 = 1_000;
const SECOND: u64 = 1_000_000;

/// One link, whose delay each way changes once.
struct Path {
    ends: [Quartz; 2],
    delays_ms: [u64; 2],
    changes_at: u64,
}

impl Path {
    /// One trip with up to 1 ms of jitter.
    fn arrives(&self, sent: u64, chance: &mut Chance) -> u64 {
        let delay = self.delays_ms[usize::from(sent >= self.changes_at)];
        sent + delay * MS + chance.up_to(MS)
    }

    /// What the second end's clock filter says of parts that the first end sends, one each 200 ms: when they came in
    /// truth, their true transits and those measured. `dialler` is who begins the pings; the other pings with its pong.
    fn run(&self, dialler: usize, until: u64, chance: &mut Chance) -> Vec<(u64, i64, Transit)> {
        let read = |end: usize, truth| self.ends[end].read(truth);
        let mut samples = Vec::new();
        let mut at = 0;
        for n in 0.. {
            let other = 1 - dialler;
            let there = self.arrives(at, chance);
            let pong = there + chance.up_to(100);
            let back = self.arrives(pong, chance);
            let answer = back + chance.up_to(100);
            let last = self.arrives(answer, chance);
            let (t1, t4, end) = if dialler == 1 { (at, back, other) } else { (pong, last, dialler) };
            let (t2, t3) = if dialler == 1 { (there, pong) } else { (back, answer) };
            samples.push((t4, PingSample { t1: read(1, t1), t2: read(end, t2), t3: read(end, t3), t4: read(1, t4) }));
            at += if n < 3 { 100 * MS } else { 1_750 * MS };
            if at > until {
                break;
            }
        }
        let mut clock = ClockOffset::default();
        let mut samples = samples.into_iter().peekable();
        let mut seen = Vec::new();
        for sent in (SECOND..until).step_by(200 * MS as usize) {
            let came = self.arrives(sent, chance);
            while let Some((_, sample)) = samples.next_if(|(at, _)| *at <= came) {
                clock.record(sample);
            }
            let transit = clock.transit(read(0, sent), read(1, came)).expect("a second is enough for a first ping");
            seen.push((came, (came - sent) as i64, transit));
        }
        seen
    }
}

fn median(mut of: Vec<i64>) -> i64 {
    of.sort_unstable();
    of[of.len() / 2]
}

/// The case: four hops, clocks apart by -3 s to +3 s and by 100 ppm, 1 ms of jitter.
fn four_hops(seed: u64, delays_ms: [[u64; 2]; 4], spans: &[(u64, u64)]) {
    let mut chance = Chance(seed);
    let quartz = |ahead_s: i64, ppm| Quartz { ahead_us: ahead_s * 1_000_000, ppm };
    let nodes = [quartz(0, 100), quartz(3, -100), quartz(-3, 100), quartz(1, 0), quartz(-2, -100)];
    let changes_at = 40 * SECOND;
    let until = spans.iter().map(|span| span.1).max().expect("a span");
    let hops: Vec<_> = (0..4)
        .map(|i| {
            let path = Path { ends: [nodes[i], nodes[i + 1]], delays_ms: delays_ms[i], changes_at };
            path.run(i % 2, until, &mut chance)
        })
        .collect();
    for &(from, to) in spans {
        for (i, hop) in hops.iter().enumerate() {
            let within = || hop.iter().filter(|(at, ..)| (from..to).contains(at));
            let truth = median(within().map(|(_, truth, _)| *truth).collect());
            let told = median(within().map(|(.., transit)| transit.micros).collect());
            let tolerance = (truth / 20).max(1_000);
            let span = (from / SECOND, to / SECOND);
            assert!((told - truth).abs() <= tolerance, "seed {seed}, hop {i}, {span:?} s: {told} for {truth} us");
            for (_, truth, transit) in within() {
                let off = Duration::from_micros(transit.micros.abs_diff(*truth));
                assert!(off <= transit.uncertainty, "seed {seed}, hop {i}: {transit:?} for {truth} us");
            }
        }
        for n in 0..hops[0].len() {
            if hops.iter().all(|hop| (from..to).contains(&hop[n].0)) {
                let truth: i64 = hops.iter().map(|hop| hop[n].1).sum();
                let told: i64 = hops.iter().map(|hop| hop[n].2.micros).sum();
                assert!((told - truth).abs() <= 5_000, "seed {seed}, part {n}: {told} for {truth} us in all");
            }
        }
    }
}

#[test]
fn four_hops_are_right_whatever_the_clocks_say() {
    for seed in 0..50 {
        let delays = [[5, 5], [20, 20], [80, 80], [5, 5]];
        four_hops(seed, delays, &[(2 * SECOND, 12 * SECOND), (30 * SECOND, 40 * SECOND), (100 * SECOND, 200 * SECOND)]);
    }
}

#[test]
fn a_new_link_is_right_from_its_first_ping_on() {
    let quartz = |ahead_s: i64, ppm| Quartz { ahead_us: ahead_s * 1_000_000, ppm };
    for seed in 0..100 {
        for delay in [5, 20, 80] {
            let (ends, delays_ms) = ([quartz(3, 100), quartz(-3, -100)], [delay; 2]);
            let path = Path { ends, delays_ms, changes_at: u64::MAX };
            for (_, truth, transit) in path.run(usize::from(seed % 2 == 0), 5 * SECOND, &mut Chance(seed)) {
                let off = transit.micros.abs_diff(truth);
                // The jitter of the one trip that is known at first, and what the quartzes part by meanwhile.
                assert!(off <= 1_100, "seed {seed}: {transit:?} for {truth} us");
                assert!(Duration::from_micros(off) <= transit.uncertainty, "seed {seed}: {transit:?} for {truth} us");
            }
        }
    }
}

#[test]
fn a_delay_that_changes_is_told_right_within_ten_seconds() {
    for seed in 0..50 {
        let delays = [[5, 80], [80, 5], [20, 80], [80, 20]];
        let after = 50 * SECOND;
        four_hops(
            seed,
            delays,
            &[(30 * SECOND, 40 * SECOND), (after, after + 10 * SECOND), (90 * SECOND, 300 * SECOND)],
        );
    }
}

#[test]
fn the_round_trip_follows_within_ten_seconds() {
    let mut clock = ClockOffset::default();
    for n in 0..20_u64 {
        let (t, way) = (n * 1_750_000, if n < 12 { 5_000 } else { 80_000 });
        clock.record(sample(t, t + way, t + way, t + 2 * way));
        let settled = if n < 16 { 10_000 } else { 160_000 };
        assert_eq!(clock.rtt(), Some(Duration::from_micros(settled)), "sample {n}");
    }
}
