//! The hub's side of the directory: claiming, refreshing, passing on.

use super::directory::{ANNOUNCEMENTS_MAX, Announcement, Change, checksum};
use super::frame::{Body, Frame};
use super::hub::{Hub, Owned};
use super::{Entry, Output};
use crate::model::Peer;
use crate::model::time::Time;
use crate::model::{Flags, NodeId, PartHeader, PartId, Record, StreamName, SwarmId, Trace, TrackId};
use crate::plumtree as broadcast;

impl Hub {
    pub(super) fn on_announcements(&mut self, now: Time, from: Peer, announcements: &[Announcement]) {
        let mut news = Vec::new();
        let mut moved = Vec::new();
        for announcement in announcements {
            match self.directory.merge(now, announcement) {
                Change::Moved => moved.push(announcement.entry.stream.clone()),
                Change::Refreshed => {}
                Change::Old | Change::Corrupt | Change::Full => continue,
            }
            news.extend(self.directory.announce(now, &announcement.entry.stream));
        }
        // Passed on before anything is sent in the streams' swarms: who hears us there has heard of them.
        self.announce(now, &news, Some(from.id));
        for stream in moved {
            self.on_moved(now, &stream, Some(from));
        }
        for announcement in &news {
            self.revive(&announcement.entry.stream);
        }
    }

    /// Tells all neighbours of the directory but `except`.
    pub(super) fn announce(&mut self, now: Time, news: &[Announcement], except: Option<NodeId>) {
        let Some(member) = self.members.get(&SwarmId::DIRECTORY) else { return };
        for peer in member.overlay.active().filter(|peer| Some(peer.id) != except).collect::<Vec<_>>() {
            self.tell(now, peer, news);
        }
    }

    pub(super) fn tell(&mut self, now: Time, peer: Peer, news: &[Announcement]) {
        for chunk in news.chunks(ANNOUNCEMENTS_MAX) {
            let frame = Frame { swarm: SwarmId::DIRECTORY, body: Body::Directory(chunk.to_vec()) };
            self.send(now, peer, &frame, false);
        }
    }

    /// A stream is new, or has a new publisher or life.
    pub(super) fn on_moved(&mut self, now: Time, stream: &StreamName, teller: Option<Peer>) {
        let Some(entry) = self.directory.get(stream).cloned() else { return };
        if self.owned.get(stream).is_some_and(|owned| owned.entry.epoch < entry.epoch) {
            self.owned.remove(stream); // Another ingest has taken over.
        }
        self.outputs.push_back(Output::Announced { entry: entry.clone() });
        if self.wants(&entry) {
            self.join(now, stream, teller.into_iter().chain([entry.ingest]));
        }
    }

    /// Whether this node is to be in the swarm of a stream: until interest lands, in every one.
    pub(super) fn wants(&self, _entry: &Entry) -> bool {
        !self.left
    }

    pub(super) fn revive(&mut self, stream: &StreamName) {
        if let Some(stream) = self.members.get_mut(&SwarmId::of(stream)).and_then(|member| member.stream.as_mut()) {
            stream.leave_at = None;
        }
    }

    pub(super) fn on_claim(&mut self, now: Time, record: Record) {
        if self.left {
            return;
        }
        let stream = record.stream.clone();
        let until = record.ended.map(|_| now + self.config.ended_linger);
        let known = self.owned.get(&stream).map(|owned| &owned.entry);
        let news = known.is_none_or(|entry| (entry.epoch, entry.life) != (record.epoch, record.life));
        let refresh = known.filter(|_| !news).map_or(0, |entry| entry.refresh);
        let entry = Entry { stream: stream.clone(), life: record.life, epoch: record.epoch, refresh, ingest: self.me };
        self.owned.insert(stream.clone(), Owned { entry, until });
        if news {
            self.refresh(now, std::slice::from_ref(&stream));
            self.join(now, &stream, []);
        }
        self.refresh_at.get_or_insert(now + self.config.refresh_interval);
        let body = record.encode();
        let id = PartId { epoch: record.epoch, track: TrackId::RECORD, msn: record.revision, part: 0 };
        let header = PartHeader {
            id,
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
        self.feed_tree(now, SwarmId::of(&stream), broadcast::Input::Publish { header, body, trace: Trace::default() });
    }

    /// Refreshes and announces entries of ours.
    pub(super) fn refresh(&mut self, now: Time, streams: &[StreamName]) {
        let mut news = Vec::new();
        let mut moved = Vec::new();
        for stream in streams {
            let Some(owned) = self.owned.get_mut(stream) else { continue };
            owned.entry.refresh = owned.entry.refresh.saturating_add(1);
            let entry = owned.entry.clone();
            let announcement = Announcement { checksum: checksum(&entry), entry, age_ms: 0 };
            match self.directory.merge(now, &announcement) {
                Change::Moved => moved.push(stream.clone()),
                Change::Refreshed => {}
                Change::Old | Change::Corrupt | Change::Full => continue,
            }
            news.push(announcement);
        }
        self.announce(now, &news, None);
        for stream in moved {
            self.on_moved(now, &stream, None);
        }
    }

    pub(super) fn refresh_all(&mut self, now: Time) {
        self.owned.retain(|_, owned| owned.until.is_none_or(|until| now < until));
        let streams: Vec<_> = self.owned.keys().cloned().collect();
        self.refresh(now, &streams);
        self.refresh_at = (!self.owned.is_empty()).then(|| now + self.config.refresh_interval);
    }
}
