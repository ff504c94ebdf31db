//! The newest segments of one stream, in order, with their gaps.
//!
//! Parts arrive in any order. A track's playlist grows only by the next part in order, [`TrackWindow::next`]. If that part is
//! missing while a later one is here, the playlist waits for at most PART-HOLD-BACK; then it lists the missing part as a
//! gap, for good (docs/architecture.md, Invariants).
//!
//! The record and the parts listed before determine what is listed next, so that two edges at the same part render the same
//! bytes.
//!
//! The contract: after every [`Window::handle`], drain [`Window::poll_output`]; then wait for the next input or for
//! [`Window::poll_timeout`], whose passing [`Input::Timeout`] tells.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::segment::{Part, Segment};
use super::track::TrackWindow;
use crate::model::time::Time;
use crate::model::{Msn, PartHeader, Record, StreamName, Trace, TrackId};

/// Most parts that wait for the stream's record. More are dropped, and repaired later.
const PARTS_WITHOUT_RECORD_MAX: usize = 1_024;

/// An event for a [`Window`].
#[derive(Debug, Clone)]
pub enum Input {
    /// [`Window::poll_timeout`] has passed.
    Timeout,
    /// The stream's record, or a newer revision of it.
    Record(Record),
    /// A part was delivered: complete, checked, and for the first time.
    Part {
        /// The part's header.
        header: PartHeader,
        /// The part's body.
        body: Bytes,
        /// The part's trace to this node.
        trace: Trace,
        /// The arrival of the first byte.
        received: Time,
    },
}

/// A change of a [`Window`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The record is new or newer: playlists may look different.
    RecordChanged,
    /// The next part of a track is listed.
    Listed {
        /// The track.
        track: TrackId,
        /// The segment.
        msn: Msn,
        /// The part.
        part: u16,
        /// The part didn't come in time: it is listed as a gap.
        gap: bool,
    },
    /// A new presentation began; everything of the old one is gone.
    Restarted,
}

/// Holds the newest segments of one stream.
#[derive(Debug)]
pub struct Window {
    stream: StreamName,
    record: Option<Arc<Record>>,
    tracks: Vec<TrackWindow>,
    /// Parts that wait for a record.
    without_record: VecDeque<Part>,
    evicted: Vec<(TrackId, Segment)>,
    version: u64,
    concealed: u64,
    late: u64,
    outputs: VecDeque<Output>,
}

impl Window {
    /// Makes an empty window.
    pub fn new(stream: StreamName) -> Self {
        Window {
            stream,
            record: None,
            tracks: Vec::new(),
            without_record: VecDeque::new(),
            evicted: Vec::new(),
            version: 0,
            concealed: 0,
            late: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Returns the stream's name.
    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// Returns the newest record, once one is known.
    pub fn record(&self) -> Option<&Arc<Record>> {
        self.record.as_ref()
    }

    /// Returns the tracks, by id; none before the record is known.
    pub fn tracks(&self) -> &[TrackWindow] {
        &self.tracks
    }

    /// Returns one track.
    pub fn track(&self, id: TrackId) -> Option<&TrackWindow> {
        self.tracks.get(usize::from(id.0))
    }

    /// Returns whether all tracks list something. A track that came late may not do so yet.
    pub fn is_started(&self) -> bool {
        let Some(record) = &self.record else { return false };
        let mut due = self.tracks.iter().filter(|track| !record.is_late(track.id()));
        self.tracks.iter().any(TrackWindow::is_started) && due.all(TrackWindow::is_started)
    }

    /// Returns a number that goes up with each listed part and each change of the record: documents of the same version are
    /// equal.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns how many parts were listed as gaps because they didn't come in time.
    pub fn concealed(&self) -> u64 {
        self.concealed
    }

    /// Returns how many parts came after they had been listed as gaps, or lay outside the window.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Returns the bytes of all bodies held.
    pub fn held_bytes(&self) -> u64 {
        self.tracks.iter().map(TrackWindow::held_bytes).sum()
    }

    /// Takes an input; drain [`Window::poll_output`] afterwards.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.evicted.clear();
        match input {
            Input::Timeout => {}
            Input::Record(record) => self.record_in(now, record),
            Input::Part { header, body, trace, received } => {
                let part = Part { header, body, trace, received, delivered: now, listed: Time::ZERO };
                self.part_in(part);
            }
        }
        self.advance(now);
    }

    /// Returns the next change, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns the segments that the last input pushed out of the window, for a cache; the next input forgets them.
    pub fn take_evicted(&mut self) -> Vec<(TrackId, Segment)> {
        std::mem::take(&mut self.evicted)
    }

    /// Returns when [`Input::Timeout`] is due: when a track's wait ends.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.tracks.iter().filter_map(TrackWindow::deadline).min()
    }

    fn record_in(&mut self, now: Time, record: Record) {
        let known = self.record.as_deref();
        if record.stream != self.stream || known.is_some_and(|known| !record.supersedes(known)) {
            return;
        }
        if known.is_some_and(|known| known.life != record.life) {
            self.tracks.clear();
            self.outputs.push_back(Output::Restarted);
        }
        for track in record.tracks.iter().skip(self.tracks.len()) {
            self.tracks.push(TrackWindow::new(track.id, track.timescale));
        }
        self.record = Some(Arc::new(record));
        self.version += 1;
        self.outputs.push_back(Output::RecordChanged);
        for mut part in std::mem::take(&mut self.without_record) {
            part.delivered = now;
            self.part_in(part);
        }
    }

    fn part_in(&mut self, part: Part) {
        let Some(record) = &self.record else {
            if self.without_record.len() < PARTS_WITHOUT_RECORD_MAX {
                self.without_record.push_back(part);
            }
            return;
        };
        let id = part.header.id;
        // Parts of a higher epoch may overtake its record. So may the first parts of an appended track overtake the revision
        // that appends it.
        let unknown = usize::from(id.track.0) >= self.tracks.len();
        if (id.epoch > record.epoch || unknown) && self.without_record.len() < PARTS_WITHOUT_RECORD_MAX {
            self.without_record.push_back(part);
            return;
        }
        let Some(track) = self.tracks.get_mut(usize::from(id.track.0)) else { return };
        if !track.insert(record, part) {
            self.late += 1;
        }
    }

    fn advance(&mut self, now: Time) {
        let Some(record) = self.record.clone() else { return };
        for track in &mut self.tracks {
            while let Some(listed) = track.list_next(&record, now) {
                self.version += 1;
                self.concealed += u64::from(listed.concealed);
                self.outputs.push_back(Output::Listed {
                    track: track.id(),
                    msn: listed.msn,
                    part: listed.part,
                    gap: listed.concealed,
                });
            }
            track.evict(&record, &mut self.evicted);
        }
    }
}
