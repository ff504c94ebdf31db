use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::track::Lookup;
use super::window::{Input, Output, Window};
use crate::model::limits::JOIN_SETTLE;
use crate::model::time::{Time, Timescale, UnixTime};
use crate::model::{
    AudioInfo, Epoch, Flags, Init, LifeId, Msn, NodeId, PartHeader, PartId, Period, Record, StreamName, Trace, Track,
    TrackId, TrackKind,
};

const FIRST: Msn = 1_000;
const PARTS: u16 = 10;
const PART_TICKS: u32 = 200;

pub(super) fn record(revision: u32) -> Record {
    Record {
        stream: StreamName::parse("cam1").expect("a name"),
        life: LifeId(1),
        epoch: Epoch { counter: 1, node: NodeId(1) },
        revision,
        first_msn: FIRST,
        target_duration: 2,
        part_target: Duration::from_millis(200),
        latency: Duration::from_millis(200) * 3,
        segment_duration: Duration::from_secs(2),
        messages: crate::model::Schemes::default(),
        availability_start: UnixTime::from_micros(1_000_000_000),
        tracks: vec![Track {
            id: TrackId(0),
            name: "audio".to_owned(),
            timescale: Timescale::MILLIS,
            codec: "mp4a.40.2".to_owned(),
            language: None,
            bandwidth: 0,
            average_bandwidth: 0,
            kind: TrackKind::Audio(AudioInfo { sample_rate: 48_000, channels: 2 }),
            inits: vec![Init { number: 0, bytes: Bytes::from_static(b"init") }],
        }],
        periods: vec![Period::new(FIRST, 0, Duration::ZERO)],
        ended: None,
    }
}

fn part(msn: Msn, part: u16) -> Input {
    part_with(msn, part, 0, part + 1 == PARTS)
}

fn part_with(msn: Msn, part: u16, discontinuity: u32, last: bool) -> Input {
    let body = Bytes::from(format!("{msn}.{part}"));
    let decode_time = u64::from(msn - FIRST) * 2_000 + u64::from(part) * u64::from(PART_TICKS);
    let header = PartHeader {
        id: PartId { epoch: Epoch { counter: 1, node: NodeId(1) }, track: TrackId(0), msn, part },
        decode_time,
        duration: PART_TICKS,
        program_date_time: UnixTime::from_micros(1_000_000_000 + decode_time * 1_000),
        ingested: UnixTime::default(),
        init: 0,
        discontinuity,
        flags: Flags { independent: true, last, ..Flags::default() },
        length: u32::try_from(body.len()).expect("short"),
        hash: *blake3::hash(&body).as_bytes(),
    };
    Input::Part { header, body, trace: Trace::default(), received: Time::ZERO }
}

/// A window, its clock, and what it told.
struct Fixture {
    window: Window,
    now: Time,
    told: VecDeque<Output>,
}

impl Fixture {
    fn new() -> Self {
        let mut f = Fixture { window: Window::new(record(0).stream), now: Time::from_millis(1), told: VecDeque::new() };
        f.put(Input::Record(record(0)));
        f.told.clear();
        f
    }

    fn put(&mut self, input: Input) {
        self.window.handle(self.now, input);
        while let Some(output) = self.window.poll_output() {
            self.told.push_back(output);
        }
    }

    fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.window.poll_timeout().filter(|due| *due <= end) {
            self.now = due;
            self.put(Input::Timeout);
        }
        self.now = end;
    }

    /// `msn.part` of each part listed since the last call, gaps with a `!`.
    fn listed(&mut self) -> Vec<String> {
        let text = |o| match o {
            Output::Listed { msn, part, gap, .. } => {
                Some(format!("{}.{part}{}", msn - FIRST, if gap { "!" } else { "" }))
            }
            _ => None,
        };
        self.told.drain(..).filter_map(text).collect()
    }

    fn track(&self) -> &super::track::TrackWindow {
        self.window.track(TrackId(0)).expect("one track")
    }
}

#[test]
fn parts_are_listed_in_order_whatever_order_they_come_in() {
    let mut f = Fixture::new();
    for p in [0, 1, 3, 2] {
        f.put(part(FIRST, p));
    }
    assert_eq!(f.listed(), ["0.0", "0.1", "0.2", "0.3"]);
    assert_eq!(f.track().next(), Some((FIRST, 4)));
}

