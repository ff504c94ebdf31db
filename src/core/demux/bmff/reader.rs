//! The reader of a file: boxes to samples.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mp4_atom::Prft;

use super::boxes::{Cursor, Header};
use super::error::BmffError;
use super::four_cc::FourCc;
use super::fragment::{self, Fragment};
use super::message::{EMSG_LEN_MAX, EventMessages, event_sample};
use super::movie::Movie;
use super::output::Output;
use super::place::{CLOCK, SamplePlace};
use super::sample_table::Samples;
use super::track::{Handler, MovieTrack};
use crate::codec::nal::NalTrack;
use crate::model::time::UnixTime;
use crate::model::{AccessUnit, InputTrack, UNIT_LEN_MAX};

/// The longest `ftyp`, `styp` and `prft`, in bytes.
const SMALL_LEN_MAX: u64 = 4 << 10;
/// The longest box of an unknown type, in bytes. Anything longer isn't a box.
const UNKNOWN_LEN_MAX: u64 = 16 << 20;
/// The boxes that a file, or a segment, may begin with.
const FIRST: [&[u8; 4]; 17] = [
    b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"prft", b"emsg", b"sidx", b"ssix",
    b"uuid", b"pdin", b"meta", b"mfra", b"pnot",
];

/// Returns whether a file, or a segment, may begin with these bytes. Twelve bytes decide it.
pub fn begins(first: &[u8]) -> bool {
    first.get(4..8).is_some_and(|kind| FIRST.iter().any(|first| kind == *first))
}

/// The limits of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The longest `moov`, in bytes. A plain film has about 10 bytes a frame.
    pub moov: usize,
    /// The longest `moof`, in bytes. It has 16 bytes a frame.
    pub moof: usize,
    /// The longest `mdat` of a fragment, in bytes. It isn't kept in memory.
    pub mdat: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // Ten hours of a plain film; SAMPLES_MAX; 10 s at 50 Mb/s.
        Limits { moov: 32 << 20, moof: 2 << 20, mdat: 64 << 20 }
    }
}

#[derive(Debug, Default)]
enum State {
    /// Collects a box's header.
    #[default]
    Header,
    /// Collects the content of a box: its type, its position, its length.
    Content(FourCc, u64, usize),
    /// Skips a box, up to this position.
    Skip(u64),
    /// In an `mdat` that ends at this position: skips the bytes between samples.
    Data(u64),
    /// In an `mdat` that ends at this position: collects a sample of the track with this index.
    Sample(u64, usize, SamplePlace),
}

/// The state of a track.
#[derive(Clone, Debug)]
struct TrackState {
    nal: Option<NalTrack>,
    /// The track's headers have come.
    configured: bool,
    /// The end of the track's newest fragment, in ticks.
    end: i64,
}

/// The progress through a track's tables.
#[derive(Debug)]
struct TableReader {
    next: Option<SamplePlace>,
    rest: Samples,
}

/// Reads ISO BMFF files and segments as their bytes come.
#[derive(Debug, Default)]
pub struct BmffReader {
    limits: Limits,
    movie: Option<Arc<Movie>>,
    /// The newest `moov`, as it came.
    moov: Bytes,
    /// The states of the movie's tracks, in its order.
    tracks: Vec<TrackState>,
    /// The samples of the file's own tables, by track.
    tables: Vec<TableReader>,
    /// The fragment's samples that haven't come yet, by index of the track.
    fragment: VecDeque<(usize, SamplePlace)>,
    events: EventMessages,
    /// A `moof` has come, and no `mdat` after it yet.
    announced: bool,
    /// The number of the file's bytes that have come.
    at: u64,
    state: State,
    buffer: BytesMut,
    out: VecDeque<Output>,
    failed: Option<BmffError>,
}

impl BmffReader {
    /// Returns a reader of a file.
    pub fn new(limits: Limits) -> Self {
        BmffReader { limits, ..BmffReader::default() }
    }

    /// Returns a reader of another file, or segment, with the same init segment.
    pub fn again(&self) -> BmffReader {
        BmffReader {
            movie: self.movie.clone(),
            moov: self.moov.clone(),
            tracks: self.tracks.clone(),
            ..BmffReader::new(self.limits)
        }
    }

