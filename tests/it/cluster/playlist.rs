//! A media playlist as a viewer with pencil and paper reads it, and a viewer that follows one.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use damson::clock;
use quick_m3u8::config::ParsingOptions;
use quick_m3u8::{HlsLine, Reader};

use super::deadline::too_late;
use super::process::{PATIENCE, lock};
use super::{Node, http};

/// A part by its segment and number.
pub(crate) type At = (u64, u16);

/// What matters of a media playlist.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Playlist {
    /// EXT-X-MEDIA-SEQUENCE.
    pub(crate) first: u64,
    /// EXT-X-DISCONTINUITY-SEQUENCE.
    pub(crate) discontinuity_sequence: u64,
    /// The segments that are whole.
    pub(crate) segments: Vec<u64>,
    /// Those with EXT-X-GAP.
    pub(crate) gaps: Vec<u64>,
    /// Those after an EXT-X-DISCONTINUITY.
    pub(crate) discontinuities: Vec<u64>,
    /// The URIs of EXT-X-MAP.
    pub(crate) maps: Vec<String>,
    /// The parts that are listed, and whether each is a gap.
    pub(crate) parts: BTreeMap<At, bool>,
    /// The part that EXT-X-PRELOAD-HINT announces.
    pub(crate) hint: Option<At>,
    /// EXT-X-RENDITION-REPORT lines.
    pub(crate) reports: Vec<String>,
    /// EXT-X-ENDLIST.
    pub(crate) ended: bool,
}

impl Playlist {
    pub(crate) fn parse(text: &str) -> Playlist {
        let mut list = Playlist::default();
        let (mut next, mut gap) = (0, false);
        assert!(text.starts_with("#EXTM3U\n"), "{text}");
        typed(text);
        for line in text.lines() {
            if let Some(n) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                next = n.parse().expect("a number");
                list.first = next;
            } else if let Some(n) = line.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:") {
                list.discontinuity_sequence = n.parse().expect("a number");
            } else if line == "#EXT-X-DISCONTINUITY" {
                list.discontinuities.push(next);
            } else if let Some(rest) = line.strip_prefix("#EXT-X-MAP:URI=\"") {
                list.maps.push(rest.trim_end_matches('"').to_owned());
            } else if line == "#EXT-X-GAP" {
                gap = true;
            } else if line.starts_with("#EXT-X-PART:") {
                list.parts.insert(part(line), line.contains("GAP=YES"));
            } else if line.starts_with("#EXT-X-PRELOAD-HINT:") {
                list.hint = Some(part(line));
            } else if line.starts_with("#EXT-X-RENDITION-REPORT:") {
                list.reports.push(line.to_owned());
            } else if line == "#EXT-X-ENDLIST" {
                list.ended = true;
            } else if !line.starts_with('#') {
                assert_eq!(line, format!("{next}.m4s"), "the URI of a segment");
                list.segments.push(next);
                if std::mem::take(&mut gap) {
                    list.gaps.push(next);
                }
                next += 1;
            }
        }
        list
    }

    /// The newest segment, the one under way included.
    pub(crate) fn last(&self) -> u64 {
        let part = self.parts.keys().next_back().map_or(0, |(msn, _)| *msn);
        self.segments.last().copied().unwrap_or(self.first).max(part)
    }
}

/// Every line is one that a parser of all of rfc8216bis's tags knows.
fn typed(text: &str) {
    let mut reader = Reader::from_str(text, ParsingOptions::default());
    while let Some(line) = reader.read_line().unwrap_or_else(|e| panic!("{e}: {text}")) {
        assert!(!matches!(line, HlsLine::UnknownTag(_) | HlsLine::Comment(_) | HlsLine::Blank), "{line:?}: {text}");
    }
}

/// `URI="7.3.m4s"` as (7, 3).
fn part(line: &str) -> At {
    let uri = line.split("URI=\"").nth(1).and_then(|rest| rest.split(".m4s\"").next()).expect("a URI");
    let (msn, part) = uri.split_once('.').expect("MSN and part");
    (msn.parse().expect("an MSN"), part.parse().expect("a part"))
}

/// What a viewer has seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// The newest playlist.
    pub(crate) list: Playlist,
    /// Each playlist's text, by the part it hints at and what it says of the other renditions.
    pub(crate) texts: BTreeMap<(Option<At>, Vec<String>), String>,
    /// Every part's body.
    pub(crate) bodies: BTreeMap<At, Vec<u8>>,
    /// Every segment that was ever listed as a gap, in whole or in part.
    pub(crate) gaps: Vec<u64>,
    /// Every segment after a discontinuity.
    pub(crate) discontinuities: Vec<u64>,
    fault: Option<Fault>,
    over: bool,
}

impl Seen {
    /// Neither a gap nor a discontinuity was ever listed.
    pub(crate) fn is_whole(&self) -> bool {
        self.gaps.is_empty() && self.discontinuities.is_empty()
    }
}

/// Why a viewer stopped.
enum Fault {
    /// A part wasn't there in time: status 503.
    TooLate(String),
    /// A rule is broken.
    Broken(String),
    /// Its thread panicked.
    Panicked(Box<dyn Any + Send>),
}

impl From<String> for Fault {
    fn from(why: String) -> Fault {
        Fault::Broken(why)
    }
}

