//! The bodies that a peer sends: a unidirectional stream and a task each.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use damson_core::link::frame::{BodyHead, Progress};
use damson_core::model::time::Time;
use damson_core::plumtree::PIECE_LEN_MAX;
use quinn::RecvStream;
use tokio::sync::oneshot;

use super::code;
use super::event::{BodyKey, BodySerial, LinkEvent};
use super::fault::LinkFault;
use super::link_state::{LinkState, count};
use crate::clock;

/// The longest time until a stream has shown its head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The most of QUIC's chunks (a packet's payload each) that make a piece.
const CHUNKS: usize = 64;

/// The bodies that are coming from one peer, and can still be refused.
#[derive(Default)]
pub(crate) struct IncomingBodies(BTreeMap<BodyKey, Incoming>);

struct Incoming {
    serial: BodySerial,
    /// Stops the stream.
    stop: oneshot::Sender<()>,
}

impl IncomingBodies {
    /// Adds a body that begins. Returns whether it stopped an earlier body with the same key.
    pub(crate) fn begin(&mut self, key: BodyKey, serial: BodySerial, stop: oneshot::Sender<()>) -> bool {
        let old = self.0.insert(key, Incoming { serial, stop });
        // The peer sends it again, and its reset of the earlier stream isn't here yet.
        old.map(|old| old.stop.send(())).is_some()
    }

    /// Takes note of more bytes of a body, or of its end. Returns whether the body is wanted.
    pub(crate) fn goes_on(&mut self, key: BodyKey, serial: BodySerial, ends: bool) -> bool {
        let wanted = self.0.get(&key).is_some_and(|incoming| incoming.serial == serial);
        if wanted && ends {
            self.0.remove(&key);
        }
        wanted
    }

    /// Stops a body's stream.
    pub(crate) fn refuse(&mut self, key: BodyKey) {
        if let Some(incoming) = self.0.remove(&key) {
            let _ = incoming.stop.send(());
        }
    }
}

/// Takes the bodies that a peer sends, until the link ends.
pub(crate) async fn accept(state: &Arc<LinkState>) -> Result<Infallible, LinkFault> {
    let mut next = 0;
    loop {
        // QUIC limits the peer to STREAMS_MAX at once.
        let stream = state.conn.accept_uni().await?;
        tokio::spawn(read(Arc::clone(state), stream, BodySerial(next)));
        next += 1;
    }
}

async fn read(state: Arc<LinkState>, mut stream: RecvStream, serial: BodySerial) {
    let fault = match tokio::time::timeout(HEAD_TIMEOUT, read_head(&mut stream)).await {
        Ok(Ok(Some(first))) => {
            let key = (first.head.swarm, first.head.header.id);
            match read_body(&state, &mut stream, serial, first).await {
                Err(LinkFault::StreamEnded) => {
                    count(&state.counters.bodies_torn, 1);
                    return state.tell(clock::now(), LinkEvent::BodyTorn { serial, key }).await;
                }
                ended => ended.err(),
            }
        }
        // The peer has reset it before its head, or it is of a later version's kind: the driver doesn't know of it.
        Ok(Ok(None) | Err(LinkFault::StreamEnded)) => None,
        Ok(Err(fault)) => Some(fault),
        Err(_) => Some(LinkFault::HeadLate(HEAD_TIMEOUT)),
    };
    if let Some(fault) = fault {
        state.fail(fault).await;
    }
}

struct First {
    head: Box<BodyHead>,
    /// The length of the head.
    at: usize,
    received: Time,
    /// The first bytes of the body, if they came with the head.
    bytes: Bytes,
}

async fn read_head(stream: &mut RecvStream) -> Result<Option<First>, LinkFault> {
    let mut seen = Bytes::new();
    let mut received = None;
    loop {
        match BodyHead::decode(&seen)? {
            Progress::More => {}
            Progress::Unknown => {
                let _ = stream.stop(code::STREAM_UNKNOWN);
                return Ok(None);
            }
            Progress::Head(head, at) => {
                let received = received.unwrap_or_else(clock::now);
                return Ok(Some(First { head, at, received, bytes: seen.slice(at..) }));
            }
        }
        let chunk = stream.read_chunk(PIECE_LEN_MAX, true).await?;
        let bytes = chunk.ok_or(LinkFault::Short { at: seen.len(), missing: 0 })?.bytes;
        received.get_or_insert_with(clock::now);
        seen = if seen.is_empty() { bytes } else { [seen, bytes].concat().into() };
    }
}

