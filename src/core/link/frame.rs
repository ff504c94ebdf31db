//! The bytes on a link.
//!
//! ```text
//! control stream (one bidirectional stream, opened by the dialler):   frame*
//!     frame:  kind u8 | length u32 | payload
//! each body (a unidirectional stream of its own):
//!     kind u8 = 1 | head length u16 | head | the body's bytes from `offset` to its end
//! ```
//!
//! Big-endian throughout. A frame or stream of an unknown kind is skipped, and so are bytes behind the
//! fields known here: a newer peer may say more (docs/architecture.md, Mesh).

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::model::time::Time;
use crate::model::wire::{Fault, Reader, WireError};
use crate::model::{NodeId, PartHeader, Peer, SwarmId, Trace};

/// The version in a [`Hello`]. Versions only add fields, so none is refused.
pub const VERSION: u16 = 1;

/// The longest payload of a frame, in bytes. The longest frames carry the directory or the window to a new neighbour.
pub const FRAME_LEN_MAX: usize = 1 << 20;

/// The longest head of a body, in bytes: today's longest is 624, so this leaves room.
pub const HEAD_LEN_MAX: usize = 4 << 10;

/// The kind of a unidirectional stream that carries a body.
pub const STREAM_BODY: u8 = 1;

/// The bytes before a frame's payload: its kind and its length.
pub const FRAME_PREFIX_LEN: usize = 1 + 4;
const HEAD_PREFIX_LEN: usize = 1 + 2;

/// A frame that can't be read, and its place in the control stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("frame at byte {at} of the control stream: {source}")]
pub struct FrameError {
    /// The offset of the frame's prefix in the stream.
    pub at: u64,
    /// The fault, and its offset in the payload.
    pub source: WireError,
}

/// The first frame that each side sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The sender's [`VERSION`].
    pub version: u16,
    /// The sender. Its certificate must say the same.
    pub node: NodeId,
    /// The address to dial the sender at. An unspecified one means the address that its packets come from.
    pub listen: SocketAddr,
    /// Rises with each hello of a node, across its restarts too: its wallclock in microseconds, or one more than the
    /// last. Tells which of two links to a peer is newer.
    pub stamp: u64,
}

/// A frame of the control stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The first frame.
    Hello(Hello),
    /// Asks for the peer's clock.
    Ping {
        /// The time of sending, on the sender's clock.
        sent: Time,
    },
    /// Answers [`Frame::Ping`].
    Pong {
        /// The ping's `sent`.
        echo: Time,
        /// The arrival of the ping, on the answering node's clock.
        received: Time,
        /// The departure of the pong, on the same clock.
        sent: Time,
    },
    /// A frame of the swarms, as opaque bytes.
    Control(Bytes),
}

impl Frame {
    const HELLO: u8 = 1;
    const PING: u8 = 2;
    const PONG: u8 = 3;
    const CONTROL: u8 = 4;

    /// Appends the frame with its prefix.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_bytes(0, FRAME_PREFIX_LEN);
        out[start] = match self {
            Frame::Hello(hello) => {
                out.put_u16(hello.version);
                Peer { id: hello.node, addr: hello.listen }.encode(out);
                out.put_u64(hello.stamp);
                Self::HELLO
            }
            Frame::Ping { sent } => {
                out.put_u64(sent.as_micros());
                Self::PING
            }
            Frame::Pong { echo, received, sent } => {
                out.put_u64(echo.as_micros());
                out.put_u64(received.as_micros());
                out.put_u64(sent.as_micros());
                Self::PONG
            }
            Frame::Control(payload) => {
                out.put_slice(payload);
                Self::CONTROL
            }
        };
        let len = u32::try_from(out.len() - start - FRAME_PREFIX_LEN).expect("our own frames are far below 4 GiB");
        out[start + 1..start + FRAME_PREFIX_LEN].copy_from_slice(&len.to_be_bytes());
    }

    /// Reads a payload. Returns `None` for a kind that this version doesn't know.
    fn decode(kind: u8, payload: Bytes) -> Result<Option<Frame>, WireError> {
        let r = &mut Reader::new(payload.clone());
        let time = |r: &mut Reader, what| r.u64(what).map(Time::from_micros);
        Ok(Some(match kind {
            Self::HELLO => {
                let (version, peer) = (r.u16("version")?, Peer::decode(r)?);
                Frame::Hello(Hello { version, node: peer.id, listen: peer.addr, stamp: r.u64("stamp")? })
            }
            Self::PING => Frame::Ping { sent: time(r, "ping sent")? },
            Self::PONG => Frame::Pong {
                echo: time(r, "pong echo")?,
                received: time(r, "pong received")?,
                sent: time(r, "pong sent")?,
            },
            Self::CONTROL => Frame::Control(payload),
            _ => return Ok(None),
        }))
    }
}

