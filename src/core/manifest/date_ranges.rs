//! EXT-X-DATERANGE of the splices in the listed segments (rfc8216bis 4.4.5.1).
//!
//! The start and the end of a break are two tags of one date range, with the same ID (4.4.5.1.1). Only playlists of
//! tracks that carry messages have them, and only of the window: archives have the messages in their parts.
//!
//! Delta updates may leave old ones out (6.2.5.1, `_HLS_skip=v2`). The age of a tag, and of its removal, is counted in
//! media that were listed since, which is the same at all edges and for all players. A new edge doesn't know what was
//! removed before it started. A player that moves to it from another edge keeps such a date range, which it has played
//! long ago.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;

use super::facts::Millis;
use crate::cmaf;
use crate::codec::scte35::{Splice, SpliceKind};
use crate::model::time::{Timescale, UnixTime};
use crate::model::{LifeId, Record, Scheme, TrackId};
use crate::window::{Part, Segment, TrackWindow};

/// Most date ranges that a track remembers after their segments have left the window.
const GONE_MAX: usize = 256;

/// The ID of a date range: that of the event message that begins it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RangeId(u32);

impl fmt::Display for RangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "splice-{:08x}", self.0)
    }
}

/// A break that has begun.
struct Break {
    event: Option<u32>,
    id: RangeId,
    start: UnixTime,
}

/// One EXT-X-DATERANGE.
struct Tag {
    id: RangeId,
    start: UnixTime,
    end: Option<UnixTime>,
    splice: Splice,
    section: Bytes,
    /// The end of the part that carries it, in ticks.
    listed: u64,
}

impl Tag {
    fn write(&self, out: &mut String) {
        let _ = write!(out, "#EXT-X-DATERANGE:ID=\"{}\",START-DATE=\"{}\"", self.id, self.start);
        if let Some(end) = self.end {
            let _ = write!(out, ",END-DATE=\"{end}\"");
        }
        if let Some(duration) = self.splice.duration {
            let _ = write!(out, ",PLANNED-DURATION={}", Millis(duration));
        }
        out.push_str(match self.splice.kind {
            SpliceKind::Out => ",SCTE35-OUT=0x",
            SpliceKind::In => ",SCTE35-IN=0x",
            SpliceKind::Command | SpliceKind::Null => ",SCTE35-CMD=0x",
        });
        for byte in &self.section {
            let _ = write!(out, "{byte:02X}");
        }
        out.push('\n');
    }
}

/// Returns a tag for each splice, in the order of the parts that carry them.
fn tags<'a>(segments: impl Iterator<Item = &'a Segment>, scale: Timescale) -> Vec<Tag> {
    let (mut breaks, mut said, mut tags): (Vec<Break>, Vec<u32>, Vec<Tag>) = (Vec::new(), Vec::new(), Vec::new());
    for part in segments.flat_map(Segment::parts) {
        for (event, at) in cmaf::events(&part.body, scale) {
            // Several parts may carry the same splice.
            if event.scheme != Scheme::Scte35 || said.contains(&event.id) {
                continue;
            }
            let Ok(splice) = Splice::parse(&event.data) else { continue };
            said.push(event.id);
            let begun = breaks.iter().rfind(|begun| splice.kind == SpliceKind::In && begun.event == splice.event);
            let (id, start) = begun.map_or((RangeId(event.id), at), |begun| (begun.id, begun.start));
            let end = begun.map(|_| at);
            if splice.kind == SpliceKind::Out {
                breaks.push(Break { event: splice.event, id, start });
            }
            tags.push(Tag { id, start, end, splice, section: event.data, listed: end_of(part) });
        }
    }
    tags
}

fn end_of(part: &Part) -> u64 {
    part.header.decode_time.saturating_add(part.header.duration.into())
}

/// Returns the end of a track's playlist, in ticks.
fn playlist_end(track: &TrackWindow) -> u64 {
    track.listed().next_back().and_then(|segment| segment.parts().last()).map_or(0, end_of)
}

/// The date ranges of a playlist.
pub struct DateRanges<'a> {
    record: &'a Record,
    track: &'a TrackWindow,
    tags: Vec<Tag>,
}

