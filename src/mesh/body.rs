//! Bodies on a link: a unidirectional stream and a task each, out and in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{ConnectionError, ReadError, RecvStream};
use tokio::sync::{mpsc, oneshot};

use super::link::{Event, Link, LinkFault, Shared, count};
use crate::clock;
use crate::mesh::link::code;
use damson_core::link::frame::{BodyHead, Progress};
use damson_core::model::time::Time;
use damson_core::model::{Hop, NodeId, NodeName, PartHeader, PartId, SwarmId, Trace};
use damson_core::plumtree::PIECE_LEN_MAX;

/// Which body of which swarm.
pub(crate) type Key = (SwarmId, PartId);

/// Tells a body from an earlier one of the same key on the same link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Serial(pub(crate) u64);

/// A stream must show its head within this.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// At most this many of QUIC's chunks (a packet's worth each) make a piece.
const CHUNKS: usize = 64;

/// A body on its way out, as the driver sees it. Dropped, it still ends well if it has its last piece.
pub(crate) struct Outgoing {
    pub(crate) serial: Serial,
    pub(crate) expires: Time,
    pieces: mpsc::UnboundedSender<Bytes>,
    abort: oneshot::Sender<()>,
    /// Bytes that QUIC hasn't taken.
    queued: Arc<AtomicUsize>,
}

/// A body to send.
pub(crate) struct Job {
    pub(crate) me: NodeId,
    pub(crate) name: NodeName,
    pub(crate) serial: Serial,
    pub(crate) swarm: SwarmId,
    pub(crate) header: PartHeader,
    pub(crate) trace: Trace,
    pub(crate) offset: u32,
    pub(crate) received: Time,
    /// When the hub handed it over.
    pub(crate) handed: Time,
    pub(crate) expires: Time,
}

impl Outgoing {
    /// Starts to send a body over `link`.
    pub(crate) fn start(link: &Link, job: Job) -> Self {
        let (pieces, queue) = mpsc::unbounded_channel();
        let (abort, aborted) = oneshot::channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let outgoing = Outgoing { serial: job.serial, expires: job.expires, pieces, abort, queued: queued.clone() };
        link.senders.spawn(run(link.shared.clone(), job, queue, queued, aborted));
        outgoing
    }

    /// Resets the stream, whatever waits.
    pub(crate) fn abort(self) {
        let _ = self.abort.send(());
    }

    /// Queues the next piece.
    pub(crate) fn push(&self, shared: &Shared, bytes: Bytes) {
        let len = bytes.len();
        self.queued.fetch_add(len, Relaxed);
        shared.body_queue.fetch_add(len, Relaxed);
        if self.pieces.send(bytes).is_err() {
            // The task has ended, and tells why.
            self.queued.fetch_sub(len, Relaxed);
            shared.body_queue.fetch_sub(len, Relaxed);
        }
    }

    /// Bytes that QUIC hasn't taken.
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Relaxed)
    }
}

async fn run(
    shared: Arc<Shared>,
    job: Job,
    mut queue: mpsc::UnboundedReceiver<Bytes>,
    queued: Arc<AtomicUsize>,
    aborted: oneshot::Receiver<()>,
) {
    let (key, body) = ((job.swarm, job.header.id), job.serial);
    let deadline = tokio::time::Instant::from_std(clock::instant(job.expires));
    let mut in_hand = 0;
    let end = tokio::select! {
        biased;
        Ok(()) = aborted => Ok(End::Aborted),
        end = tokio::time::timeout_at(deadline, send(&shared, job, &mut queue, &queued, &mut in_hand)) => end,
    };
    took(&shared, &queued, in_hand);
    queue.close();
    while let Ok(bytes) = queue.try_recv() {
        took(&shared, &queued, bytes.len());
    }
    let counters = &shared.counters;
    let stopped = match end {
        Ok(End::Sent) => {
            count(&counters.bodies_sent, 1);
            false
        }
        Ok(End::Stopped) => {
            count(&counters.bodies_stopped, 1);
            true
        }
        Err(_expired) => {
            count(&counters.bodies_dropped, 1);
            true
        }
        // The driver's own doing, or the hub hears that the link is down.
        Ok(End::Aborted | End::Lost) => return,
    };
    shared.tell(clock::now(), Event::BodySent { no: shared.no, peer: shared.peer.id, body, key, stopped }).await;
}

