//! The index of a life, as a player reads it; and segment files, whole and damaged.

mod fetch_queue;
mod merge;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::entry::SegmentEntry;
use super::index::ArchiveIndex;
use super::segment_file;
use crate::manifest::dash::Timing;
use crate::manifest::directives::Skip;
use crate::manifest::hls_history::HlsHistory;
use crate::manifest::listed::Listed;
use crate::manifest::{dash, hls};
use crate::model::time::Time;
use crate::model::{Init, Msn, Period, Record, TrackId};
use crate::testing::playlist::ReadPlaylist;
use crate::testing::synthetic::{self, AUDIO, FIRST_MSN, PARTS, VIDEO};
use crate::window::{Input, Segment, Window};

/// A window, and an archive that it feeds as the store does.
struct Rig {
    window: Window,
    record: Record,
    archive: ArchiveIndex,
    history: RefCell<HlsHistory>,
    next: Msn,
    init: u16,
    now: Time,
    /// All that was ever archived, by track and MSN.
    all: BTreeMap<(TrackId, Msn), SegmentEntry>,
    removed: Vec<(TrackId, Msn)>,
}

impl Rig {
    fn new(depth: Duration) -> Rig {
        let record = synthetic::record("cam1");
        let mut rig = Rig {
            window: Window::new(record.stream.clone()),
            archive: ArchiveIndex::new(&record, depth),
            history: RefCell::default(),
            record,
            next: FIRST_MSN,
            init: 0,
            now: Time::ZERO,
            all: BTreeMap::new(),
            removed: Vec::new(),
        };
        rig.update(|_| {});
        rig
    }

    fn update(&mut self, change: impl FnOnce(&mut Record)) {
        change(&mut self.record);
        self.record.revision += 1;
        self.input(Input::Record(self.record.clone()));
        self.archive.record(&self.record);
    }

    fn input(&mut self, input: Input) {
        self.window.handle(self.now, input);
        let evicted = self.window.take_evicted();
        self.take(evicted.iter().map(|(track, segment)| (*track, segment)));
        let window = std::mem::replace(&mut self.window, Window::new(self.record.stream.clone()));
        for track in window.tracks() {
            let newest = self.archive.track(track.id()).and_then(|s| s.newest()).map(|e| e.msn);
            self.take(track.whole_after(newest).map(|segment| (track.id(), segment)));
        }
        self.archive.advance(&window);
        self.window = window;
        self.removed.extend(self.archive.take_removed());
    }

    fn take<'s>(&mut self, segments: impl Iterator<Item = (TrackId, &'s Segment)>) {
        for (track, segment) in segments {
            if self.archive.take(track, segment) {
                self.all.insert((track, segment.msn), SegmentEntry::of(segment));
            }
        }
    }

    /// Adds a segment to both tracks; the part `lost` is missing.
    fn segment(&mut self, lost: Option<u16>) {
        for number in (0..PARTS).filter(|n| Some(*n) != lost) {
            for track in [VIDEO, AUDIO] {
                let (mut header, body, trace) = synthetic::part(&self.record, track, self.next, number, 100);
                header.init = if track == VIDEO { self.init } else { 0 };
                self.input(Input::Part { header, body, trace, received: self.now });
            }
        }
        if lost.is_some() {
            self.now += self.record.latency;
            self.input(Input::Timeout);
        }
        self.next += 1;
    }

    fn run(&mut self, segments: u32) -> &mut Self {
        (0..segments).for_each(|_| self.segment(None));
        self
    }

    /// The publisher comes back: with a new period, and perhaps new init segments.
    fn jump(&mut self, new_init: bool) {
        self.init += u16::from(new_init);
        let (first_msn, init) = (self.next, self.init);
        self.update(|r| {
            let start = Duration::from_secs(2) * (first_msn - FIRST_MSN);
            let discontinuity = r.periods.last().map_or(0, |p| p.discontinuity) + 1;
            r.periods.push(Period::new(first_msn, discontinuity, start));
            // A record forgets the periods that have left every window.
            let oldest = first_msn.saturating_sub(r.held_segments());
            while r.periods.get(1).is_some_and(|next| next.first_msn < oldest) {
                r.periods.remove(0);
            }
            if new_init {
                let inits = &mut r.tracks[0].inits;
                inits.push(Init { number: init, bytes: Bytes::from(format!("init {init}")) });
                inits.drain(..inits.len().saturating_sub(2));
            }
        });
    }

    fn listed(&self) -> Listed<'_> {
        Listed::new(&self.window, Some(&self.archive))
    }

    /// Returns the playlist, which is the same with cached lines as with fresh ones.
    fn text(&self, track: TrackId) -> String {
        let mut history = self.history.borrow_mut();
        let text = hls::media(self.listed(), &mut history, track, Skip::Nothing).expect("listed");
        assert_eq!(synthetic::playlist(self.listed(), track), Some(text.clone()));
        text
    }

    fn playlist(&self, track: TrackId) -> ReadPlaylist {
        ReadPlaylist::parse(&self.text(track))
    }
}

