//! The frames of a link's control stream: the messages of all swarms, side by side.
//!
//! ```text
//!  swarm: u64 | kind: u8 | 1 HyParView's message
//!                        | 2 Plumtree's message
//!                        | 3 directory announcements
//!                        | 4 (nothing): the sender isn't in this swarm, or leaves it
//!                        | 5 notices of archives
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use super::announcement::{Announceable, Announcement};
use super::archives::ArchiveNotice;
use super::directory::Entry;
use crate::model::wire::{Reader, WireError};
use crate::model::{SwarmId, wire};
use crate::{hyparview as overlay, plumtree as broadcast};

/// The most announcements or notices in one frame: 170 bytes each at most, so some 20 KB.
pub const ANNOUNCEMENTS_MAX: usize = 128;

/// A frame of one swarm.
#[derive(Debug, Clone, PartialEq)]
pub struct SwarmFrame {
    /// The swarm that it is about.
    pub swarm: SwarmId,
    /// The message in it.
    pub body: FrameBody,
}

/// The message in a [`SwarmFrame`].
#[derive(Debug, Clone, PartialEq)]
pub enum FrameBody {
    /// From HyParView to HyParView.
    Overlay(overlay::Message),
    /// From Plumtree to Plumtree.
    Broadcast(broadcast::Message),
    /// What the directory holds, or what is new in it; at most [`ANNOUNCEMENTS_MAX`].
    Directory(Vec<Announcement<Entry>>),
    /// The sender isn't in the swarm, or leaves it. In the directory's swarm: the node shuts down.
    Leave,
    /// The nodes that hold what has left the windows; at most [`ANNOUNCEMENTS_MAX`].
    Archives(Vec<ArchiveNotice>),
}

impl SwarmFrame {
    const OVERLAY: u8 = 1;
    const BROADCAST: u8 = 2;
    const DIRECTORY: u8 = 3;
    const LEAVE: u8 = 4;
    const ARCHIVES: u8 = 5;

    /// Returns the frames that carry these announcements in the directory's swarm.
    pub(super) fn tell<T: Clone>(all: &[Announcement<T>], body: fn(Vec<Announcement<T>>) -> FrameBody) -> Vec<Bytes> {
        let frame = |some: &[_]| SwarmFrame { swarm: SwarmId::DIRECTORY, body: body(some.to_vec()) }.encode();
        all.chunks(ANNOUNCEMENTS_MAX).map(frame).collect()
    }

    /// Returns the frame on the wire, without the link's length prefix.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u64(self.swarm.0);
        match &self.body {
            FrameBody::Overlay(message) => {
                out.put_u8(Self::OVERLAY);
                message.encode(&mut out);
            }
            FrameBody::Broadcast(message) => {
                out.put_u8(Self::BROADCAST);
                message.encode(&mut out);
            }
            FrameBody::Directory(announcements) => put_all(&mut out, Self::DIRECTORY, announcements),
            FrameBody::Leave => out.put_u8(Self::LEAVE),
            FrameBody::Archives(notices) => put_all(&mut out, Self::ARCHIVES, notices),
        }
        out.freeze()
    }

    /// Reads a frame; `None` for a kind that only a newer node knows.
    ///
    /// # Errors
    /// The bytes aren't a frame.
    pub fn decode(frame: Bytes) -> Result<Option<Self>, WireError> {
        let r = &mut Reader::new(frame);
        let swarm = SwarmId(r.u64("swarm")?);
        let body = match r.u8("frame kind")? {
            Self::OVERLAY => match overlay::Message::decode(r)? {
                Some(message) => FrameBody::Overlay(message),
                None => return Ok(None),
            },
            Self::BROADCAST => FrameBody::Broadcast(broadcast::Message::decode(r)?),
            Self::DIRECTORY => FrameBody::Directory(read_all(r, "announcements")?),
            Self::LEAVE => FrameBody::Leave,
            Self::ARCHIVES => FrameBody::Archives(read_all(r, "notices")?),
            _ => return Ok(None),
        };
        Ok(Some(SwarmFrame { swarm, body }))
    }
}

fn put_all<T: Announceable>(out: &mut BytesMut, kind: u8, announcements: &[Announcement<T>]) {
    out.put_u8(kind);
    wire::put_count(out, announcements.len());
    announcements.iter().for_each(|announcement| announcement.encode(out));
}

fn read_all<T: Announceable>(r: &mut Reader, what: &'static str) -> Result<Vec<Announcement<T>>, WireError> {
    let n = r.count(ANNOUNCEMENTS_MAX, Announcement::<T>::WIRE_LEN_MIN, what)?;
    (0..n).map(|_| Announcement::decode(r)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::archives::{Keeper, Kept};
    use super::*;
    use crate::model::Peer;
    use crate::model::{Epoch, LifeId, NodeId, StreamName};

    fn entry(n: u64) -> Entry {
        let ingest = Peer { id: NodeId(n), addr: ([127, 0, 0, 1], 4_900).into() };
        let stream = StreamName::parse("s").expect("a name");
        Entry { stream, life: LifeId(n), epoch: Epoch { counter: 1, node: NodeId(n) }, refresh: 2, ingest }
    }

    #[test]
    fn all_kinds_survive_the_wire() {
        let Entry { stream, life, ingest: node, .. } = entry(7);
        let kept = Kept { stream, life, from: 8, listed_from: 9, depth: Duration::from_secs(60) };
        let keeper = Keeper { node, kept, stamp: 10 };
        let bodies = [
            FrameBody::Overlay(overlay::Message::Join),
            FrameBody::Broadcast(broadcast::Message::Prune),
            FrameBody::Directory(vec![Announcement { age_ms: 3, ..Announcement::new(entry(7)) }]),
            FrameBody::Leave,
            FrameBody::Archives(vec![Announcement { age_ms: 4, ..Announcement::new(keeper) }]),
        ];
        for body in bodies {
            let frame = SwarmFrame { swarm: SwarmId(5), body };
            assert_eq!(SwarmFrame::decode(frame.encode()), Ok(Some(frame)));
        }
        assert_eq!(SwarmFrame::decode(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 5, 77, 1])), Ok(None));
    }

    #[test]
    fn the_shortest_announcements_fill_a_count_exactly() {
        let frame = SwarmFrame::tell(&[Announcement::new(entry(1))], FrameBody::Directory);
        assert_eq!(frame[0].len(), 8 + 1 + 2 + Announcement::<Entry>::WIRE_LEN_MIN);
        assert!(SwarmFrame::decode(frame[0].slice(..frame[0].len() - 1)).is_err());
    }

    #[test]
    fn what_is_too_much_for_one_frame_goes_in_several() {
        let all: Vec<_> = (0..300).map(|n| Announcement::new(entry(n))).collect();
        let frames = SwarmFrame::tell(&all, FrameBody::Directory);
        let told = frames.into_iter().map(|frame| match SwarmFrame::decode(frame) {
            Ok(Some(SwarmFrame { swarm: SwarmId::DIRECTORY, body: FrameBody::Directory(some) })) => some,
            other => panic!("{other:?}"),
        });
        let told: Vec<_> = told.collect();
        assert_eq!(told.iter().map(Vec::len).collect::<Vec<_>>(), [128, 128, 44]);
        assert_eq!(told.concat(), all);
    }
}
