//! Edges that join late, or come back, list the same as the others.

use std::time::Duration;

use proptest::prelude::*;

use super::Rig;
use crate::dvr::entry::SegmentEntry;
use crate::dvr::index::ArchiveIndex;
use crate::dvr::merge::{join, listing};
use crate::dvr::query::Listing;
use crate::manifest::dash::{self, Timing};
use crate::model::time::UnixTime;
use crate::model::{Msn, Period, TrackId};
use crate::testing::synthetic::{AUDIO, FIRST_MSN, VIDEO};
use crate::window::Window;

const DEPTH: Duration = Duration::from_secs(120);

/// Returns a node that joins now, and keeps nothing; the swarm has the window for it.
fn late(holder: &Rig, back: u32) -> Rig {
    let mut rig = Rig::new(DEPTH);
    rig.record = holder.record.clone();
    rig.archive = ArchiveIndex::afar(&rig.record, DEPTH);
    rig.window = Window::new(rig.record.stream.clone());
    rig.update(|_| {});
    (rig.next, rig.init) = (holder.next - back, holder.init);
    rig.run(back);
    rig
}

fn text(rig: &Rig) -> String {
    rig.text(VIDEO)
}

fn both(a: &mut Rig, b: &mut Rig, segments: u32) {
    for rig in [a, b] {
        rig.run(segments);
    }
}

#[test]
fn who_comes_late_lists_the_same_from_then_on() {
    let mut holder = Rig::new(DEPTH);
    holder.run(20).jump(true);
    holder.run(20).jump(false);
    holder.run(10);
    let mut edge = late(&holder, 18);
    let alone = edge.playlist(VIDEO);
    assert!(alone.first > FIRST_MSN + 30 && edge.archive.lacks(holder.playlist(VIDEO).first));
    join(&mut edge.archive, listing(&holder.archive, 0, Msn::MAX), Msn::MAX);
    edge.archive.advance(&edge.window);
    assert_eq!(text(&edge), text(&holder), "to the byte");
    assert!(!edge.archive.lacks(holder.playlist(VIDEO).first));
    assert_eq!(edge.archive.stock().kept, 0, "it keeps nothing");
    assert_eq!(edge.archive.oldest_here(), None);
    // It goes on by itself beyond the depth, with the old init segments and periods.
    for _ in 0..60 {
        both(&mut holder, &mut edge, 1);
        assert_eq!(text(&edge), text(&holder));
    }
    assert!(holder.playlist(VIDEO).first > FIRST_MSN + 40);
    for number in [0, 1] {
        assert_eq!(edge.archive.init(VIDEO, number), holder.archive.init(VIDEO, number));
    }
    // If the holder has less room, its list is followed.
    while holder.archive.listed_from() < FIRST_MSN + 80 {
        holder.archive.delist_oldest();
    }
    edge.archive.follow(holder.archive.listed_from());
    both(&mut holder, &mut edge, 1);
    assert_eq!(text(&edge), text(&holder));
}

#[test]
fn a_listing_may_come_before_the_window() {
    let mut holder = Rig::new(DEPTH);
    holder.run(50);
    let mut edge = Rig::new(DEPTH);
    edge.archive = ArchiveIndex::afar(&edge.record, DEPTH);
    assert!(edge.archive.lacks(holder.playlist(VIDEO).first));
    join(&mut edge.archive, listing(&holder.archive, 0, Msn::MAX), Msn::MAX);
    holder.run(1);
    edge.next = holder.next - 18;
    edge.run(18);
    assert_eq!(text(&edge), text(&holder));
}