enum End {
    Sent,
    Stopped,
    Aborted,
    Lost,
}

/// Resets its stream where it isn't told that the peer has all of it.
struct Stream(quinn::SendStream);

impl Drop for Stream {
    fn drop(&mut self) {
        // Of a stream that the peer has all of, nothing is left to reset.
        let _ = self.0.reset(code::BODY_ABORTED);
    }
}

async fn send(
    shared: &Shared,
    job: Job,
    queue: &mut mpsc::UnboundedReceiver<Bytes>,
    queued: &AtomicUsize,
    in_hand: &mut usize,
) -> End {
    let Ok(stream) = shared.conn.open_uni().await else { return End::Lost };
    let mut stream = Stream(stream);
    let stopped = stream.0.stopped();
    tokio::pin!(stopped);
    let mut left = (job.header.length - job.offset) as usize;
    let mut job = Some(job);
    let mut batch = Vec::with_capacity(8);
    while left > 0 || job.is_some() {
        if left > 0 {
            let n = tokio::select! {
                biased;
                n = queue.recv_many(&mut batch, CHUNKS) => n,
                _ = &mut stopped => return End::Stopped,
            };
            if n == 0 {
                return End::Aborted;
            }
        }
        let len: usize = batch.iter().map(Bytes::len).sum();
        *in_hand = len;
        if len > left {
            // The hub's own bug; the peer must not pay for it.
            debug_assert!(false, "a body's pieces are longer than the body");
            return End::Aborted;
        }
        left -= len;
        if let Some(job) = job.take() {
            batch.insert(0, head(job));
        }
        let written = stream.0.write_all_chunks(&mut batch).await;
        took(shared, queued, len);
        *in_hand = 0;
        batch.clear();
        match written {
            Ok(()) => count(&shared.counters.body_bytes_sent, len),
            Err(quinn::WriteError::Stopped(_)) => return End::Stopped,
            Err(_) => return End::Lost,
        }
    }
    let _ = stream.0.finish();
    // Until the peer has it, it can still refuse it, and it can still expire.
    match stopped.await {
        Ok(None) => End::Sent,
        Ok(Some(_)) => End::Stopped,
        Err(_) => End::Lost,
    }
}

fn took(shared: &Shared, queued: &AtomicUsize, len: usize) {
    queued.fetch_sub(len, Relaxed);
    shared.body_queue.fetch_sub(len, Relaxed);
}

/// The head, as its first byte leaves: this node's hop is complete but for the transit.
fn head(job: Job) -> Bytes {
    let sent = clock::now();
    let Job { me, name, swarm, header, mut trace, offset, received, handed, .. } = job;
    if trace.is_begun() && trace.hops.len() < Trace::HOPS_MAX {
        let (dwell, queue) = (handed.since(received), sent.since(handed));
        trace.hops.push(Hop { dwell, queue, ..Hop::by(me, name) });
    }
    BodyHead { swarm, header, offset, sent, trace }.encode()
}

/// Takes the bodies that a peer sends, until the link ends.
pub(crate) async fn accept(shared: Arc<Shared>) {
    let mut next = 0;
    loop {
        // QUIC holds the peer to STREAMS_MAX at once.
        match shared.conn.accept_uni().await {
            Ok(stream) => {
                tokio::spawn(read(shared.clone(), stream, Serial(next)));
                next += 1;
            }
            Err(e) => return shared.fail(e.into()).await,
        }
    }
}

async fn read(shared: Arc<Shared>, mut stream: RecvStream, body: Serial) {
    let first = match tokio::time::timeout(HEAD_TIMEOUT, read_head(&mut stream)).await {
        Ok(Ok(Some(first))) => first,
        // Reset before its head, or of a later version's kind: nobody has heard of it.
        Ok(Ok(None)) => return,
        Ok(Err(fault)) => return shared.fail(fault).await,
        Err(_) => return shared.fail(LinkFault::HeadLate(HEAD_TIMEOUT)).await,
    };
    let key = (first.head.swarm, first.head.header.id);
    match read_body(&shared, &mut stream, body, first).await {
        Ok(Some(Torn)) => {
            count(&shared.counters.bodies_torn, 1);
            let event = Event::BodyTorn { no: shared.no, peer: shared.peer.id, body, key };
            shared.tell(clock::now(), event).await;
        }
        Ok(None) => {}
        Err(fault) => shared.fail(fault).await,
    }
}

