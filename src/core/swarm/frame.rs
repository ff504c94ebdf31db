//! What goes on a link's control stream: the messages of all swarms, side by side.
//!
//! ```text
//!  swarm: u64 | kind: u8 | 1 overlay message
//!                        | 2 broadcast message
//!                        | 3 directory announcements
//!                        | 4 (nothing): the sender isn't in this swarm, or leaves it
//!                        | 5 notices of keepers
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use super::directory::{ANNOUNCEMENTS_MAX, Announcement};
use super::keepers::{NOTICES_MAX, Notice};
use crate::model::SwarmId;
use crate::model::wire;
use crate::model::wire::{Reader, WireError};
use crate::{hyparview as overlay, plumtree as broadcast};

/// One frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Which swarm it is about.
    pub swarm: SwarmId,
    /// What it says.
    pub body: Body,
}

/// What a [`Frame`] says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// From HyParView to HyParView.
    Overlay(overlay::Message),
    /// From Plumtree to Plumtree.
    Broadcast(broadcast::Message),
    /// What the directory holds, or what is new in it; at most [`ANNOUNCEMENTS_MAX`].
    Directory(Vec<Announcement>),
    /// The sender isn't in the swarm, or leaves it. Of the directory: the node leaves altogether.
    Leave,
    /// Who keeps what of which stream; at most [`NOTICES_MAX`].
    Keepers(Vec<Notice>),
}

impl Frame {
    const OVERLAY: u8 = 1;
    const BROADCAST: u8 = 2;
    const DIRECTORY: u8 = 3;
    const LEAVE: u8 = 4;
    const KEEPERS: u8 = 5;

    /// The frame on the wire, without the link's length prefix.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u64(self.swarm.0);
        match &self.body {
            Body::Overlay(message) => {
                out.put_u8(Self::OVERLAY);
                message.encode(&mut out);
            }
            Body::Broadcast(message) => {
                out.put_u8(Self::BROADCAST);
                message.encode(&mut out);
            }
            Body::Directory(announcements) => {
                out.put_u8(Self::DIRECTORY);
                wire::put_count(&mut out, announcements.len());
                for announcement in announcements {
                    announcement.encode(&mut out);
                }
            }
            Body::Leave => out.put_u8(Self::LEAVE),
            Body::Keepers(notices) => {
                out.put_u8(Self::KEEPERS);
                wire::put_count(&mut out, notices.len());
                for notice in notices {
                    notice.encode(&mut out);
                }
            }
        }
        out.freeze()
    }

    /// Reads a frame; `None` for a kind that a newer node knows and we don't.
    pub fn decode(frame: Bytes) -> Result<Option<Self>, WireError> {
        let r = &mut Reader::new(frame);
        let swarm = SwarmId(r.u64("swarm")?);
        let body = match r.u8("frame kind")? {
            Self::OVERLAY => match overlay::Message::decode(r)? {
                Some(message) => Body::Overlay(message),
                None => return Ok(None),
            },
            Self::BROADCAST => Body::Broadcast(broadcast::Message::decode(r)?),
            Self::DIRECTORY => {
                let n = r.count(ANNOUNCEMENTS_MAX, Announcement::WIRE_LEN_MIN, "announcements")?;
                let mut announcements = Vec::with_capacity(n);
                for _ in 0..n {
                    announcements.push(Announcement::decode(r)?);
                }
                Body::Directory(announcements)
            }
            Self::LEAVE => Body::Leave,
            Self::KEEPERS => {
                let n = r.count(NOTICES_MAX, Notice::WIRE_LEN_MIN, "notices")?;
                Body::Keepers((0..n).map(|_| Notice::decode(r)).collect::<Result<_, _>>()?)
            }
            _ => return Ok(None),
        };
        Ok(Some(Frame { swarm, body }))
    }
}