#[test]
fn a_playlist_reaches_back_as_far_as_the_dvr() {
    let mut rig = Rig::new(Duration::from_secs(60));
    rig.run(25);
    assert_eq!(rig.playlist(VIDEO).first, FIRST_MSN, "not full yet");
    rig.run(100);
    let list = rig.playlist(VIDEO);
    assert_eq!((list.lines.len(), list.last()), (30, FIRST_MSN + 124), "60 s");
    let live = ReadPlaylist::parse(&synthetic::playlist(&rig.window, VIDEO).expect("listed"));
    assert_eq!(live.lines.len(), 15, "30 s");
    let mpd = dash::mpd(rig.listed(), Timing::Number, false).expect("listed");
    assert!(mpd.contains("timeShiftBufferDepth=\"PT60S\""), "{mpd}");
    // All that was listed can be fetched for as long again.
    let kept = rig.archive.track(VIDEO).expect("a track").entries().count();
    assert!((60..=62).contains(&kept), "{kept}");
    let gone = rig.removed.iter().filter(|(track, _)| *track == VIDEO).count();
    assert_eq!(gone + kept, 125);
}

/// The MPD names all periods of the archive, though the record has forgotten them.
#[test]
fn old_periods_and_their_headers_stay() {
    let mut rig = Rig::new(Duration::from_secs(600));
    for _ in 0..6 {
        rig.run(30);
        rig.jump(true);
    }
    rig.run(1);
    assert!(rig.record.periods.len() < 4 && rig.record.tracks[0].inits.len() == 2);
    for timing in [Timing::Number, Timing::Timeline] {
        let mpd = dash::mpd(rig.listed(), timing, false).expect("listed");
        for n in 0..=6 {
            assert!(mpd.contains(&format!("<Period id=\"p{n}\"")), "period {n}: {mpd}");
            assert!(mpd.contains(&format!("video/init.{n}.mp4")), "init {n}: {mpd}");
            assert!(n == 0 || rig.archive.init(VIDEO, n).is_some());
        }
    }
    // A stream that has ended is a programme from the archive's first segment on.
    let last = rig.next - 1;
    rig.update(|r| r.ended = Some(last));
    let mpd = dash::mpd(rig.listed(), Timing::Number, false).expect("listed");
    assert!(mpd.contains("type=\"static\"") && mpd.contains("<Period id=\"p0\" start=\"PT0S\""), "{mpd}");
    assert!(synthetic::playlist(rig.listed(), VIDEO).is_some_and(|text| text.contains("#EXT-X-ENDLIST")));
}