struct First {
    head: Box<BodyHead>,
    /// Length of the head.
    at: usize,
    received: Time,
    /// The body's first bytes, if they came with the head.
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
        let bytes = match stream.read_chunk(PIECE_LEN_MAX, true).await {
            Ok(Some(chunk)) => chunk.bytes,
            Ok(None) => return Err(LinkFault::Short { at: seen.len(), missing: 0 }),
            Err(ReadError::ConnectionLost(e)) => return Err(e.into()),
            Err(_) => return Ok(None),
        };
        received.get_or_insert_with(clock::now);
        seen = if seen.is_empty() { bytes } else { [seen, bytes].concat().into() };
    }
}

struct Torn;

async fn read_body(
    shared: &Shared,
    stream: &mut RecvStream,
    body: Serial,
    first: First,
) -> Result<Option<Torn>, LinkFault> {
    let First { mut head, mut at, received, mut bytes } = first;
    let (no, peer, key) = (shared.no, shared.peer.id, (head.swarm, head.header.id));
    let length = head.body_len();
    let mut left = length;
    if let Some(hop) = head.trace.hops.last_mut()
        && hop.node == peer
    {
        let transit = shared.transit(head.sent, received);
        shared.newest_transit.store(transit.micros, Relaxed);
        (hop.transit_us, hop.uncertainty) = (transit.micros, Some(transit.uncertainty));
    }
    let (stop, mut stopped) = oneshot::channel();
    shared.tell(received, Event::BodyHead { no, peer, body, head, stop }).await;
    let mut chunks = vec![Bytes::new(); CHUNKS];
    loop {
        if bytes.len() > left {
            return Err(LinkFault::Long { at: at + left });
        }
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_LEN_MAX));
            left -= piece.len();
            at += piece.len();
            count(&shared.counters.body_bytes_received, piece.len());
            let event = Event::BodyPiece { no, peer, body, key, bytes: piece, last: left == 0 };
            shared.tell(clock::now(), event).await;
        }
        if left == 0 {
            break;
        }
        let read = tokio::select! {
            biased;
            _ = &mut stopped => {
                count(&shared.counters.bodies_refused, 1);
                let _ = stream.stop(code::BODY_REFUSED);
                return Ok(None);
            }
            read = stream.read_chunks(&mut chunks) => read,
        };
        bytes = match read {
            Ok(Some(n)) => join(&mut chunks[..n]),
            Ok(None) => return Err(LinkFault::Short { at, missing: left }),
            Err(ReadError::ConnectionLost(e)) => return Err(e.into()),
            Err(_) => return Ok(Some(Torn)),
        };
    }
    measure(shared, length, received);
    count(&shared.counters.bodies_received, 1);
    // The end of the stream is read too: what is left unread is stopped, and the peer would take it for a refusal.
    match stream.read_chunk(1, true).await {
        Ok(Some(_)) => Err(LinkFault::Long { at }),
        Err(ReadError::ConnectionLost(ConnectionError::LocallyClosed)) | Ok(None) | Err(_) => Ok(None),
    }
}

/// One piece of several packets' worth: one copy is far cheaper than a trip through the hub for each.
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

/// The link's rate, from a body that came in whole: a moving average, weighted 1/4 as a guess.
fn measure(shared: &Shared, len: usize, received: Time) {
    // A body of a few packets comes in one burst, and says nothing.
    const LEN_MIN: usize = 32 << 10;
    let micros = clock::now().since(received).as_micros().max(1);
    if len < LEN_MIN {
        return;
    }
    let rate = u64::try_from(len as u128 * 1_000_000 / micros).unwrap_or(u64::MAX);
    let old = shared.rate.load(Relaxed);
    shared.rate.store(if old == 0 { rate } else { old - old / 4 + rate / 4 }, Relaxed);
}
