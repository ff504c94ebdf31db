//! Holders that answer, fail or are silent, and requests that wait, in virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use crate::dvr::entry::{SegmentEntry, SegmentKey};
use crate::dvr::fetch_queue::{Attempt, FetchQueue, Input, Outcome, Output};
use crate::dvr::query::{Listing, Query};
use crate::link::query::QueryError;
use crate::model::time::{Time, UnixTime};
use crate::model::{LifeId, Msn, NodeId, Peer, Period, StreamName, TrackId};
use crate::testing::synthetic::{self, FIRST_MSN, PARTS, VIDEO};
use crate::window::{Part, Segment};

fn key(msn: Msn) -> SegmentKey {
    SegmentKey { stream: StreamName::parse("cam1").expect("a name"), life: LifeId(1), track: VIDEO, msn }
}

fn holders(n: u64) -> Vec<Peer> {
    (1..=n).map(|id| Peer { id: NodeId(id), addr: ([127, 0, 0, 1], 4_900).into() }).collect()
}

fn segment() -> Arc<Segment> {
    let record = synthetic::record("cam1");
    let parts = (0..PARTS).map(|n| {
        let (header, body, _) = synthetic::part(&record, VIDEO, FIRST_MSN, n, 10);
        Part::untraced(header, body)
    });
    Arc::new(Segment::whole(parts.collect()).expect("whole"))
}

#[derive(Default)]
struct Rig {
    fetches: FetchQueue<u32>,
    now: Time,
    asked: Vec<(Attempt, u64, Msn)>,
    abandoned: Vec<Attempt>,
    outcomes: BTreeMap<u32, &'static str>,
}

impl Rig {
    fn handle(&mut self, input: Input<u32>) {
        self.fetches.handle(self.now, input);
        while let Some(output) = self.fetches.poll_output() {
            match output {
                Output::Ask { attempt, holder, key } => self.asked.push((attempt, holder.id.0, key.msn)),
                Output::Abandon(attempt) => self.abandoned.push(attempt),
                Output::Done { waiters, outcome } => {
                    let outcome = match outcome {
                        Outcome::Here(_) => "here",
                        Outcome::Nobody => "nobody",
                        Outcome::Unreachable => "unreachable",
                        Outcome::Full => "full",
                    };
                    for waiter in waiters {
                        assert!(self.outcomes.insert(waiter, outcome).is_none(), "told once");
                    }
                }
            }
        }
        assert!(self.fetches.poll_timeout().is_none_or(|at| at > self.now), "a timer that is due was left");
    }

    fn want(&mut self, waiter: u32, msn: Msn, from: u64) {
        self.handle(Input::Want { key: key(msn), holders: holders(from), waiter });
    }

    fn answer(&mut self, answer: Result<Arc<Segment>, QueryError>) {
        let (attempt, ..) = *self.asked.last().expect("somebody was asked");
        self.handle(Input::Answered(attempt, answer));
    }

    /// Goes on to the next deadline.
    fn wait(&mut self) -> Duration {
        let at = self.fetches.poll_timeout().expect("a deadline");
        let waited = at.since(self.now);
        self.now = at;
        self.handle(Input::Timeout);
        waited
    }
}

#[test]
fn what_many_want_is_fetched_once() {
    let mut rig = Rig::default();
    (0..100).for_each(|viewer| rig.want(viewer, 7, 3));
    assert_eq!(rig.asked.len(), 1);
    rig.answer(Ok(segment()));
    assert!(rig.outcomes.len() == 100 && rig.outcomes.values().all(|outcome| *outcome == "here"));
    assert_eq!(rig.fetches.poll_timeout(), None, "nothing is left");
    // An answer to a query that was stopped long ago.
    rig.answer(Err(QueryError::NotHere));
    assert_eq!(rig.asked.len(), 1);
}

#[test]
fn the_next_holder_is_asked() {
    for first in [Err(QueryError::NotHere), Err(QueryError::Busy), Err(QueryError::Unreachable(String::new()))] {
        let mut rig = Rig::default();
        rig.want(1, 7, 3);
        rig.answer(first);
        assert_eq!(rig.asked.len(), 2);
        assert_ne!(rig.asked[0].1, rig.asked[1].1);
        rig.answer(Ok(segment()));
        assert_eq!(rig.outcomes[&1], "here");
    }
}

#[test]
fn a_silent_holder_is_given_up_and_asked_last_for_a_while() {
    let mut rig = Rig::default();
    rig.want(1, 7, 2);
    let (attempt, silent, _) = rig.asked[0];
    rig.now += Duration::from_millis(1_900);
    rig.handle(Input::Progress(attempt));
    assert_eq!(rig.wait(), Duration::from_secs(2), "while bytes come, it isn't silent");
    assert_eq!(rig.abandoned, [attempt]);
    rig.answer(Ok(segment()));
    assert_eq!(rig.outcomes[&1], "here");
    for (waiter, msn) in (0..20).zip(100..) {
        rig.want(1_000 + waiter, msn, 2);
        assert_ne!(rig.asked.last().expect("asked").1, silent, "{msn}");
        rig.answer(Ok(segment()));
    }
    rig.now += Duration::from_secs(10);
    for (waiter, msn) in (0..20).zip(100..) {
        rig.want(2_000 + waiter, msn, 2);
        rig.answer(Ok(segment()));
    }
    let again = rig.asked.iter().rev().take(20).filter(|(_, id, _)| *id == silent).count();
    assert!((4..=16).contains(&again), "about half of them: {again}");
}