#[derive(Debug, Clone)]
enum Op {
    Run(u32),
    Lose(u16),
    Jump(bool),
    Delist,
    Drop,
    Cut(u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1_u32..12).prop_map(Op::Run),
        1 => (0..PARTS - 1).prop_map(Op::Lose),
        2 => any::<bool>().prop_map(Op::Jump),
        1 => Just(Op::Delist),
        1 => Just(Op::Drop),
        1 => (0_u32..60).prop_map(Op::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// rfc8216bis 6.2.1 and 6.2.2, whatever the budgets do.
    #[test]
    fn listings_only_move_on(ops in prop::collection::vec(op(), 1..40), depth in 30_u64..120) {
        let mut rig = Rig::new(Duration::from_secs(depth));
        rig.run(3);
        let mut before = rig.playlist(VIDEO);
        for op in ops {
            match op {
                Op::Run(n) => drop(rig.run(n)),
                Op::Lose(part) => rig.segment(Some(part)),
                Op::Jump(new_init) => { rig.jump(new_init); rig.run(1); }
                Op::Delist => drop(rig.archive.delist_oldest()),
                Op::Drop => drop(rig.archive.drop_oldest()),
                Op::Cut(back) => rig.archive.cut(rig.next.saturating_sub(back).max(FIRST_MSN)),
            }
            rig.removed.extend(rig.archive.take_removed());
            let list = rig.playlist(VIDEO);
            prop_assert!(list.first >= before.first && list.last() >= before.last());
            prop_assert!(list.discontinuity >= before.discontinuity);
            for (msn, line) in &list.lines {
                if let Some(was) = before.lines.get(msn) {
                    prop_assert_eq!(line, was, "{} has changed", msn);
                }
                // A listed segment can be fetched: from the window or the archive.
                let entry = rig.all[&(VIDEO, *msn)];
                let held = rig.window.track(VIDEO).is_some_and(|t| t.listed().any(|s| s.msn == *msn));
                prop_assert!(held || rig.archive.entry(VIDEO, *msn) == Some(&entry));
                prop_assert_eq!(line.discontinuity, entry.discontinuity);
                prop_assert_eq!(&line.map, &format!("URI=\"init.{}.mp4\"", entry.init));
                prop_assert_eq!(line.gap, entry.gap);
            }
            // A delta is the playlist without the lines that it skips.
            let delta = ReadPlaylist::parse(&hls::media(rig.listed(), &mut HlsHistory::default(), VIDEO, Skip::Segments).expect("listed"));
            let mut rest = list.clone();
            rest.lines = list.lines.range(list.first + delta.skipped..).map(|(m, l)| (*m, l.clone())).collect();
            rest.skipped = delta.skipped;
            prop_assert_eq!(delta, rest);
            // The sizes are those of the rows.
            let all: u64 = [VIDEO, AUDIO].iter().flat_map(|t| rig.archive.track(*t)).flat_map(|s| s.entries())
                .map(|e| e.length).sum();
            prop_assert_eq!(rig.archive.stock().kept, all);
            before = list;
        }
    }

    /// After a restart an archive is the same, as far as the disk has it; what the disk lacks is a gap.
    #[test]
    fn a_restart_finds_what_was_there(
        runs in prop::collection::vec((1_u32..20, any::<bool>()), 1..5),
        torn in prop::collection::btree_set(0_usize..200, 0..10),
        away in 0_u32..40,
    ) {
        let mut rig = Rig::new(Duration::from_secs(60));
        for (n, jump) in runs {
            rig.run(n);
            if jump {
                rig.jump(false);
            }
        }
        rig.run(1);
        let before = rig.playlist(VIDEO);
        let kept = |t: TrackId| rig.archive.track(t).into_iter().flat_map(move |s| s.entries().map(move |e| (t, *e)));
        let whole: Vec<_> = kept(VIDEO).chain(kept(AUDIO)).collect();
        // The newest segment of each track is whole, so that the window follows the archive.
        let lasts = [rig.archive.track(VIDEO), rig.archive.track(AUDIO)].map(|s| s.and_then(|s| s.newest()).map(|e| e.msn));
        let entries: Vec<_> = whole.iter().enumerate()
            .filter(|(i, (t, e))| !torn.contains(i) || Some(e.msn) == lasts[usize::from(t.0)])
            .map(|(_, kept)| *kept).collect();
        let found: BTreeMap<_, _> = entries.iter().map(|(t, e)| ((*t, e.msn), *e)).collect();
        let periods: Vec<Period> = rig.archive.periods().copied().collect();

        let mut again = Rig::new(Duration::from_secs(60));
        again.record = rig.record.clone();
        again.archive = ArchiveIndex::new(&rig.record, Duration::from_secs(60));
        again.window = Window::new(rig.record.stream.clone());
        periods.into_iter().for_each(|p| again.archive.period_in(p));
        let mut sorted = entries;
        sorted.sort_by_key(|(t, e)| (e.msn, *t));
        for (track, entry) in sorted {
            again.archive.entry_in(track, entry);
        }
        again.archive.resume(before.first);
        again.update(|_| {});
        // The swarm has only what came since.
        again.next = rig.next + away;
        again.init = rig.init;
        again.run(20);
        let list = again.playlist(VIDEO);
        prop_assert!(list.first >= before.first, "{} {}", list.first, before.first);
        prop_assert_eq!(list.last(), again.next - 1);
        for (msn, line) in list.lines.range(..rig.next + away) {
            match found.get(&(VIDEO, *msn)) {
                Some(entry) => {
                    prop_assert_eq!(Some(line), before.lines.get(msn));
                    prop_assert_eq!(again.archive.entry(VIDEO, *msn), Some(entry));
                }
                None => prop_assert!(line.gap, "{} isn't there", msn),
            }
            let seconds: f64 = line.duration.trim_end_matches(',').parse().expect("seconds");
            prop_assert!(seconds.round() <= 2.0 && seconds > 0.0, "EXTINF {}", seconds);
        }
    }

    /// Files come from a disk: whatever they hold, they are read or refused.
    #[test]
    fn a_file_is_read_or_refused(cut in 0_usize..3_000, at in 0_usize..3_000, bits in 1_u8..) {
        let mut rig = Rig::new(Duration::from_secs(60));
        rig.run(1);
        let track = rig.window.track(VIDEO).expect("a track");
        let segment = track.whole_after(None).next().expect("whole");
        let period = rig.archive.period(segment.msn);
        let mut file = segment_file::head(segment, period).to_vec();
        let head_len = file.len();
        segment.parts().for_each(|part| file.extend_from_slice(&part.body));
        let whole = Bytes::from(file.clone());

        let head = segment_file::read_head(&whole).expect("its own");
        prop_assert_eq!((head.period, head.file_len()), (period, whole.len() as u64));
        let (id, read) = segment_file::read(whole.clone()).expect("its own");
        prop_assert_eq!((id, SegmentEntry::of(&read)), (VIDEO, SegmentEntry::of(segment)));
        prop_assert!(read.parts().map(|p| &p.body).eq(segment.parts().map(|p| &p.body)));

        let cut = cut % whole.len();
        prop_assert!(segment_file::read(whole.slice(..cut)).is_err());
        prop_assert!(cut >= head_len || segment_file::read_head(&whole.slice(..cut)).is_err());
        let at = at % file.len();
        file[at] ^= bits;
        prop_assert!(segment_file::read(Bytes::from(file)).is_err());
    }
}