async fn read_body(
    state: &LinkState,
    stream: &mut RecvStream,
    serial: BodySerial,
    first: First,
) -> Result<(), LinkFault> {
    let First { mut head, mut at, received, mut bytes } = first;
    let key = (head.swarm, head.header.id);
    let length = head.body_len();
    let mut left = length;
    if let Some(hop) = head.trace.hops.last_mut()
        && hop.node == state.peer.id
    {
        let transit = state.transit(head.sent, received);
        *state.newest_transit.lock() = Some(transit.micros);
        (hop.transit_us, hop.uncertainty) = (transit.micros, Some(transit.uncertainty));
    }
    let (stop, mut stopped) = oneshot::channel();
    state.tell(received, LinkEvent::BodyHead { serial, head, stop }).await;
    let mut chunks = vec![Bytes::new(); CHUNKS];
    loop {
        if bytes.len() > left {
            return Err(LinkFault::Long { at: at + left });
        }
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_LEN_MAX));
            left -= piece.len();
            at += piece.len();
            count(&state.counters.body_bytes_received, piece.len());
            let event = LinkEvent::BodyPiece { serial, key, bytes: piece, last: left == 0 };
            state.tell(clock::now(), event).await;
        }
        if left == 0 {
            break;
        }
        let read = tokio::select! {
            biased;
            _ = &mut stopped => {
                count(&state.counters.bodies_refused, 1);
                let _ = stream.stop(code::BODY_REFUSED);
                return Ok(());
            }
            read = stream.read_chunks(&mut chunks) => read,
        };
        let n = read?.ok_or(LinkFault::Short { at, missing: left })?;
        bytes = join(&mut chunks[..n]);
    }
    measure(state, length, received);
    count(&state.counters.bodies_received, 1);
    // The end of the stream has to be read: quinn stops a stream that isn't, and the peer would take that for a refusal.
    match stream.read_chunk(1, true).await {
        Ok(Some(_)) => Err(LinkFault::Long { at }),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Joins the payloads of several packets to one piece: the copy is far cheaper than an event for each.
fn join(chunks: &mut [Bytes]) -> Bytes {
    if let [one] = chunks {
        return std::mem::take(one);
    }
    let mut out = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    for chunk in chunks {
        out.extend_from_slice(&std::mem::take(chunk));
    }
    out.freeze()
}

/// Measures the link's rate by a body that came in whole: a moving average, weighted 1/4 (a guess).
fn measure(state: &LinkState, len: usize, received: Time) {
    // A body of a few packets comes in one burst, which doesn't show the rate.
    const LEN_MIN: usize = 32 << 10;
    let micros = clock::now().since(received).as_micros().max(1);
    if len < LEN_MIN {
        return;
    }
    let rate = u64::try_from(len as u128 * 1_000_000 / micros).unwrap_or(u64::MAX);
    let old = state.counters.rate.load(Relaxed);
    state.counters.rate.store(if old == 0 { rate } else { old - old / 4 + rate / 4 }, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use damson_core::model::{Epoch, NodeId, PartId, SwarmId, TrackId};

    fn key() -> BodyKey {
        let epoch = Epoch { counter: 1, node: NodeId(1) };
        (SwarmId::DIRECTORY, PartId { epoch, track: TrackId(0), msn: 1, part: 0 })
    }

    #[test]
    fn a_body_sent_anew_stops_the_one_before() {
        let mut bodies = IncomingBodies::default();
        let ((first, mut first_stopped), (second, mut second_stopped)) = (oneshot::channel(), oneshot::channel());
        assert!(!bodies.begin(key(), BodySerial(1), first));
        assert!(bodies.begin(key(), BodySerial(2), second));
        assert_eq!(first_stopped.try_recv(), Ok(()));
        assert!(!bodies.goes_on(key(), BodySerial(1), true), "its end is no news");
        assert!(bodies.goes_on(key(), BodySerial(2), false) && second_stopped.try_recv().is_err());
        assert!(bodies.goes_on(key(), BodySerial(2), true) && !bodies.goes_on(key(), BodySerial(2), true));
    }

    #[test]
    fn a_refused_body_is_stopped_and_forgotten() {
        let mut bodies = IncomingBodies::default();
        let (stop, mut stopped) = oneshot::channel();
        bodies.begin(key(), BodySerial(1), stop);
        bodies.refuse(key());
        assert_eq!(stopped.try_recv(), Ok(()));
        assert!(!bodies.goes_on(key(), BodySerial(1), false));
    }

    #[test]
    fn packets_are_joined_to_pieces() {
        let mut chunks = [&b"mo"[..], b"of"].map(Bytes::from_static);
        assert_eq!(join(&mut chunks), "moof");
        let one = Bytes::from_static(b"mdat");
        assert_eq!(join(&mut [one.clone()]).as_ptr(), one.as_ptr(), "one alone isn't copied");
    }
}