/// Splits the control stream into frames. Holds at most one unfinished frame and the bytes that came with it.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buf: BytesMut,
    at: u64,
}

impl FrameDecoder {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// Returns the next whole frame of a known kind; `None` until more bytes come.
    ///
    /// # Errors
    /// A frame above [`FRAME_LEN_MAX`], or one that can't be read. The stream can't be read any further then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let &[kind, a, b, c, d, ..] = &self.buf[..] else { return Ok(None) };
            let len = u32::from_be_bytes([a, b, c, d]) as usize;
            let error = |source| FrameError { at: self.at, source };
            if len > FRAME_LEN_MAX {
                return Err(error(WireError { at: 0, what: "frame length", fault: Fault::TooLarge }));
            }
            if self.buf.len() < FRAME_PREFIX_LEN + len {
                return Ok(None);
            }
            self.buf.advance(FRAME_PREFIX_LEN);
            let payload = self.buf.split_to(len).freeze();
            let frame = Frame::decode(kind, payload).map_err(error)?;
            self.at += (FRAME_PREFIX_LEN + len) as u64;
            if let Some(frame) = frame {
                return Ok(Some(frame));
            }
        }
    }
}

/// The head in front of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyHead {
    /// The swarm that the body belongs to.
    pub swarm: SwarmId,
    /// The header of the body.
    pub header: PartHeader,
    /// The offset in the body of the stream's first byte.
    pub offset: u32,
    /// The time at which the sender sent the first byte, on its clock.
    pub sent: Time,
    /// The hops so far. The last one is the sender's; the receiver fills its transit in.
    pub trace: Trace,
}

impl BodyHead {
    /// Returns the number of bytes of the body that follow.
    pub fn body_len(&self) -> usize {
        (self.header.length - self.offset) as usize
    }

    /// Returns the stream's bytes up to the body.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(256);
        out.put_u8(STREAM_BODY);
        out.put_u16(0);
        out.put_u64(self.swarm.0);
        self.header.encode(&mut out);
        out.put_u32(self.offset);
        out.put_u64(self.sent.as_micros());
        self.trace.encode(&mut out);
        let len = u16::try_from(out.len() - HEAD_PREFIX_LEN).expect("a head is bounded far below 64 KiB");
        out[1..HEAD_PREFIX_LEN].copy_from_slice(&len.to_be_bytes());
        out.freeze()
    }

    /// Reads the head at the start of `stream`, the bytes so far.
    ///
    /// # Errors
    /// A head that can't be read, with the offset in the stream.
    pub fn decode(stream: &Bytes) -> Result<Progress, WireError> {
        let Some(&kind) = stream.first() else { return Ok(Progress::More) };
        if kind != STREAM_BODY {
            return Ok(Progress::Unknown);
        }
        let &[_, a, b, ..] = &stream[..] else { return Ok(Progress::More) };
        let end = HEAD_PREFIX_LEN + usize::from(u16::from_be_bytes([a, b]));
        if end > HEAD_PREFIX_LEN + HEAD_LEN_MAX {
            return Err(WireError { at: 1, what: "head length", fault: Fault::TooLarge });
        }
        if stream.len() < end {
            return Ok(Progress::More);
        }
        let r = &mut Reader::new(stream.slice(HEAD_PREFIX_LEN..end));
        let head = Self::read(r).map_err(|e| WireError { at: e.at + HEAD_PREFIX_LEN, ..e })?;
        Ok(Progress::Head(Box::new(head), end))
    }

    fn read(r: &mut Reader) -> Result<Self, WireError> {
        let swarm = SwarmId(r.u64("swarm")?);
        let header = PartHeader::decode(r)?;
        let offset = r.u32("offset")?;
        if offset > header.length {
            return Err(r.fault("offset", Fault::TooLarge));
        }
        let sent = Time::from_micros(r.u64("sent")?);
        let trace = Trace::decode(r)?;
        Ok(BodyHead { swarm, header, offset, sent, trace })
    }
}