#[test]
fn a_missing_part_holds_the_playlist_for_part_hold_back_and_then_is_a_gap_for_good() {
    let mut f = Fixture::new();
    f.put(part(FIRST, 0));
    f.put(part(FIRST, 2));
    f.wait(Duration::from_millis(599));
    assert_eq!(f.listed(), ["0.0"]);
    f.wait(Duration::from_millis(1));
    assert_eq!(f.listed(), ["0.1!", "0.2"]);
    f.put(part(FIRST, 1));
    assert_eq!(f.listed(), [""; 0]);
    assert!(matches!(f.track().part(FIRST, 1), Lookup::Gap));
    assert!(matches!(f.track().part(FIRST, 2), Lookup::Ready(_)));
    assert_eq!((f.window.concealed(), f.window.late()), (1, 1));
    let gap = f.track().listed().next().and_then(|s| s.parts().nth(1)).expect("listed").header;
    assert_eq!((gap.decode_time, gap.duration), (200, 200));
}

#[test]
fn a_missing_part_that_comes_in_time_is_no_gap() {
    let mut f = Fixture::new();
    f.put(part(FIRST, 0));
    f.put(part(FIRST, 2));
    f.wait(Duration::from_millis(500));
    f.put(part(FIRST, 1));
    f.wait(Duration::from_secs(5));
    assert_eq!(f.listed(), ["0.0", "0.1", "0.2"]);
}

#[test]
fn whole_segments_that_are_missing_become_segments_of_gaps() {
    let mut f = Fixture::new();
    (0..PARTS).for_each(|p| f.put(part(FIRST, p)));
    (0..PARTS).for_each(|p| f.put(part(FIRST + 3, p)));
    f.listed();
    f.wait(Duration::from_secs(3));
    let listed = f.listed();
    assert_eq!(listed.iter().filter(|l| l.ends_with('!')).count(), 20, "{listed:?}");
    let segments: Vec<_> =
        f.track().listed().map(|s| (s.msn - FIRST, s.decode_time(), s.duration(), s.has_gap())).collect();
    assert_eq!(
        segments,
        [(0, 0, 2_000, false), (1, 2_000, 2_000, true), (2, 4_000, 2_000, true), (3, 6_000, 2_000, false)]
    );
    assert!(matches!(f.track().segment(FIRST + 1), Lookup::Gap));
}

#[test]
fn a_segment_that_ends_early_at_a_discontinuity_is_closed_without_a_gap() {
    let mut f = Fixture::new();
    f.put(part(FIRST, 0));
    f.put(part_with(FIRST + 1, 0, 1, false));
    f.wait(Duration::from_secs(1));
    assert_eq!(f.listed(), ["0.0", "1.0"]);
    assert!(f.track().listed().next().is_some_and(|s| s.is_complete() && !s.has_gap()));
}

#[test]
fn a_joiner_gathers_the_window_before_it_lists() {
    let mut f = Fixture::new();
    let from = FIRST + 50;
    for msn in (from..from + 14).rev() {
        (0..PARTS).rev().for_each(|p| f.put(part(msn, p)));
        assert!(f.listed().is_empty(), "nothing is listed before the window is here");
    }
    f.put(part(from + 14, 0));
    (0..PARTS).for_each(|p| f.put(part(from - 1, p)));
    let listed = f.listed();
    assert_eq!(listed.first().map(String::as_str), Some("49.0"));
    assert_eq!(listed.len(), 15 * usize::from(PARTS) + 1);
}

#[test]
fn a_joiner_makes_do_with_what_is_there_after_a_while() {
    let mut f = Fixture::new();
    (0..PARTS).for_each(|p| f.put(part(FIRST + 50, p)));
    f.put(part(FIRST + 52, 0));
    f.put(part(FIRST + 52, 1));
    f.wait(JOIN_SETTLE - Duration::from_micros(1));
    assert!(f.listed().is_empty());
    f.wait(Duration::from_micros(1));
    assert_eq!(f.listed(), ["52.0", "52.1"], "the stretch without a hole that ends at the newest part");
}