/// A node with an archive was away for longer than a window: another node has what it missed.
#[test]
fn holes_of_a_restart_are_filled() {
    let mut holder = Rig::new(DEPTH);
    holder.run(12);
    let old = listing(&holder.archive, 0, Msn::MAX);
    holder.run(40);
    let mut back = Rig::new(DEPTH);
    for (track, entry) in old.entries {
        back.archive.entry_in(track, SegmentEntry { here: true, ..entry });
    }
    back.next = holder.next - 18;
    back.run(18);
    let gaps = |rig: &Rig| rig.playlist(VIDEO).lines.values().filter(|line| line.gap).count();
    assert_eq!(gaps(&back), 52 - 18 - 12);
    let kept = back.archive.stock().kept;
    join(&mut back.archive, listing(&holder.archive, 0, Msn::MAX), Msn::MAX);
    back.archive.advance(&back.window);
    assert_eq!((gaps(&back), text(&back) == text(&holder)), (0, true));
    assert_eq!(back.archive.stock().kept, kept, "what others keep isn't counted");
    assert_eq!(back.archive.oldest_here(), Some(FIRST_MSN));
    let there = back.archive.entry(AUDIO, FIRST_MSN + 20).expect("listed");
    assert!(!there.here && !there.lost);
}

#[test]
fn what_was_cut_stays_cut_and_what_was_lost_stays_lost() {
    let mut holder = Rig::new(DEPTH);
    holder.run(40);
    let mut edge = late(&holder, 18);
    for rig in [&mut holder, &mut edge] {
        rig.run(2);
    }
    let lost = edge.next;
    holder.run(1);
    edge.segment(Some(3));
    both(&mut holder, &mut edge, 25);
    edge.archive.cut(FIRST_MSN + 9);
    join(&mut edge.archive, listing(&holder.archive, 0, Msn::MAX), Msn::MAX);
    edge.archive.advance(&edge.window);
    let list = edge.playlist(VIDEO);
    assert_eq!(list.first, FIRST_MSN + 10);
    assert!(list.lines[&lost].gap, "its viewers were told so");
    assert!(!holder.playlist(VIDEO).lines[&lost].gap);
    assert_eq!(list.lines.values().filter(|line| line.gap).count(), 1);
}

fn entry() -> impl Strategy<Value = (TrackId, SegmentEntry)> {
    let msn = prop_oneof![FIRST_MSN..FIRST_MSN + 60, any::<u32>(), Just(Msn::MAX), Just(0)];
    (0_u8..3, msn, any::<[u64; 4]>(), 0_u32..4, any::<u16>(), any::<bool>()).prop_map(
        |(track, msn, [decode_time, duration, date, length], discontinuity, init, gap)| {
            let program_date_time = UnixTime::from_micros(date % (1 << 52));
            let (lost, whole, here) = (false, true, false);
            let entry = SegmentEntry {
                msn,
                decode_time: decode_time % (1 << 50),
                duration,
                program_date_time,
                discontinuity,
                init,
                gap,
                lost,
                whole,
                length: length % (1 << 40),
                here,
            };
            (TrackId(track), entry)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever another node lists, live segments follow it.
    #[test]
    fn rubbish_is_borne(
        entries in prop::collection::vec(entry(), 0..40),
        listed_from in any::<u32>(),
        period in any::<(u32, u32, u32)>(),
        early in any::<bool>(),
    ) {
        let mut rig = Rig::new(DEPTH);
        rig.archive = ArchiveIndex::afar(&rig.record, DEPTH);
        rig.next = FIRST_MSN + 40;
        rig.run(if early { 0 } else { 20 });
        let periods = vec![Period::new(period.0, period.1, Duration::from_micros(period.2.into()))];
        let inits = vec![(TrackId(9), 7, bytes::Bytes::from_static(b"moov"))];
        join(&mut rig.archive, Listing { listed_from, periods, inits, entries }, rig.next);
        rig.archive.advance(&rig.window);
        rig.run(20);
        let list = rig.playlist(VIDEO);
        prop_assert_eq!(list.last(), rig.next - 1);
        prop_assert!(dash::mpd(rig.listed(), Timing::Timeline, false).is_some());
        prop_assert!(dash::mpd(rig.listed(), Timing::Number, false).is_some());
    }
}
