//! The newest segments of one stream, in order, with their gaps.
//!
//! Parts arrive in any order. A track's playlist grows only by the next part in order: [`TrackWindow::next`]
//! is what it waits for. If that part is missing while a later one is here, the playlist is held for
//! at most PART-HOLD-BACK; then the missing part is listed as a gap, for good (DESIGN invariant 7).
//!
//! What is listed is a pure function of the record and of what has been listed before, so that two
//! edges that stand at the same part render the same bytes.
//!
//! The contract: after every [`Window::handle`], drain [`Window::poll_output`]; then wait for the next
//! input or [`Window::poll_timeout`], whose passing is told by [`Input::Timeout`].

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::segment::{Part, Segment};
use super::track::TrackWindow;
use crate::model::time::Time;
use crate::model::{Msn, PartHeader, Record, StreamName, Trace, TrackId};

/// Parts that came before the stream's record: more are dropped, and repaired later.
const EARLY_PARTS_MAX: usize = 1_024;

/// What can happen to a [`Window`].
#[derive(Debug, Clone)]
pub enum Input {
    /// [`Window::poll_timeout`] has passed.
    Timeout,
    /// The stream's record, or a newer revision of it.
    Record(Record),
    /// A part was delivered: whole, checked, and for the first time.
    Part {
        /// Its header.
        header: PartHeader,
        /// Its body.
        body: Bytes,
        /// Its trace to this node.
        trace: Trace,
        /// First byte in.
        received: Time,
    },
}

/// What a [`Window`] has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The record is new or newer: playlists may look different.
    RecordChanged,
    /// The next part of a track is listed.
    Listed {
        /// Of which track.
        track: TrackId,
        /// In which segment.
        msn: Msn,
        /// Which part.
        part: u16,
        /// It was listed as a gap: it didn't come in time.
        gap: bool,
    },
    /// A new life began; everything of the old one is gone.
    Restarted,
}

/// What a node holds of one stream.
#[derive(Debug)]
pub struct Window {
    stream: StreamName,
    record: Option<Arc<Record>>,
    tracks: Vec<TrackWindow>,
    early: VecDeque<Part>,
    evicted: Vec<(TrackId, Segment)>,
    version: u64,
    concealed: u64,
    late: u64,
    outputs: VecDeque<Output>,
}

impl Window {
    /// An empty window.
    pub fn new(stream: StreamName) -> Self {
        Window {
            stream,
            record: None,
            tracks: Vec::new(),
            early: VecDeque::new(),
            evicted: Vec::new(),
            version: 0,
            concealed: 0,
            late: 0,
            outputs: VecDeque::new(),
        }
    }

    /// The stream's name.
    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// The newest record, once one is known.
    pub fn record(&self) -> Option<&Arc<Record>> {
        self.record.as_ref()
    }

    /// The tracks, by id; empty before the record is known.
    pub fn tracks(&self) -> &[TrackWindow] {
        &self.tracks
    }

    /// One track.
    pub fn track(&self, id: TrackId) -> Option<&TrackWindow> {
        self.tracks.get(usize::from(id.0))
    }

    /// Whether all tracks list something; one that came late may be about to.
    pub fn is_started(&self) -> bool {
        let Some(record) = &self.record else { return false };
        let mut due = self.tracks.iter().filter(|track| !record.is_late(track.id()));
        self.tracks.iter().any(TrackWindow::is_started) && due.all(TrackWindow::is_started)
    }

    /// Goes up with each publication of any track and each change of the record: what was rendered at
    /// the same version is still right.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many parts were listed as gaps since they didn't come in time.
    pub fn concealed(&self) -> u64 {
        self.concealed
    }

    /// How many parts came after they had been listed as gaps, or from outside the window.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Bytes of all bodies held.
    pub fn held_bytes(&self) -> u64 {
        self.tracks.iter().map(TrackWindow::held_bytes).sum()
    }

    /// Takes an input in. Outputs follow by [`Window::poll_output`].
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

    /// The next thing to tell.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The segments that the last input pushed out of the window, for a cache; the next input forgets them.
    pub fn take_evicted(&mut self) -> Vec<(TrackId, Segment)> {
        std::mem::take(&mut self.evicted)
    }

    /// When [`Input::Timeout`] is due: a playlist is held at a missing part, or a join settles.
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
        for mut part in std::mem::take(&mut self.early) {
            part.delivered = now;
            self.part_in(part);
        }
    }

    fn part_in(&mut self, part: Part) {
        let Some(record) = &self.record else {
            if self.early.len() < EARLY_PARTS_MAX {
                self.early.push_back(part);
            }
            return;
        };
        let id = part.header.id;
        // A higher epoch's parts may overtake its record; a part of another life waits for its record too, and the
        // first parts of a track that was appended for the revision that does so.
        let unknown = usize::from(id.track.0) >= self.tracks.len();
        if (id.epoch > record.epoch || unknown) && self.early.len() < EARLY_PARTS_MAX {
            self.early.push_back(part);
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