impl<'a> DateRanges<'a> {
    /// Finds the date ranges of a track's window.
    pub fn of(record: &'a Record, track: &'a TrackWindow) -> Self {
        let carries = record.messages.contains(Scheme::Scte35);
        let tags = if carries { tags(track.listed(), track.timescale()) } else { Vec::new() };
        DateRanges { record, track, tags }
    }

    /// Writes the tags; with `skip_until` only those that have been listed for no longer: an update "MUST NOT contain
    /// EXT-X-DATERANGE tags that were added to the Playlist more than CAN-SKIP-UNTIL seconds before the Playlist request". A
    /// break's end comes without its beginning then: it has its ID and START-DATE, and the player has the rest.
    pub fn write(&self, out: &mut String, skip_until: Option<Duration>) {
        let age = |longest| playlist_end(self.track).saturating_sub(self.track.timescale().ticks(longest));
        let from = skip_until.map_or(0, age);
        self.tags.iter().filter(|tag| tag.listed >= from).for_each(|tag| tag.write(out));
    }

    /// Returns RECENTLY-REMOVED-DATERANGES: it "MUST list the date ranges that were removed from the Playlist within
    /// CAN-SKIP-UNTIL seconds of the Playlist request", in "a tab (0x9) delimited list". This one reaches back for a
    /// segment more.
    pub fn removed(&self, removed: Option<&RemovedRanges>, skip_until: Duration) -> String {
        let (record, track) = (self.record, self.track);
        if !record.messages.contains(Scheme::Scte35) {
            return String::new();
        }
        let scale = track.timescale();
        let since = scale.ticks(record.playlist_duration() + skip_until + record.target());
        let since = playlist_end(track).saturating_sub(since);
        let removed = removed.filter(|removed| removed.life == Some(record.life));
        let gone = removed.and_then(|removed| removed.ranges.get(&track.id())).into_iter().flatten().copied();
        let held = track.delisted().flat_map(|segment| ranges_of(segment, scale));
        let lately = gone.chain(held).filter(|(end, _)| *end >= since);
        let mut ids: BTreeSet<RangeId> = lately.map(|(_, id)| id).collect();
        // A date range that a later part carries again isn't removed.
        ids.retain(|id| self.tags.iter().all(|tag| tag.id != *id));
        let ids: Vec<String> = ids.iter().map(RangeId::to_string).collect();
        ids.join("\t")
    }
}

/// The date ranges of segments that have left the window. The window itself holds removed segments for less than
/// CAN-SKIP-UNTIL.
#[derive(Debug, Default)]
pub struct RemovedRanges {
    life: Option<LifeId>,
    /// The end of the segment, and the date range in it, by track.
    ranges: BTreeMap<TrackId, VecDeque<(u64, RangeId)>>,
}

impl RemovedRanges {
    /// Takes in a segment that has left the window.
    pub fn take(&mut self, record: &Record, track: &TrackWindow, segment: &Segment) {
        if self.life != Some(record.life) {
            *self = RemovedRanges { life: Some(record.life), ranges: BTreeMap::new() };
        }
        if !record.messages.contains(Scheme::Scte35) {
            return;
        }
        let ranges = self.ranges.entry(track.id()).or_default();
        for found in ranges_of(segment, track.timescale()) {
            if ranges.len() == GONE_MAX {
                ranges.pop_front();
            }
            ranges.push_back(found);
        }
    }
}