    /// Returns the newest init segment.
    pub fn movie(&self) -> Option<&Arc<Movie>> {
        self.movie.as_ref()
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// A fault in the file; the rest of the file can't be read.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), BmffError> {
        if let Some(fault) = &self.failed {
            return Err(fault.clone());
        }
        while !bytes.is_empty() {
            if let Err(fault) = self.step(&mut bytes) {
                self.failed = Some(fault.clone());
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Ends the file, or the segment. The next one may go on with the same init segment.
    ///
    /// # Errors
    /// The file was cut short.
    pub fn finish(&mut self) -> Result<(), BmffError> {
        let left = self.left();
        let whole = match self.state {
            State::Header => self.buffer.is_empty(),
            State::Skip(end) | State::Data(end) => end == u64::MAX,
            State::Content(..) | State::Sample(..) => false,
        };
        let cut = BmffError::Cut { at: self.at };
        let failed = self.failed.is_some();
        if left > 0 && !failed {
            self.out.push_back(Output::Missing { samples: left });
        }
        (self.at, self.state, self.failed, self.announced) = (0, State::Header, None, false);
        self.out.extend(self.events.finish());
        self.buffer.clear();
        self.fragment.clear();
        self.tables.clear();
        if failed || (whole && left == 0) { Ok(()) } else { Err(cut) }
    }

    /// Returns the next output.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Returns the number of samples that are still to come.
    fn left(&self) -> usize {
        let current = usize::from(matches!(self.state, State::Sample(..)));
        let left = |table: &TableReader| usize::from(table.next.is_some()) + table.rest.left();
        current + self.fragment.len() + self.tables.iter().map(left).sum::<usize>()
    }

    /// Takes bytes until the state changes.
    fn step(&mut self, bytes: &mut &[u8]) -> Result<(), BmffError> {
        match self.state {
            State::Header => {
                let want = if self.buffer.len() < 8 { 8 } else { Header::LEN_MAX };
                self.collect(bytes, want);
                let start = self.at - self.buffer.len() as u64;
                if let Some(header) = Header::read(&self.buffer, start)? {
                    self.buffer.clear();
                    self.open(header, start)?;
                }
            }
            State::Content(kind, start, len) => {
                self.collect(bytes, len);
                if self.buffer.len() == len {
                    self.complete(kind, start)?;
                }
            }
            State::Skip(end) => {
                self.pass(bytes, end);
                if self.at == end {
                    self.state = State::Header;
                }
            }
            State::Data(end) => match self.upcoming(end)? {
                Some((index, place)) if place.offset == self.at => {
                    self.take_upcoming();
                    let wanted = self.movie.as_ref().is_some_and(|movie| movie.tracks[index].config.is_ok());
                    if wanted && place.len as usize <= UNIT_LEN_MAX {
                        self.state = State::Sample(end, index, place);
                    } else if wanted {
                        self.dropped(index, "the frame is longer than a part may be");
                    }
                }
                Some((_, place)) => self.pass(bytes, place.offset),
                None => {
                    self.pass(bytes, end);
                    if self.at == end {
                        self.state = State::Header;
                    }
                }
            },
            State::Sample(end, index, place) => {
                let len = place.len as usize;
                self.collect(bytes, len);
                if self.buffer.len() == len {
                    let data = self.buffer.split().freeze();
                    self.sample(index, place, data);
                    self.out.extend(self.events.ready_with(index));
                    self.state = if self.at == end { State::Header } else { State::Data(end) };
                }
            }
        }
        Ok(())
    }

    /// Moves bytes into the buffer until it has this length.
    fn collect(&mut self, bytes: &mut &[u8], len: usize) {
        let (taken, rest) = bytes.split_at(bytes.len().min(len - self.buffer.len()));
        self.buffer.extend_from_slice(taken);
        self.at += taken.len() as u64;
        *bytes = rest;
    }

    /// Skips bytes up to a position in the file.
    fn pass(&mut self, bytes: &mut &[u8], end: u64) {
        let len = usize::try_from(end - self.at).unwrap_or(usize::MAX).min(bytes.len());
        self.at += len as u64;
        *bytes = &bytes[len..];
    }

    /// Begins a box.
    fn open(&mut self, header: Header, start: u64) -> Result<(), BmffError> {
        let Header { kind, content, .. } = header;
        let known = FIRST.iter().any(|first| kind.0 == **first);
        if !known && (start == 0 || !kind.is_plausible() || content.is_none_or(|len| len > UNKNOWN_LEN_MAX)) {
            return Err(BmffError::NoBox { at: start });
        }
        let end = content.map_or(u64::MAX, |len| self.at.saturating_add(len));
        let limit = match &kind.0 {
            b"moov" => self.limits.moov as u64,
            b"moof" => self.limits.moof as u64,
            b"ftyp" | b"styp" | b"prft" => SMALL_LEN_MAX,
            b"mdat" => return self.open_data(start, end),
            b"emsg" if content.is_some_and(|len| len <= EMSG_LEN_MAX) => EMSG_LEN_MAX,
            _ => {
                if kind.0 == *b"emsg" {
                    let why = format!("an emsg box exceeds {EMSG_LEN_MAX} bytes");
                    self.out.push_back(Output::Ignored { why });
                }
                self.state = if self.at == end { State::Header } else { State::Skip(end) };
                return Ok(());
            }
        };
        let len = content.unwrap_or(u64::MAX);
        let Some(whole) = usize::try_from(len).ok().filter(|_| len <= limit) else {
            return Err(BmffError::TooLong { at: start, kind, len, limit });
        };
        if whole == 0 {
            return self.complete(kind, start);
        }
        self.state = State::Content(kind, start, whole);
        Ok(())
    }

    fn open_data(&mut self, start: u64, end: u64) -> Result<(), BmffError> {
        let Some(movie) = &self.movie else { return Err(BmffError::NoInit { at: start }) };
        if self.tables.is_empty() && movie.has_samples() && !movie.fragmented {
            return Err(BmffError::NoInit { at: start });
        }
        if !std::mem::take(&mut self.announced) && self.fragment.is_empty() && !movie.has_samples() && end > self.at {
            return Err(BmffError::DataBeforeMoof { at: start });
        }
        let len = end - self.at;
        if movie.fragmented && len > self.limits.mdat {
            return Err(BmffError::TooLong { at: start, kind: FourCc(*b"mdat"), len, limit: self.limits.mdat });
        }
        self.state = if self.at == end { State::Header } else { State::Data(end) };
        Ok(())
    }

    /// Reads the box that is in the buffer.
    fn complete(&mut self, kind: FourCc, start: u64) -> Result<(), BmffError> {
        let content = self.buffer.split().freeze();
        let at = self.at - content.len() as u64;
        self.state = State::Header;
        match &kind.0 {
            b"ftyp" | b"styp" => {
                if content.as_chunks::<4>().0.iter().enumerate().any(|(n, brand)| n != 1 && brand == b"lmsg") {
                    self.out.push_back(Output::Last);
                }
            }
            b"moov" => self.movie_box(content, at)?,
            b"emsg" => {
                if let Err(why) = self.events.emsg(&content) {
                    self.out.push_back(Output::Ignored { why });
                }
            }
            b"prft" => {
                let prft: Prft = Cursor::new(kind, at, &content).decode()?;
                if self.movie.as_ref().is_some_and(|movie| movie.track(prft.reference_track_id).is_some()) {
                    self.out.push_back(Output::Reference(UnixTime::from_ntp(prft.ntp_timestamp)));
                }
            }
            _ => self.fragment_box(&content, start, at)?,
        }
        Ok(())
    }

    fn movie_box(&mut self, content: Bytes, at: u64) -> Result<(), BmffError> {
        if self.movie.is_none() || content != self.moov {
            let movie = Movie::read(&content, at)?;
            let state = |track: &MovieTrack| {
                let configured = matches!(track.config, Ok(Some(_)));
                TrackState { nal: track.nal.clone(), configured, end: 0 }
            };
            self.tracks = movie.tracks.iter().map(state).collect();
            self.moov = content;
            let movie = Arc::new(movie);
            self.out.push_back(Output::Movie(movie.clone()));
            for track in &movie.tracks {
                if let Ok(Some(config)) = &track.config {
                    self.out.push_back(Output::Config { track: track.id, config: config.clone() });
                }
            }
            self.movie = Some(movie);
            self.fragment.clear();
        }
        let tracks = self.movie.iter().flat_map(|movie| &movie.tracks);
        let tables = tracks.map(|track| {
            let mut rest = track.samples();
            TableReader { next: rest.next(), rest }
        });
        self.tables = tables.collect();
        Ok(())
    }

    fn fragment_box(&mut self, content: &[u8], start: u64, at: u64) -> Result<(), BmffError> {
        let movie = self.movie.clone().ok_or(BmffError::NoInit { at: start })?;
        if !self.fragment.is_empty() {
            self.out.push_back(Output::Missing { samples: self.fragment.len() });
        }
        let before: Vec<i64> = self.tracks.iter().map(|track| track.end).collect();
        let Fragment { samples, ends } = fragment::read(content, start, at, &movie, &before)?;
        for &(index, end) in &ends {
            self.tracks[index].end = end;
        }
        self.out.extend(self.events.take_ready());
        self.fragment = samples.into();
        self.out.extend(self.events.fragment(&movie, &self.fragment, &ends));
        self.announced = true;
        Ok(())
    }

    /// Returns the next sample, if it lies in the `mdat` that ends at `end`.
    fn upcoming(&mut self, end: u64) -> Result<Option<(usize, SamplePlace)>, BmffError> {
        loop {
            let Some((index, place)) = self.peek() else { return Ok(None) };
            if place.len == 0 {
                self.take_upcoming();
                continue;
            }
            if place.offset >= end {
                return Ok(None);
            }
            if place.offset < self.at || place.offset.saturating_add(place.len.into()) > end {
                return Err(BmffError::Misplaced { at: self.at, offset: place.offset });
            }
            return Ok(Some((index, place)));
        }
    }

    fn peek(&self) -> Option<(usize, SamplePlace)> {
        if let Some(first) = self.fragment.front() {
            return Some(*first);
        }
        let tables = self.tables.iter().enumerate();
        tables.filter_map(|(index, table)| Some((index, table.next?))).min_by_key(|(_, place)| place.offset)
    }

    fn take_upcoming(&mut self) {
        if self.fragment.pop_front().is_none()
            && let Some((index, _)) = self.peek()
        {
            let table = &mut self.tables[index];
            table.next = table.rest.next();
        }
    }

    fn dropped(&mut self, index: usize, why: &'static str) {
        let track = self.movie.as_ref().map_or(0, |movie| movie.tracks[index].id);
        self.out.push_back(Output::Dropped { track, why });
    }

    fn sample(&mut self, index: usize, place: SamplePlace, data: Bytes) {
        let Some(movie) = self.movie.clone() else { return };
        let (track, state) = (&movie.tracks[index], &mut self.tracks[index]);
        if track.is_events() {
            return event_sample(track, &place, &data, &mut self.out);
        }
        let (config, data) = match &mut state.nal {
            None => (None, data),
            Some(nal) => match nal.access_unit(&data, place.keyframe) {
                Ok(formed) => formed,
                Err(why) => return self.dropped(index, why),
            },
        };
        if let Some(config) = config {
            state.configured = true;
            self.out.push_back(Output::Config { track: track.id, config });
        }
        if !state.configured {
            return self.dropped(index, "no codec headers have come yet");
        }
        if data.is_empty() {
            return self.dropped(index, "the sample has codec headers only");
        }
        let (dts, pts) = track.times(&place);
        let unit = AccessUnit {
            track: InputTrack(0),
            dts: CLOCK.wrapped(dts),
            composition_offset: i32::try_from(pts.saturating_sub(dts)).unwrap_or(0),
            keyframe: place.keyframe || track.handler != Handler::Video,
            data,
        };
        self.out.push_back(Output::Unit { track: track.id, unit });
    }
}
