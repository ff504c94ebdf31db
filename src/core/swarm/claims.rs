//! The streams that this node ingests, and the refreshes of their entries.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::announcement::Announcement;
use super::directory::Entry;
use crate::model::time::Time;
use crate::model::{Flags, PartHeader, PartId, Peer, Record, StreamName, TrackId};

/// An ingest node repeats its entries this often.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);

/// The entry of an ended presentation is repeated for this long, so that late viewers see ENDLIST. A guess.
const ENDED_LINGER: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Claim {
    entry: Entry,
    /// The end of the refreshes; set once the presentation has ended.
    until: Option<Time>,
}

impl Claim {
    fn refresh(&mut self) -> Announcement<Entry> {
        self.entry.refresh = self.entry.refresh.saturating_add(1);
        Announcement::new(self.entry.clone())
    }
}

/// All claims of this node.
#[derive(Debug)]
pub(super) struct Claims {
    me: Peer,
    claims: BTreeMap<StreamName, Claim>,
    refresh_at: Option<Time>,
}

impl Claims {
    pub(super) fn new(me: Peer) -> Self {
        Claims { me, claims: BTreeMap::new(), refresh_at: None }
    }

    /// Claims the stream of a record. Returns the announcement to send if its presentation or epoch is new.
    pub(super) fn claim(&mut self, now: Time, record: &Record) -> Option<Announcement<Entry>> {
        let Record { stream, life, epoch, .. } = record;
        let until = record.ended.map(|_| now + ENDED_LINGER);
        self.refresh_at.get_or_insert(now + REFRESH_INTERVAL);
        match self.claims.get_mut(stream) {
            Some(claim) if (claim.entry.epoch, claim.entry.life) == (*epoch, *life) => {
                claim.until = until;
                None
            }
            _ => {
                let entry = Entry { stream: stream.clone(), life: *life, epoch: *epoch, refresh: 0, ingest: self.me };
                let mut claim = Claim { entry, until };
                let announcement = claim.refresh();
                self.claims.insert(stream.clone(), claim);
                Some(announcement)
            }
        }
    }

    /// Gives a stream up if another ingest node has taken it over.
    pub(super) fn yield_to(&mut self, newer: &Entry) {
        if self.claims.get(&newer.stream).is_some_and(|claim| claim.entry.epoch < newer.epoch) {
            self.claims.remove(&newer.stream);
        }
    }

    /// Gives all streams up.
    pub(super) fn clear(&mut self) {
        self.claims.clear();
    }

    /// Returns the announcements to repeat, once that is due.
    pub(super) fn refresh(&mut self, now: Time) -> Vec<Announcement<Entry>> {
        if self.refresh_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.claims.retain(|_, claim| claim.until.is_none_or(|until| now < until));
        self.refresh_at = (!self.claims.is_empty()).then(|| now + REFRESH_INTERVAL);
        self.claims.values_mut().map(Claim::refresh).collect()
    }

    /// Returns when the entries are refreshed next.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.refresh_at
    }
}

/// Makes the part in which a record is broadcast, under [`TrackId::RECORD`].
pub(super) fn record_part(record: &Record) -> (PartHeader, Bytes) {
    let body = record.encode();
    let header = PartHeader {
        id: PartId { epoch: record.epoch, track: TrackId::RECORD, msn: record.revision, part: 0 },
        decode_time: 0,
        duration: 0,
        program_date_time: record.availability_start,
        ingested: record.availability_start,
        init: 0,
        discontinuity: record.periods.last().map_or(0, |period| period.discontinuity),
        flags: Flags { last: true, ..Flags::default() },
        length: u32::try_from(body.len()).expect("a record is far below 4 GiB"),
        hash: *blake3::hash(&body).as_bytes(),
    };
    (header, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::UnixTime;
    use crate::model::{Epoch, LifeId, NodeId, Period, Schemes};

    const T: Time = Time::from_millis(100_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn claims() -> Claims {
        let me = Peer { id: NodeId(7), addr: ([127, 0, 0, 1], 4_900).into() };
        Claims::new(me)
    }

    fn record(stream: &str, counter: u32) -> Record {
        Record {
            stream: StreamName::parse(stream).expect("a name"),
            life: LifeId(1),
            epoch: Epoch { counter, node: NodeId(7) },
            revision: 3,
            first_msn: 0,
            target_duration: 2,
            part_target: SECOND,
            latency: 3 * SECOND,
            segment_duration: SECOND,
            messages: Schemes::default(),
            availability_start: UnixTime::from_micros(7),
            tracks: Vec::new(),
            periods: vec![Period::new(0, 9, Duration::ZERO)],
            ended: None,
        }
    }

    /// The streams and refresh counters of what is announced.
    fn said(announcements: Vec<Announcement<Entry>>) -> Vec<(String, u32)> {
        announcements.into_iter().map(|told| (told.what.stream.as_str().to_owned(), told.what.refresh)).collect()
    }

    #[test]
    fn a_life_or_an_epoch_is_announced_once_and_refreshed() {
        let mut claims = claims();
        assert_eq!(claims.poll_timeout(), None);
        let first = claims.claim(T, &record("a", 1)).expect("it is new");
        assert!(first.is_intact());
        assert_eq!((first.what.refresh, first.age_ms, first.what.ingest.id), (1, 0, NodeId(7)));
        assert_eq!(claims.claim(T + SECOND, &record("a", 1)), None, "another revision");
        assert_eq!(said(claims.claim(T + SECOND, &record("b", 1)).into_iter().collect()), [("b".to_owned(), 1)]);
        assert_eq!(claims.refresh(T + 4 * SECOND), []);
        assert_eq!(said(claims.refresh(T + 5 * SECOND)), [("a".to_owned(), 2), ("b".to_owned(), 2)]);
        assert_eq!(claims.poll_timeout(), Some(T + 10 * SECOND));
        assert_eq!(claims.claim(T + 6 * SECOND, &record("a", 2)).map(|told| told.what.refresh), Some(1));
        let reborn = Record { life: LifeId(2), ..record("a", 2) };
        assert_eq!(claims.claim(T + 6 * SECOND, &reborn).map(|told| told.what.life), Some(LifeId(2)));
    }

    #[test]
    fn an_ended_stream_is_refreshed_for_a_while() {
        let mut claims = claims();
        claims.claim(T, &record("a", 1));
        assert_eq!(claims.claim(T, &Record { ended: Some(4), ..record("a", 1) }), None);
        assert_eq!(claims.refresh(T + 299 * SECOND).len(), 1);
        assert_eq!(claims.refresh(T + 304 * SECOND), []);
        assert_eq!(claims.poll_timeout(), None);
    }

    #[test]
    fn only_a_newer_epoch_takes_a_stream_over() {
        let mut claims = claims();
        let own = claims.claim(T, &record("a", 2)).expect("it is new").what;
        let of = |counter| Entry { epoch: Epoch { counter, node: NodeId(9) }, ..own.clone() };
        claims.yield_to(&own);
        claims.yield_to(&of(1));
        assert_eq!(claims.refresh(T + 5 * SECOND).len(), 1);
        claims.yield_to(&of(3));
        assert_eq!(claims.refresh(T + 10 * SECOND), []);
    }

    #[test]
    fn a_record_is_a_part_of_its_own_track() {
        let (header, body) = record_part(&record("a", 2));
        assert!(header.matches(&body));
        assert_eq!((header.id.track, header.id.msn, header.discontinuity), (TrackId::RECORD, 3, 9));
        assert_eq!(Record::decode(body), Ok(record("a", 2)));
    }
}
