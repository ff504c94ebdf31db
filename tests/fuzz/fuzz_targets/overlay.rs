//! HyParView against peers that say anything in any order: its views keep their promises.
#![no_main]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use damson_core::hyparview::{Config, DownCause, HyParView, Input, Message};
use damson_core::model::time::Time;
use damson_core::model::wire::Reader;
use damson_core::model::{NodeId, Peer};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Op {
    Join {
        peer: u8,
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
    Down {
        peer: u8,
        cause: u8,
    },
    Rtt {
        peer: u8,
        rtt_us: u32,
    },
    Wait {
        ms: u16,
    },
    Leave,
}

/// Few peers, so that they meet again.
fn peer(n: u8) -> Peer {
    let n = n % 16 + 1;
    Peer { id: NodeId(u64::from(n)), addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 4_900 + u16::from(n))) }
}

fuzz_target!(|ops: Vec<Op>| {
    let mut overlay = HyParView::new(Peer { id: NodeId(99), ..peer(0) }, Config::default(), 7);
    let mut now = Time::ZERO;
    let mut said: Vec<Message> = Vec::new();
    for op in ops {
        let input = match op {
            Op::Join { peer: n } => Input::Join(peer(n)),
            Op::Message { from, bytes } => match Message::decode(&mut Reader::new(Bytes::from(bytes))) {
                Ok(Some(message)) => Input::Message { from: peer(from), message },
                _ => continue,
            },
            Op::Echo { from, n } => match said.get(usize::from(n)) {
                Some(message) => Input::Message { from: peer(from), message: message.clone() },
                None => continue,
            },
            Op::Down { peer: n, cause } => {
                let causes = [DownCause::Refused, DownCause::TimedOut, DownCause::Lost, DownCause::Left];
                Input::PeerDown { peer: peer(n).id, cause: causes[usize::from(cause) % causes.len()] }
            }
            Op::Rtt { peer: n, rtt_us } => Input::Rtt { peer: peer(n).id, rtt_us },
            Op::Wait { ms } => {
                now += Duration::from_millis(u64::from(ms));
                if overlay.poll_timeout().is_none_or(|due| due > now) {
                    continue;
                }
                Input::Timeout
            }
            Op::Leave => Input::Leave,
        };
        overlay.handle(now, input);
        overlay.check_invariants();
        while let Some(output) = overlay.poll_output() {
            if let damson_core::hyparview::Output::Send { to, message } = output {
                assert_ne!(to.id, NodeId(99), "a node doesn't talk to itself");
                if said.len() < 256 {
                    said.push(message);
                }
            }
        }
    }
});
