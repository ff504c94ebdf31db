//! Event message boxes (`emsg`; ISO 23009-1, 5.10.3.3): written into chunks, and read from them.

use bytes::Bytes;
use mp4_atom::{Atom, Decode, Emsg, EmsgTimestamp, Header, Prft};

use crate::model::Scheme;
use crate::model::time::{Timescale, UnixTime};

/// Bytes of an event message beside its data.
pub(crate) const EVENT_OVERHEAD: usize = 96;

/// A message on a track's timeline: an event message box (23009-1, 5.10.3.3) of version 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventMessage {
    /// The scheme of its data.
    pub scheme: Scheme,
    /// The message's id, which is the same in all tracks.
    pub id: u32,
    /// Presentation time in ticks of the track.
    pub time: u64,
    /// In ticks of the track, if known.
    pub duration: Option<u32>,
    /// The message itself: an ID3 tag, or a splice_info_section.
    pub data: Bytes,
}

/// Returns the box (23009-1, 5.10.3.3). An unknown duration is 2^32 - 1.
pub(super) fn emsg(event: &EventMessage, timescale: Timescale) -> Emsg {
    Emsg {
        timescale: timescale.hz(),
        presentation_time: EmsgTimestamp::Absolute(event.time),
        event_duration: event.duration.unwrap_or(u32::MAX),
        id: event.id,
        scheme_id_uri: event.scheme.uri().to_owned(),
        value: String::new(),
        message_data: event.data.to_vec(),
    }
}

/// Returns the events of a chunk that damson made, each with its wallclock as PROGRAM-DATE-TIME has it. Unreadable events are
/// left out, because a body may come from any publisher.
pub fn events(chunk: &[u8], timescale: Timescale) -> Vec<(EventMessage, UnixTime)> {
    let (mut rest, mut events, mut reference) = (chunk, Vec::new(), None);
    while let Ok(header) = Header::decode(&mut rest) {
        let Some((mut body, behind)) = header.size.and_then(|size| rest.split_at_checked(size)) else { break };
        if header.kind == Prft::KIND {
            reference = Prft::decode_body(&mut body).ok();
        } else if header.kind == Emsg::KIND {
            let event = Emsg::decode_body(&mut body).ok().and_then(|emsg| read_event(emsg, timescale));
            events.extend(event.zip(reference.as_ref()).map(|(event, prft)| {
                let wall = date(prft, event.time, timescale);
                (event, wall)
            }));
        } else {
            break;
        }
        rest = behind;
    }
    events
}

fn read_event(emsg: Emsg, timescale: Timescale) -> Option<EventMessage> {
    let scheme = Scheme::parse(&emsg.scheme_id_uri)?;
    let EmsgTimestamp::Absolute(time) = emsg.presentation_time else { return None };
    let duration = Some(emsg.event_duration).filter(|&duration| duration != u32::MAX);
    let data = Bytes::from(emsg.message_data);
    (emsg.timescale == timescale.hz()).then_some(EventMessage { scheme, id: emsg.id, time, duration, data })
}

/// Returns the wallclock of a presentation time, by a chunk's `prft`.
fn date(prft: &Prft, time: u64, timescale: Timescale) -> UnixTime {
    let at = UnixTime::from_ntp(prft.ntp_timestamp);
    match time.checked_sub(prft.media_time) {
        Some(ahead) => at + timescale.duration(ahead),
        None => at - timescale.duration(prft.media_time - time),
    }
}
