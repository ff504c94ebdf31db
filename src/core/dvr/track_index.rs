//! One track's archived segments, in a row, and their lines of the playlist.
//!
//! The lines are printed once: an archive of two hours has 3,600 segments, and a playlist of it is asked for at each part.

use std::collections::VecDeque;

use crate::manifest::hls;
use crate::manifest::hls::Before;
use crate::model::Msn;
use crate::model::time::{Timescale, UnixTime};
use crate::window::Segment;

/// What documents say of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its media sequence number.
    pub msn: Msn,
    /// Media time of its start, in ticks.
    pub decode_time: u64,
    /// Its length, in ticks.
    pub duration: u64,
    /// Its EXT-X-PROGRAM-DATE-TIME.
    pub program_date_time: UnixTime,
    /// Its discontinuity sequence number.
    pub discontinuity: u32,
    /// The number of its init segment.
    pub init: u16,
    /// Some of it isn't there: EXT-X-GAP.
    pub gap: bool,
    /// Some of it is lost: 404.
    pub lost: bool,
    /// It isn't under way any more; so in all archives.
    pub whole: bool,
    /// Its length, in bytes.
    pub length: u64,
    /// This node keeps it; else others may.
    pub here: bool,
}

impl Entry {
    /// Of a segment, as far as it is listed.
    pub fn of(segment: &Segment) -> Self {
        Entry {
            msn: segment.msn,
            decode_time: segment.decode_time(),
            duration: segment.duration(),
            program_date_time: segment.program_date_time(),
            discontinuity: segment.discontinuity(),
            init: segment.init(),
            gap: segment.has_gap(),
            lost: segment.has_loss(),
            whole: segment.is_complete(),
            length: segment.length(),
            here: true,
        }
    }

    /// Media time of its end, in ticks.
    pub fn end(&self) -> u64 {
        self.decode_time.saturating_add(self.duration)
    }
}

/// One track of an archive.
#[derive(Debug)]
pub struct Shelf {
    scale: Timescale,
    /// All that are kept: each MSN is one more than the one's before.
    entries: VecDeque<Entry>,
    /// The last that came, kept or not.
    newest: Option<Entry>,
    /// The first whose lines are in `text`.
    printed_from: Msn,
    /// How long each one's lines are, in bytes.
    lengths: VecDeque<usize>,
    text: String,
}

impl Shelf {
    pub fn new(scale: Timescale) -> Self {
        let (entries, lengths) = (VecDeque::new(), VecDeque::new());
        Shelf { scale, entries, newest: None, printed_from: 0, lengths, text: String::new() }
    }

    /// Units of its decode times and durations.
    pub fn timescale(&self) -> Timescale {
        self.scale
    }

    /// The last segment that came.
    pub fn newest(&self) -> Option<&Entry> {
        self.newest.as_ref()
    }

    /// A segment that is kept.
    pub fn entry(&self, msn: Msn) -> Option<&Entry> {
        let first = self.entries.front()?.msn;
        self.entries.get(usize::try_from(msn.checked_sub(first)?).ok()?)
    }

    /// All that are kept, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Those before the window that are listed, oldest first.
    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator + Clone {
        let from = self.entries.front().map_or(0, |first| self.printed_from.saturating_sub(first.msn) as usize);
        let from = from.min(self.entries.len());
        let to = (from + self.lengths.len()).min(self.entries.len());
        self.entries.range(from..to)
    }

    /// Whether the window's first segment follows on those listed here, of which there are some.
    pub fn leads_to(&self, msn: Msn) -> bool {
        self.listed().next_back().is_some_and(|last| last.msn.checked_add(1) == Some(msn))
    }

    /// Bytes of the lines of those listed.
    pub fn text_len(&self) -> usize {
        self.text.len()
    }

    /// Appends the lines of those listed but for the first `skipped`; says what a segment after them depends on.
    pub fn print(&self, out: &mut String, skipped: usize) -> Option<Before> {
        let entry = self.listed().nth(skipped)?;
        let (first, last) = (self.listed().next()?, self.listed().next_back()?);
        // The first of the playlist has lost its EXT-X-DISCONTINUITY; and whichever is printed first needs an EXT-X-MAP.
        self.print_one(out, entry, Before::new(first.discontinuity));
        let at: usize = self.lengths.iter().take(skipped + 1).sum();
        out.push_str(self.text.get(at..).unwrap_or(""));
        Some(Before::after(last.discontinuity, last.init))
    }

    fn print_one(&self, out: &mut String, entry: &Entry, mut before: Before) {
        before.begin(out, entry.discontinuity, entry.init, entry.program_date_time);
        hls::finish(out, entry.msn, entry.duration, entry.gap, self.scale);
    }

    /// Takes the next in; they come in a row.
    pub fn push(&mut self, entry: Entry) {
        debug_assert!(self.newest.is_none_or(|newest| newest.msn + 1 == entry.msn));
        self.newest = Some(entry);
        self.entries.push_back(entry);
    }

    /// Prints those from `listed_from` on that the window, which begins with `first`, lists no more.
    pub fn print_until(&mut self, listed_from: Msn, first: Msn) -> bool {
        let Some(oldest) = self.entries.front().map(|e| e.msn) else { return false };
        if self.lengths.is_empty() {
            self.printed_from = listed_from.max(oldest);
        }
        let before = self.lengths.len();
        loop {
            let msn = self.printed_from.saturating_add(u32::try_from(self.lengths.len()).unwrap_or(u32::MAX));
            let Some(entry) = self.entry(msn).filter(|_| msn < first).copied() else { break };
            let previous = msn.checked_sub(1).and_then(|m| self.entry(m));
            let previous =
                previous.map_or(Before::new(entry.discontinuity), |p| Before::after(p.discontinuity, p.init));
            let len = self.text.len();
            let mut text = std::mem::take(&mut self.text);
            self.print_one(&mut text, &entry, previous);
            self.lengths.push_back(text.len() - len);
            self.text = text;
        }
        self.lengths.len() > before
    }

    /// Lists none before `from` any more.
    pub fn delist(&mut self, from: Msn) {
        let mut gone = 0;
        while self.printed_from < from {
            let Some(len) = self.lengths.pop_front() else { break };
            gone += len;
            self.printed_from += 1;
        }
        self.text.drain(..gone);
    }

    /// Lets go of all before `from`.
    pub fn forget(&mut self, from: Msn) {
        while self.entries.front().is_some_and(|e| e.msn < from) {
            self.entries.pop_front();
        }
    }
}