impl Fault {
    /// What an answer of another status than 200 means.
    fn of(what: String, answer: &http::Answer) -> Fault {
        let why = format!("{what}: status {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        if answer.status == 503 { Fault::TooLate(why) } else { Fault::Broken(why) }
    }

    fn raise(self, at: &str) -> ! {
        match self {
            Fault::TooLate(why) => too_late(format!("{at}: {why}")),
            Fault::Broken(why) => panic!("{at}: {why}"),
            Fault::Panicked(panic) => resume_unwind(panic),
        }
    }
}

/// Follows a media playlist by blocking reload, and fetches each part; what must hold always is checked always.
pub(crate) struct Viewer {
    seen: Arc<(Mutex<Seen>, Condvar)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    at: String,
}

impl Viewer {
    /// Starts at the oldest part that is shown.
    pub(crate) fn start(from: SocketAddr, track: &str) -> Viewer {
        let (seen, stop) = (Arc::<(Mutex<Seen>, Condvar)>::default(), Arc::<AtomicBool>::default());
        let (thread_seen, thread_stop, folder) = (Arc::clone(&seen), Arc::clone(&stop), track.to_owned());
        let thread = std::thread::spawn(move || {
            let followed = || follow(from, &folder, &thread_seen, &thread_stop);
            let result = catch_unwind(AssertUnwindSafe(followed)).unwrap_or_else(|panic| Err(Fault::Panicked(panic)));
            let mut guard = lock(&thread_seen.0);
            guard.fault = result.err();
            guard.over = true;
            thread_seen.1.notify_all();
        });
        Viewer { seen, stop, thread: Some(thread), at: format!("http://{from}{track}/playlist.m3u8") }
    }

    /// Waits until what was seen satisfies `is`, and gives what it says.
    pub(crate) fn until<T>(&self, what: &str, mut is: impl FnMut(&Seen) -> Option<T>) -> T {
        let began = clock::now();
        let mut guard = lock(&self.seen.0);
        loop {
            if let Some(answer) = is(&guard) {
                return answer;
            }
            let left = PATIENCE.saturating_sub(clock::now().since(began));
            if let Some(fault) = guard.fault.take() {
                drop(guard);
                fault.raise(&self.at);
            }
            assert!(!guard.over, "{}: the stream has ended without {what}; {:?}", self.at, guard.list);
            if left.is_zero() {
                let list = guard.list.clone();
                drop(guard);
                too_late(format!("{}: {what} isn't there; {list:?}", self.at));
            }
            guard = self.seen.1.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Stops, and gives what was seen; there must have been no fault.
    pub(crate) fn close(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("closed once").join().expect("its panics are caught");
        let mut seen = std::mem::take(&mut *lock(&self.seen.0));
        match seen.fault.take() {
            Some(fault) => fault.raise(&self.at),
            None => seen,
        }
    }
}

/// Viewers of a stream's pictures and of its sound, once it is there.
pub(crate) fn viewers(edge: &Node, stream: &str) -> [Viewer; 2] {
    edge.plays(stream, 0);
    ["video", "audio"].map(|track| Viewer::start(edge.http, &format!("/{stream}/{track}")))
}

/// What was seen of both up to the stream's end.
pub(crate) fn to_the_end(viewers: [Viewer; 2]) -> [Seen; 2] {
    viewers.map(|viewer| {
        viewer.until("an end", |seen| seen.list.ended.then_some(()));
        viewer.close()
    })
}

fn follow(from: SocketAddr, track: &str, seen: &(Mutex<Seen>, Condvar), stop: &AtomicBool) -> Result<(), Fault> {
    let mut before = Playlist::default();
    let mut bodies = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) && !before.ended {
        let query = before.hint.map(|(msn, part)| format!("?_HLS_msn={msn}&_HLS_part={part}")).unwrap_or_default();
        let answer = http::get(from, &format!("{track}/playlist.m3u8{query}"));
        if answer.status != 200 {
            return Err(Fault::of(query, &answer));
        }
        let text = answer.text();
        let list = Playlist::parse(&text);
        check(&before, &list)?;
        for (&(msn, part), gap) in &list.parts {
            if !gap && !bodies.contains_key(&(msn, part)) {
                let answer = http::get(from, &format!("{track}/{msn}.{part}.m4s"));
                if answer.status != 200 {
                    return Err(Fault::of(format!("part {msn}.{part} is listed"), &answer));
                }
                bodies.insert((msn, part), answer.body);
            }
        }
        let mut seen_now = lock(&seen.0);
        seen_now.texts.insert((list.hint, list.reports.clone()), text);
        seen_now.bodies.clone_from(&bodies);
        let gap_parts = list.parts.iter().filter(|(_, gap)| **gap).map(|((msn, _), _)| *msn);
        remember(&mut seen_now.gaps, list.gaps.iter().copied().chain(gap_parts));
        remember(&mut seen_now.discontinuities, list.discontinuities.iter().copied());
        seen_now.list = list.clone();
        seen.1.notify_all();
        before = list;
    }
    Ok(())
}

fn remember(all: &mut Vec<u64>, new: impl Iterator<Item = u64>) {
    all.extend(new);
    all.sort_unstable();
    all.dedup();
}

/// What one playlist may never take back of the one before.
fn check(before: &Playlist, now: &Playlist) -> Result<(), String> {
    if now.first < before.first || now.last() < before.last() || now.hint < before.hint && !now.ended {
        return Err(format!("it goes back: {before:?}\nto {now:?}"));
    }
    let left = before.discontinuities.iter().filter(|msn| **msn < now.first || !now.discontinuities.contains(msn));
    let left = left.count() as u64;
    if before.first > 0 && now.discontinuity_sequence != before.discontinuity_sequence + left {
        return Err(format!("EXT-X-DISCONTINUITY-SEQUENCE isn't {left} further: {before:?}\nto {now:?}"));
    }
    if let Some(msn) = before.gaps.iter().find(|msn| **msn >= now.first && !now.gaps.contains(msn)) {
        return Err(format!("segment {msn} is no longer a gap"));
    }
    Ok(())
}