fn ranges_of(segment: &Segment, scale: Timescale) -> impl Iterator<Item = (u64, RangeId)> {
    let end = segment.decode_time().saturating_add(segment.duration());
    tags(std::iter::once(segment), scale).into_iter().map(move |tag| (end, tag.id))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::directives::Skip;
    use super::super::hls_history::HlsHistory;
    use super::super::listed::Listed;
    use super::super::{dash, hls};
    use super::*;
    use crate::cmaf::{self, EventMessage, ProducerReferenceTime};
    use crate::codec::scte35::tests::insert;
    use crate::model::time::Time;
    use crate::testing::synthetic::{AUDIO, FIRST_MSN, Feed, PARTS, VIDEO, record};
    use crate::window::Input;

    /// Splices: the segment and part that carry one, the second that it is meant for, and its bytes.
    type Splices<'a> = &'a [(u32, u16, u64, &'a [u8])];

    /// Makes a window of eight segments, of which some parts carry splices.
    fn feed(splices: Splices<'_>) -> Feed {
        feed_of(8, splices).0
    }

    /// The same with this many segments; also returns what has left the window.
    fn feed_of(segments: u32, splices: Splices<'_>) -> (Feed, RemovedRanges) {
        let (mut feed, mut gone) = (Feed::new(record("cam1")), RemovedRanges::default());
        feed.update(|record| record.messages = record.messages.with(Scheme::Scte35));
        for (segment, part) in (0..segments).flat_map(|segment| (0..PARTS).map(move |part| (segment, part))) {
            feed.part(AUDIO, FIRST_MSN + segment, part);
            let (mut header, _, trace) =
                crate::testing::synthetic::part(&feed.record, VIDEO, FIRST_MSN + segment, part, 9);
            let events: Vec<EventMessage> = splices
                .iter()
                .filter(|splice| (splice.0, splice.1) == (segment, part))
                .map(|&(_, _, second, data)| EventMessage {
                    scheme: Scheme::Scte35,
                    id: u32::from_be_bytes(data[data.len() - 4..].try_into().expect("a checksum")),
                    time: second * 90_000,
                    duration: None,
                    data: Bytes::copy_from_slice(data),
                })
                .collect();
            let reference = ProducerReferenceTime { media_time: header.decode_time, wall: header.program_date_time };
            let body = cmaf::chunk(0, header.decode_time, reference, (Timescale::MPEG, &events), &[]);
            (header.length, header.hash) = (body.len() as u32, blake3::hash(&body).into());
            feed.window.handle(Time::ZERO, Input::Part { header, body, trace, received: Time::ZERO });
            for (track, segment) in feed.window.take_evicted() {
                gone.take(&feed.record, feed.window.track(track).expect("fed"), &segment);
            }
        }
        feed.pass(Duration::ZERO);
        (feed, gone)
    }

    fn lines(text: &str) -> Vec<&str> {
        text.lines().filter(|line| line.starts_with("#EXT-X-DATERANGE:")).collect()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    /// Returns the ID of the date range that a splice begins.
    fn id(splice: &[u8]) -> String {
        format!("splice-{}", hex(&splice[splice.len() - 4..]).to_lowercase())
    }

    fn update(feed: &Feed, gone: &RemovedRanges, skip: Skip) -> String {
        let listed = Listed { removed: Some(gone), ..Listed::from(&feed.window) };
        hls::media(listed, &mut HlsHistory::default(), VIDEO, skip).expect("an update")
    }

    #[test]
    fn a_break_is_one_range_of_two_tags() {
        let (out, back) = (insert(7, 0, Some(4 * 90_000)), insert(7, 0, None));
        let feed = feed(&[(1, 3, 6, &out), (4, 0, 6, &out), (4, 0, 10, &back)]);
        let text = crate::testing::synthetic::playlist(&feed.window, VIDEO).expect("a playlist");
        let start = feed.record.availability_start;
        let (from, to) = (start + Duration::from_secs(6), start + Duration::from_secs(10));
        let id = id(&out);
        assert_eq!(
            lines(&text),
            [
                format!(
                    "#EXT-X-DATERANGE:ID=\"{id}\",START-DATE=\"{from}\",PLANNED-DURATION=4.000,SCTE35-OUT=0x{}",
                    hex(&out)
                ),
                format!(
                    "#EXT-X-DATERANGE:ID=\"{id}\",START-DATE=\"{from}\",END-DATE=\"{to}\",SCTE35-IN=0x{}",
                    hex(&back)
                ),
            ]
        );
        assert!(lines(&crate::testing::synthetic::playlist(&feed.window, AUDIO).expect("a playlist")).is_empty());
    }

    #[test]
    fn an_update_leaves_out_old_ranges_for_who_asks_so() {
        let (out, back, next) = (insert(7, 0, Some(4 * 90_000)), insert(7, 0, None), insert(8, 0, Some(90_000)));
        // The end of the break lies less than 12 s before the playlist's end, its start further back.
        let (feed, gone) = feed_of(12, &[(1, 3, 6, &out), (5, 9, 6, &out), (6, 0, 12, &back), (11, 0, 30, &next)]);
        let full = update(&feed, &gone, Skip::Nothing);
        let all = lines(&full);
        assert_eq!(all.len(), 3, "{full}");
        // `YES` doesn't skip date ranges: "All tags that were not skipped MUST remain".
        let segments = update(&feed, &gone, Skip::Segments);
        assert_eq!(lines(&segments), all);
        assert!(
            segments.contains("\n#EXT-X-SKIP:SKIPPED-SEGMENTS=6\n") && segments.contains("-VERSION:9\n"),
            "{segments}"
        );
        let both = update(&feed, &gone, Skip::DateRanges);
        assert_eq!(lines(&both), all[1..]);
        assert!(
            all[1].contains(&id(&out)) && all[1].contains(",END-DATE="),
            "its end has the ID of its beginning: {both}"
        );
        let skip = "\n#EXT-X-SKIP:SKIPPED-SEGMENTS=6,RECENTLY-REMOVED-DATERANGES=\"\"\n";
        assert!(both.contains(skip) && both.contains("#EXT-X-VERSION:10\n"), "{both}");
        let rest = |text: &str| text.split_once("#EXT-X-PROGRAM-DATE-TIME").map(|(_, rest)| rest.to_owned());
        assert_eq!(rest(&both), rest(&segments), "segments are skipped alike");
        // If no segment is skipped, no date range is.
        let (feed, gone) = feed_of(6, &[(1, 3, 6, &out)]);
        assert_eq!(update(&feed, &gone, Skip::DateRanges), update(&feed, &gone, Skip::Nothing));
    }

    #[test]
    fn an_update_names_what_was_removed_lately() {
        let (one, two, again) = (insert(1, 0, Some(1)), insert(2, 0, Some(1)), insert(3, 0, Some(1)));
        let splices: Splices<'_> = &[(1, 0, 2, &one), (1, 5, 2, &two), (1, 7, 2, &again), (9, 0, 2, &again)];
        let removed = |segments: u32| {
            let (feed, gone) = feed_of(segments, splices);
            let text = update(&feed, &gone, Skip::DateRanges);
            let (_, ids) = text.split_once("RECENTLY-REMOVED-DATERANGES=\"").expect("an attribute");
            let mut ids: Vec<String> = ids.split('"').next().unwrap_or("").split('\t').map(str::to_owned).collect();
            ids.sort();
            ids
        };
        let mut both = vec![id(&one), id(&two)];
        both.sort();
        assert_eq!(removed(16), [""]);
        // The playlist has 30 s, and the window less than CAN-SKIP-UNTIL more.
        for segments in 17..=24 {
            assert_eq!(removed(segments), both, "{segments}");
        }
        let (feed, _) = feed_of(24, splices);
        let held = feed.window.track(VIDEO).and_then(|track| track.delisted().next()).map(|segment| segment.msn);
        assert!(held.is_some_and(|msn| msn > FIRST_MSN + 1), "{held:?}");
        // A later part carries it again, and it is removed with that part.
        assert_eq!(removed(25), [id(&again)]);
        // Nothing of another life counts.
        let (mut feed, gone) = feed_of(24, splices);
        feed.record.life = crate::model::LifeId(9);
        let track = feed.window.track(VIDEO).expect("fed");
        let ranges = DateRanges::of(&feed.record, track);
        assert_eq!(ranges.removed(Some(&gone), Duration::from_secs(12)), "");
    }

    #[test]
    fn a_return_alone_is_a_range_of_its_own() {
        let feed = feed(&[(2, 0, 5, &insert(9, 0, None))]);
        let text = crate::testing::synthetic::playlist(&feed.window, VIDEO).expect("a playlist");
        assert!(matches!(lines(&text)[..], [line] if line.contains(",SCTE35-IN=0x") && !line.contains("END-DATE")));
    }

    #[test]
    fn the_mpd_says_which_kinds_there_are() {
        let feed = feed(&[]);
        let mpd = dash::mpd(&feed.window, dash::Timing::default(), false).expect("an MPD");
        let sets: Vec<bool> =
            mpd.split("<AdaptationSet ").skip(1).map(|set| set.contains("urn:scte:scte35:2013:bin")).collect();
        assert_eq!(sets, [true, false], "pictures carry them");
    }
}
