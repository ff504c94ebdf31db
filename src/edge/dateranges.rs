//! EXT-X-DATERANGE of the splices that the listed segments carry (rfc8216bis 4.4.5.1).
//!
//! A splice_insert's way out and its way back are one date range (4.4.5.1.1), of two tags with one ID. Playlists have those of the tracks
//! that carry messages, in the window alone: what only a DVR holds has its messages in the parts.

use std::fmt::Write as _;

use crate::live::{Record, Scheme, Segment, TrackWindow};
use crate::media::cmaf;
use crate::media::scte35::{Kind, Splice};
use crate::units::UnixTime;

/// A break that has begun.
struct Break {
    event: Option<u32>,
    id: String,
    start: UnixTime,
}

/// A line for each splice, in the order of the parts that carry them.
pub(super) fn dateranges(out: &mut String, record: &Record, track: &TrackWindow) {
    if !record.messages.contains(Scheme::Scte35) {
        return;
    }
    let (mut breaks, mut said): (Vec<Break>, Vec<u32>) = (Vec::new(), Vec::new());
    for part in track.listed().flat_map(Segment::parts) {
        for (event, start) in cmaf::events(&part.body, track.timescale()) {
            // It may be carried twice.
            if event.scheme != Scheme::Scte35 || said.contains(&event.id) {
                continue;
            }
            let Ok(splice) = Splice::parse(&event.data) else { continue };
            said.push(event.id);
            let id = format!("splice-{:08x}", event.id);
            let begun = breaks.iter().rfind(|begun| splice.kind == Kind::In && begun.event == splice.event);
            let (id, from) = begun.map_or((&id, start), |begun| (&begun.id, begun.start));
            let _ = write!(out, "#EXT-X-DATERANGE:ID=\"{id}\",START-DATE=\"{from}\"");
            if begun.is_some() {
                let _ = write!(out, ",END-DATE=\"{start}\"");
            }
            if let Some(duration) = splice.duration {
                let _ = write!(out, ",PLANNED-DURATION={}.{:03}", duration.as_secs(), duration.subsec_millis());
            }
            out.push_str(match splice.kind {
                Kind::Out => ",SCTE35-OUT=0x",
                Kind::In => ",SCTE35-IN=0x",
                Kind::Command | Kind::Null => ",SCTE35-CMD=0x",
            });
            for byte in &event.data {
                let _ = write!(out, "{byte:02X}");
            }
            out.push('\n');
            if splice.kind == Kind::Out {
                breaks.push(Break { event: splice.event, id: format!("splice-{:08x}", event.id), start });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::synthetic::{AUDIO, FIRST_MSN, Feed, PARTS, VIDEO, record};
    use super::super::{dash, hls};
    use super::*;
    use crate::live::Trace;
    use crate::live::window::Input;
    use crate::media::Event;
    use crate::media::cmaf::Reference;
    use crate::media::scte35::tests::insert;
    use crate::units::{Time, Timescale};

    /// A window of segments, of which some parts carry splices, meant so many seconds after the start.
    fn feed(splices: &[(u32, u16, u64, &[u8])]) -> Feed {
        let mut feed = Feed::new(record("cam1"));
        feed.update(|record| record.messages = record.messages.with(Scheme::Scte35));
        for segment in 0..8 {
            for part in 0..PARTS {
                feed.part(AUDIO, FIRST_MSN + segment, part);
                let (mut header, _, trace) =
                    super::super::synthetic::part(&feed.record, VIDEO, FIRST_MSN + segment, part, 9);
                let events: Vec<Event> = splices
                    .iter()
                    .filter(|splice| (splice.0, splice.1) == (segment, part))
                    .map(|&(_, _, second, data)| Event {
                        scheme: Scheme::Scte35,
                        id: u32::from_be_bytes(data[data.len() - 4..].try_into().expect("a checksum")),
                        time: second * 90_000,
                        duration: None,
                        data: Bytes::copy_from_slice(data),
                    })
                    .collect();
                let reference = Reference { media_time: header.decode_time, wall: header.program_date_time };
                let body = cmaf::chunk(0, header.decode_time, reference, (Timescale::MPEG, &events), &[]);
                (header.length, header.hash) = (body.len() as u32, blake3::hash(&body).into());
                let trace: Trace = trace;
                feed.window.handle(Time::ZERO, Input::Part { header, body, trace, received: Time::ZERO });
            }
        }
        feed.pass(Duration::ZERO);
        feed
    }

    fn lines(text: &str) -> Vec<&str> {
        text.lines().filter(|line| line.starts_with("#EXT-X-DATERANGE:")).collect()
    }

    #[test]
    fn a_break_is_one_range_of_two_tags() {
        let (out, back) = (insert(7, 0, Some(4 * 90_000)), insert(7, 0, None));
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
        let feed = feed(&[(1, 3, 6, &out), (4, 0, 6, &out), (4, 0, 10, &back)]);
        let text = hls::media(&feed.window, VIDEO).expect("a playlist");
        let start = feed.record.availability_start;
        let (from, to) = (start + Duration::from_secs(6), start + Duration::from_secs(10));
        let id = format!("splice-{}", hex(&out[out.len() - 4..]).to_lowercase());
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
        // All of them, since nothing says which a delta update may leave out.
        let delta = hls::delta(&feed.window, VIDEO).expect("a delta update");
        assert_eq!(lines(&delta), lines(&text));
        assert!(lines(&hls::media(&feed.window, AUDIO).expect("a playlist")).is_empty());
    }

    #[test]
    fn a_return_alone_is_a_range_of_its_own() {
        let feed = feed(&[(2, 0, 5, &insert(9, 0, None))]);
        let text = hls::media(&feed.window, VIDEO).expect("a playlist");
        assert!(matches!(lines(&text)[..], [line] if line.contains(",SCTE35-IN=0x") && !line.contains("END-DATE")));
    }

    #[test]
    fn the_mpd_says_which_kinds_there_are() {
        let feed = feed(&[]);
        let mpd = dash::manifest(&feed.window, dash::Timing::default()).expect("an MPD");
        let sets: Vec<bool> =
            mpd.split("<AdaptationSet ").skip(1).map(|set| set.contains("urn:scte:scte35:2013:bin")).collect();
        assert_eq!(sets, [true, false], "pictures carry them");
    }
}