#[test]
fn the_playlist_keeps_its_length_and_the_window_a_little_more() {
    let mut f = Fixture::new();
    for msn in FIRST..FIRST + 100 {
        (0..PARTS).for_each(|p| f.put(part(msn, p)));
    }
    let listed: Vec<_> = f.track().listed().map(|s| s.msn).collect();
    assert_eq!(listed.len(), 15, "30 s of 2 s segments");
    assert_eq!(listed.last(), Some(&(FIRST + 99)));
    assert!(matches!(f.track().segment(FIRST + 84), Lookup::Ready(_)), "delisted, still fetchable");
    assert!(matches!(f.track().segment(FIRST + 70), Lookup::Unknown));
    assert!(matches!(f.track().part(FIRST + 100, 0), Lookup::Expected));
    assert!(matches!(f.track().part(FIRST + 200, 0), Lookup::Unknown));
}

#[test]
fn parts_before_their_record_wait_for_it() {
    let mut window = Window::new(record(0).stream);
    window.handle(Time::ZERO, part(FIRST, 0));
    assert_eq!(window.poll_output(), None);
    window.handle(Time::ZERO, Input::Record(record(0)));
    assert_eq!(window.poll_output(), Some(Output::RecordChanged));
    assert!(matches!(window.poll_output(), Some(Output::Listed { msn: FIRST, part: 0, gap: false, .. })));
}

#[test]
fn a_new_life_starts_afresh_and_an_older_record_changes_nothing() {
    let mut f = Fixture::new();
    f.put(part(FIRST, 0));
    f.put(Input::Record(Record { revision: 0, ..record(0) }));
    assert_eq!(f.listed(), ["0.0"]);
    let epoch = Epoch { counter: 2, node: NodeId(2) };
    f.put(Input::Record(Record { life: LifeId(2), epoch, first_msn: FIRST + 500, ..record(0) }));
    assert!(f.told.contains(&Output::Restarted));
    assert!(!f.track().is_started());
}

proptest! {
    /// Whatever the order and the losses: what is listed is in order, once, without a hole, and never taken back.
    #[test]
    fn listing_is_in_order_once_and_without_holes(
        order in Just((0..60u16).collect::<Vec<_>>()).prop_shuffle(),
        lost in proptest::collection::btree_set(0..60u16, 0..20),
        pause in 0..400u64,
    ) {
        let mut f = Fixture::new();
        for n in order {
            if !lost.contains(&n) {
                f.put(part(FIRST + Msn::from(n / PARTS), n % PARTS));
            }
            f.wait(Duration::from_millis(pause));
        }
        f.wait(Duration::from_secs(60));
        let mut expect: Option<(Msn, u16)> = None;
        for output in &f.told {
            if let Output::Listed { msn, part, .. } = output {
                if let Some(expect) = expect {
                    prop_assert!((*msn, *part) == expect || (*msn, *part) == (expect.0 + 1, 0));
                }
                expect = Some((*msn, part + 1));
            }
        }
        let mut end = None;
        for segment in f.track().listed() {
            for p in segment.parts() {
                prop_assert!(p.is_gap() == p.body.is_empty());
                prop_assert!(end.is_none_or(|end| end == p.header.decode_time), "no hole in time");
                end = Some(p.header.decode_time + u64::from(p.header.duration));
            }
        }
    }
}

#[test]
fn an_appended_tracks_first_parts_may_overtake_the_record_and_are_listed_at_once() {
    let mut f = Fixture::new();
    for p in 0..PARTS {
        f.put(part(FIRST, p));
    }
    let late = |number: u16| {
        let Input::Part { mut header, body, trace, received } = part(FIRST + 1, number) else { unreachable!() };
        header.id.track = TrackId(1);
        Input::Part { header, body, trace, received }
    };
    f.put(late(0));
    f.listed();
    let mut appended = record(1);
    let second = Track { id: TrackId(1), name: "audio_de".to_owned(), ..appended.tracks[0].clone() };
    appended.tracks.push(second);
    appended.periods[0].tracks = [TrackId(0)].into_iter().collect();
    let tracks = [TrackId(0), TrackId(1)].into_iter().collect();
    let start = Duration::from_secs(2);
    appended.periods.push(Period { tracks, continues: true, ..Period::new(FIRST + 1, 0, start) });
    assert!(appended.is_late(TrackId(1)) && appended.is_sent(TrackId(1)) && !appended.is_late(TrackId(0)));
    assert!(f.window.is_started());
    f.put(Input::Record(appended));
    assert_eq!(f.listed(), ["1.0"], "its first segment is known: no window has to be gathered");
    f.put(late(1));
    assert_eq!(f.listed(), ["1.1"]);
    assert!(f.window.is_started());
}
