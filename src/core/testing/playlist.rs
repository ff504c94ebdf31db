//! A media playlist as a viewer reads it, segment by segment.

use std::collections::BTreeMap;

use crate::model::Msn;

/// The facts that a viewer reads of each segment.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadSegment {
    /// Its discontinuity sequence number.
    pub discontinuity: u32,
    /// EXT-X-MAP.
    pub map: String,
    /// EXT-X-PROGRAM-DATE-TIME.
    pub date: String,
    /// Whether EXT-X-GAP stands before it.
    pub gap: bool,
    /// EXTINF.
    pub duration: String,
}

/// A playlist or a delta update, read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReadPlaylist {
    /// EXT-X-MEDIA-SEQUENCE.
    pub first: Msn,
    /// EXT-X-DISCONTINUITY-SEQUENCE.
    pub discontinuity: u32,
    /// The segments listed whole, by MSN.
    pub lines: BTreeMap<Msn, ReadSegment>,
    /// SKIPPED-SEGMENTS of a delta update.
    pub skipped: u32,
}

impl ReadPlaylist {
    /// Reads a playlist.
    ///
    /// # Panics
    /// On a number that is none, and on segments that are not in a row.
    pub fn parse(text: &str) -> ReadPlaylist {
        let mut list = ReadPlaylist::default();
        let (mut map, mut date, mut duration, mut gap, mut discontinuity) =
            <(String, String, String, bool, u32)>::default();
        let mut next = 0;
        for line in text.lines() {
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            match tag {
                "#EXT-X-MEDIA-SEQUENCE" => {
                    (list.first, next) = (value.parse().expect("a number"), value.parse().expect("a number"))
                }
                "#EXT-X-DISCONTINUITY-SEQUENCE" => {
                    (list.discontinuity, discontinuity) =
                        (value.parse().expect("a number"), value.parse().expect("a number"));
                }
                "#EXT-X-SKIP" => {
                    list.skipped = value.split('=').nth(1).expect("a number").parse().expect("a number");
                    next += list.skipped;
                }
                "#EXT-X-DISCONTINUITY" => discontinuity += 1,
                "#EXT-X-MAP" => map = value.to_owned(),
                "#EXT-X-PROGRAM-DATE-TIME" => date = value.to_owned(),
                "#EXT-X-GAP" => gap = true,
                "#EXTINF" => duration = value.to_owned(),
                _ if !line.starts_with('#') => {
                    assert_eq!(line, format!("{next}.m4s"), "in a row: {text}");
                    let (map, date, duration) = (map.clone(), date.clone(), duration.clone());
                    list.lines.insert(next, ReadSegment { discontinuity, map, date, gap, duration });
                    (gap, next) = (false, next + 1);
                }
                _ => {}
            }
        }
        list
    }

    /// The newest segment listed whole.
    pub fn last(&self) -> Msn {
        self.lines.keys().next_back().copied().unwrap_or(0)
    }
}