/// The result of [`BodyHead::decode`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    More,
    /// The stream is of a kind that this version doesn't know.
    Unknown,
    /// The head, and where in the stream the body starts.
    Head(Box<BodyHead>, usize),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::time::UnixTime;
    use crate::model::{Epoch, Flags, Hop, NodeName, PartId, TrackId};

    fn hello(listen: &str) -> Frame {
        let listen = listen.parse().expect("an address");
        Frame::Hello(Hello { version: VERSION, node: NodeId(7), listen, stamp: 9 })
    }

    fn frames() -> Vec<Frame> {
        vec![
            hello("192.0.2.1:4433"),
            hello("[2001:db8::1]:1"),
            Frame::Ping { sent: Time::from_micros(1) },
            Frame::Pong { echo: Time::from_micros(1), received: Time::from_micros(2), sent: Time::MAX },
            Frame::Control(Bytes::from_static(b"graft")),
            Frame::Control(Bytes::new()),
        ]
    }

    fn head() -> BodyHead {
        let name = NodeName::of(&"n".repeat(64));
        let hop = Hop { dwell: Duration::from_micros(2), ..Hop::by(NodeId(1), name) };
        BodyHead {
            swarm: SwarmId(3),
            header: PartHeader {
                id: PartId { epoch: Epoch { counter: 1, node: NodeId(2) }, track: TrackId(3), msn: 4, part: 5 },
                decode_time: 6,
                duration: 7,
                program_date_time: UnixTime::from_micros(8),
                ingested: UnixTime::from_micros(9),
                init: 0,
                discontinuity: 0,
                flags: Flags::default(),
                length: 1_000,
                hash: [1; 32],
            },
            offset: 10,
            sent: Time::from_micros(11),
            trace: Trace { packaging_us: Some(33_000), hops: vec![hop; Trace::HOPS_MAX] },
        }
    }

    #[test]
    fn frames_survive_any_cut_of_the_stream() {
        let mut wire = BytesMut::new();
        frames().iter().for_each(|frame| frame.encode(&mut wire));
        for step in [1, 2, 7, wire.len()] {
            let mut decoder = FrameDecoder::default();
            let mut got = Vec::new();
            for bytes in wire.chunks(step) {
                decoder.push(bytes);
                while let Some(frame) = decoder.next_frame().expect("a good stream") {
                    got.push(frame);
                }
            }
            assert_eq!(got, frames(), "in steps of {step}");
        }
    }

    #[test]
    fn frames_of_a_later_version_are_skipped() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&[200, 0, 0, 0, 3, 1, 2, 3]);
        let mut longer = BytesMut::new();
        Frame::Ping { sent: Time::from_micros(5) }.encode(&mut longer);
        longer[4] += 2;
        longer.extend_from_slice(b"!!");
        decoder.push(&longer);
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Ping { sent: Time::from_micros(5) })));
        assert_eq!(decoder.next_frame(), Ok(None));
    }

    #[test]
    fn errors_say_where_the_frame_starts() {
        let check = |bytes: &[u8], at: u64, what: &str, fault: Fault| {
            let mut decoder = FrameDecoder::default();
            decoder.push(&[200, 0, 0, 0, 1, 0]);
            decoder.push(bytes);
            let error = decoder.next_frame().expect_err("rubbish");
            assert_eq!((error.at, error.source.what, error.source.fault), (at, what, fault));
        };
        check(&[4, 255, 0, 0, 0], 6, "frame length", Fault::TooLarge);
        check(&[2, 0, 0, 0, 1, 0], 6, "ping sent", Fault::Truncated);
        check(&[1, 0, 0, 0, 11, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 9], 6, "address family", Fault::Invalid);
    }

    #[test]
    fn heads_survive_the_wire() {
        let wire = head().encode();
        let mut stream = wire.to_vec();
        stream.extend_from_slice(b"body");
        assert_eq!(BodyHead::decode(&stream.into()), Ok(Progress::Head(Box::new(head()), wire.len())));
        for cut in 0..wire.len() {
            assert_eq!(BodyHead::decode(&wire.slice(..cut)), Ok(Progress::More), "cut at {cut}");
        }
        assert_eq!(BodyHead::decode(&Bytes::from_static(b"\x02")), Ok(Progress::Unknown));
        assert!(wire.len() <= HEAD_LEN_MAX);
    }

    #[test]
    fn heads_that_lie_are_refused() {
        let check = |head: BodyHead, what: &str| {
            let error = BodyHead::decode(&head.encode()).expect_err(what);
            assert_eq!((error.what, error.fault), (what, Fault::TooLarge));
        };
        check(BodyHead { offset: 1_001, ..head() }, "offset");
        let header = PartHeader { length: u32::MAX, ..head().header };
        check(BodyHead { header, ..head() }, "length");
        let error = BodyHead::decode(&Bytes::from_static(b"\x01\xff\xff")).expect_err("too long");
        assert_eq!(error.what, "head length");
    }
}
