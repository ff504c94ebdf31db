//! Plumtree against peers that say anything in any order: each body is delivered once and whole, and nothing grows
//! without a bound.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use damson_core::model::time::{Time, UnixTime};
use damson_core::model::wire::Reader;
use damson_core::model::{Epoch, Flags, Msn, NodeId, PartHeader, PartId, Trace, TrackId};
use damson_core::plumtree::{
    BodyAction, BodyEvent, Config, HELD_MAX, Input, MISSING_MAX, Message, NEIGHBOURS_MAX, Output, PIECE_LEN_MAX,
    Plumtree,
};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Op {
    Up {
        peer: u8,
    },
    Down {
        peer: u8,
    },
    Publish {
        part: Part,
    },
    /// A message as it comes from the wire.
    Message {
        from: u8,
        bytes: Vec<u8>,
    },
    /// One of the node's own messages, as if a peer had said it.
    Echo {
        from: u8,
        n: u8,
    },
    Head {
        from: u8,
        part: Part,
        offset: u32,
    },
    /// The next bytes of a body, right or wrong.
    Piece {
        from: u8,
        part: Part,
        at: u8,
        wrong: bool,
    },
    /// A whole body.
    Whole {
        from: u8,
        part: Part,
    },
    Torn {
        from: u8,
        part: Part,
    },
    Stopped {
        to: u8,
        part: Part,
    },
    Estimate {
        peer: u8,
        rtt_us: u32,
        rate: u64,
    },
    Forget {
        track: u8,
        before: u8,
    },
    Wait {
        ms: u16,
    },
}

/// One of few parts, so that they meet again; `other` is the same id with another body.
#[derive(Arbitrary, Debug, Clone, Copy)]
struct Part {
    epoch: bool,
    track: u8,
    msn: u8,
    part: u8,
    other: bool,
}

impl Part {
    fn id(self) -> PartId {
        let epoch = Epoch { counter: 1 + u32::from(self.epoch), node: NodeId(1) };
        let track = if self.track % 4 == 3 { TrackId::RECORD } else { TrackId(self.track % 4) };
        PartId { epoch, track, msn: Msn::from(self.msn % 8), part: u16::from(self.part % 4) }
    }

    fn body(self) -> Bytes {
        // Empty, small, and of three pieces.
        let len = [0, 100, 20_000, 2 * PIECE_LEN_MAX + 5][usize::from(self.part % 4)];
        Bytes::from(vec![self.msn % 8 ^ u8::from(self.other) << 7; len])
    }

    fn header(self, hashes: &mut BTreeMap<Bytes, [u8; 32]>) -> PartHeader {
        let body = self.body();
        let length = u32::try_from(body.len()).expect("short");
        let hash = *hashes.entry(body).or_insert_with_key(|body| *blake3::hash(body).as_bytes());
        PartHeader {
            id: self.id(),
            decode_time: u64::from(self.msn % 8) * 180_000,
            duration: 18_000,
            program_date_time: UnixTime::from_micros(0),
            ingested: UnixTime::from_micros(0),
            init: 0,
            discontinuity: 0,
            flags: Flags::default(),
            length,
            hash,
        }
    }
}

fn peer(n: u8) -> NodeId {
    NodeId(u64::from(n % 100) + 10)
}

fuzz_target!(|ops: Vec<Op>| {
    let config = Config { held_bytes_max: 1 << 20, ..Config::default() };
    let held_bytes_max = config.held_bytes_max;
    let mut plumtree = Plumtree::new(NodeId(1), config, 7);
    let mut now = Time::ZERO;
    let mut hashes = BTreeMap::new();
    let mut said: Vec<Message> = Vec::new();
    let mut delivered = BTreeSet::new();
    for op in ops {
        let mut inputs = Vec::new();
        match op {
            Op::Up { peer: n } => inputs.push(Input::NeighborUp(peer(n))),
            Op::Down { peer: n } => inputs.push(Input::NeighborDown(peer(n))),
            Op::Publish { part } => {
                let (header, body) = (part.header(&mut hashes), part.body());
                inputs.push(Input::Publish { header, body, trace: Trace::default() });
            }
            Op::Message { from, bytes } => {
                if let Ok(message) = Message::decode(&mut Reader::new(Bytes::from(bytes))) {
                    inputs.push(Input::Message { from: peer(from), message });
                }
            }
            Op::Echo { from, n } => {
                inputs.extend(
                    said.get(usize::from(n))
                        .map(|message| Input::Message { from: peer(from), message: message.clone() }),
                );
            }
            Op::Head { from, part, offset } => {
                let event = BodyEvent::Head { header: part.header(&mut hashes), trace: Trace::default(), offset };
                inputs.push(Input::Body { peer: peer(from), event });
            }
            Op::Piece { from, part, at, wrong } => {
                let body = if wrong { Part { other: !part.other, ..part }.body() } else { part.body() };
                let bytes = body
                    .chunks(PIECE_LEN_MAX)
                    .nth(usize::from(at % 3))
                    .map_or_else(Bytes::new, |piece| body.slice_ref(piece));
                inputs.push(Input::Body { peer: peer(from), event: BodyEvent::Piece { id: part.id(), bytes } });
            }
            Op::Whole { from, part } => {
                let (from, body) = (peer(from), part.body());
                let event = BodyEvent::Head { header: part.header(&mut hashes), trace: Trace::default(), offset: 0 };
                inputs.push(Input::Body { peer: from, event });
                for piece in body.chunks(PIECE_LEN_MAX) {
                    inputs.push(Input::Body {
                        peer: from,
                        event: BodyEvent::Piece { id: part.id(), bytes: body.slice_ref(piece) },
                    });
                }
            }
            Op::Torn { from, part } => inputs.push(Input::Body { peer: peer(from), event: BodyEvent::Torn(part.id()) }),
            Op::Stopped { to, part } => {
                inputs.push(Input::Body { peer: peer(to), event: BodyEvent::Stopped(part.id()) })
            }
            Op::Estimate { peer: n, rtt_us, rate } => inputs.push(Input::LinkEstimate { peer: peer(n), rtt_us, rate }),
            Op::Forget { track, before } => {
                inputs.push(Input::Forget { track: TrackId(track % 3), before: Msn::from(before % 8) });
            }
            Op::Wait { ms } => {
                now += Duration::from_millis(u64::from(ms));
                if plumtree.poll_timeout().is_some_and(|due| due <= now) {
                    inputs.push(Input::Timeout);
                }
            }
        }
        for input in inputs {
            plumtree.handle(now, input);
            while let Some(output) = plumtree.poll_output() {
                match output {
                    Output::Deliver { header, body, .. } => {
                        assert!(header.matches(&body), "what is delivered was checked");
                        assert!(delivered.insert(header.id), "each id once: {:?}", header.id);
                    }
                    Output::Body { action: BodyAction::Piece { bytes, .. }, .. } => {
                        assert!(bytes.len() <= PIECE_LEN_MAX)
                    }
                    Output::Send { message, .. } if said.len() < 256 => said.push(message),
                    _ => {}
                }
            }
        }
        let sizes = plumtree.sizes();
        assert!(
            sizes.held <= HELD_MAX && sizes.held_bytes <= held_bytes_max && sizes.missing <= MISSING_MAX,
            "{sizes:?}"
        );
        assert!(plumtree.neighbours().count() <= NEIGHBOURS_MAX);
    }
});