#[test]
fn nobody_waits_for_ever() {
    let mut rig = Rig::default();
    rig.want(1, 7, 100);
    let mut waited = Duration::ZERO;
    while rig.outcomes.is_empty() {
        waited += rig.wait();
    }
    assert_eq!((rig.outcomes[&1], waited), ("unreachable", Duration::from_secs(8)));
    assert_eq!(rig.asked.len(), 4, "2 s each");
    assert_eq!(rig.abandoned.len(), 4);
    rig.want(2, 8, 0);
    assert_eq!(rig.outcomes[&2], "unreachable", "nobody is there to be asked");
}

#[test]
fn that_nobody_has_it_is_remembered_for_a_while() {
    let mut rig = Rig::default();
    rig.want(1, 7, 1);
    rig.answer(Err(QueryError::NotHere));
    rig.want(2, 7, 1);
    assert_eq!((rig.outcomes[&1], rig.outcomes[&2], rig.asked.len()), ("nobody", "nobody", 1));
    rig.now += Duration::from_secs(5);
    rig.want(3, 7, 1);
    assert_eq!(rig.asked.len(), 2);
    // A holder that is busy, or can't be reached, may have the segment.
    for (waiter, msn, answer) in [(4, 8, Err(QueryError::Busy)), (5, 9, Err(QueryError::Unreachable(String::new())))] {
        rig.want(waiter, msn, 1);
        rig.answer(answer);
        assert_eq!(rig.outcomes[&waiter], "unreachable");
        rig.want(waiter + 10, msn, 1);
        rig.answer(Ok(segment()));
        assert_eq!(rig.outcomes[&(waiter + 10)], "here");
    }
}

#[test]
fn all_is_bounded() {
    let mut rig = Rig::default();
    (0..1_000).for_each(|n| rig.want(n, n, 1));
    assert_eq!(rig.asked.len(), 16);
    let full = rig.outcomes.values().filter(|outcome| **outcome == "full").count();
    assert_eq!(full, 1_000 - 16 - 256);
    (0..11_000).for_each(|n| rig.want(10_000 + n, 7, 1));
    let full = rig.outcomes.values().filter(|outcome| **outcome == "full").count();
    assert_eq!(full, 1_000 - 16 - 256 + 11_000 - (10_000 - 16 - 256));
    // Each segment is fetched in its turn.
    for n in 0.. {
        let Some((attempt, ..)) = rig.asked.get(n).copied() else { break };
        rig.handle(Input::Answered(attempt, Ok(segment())));
    }
    assert_eq!(rig.asked.len(), 16 + 256);
    let here = rig.outcomes.values().filter(|outcome| **outcome == "here").count();
    assert_eq!(here, 10_000);
}

#[test]
fn questions_survive_the_wire() {
    let SegmentKey { stream, life, .. } = key(7);
    for question in [Query::Segment(key(7)), Query::Listing { stream, life, from: 1, before: 9 }] {
        let wire = question.encode();
        assert_eq!(Query::decode(wire.clone()), Ok(Some(question)));
        for cut in 0..wire.len() {
            assert!(Query::decode(wire.slice(..cut)).is_err(), "cut at {cut}");
        }
    }
    assert_eq!(Query::decode(Bytes::from_static(&[9, 1])), Ok(None), "of a newer node");
}

proptest! {
    #[test]
    fn listings_are_read_or_refused(n in 0_u32..50, at in 0_usize..10_000, bits in 1_u8..) {
        let entry = |msn| SegmentEntry {
            msn,
            decode_time: 180_000 * u64::from(msn),
            duration: 180_000,
            program_date_time: UnixTime::from_micros(7),
            discontinuity: 1,
            init: 2,
            gap: msn % 3 == 0,
            lost: false,
            whole: true,
            length: 9,
            here: false,
        };
        let listing = Listing {
            listed_from: 5,
            periods: vec![Period::new(3, 1, Duration::from_secs(4))],
            inits: vec![(VIDEO, 2, Bytes::from_static(b"moov"))],
            entries: (0..n).map(|msn| (TrackId(1), entry(msn))).collect(),
        };
        let wire = listing.encode();
        prop_assert_eq!(Listing::decode(wire.clone()), Ok(listing));
        let mut torn = wire.to_vec();
        let at = at % torn.len();
        torn[at] ^= bits;
        prop_assert!(Listing::decode(Bytes::from(torn)).is_err());
        prop_assert!(Listing::decode(wire.slice(..at)).is_err());
    }
}
