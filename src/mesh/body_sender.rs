//! The bodies that are sent to a peer: a unidirectional stream and a task each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use damson_core::link::frame::BodyHead;
use damson_core::model::time::Time;
use damson_core::model::{Hop, PartHeader, SwarmId, Trace};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::code;
use super::event::{BodyKey, BodySerial, LinkEvent};
use super::link_state::{LinkState, count};
use crate::clock;

/// The most bytes of bodies that wait for one peer: a second of a fast link, or two of the largest bodies. The queues of
/// several peers share the bytes of a body.
const BODY_QUEUE_LEN: usize = 32 << 20;

/// The most queued pieces that are written at once.
const PIECES: usize = 64;

/// A body to send.
pub(crate) struct BodyJob {
    pub(crate) serial: BodySerial,
    pub(crate) swarm: SwarmId,
    pub(crate) header: PartHeader,
    pub(crate) trace: Trace,
    pub(crate) offset: u32,
    pub(crate) received: Time,
    /// This node's hop, without its times.
    pub(crate) hop: Hop,
    /// The time at which the hub sent it.
    pub(crate) handed: Time,
    pub(crate) expires: Time,
}

impl BodyJob {
    pub(crate) fn key(&self) -> BodyKey {
        (self.swarm, self.header.id)
    }

    /// Returns the head. Its first byte leaves now, so that this node's hop is complete but for the transit.
    fn head(self) -> Bytes {
        let sent = clock::now();
        let BodyJob { swarm, header, mut trace, offset, received, hop, handed, .. } = self;
        if trace.is_begun() && trace.hops.len() < Trace::HOPS_MAX {
            let (dwell, queue) = (handed.since(received), sent.since(handed));
            trace.hops.push(Hop { dwell, queue, ..hop });
        }
        BodyHead { swarm, header, offset, sent, trace }.encode()
    }
}

/// The bodies that are being sent to one peer.
#[derive(Default)]
pub(crate) struct OutgoingBodies(BTreeMap<BodyKey, Outgoing>);

/// A body that is being sent. If it is dropped after its last piece, the body is still sent whole.
struct Outgoing {
    serial: BodySerial,
    expires: Time,
    pieces: mpsc::UnboundedSender<Piece>,
    abort: oneshot::Sender<()>,
    /// Bytes that QUIC hasn't taken.
    queued: Arc<AtomicUsize>,
}

impl Outgoing {
    fn queued(&self) -> usize {
        self.queued.load(Relaxed)
    }
}

/// A piece of a body. It counts as queued until QUIC has taken it, or it is dropped.
struct Piece {
    bytes: Bytes,
    queued: Arc<AtomicUsize>,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.bytes.len(), Relaxed);
    }
}

impl OutgoingBodies {
    /// Starts to send a body. Its task is one of `senders`.
    pub(crate) fn start(&mut self, state: &Arc<LinkState>, senders: &TaskTracker, job: BodyJob) {
        let (pieces, queue) = mpsc::unbounded_channel();
        let (abort, aborted) = oneshot::channel();
        let outgoing = Outgoing { serial: job.serial, expires: job.expires, pieces, abort, queued: Arc::default() };
        self.0.insert(job.key(), outgoing);
        senders.spawn(run(Arc::clone(state), job, queue, aborted));
    }

    /// Returns the bytes of all bodies that QUIC hasn't taken.
    pub(crate) fn queued(&self) -> usize {
        self.0.values().map(Outgoing::queued).sum()
    }

    /// Queues a body's next piece. Returns the bodies that were dropped to make room.
    pub(crate) fn push(&mut self, key: BodyKey, bytes: Bytes) -> Vec<BodyKey> {
        let dropped = self.make_room(bytes.len());
        if let Some(outgoing) = self.0.get(&key) {
            outgoing.queued.fetch_add(bytes.len(), Relaxed);
            // An error means that the task has ended. It tells the driver why.
            let _ = outgoing.pieces.send(Piece { bytes, queued: Arc::clone(&outgoing.queued) });
        }
        dropped
    }

    fn make_room(&mut self, len: usize) -> Vec<BodyKey> {
        // An aborted body's task frees its pieces in a moment, so that they don't count.
        let mut queued = self.queued();
        let mut dropped = Vec::new();
        while queued + len > BODY_QUEUE_LEN {
            // The body that expires first makes room.
            let waiting = self.0.iter().filter(|(_, outgoing)| outgoing.queued() > 0);
            let Some((&victim, _)) = waiting.min_by_key(|(_, outgoing)| outgoing.expires) else { break };
            let Some(outgoing) = self.0.remove(&victim) else { break };
            queued = queued.saturating_sub(outgoing.queued());
            let _ = outgoing.abort.send(());
            dropped.push(victim);
        }
        dropped
    }

    /// Resets a body's stream.
    pub(crate) fn abort(&mut self, key: BodyKey) {
        if let Some(outgoing) = self.0.remove(&key) {
            let _ = outgoing.abort.send(());
        }
    }

    /// Removes a body whose task has ended. Returns whether it was still known.
    pub(crate) fn ended(&mut self, key: BodyKey, serial: BodySerial) -> bool {
        self.0.get(&key).is_some_and(|outgoing| outgoing.serial == serial) && self.0.remove(&key).is_some()
    }
}

enum End {
    Sent,
    Stopped,
    Aborted,
    Lost,
}

async fn run(
    state: Arc<LinkState>,
    job: BodyJob,
    mut queue: mpsc::UnboundedReceiver<Piece>,
    aborted: oneshot::Receiver<()>,
) {
    let (key, serial) = (job.key(), job.serial);
    let deadline = tokio::time::Instant::from_std(clock::instant(job.expires));
    let end = tokio::select! {
        biased;
        Ok(()) = aborted => Ok(End::Aborted),
        end = tokio::time::timeout_at(deadline, send(&state, job, &mut queue)) => end,
    };
    let counters = &state.counters;
    let (counter, stopped) = match end {
        Ok(End::Sent) => (&counters.bodies_sent, false),
        Ok(End::Stopped) => (&counters.bodies_stopped, true),
        Err(_expired) => (&counters.bodies_dropped, true),
        // The driver has aborted it, or hears that the link has ended.
        Ok(End::Aborted | End::Lost) => return,
    };
    count(counter, 1);
    state.tell(clock::now(), LinkEvent::BodySent { serial, key, stopped }).await;
}

/// A stream that is reset when it is dropped, unless the peer has all of it.
struct BodyStream(quinn::SendStream);

impl Drop for BodyStream {
    fn drop(&mut self) {
        // A reset does nothing to a stream that the peer has all of.
        let _ = self.0.reset(code::BODY_ABORTED);
    }
}

async fn send(state: &LinkState, job: BodyJob, queue: &mut mpsc::UnboundedReceiver<Piece>) -> End {
    let Ok(stream) = state.conn.open_uni().await else { return End::Lost };
    let mut stream = BodyStream(stream);
    let stopped = stream.0.stopped();
    tokio::pin!(stopped);
    let mut left = (job.header.length - job.offset) as usize;
    let mut job = Some(job);
    let mut batch: Vec<Piece> = Vec::with_capacity(8);
    while left > 0 || job.is_some() {
        if left > 0 {
            let n = tokio::select! {
                biased;
                n = queue.recv_many(&mut batch, PIECES) => n,
                _ = &mut stopped => return End::Stopped,
            };
            if n == 0 {
                return End::Aborted;
            }
        }
        let len: usize = batch.iter().map(|piece| piece.bytes.len()).sum();
        if len > left {
            // A fault of the hub: the peer must not receive it.
            debug_assert!(false, "a body's pieces are longer than the body");
            return End::Aborted;
        }
        left -= len;
        let head = job.take().map(BodyJob::head);
        let mut chunks: Vec<Bytes> = head.into_iter().chain(batch.iter().map(|piece| piece.bytes.clone())).collect();
        let written = stream.0.write_all_chunks(&mut chunks).await;
        batch.clear();
        match written {
            Ok(()) => count(&state.counters.body_bytes_sent, len),
            Err(quinn::WriteError::Stopped(_)) => return End::Stopped,
            Err(_) => return End::Lost,
        }
    }
    let _ = stream.0.finish();
    // Until the peer has all of it, the peer can refuse it, and it can expire.
    match stopped.await {
        Ok(None) => End::Sent,
        Ok(Some(_)) => End::Stopped,
        Err(_) => End::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use damson_core::model::{Epoch, NodeId, PartId, TrackId};

    const MIB: usize = 1 << 20;

    fn key(part: u16) -> BodyKey {
        let epoch = Epoch { counter: 1, node: NodeId(1) };
        (SwarmId::DIRECTORY, PartId { epoch, track: TrackId(0), msn: 1, part })
    }

    /// A body whose task takes no piece.
    struct Waiting {
        pieces: mpsc::UnboundedReceiver<Piece>,
        aborted: oneshot::Receiver<()>,
    }

    fn begin(bodies: &mut OutgoingBodies, part: u16, expires_ms: u64) -> Waiting {
        let ((pieces, queue), (abort, aborted)) = (mpsc::unbounded_channel(), oneshot::channel());
        let (serial, expires) = (BodySerial(u64::from(part)), Time::from_millis(expires_ms));
        bodies.0.insert(key(part), Outgoing { serial, expires, pieces, abort, queued: Arc::default() });
        Waiting { pieces: queue, aborted }
    }

    #[test]
    fn the_body_that_expires_first_makes_room() {
        let mut bodies = OutgoingBodies::default();
        let mut late = begin(&mut bodies, 1, 900);
        let mut soon = begin(&mut bodies, 2, 300);
        let mut empty = begin(&mut bodies, 3, 100);
        let piece = Bytes::from(vec![0; BODY_QUEUE_LEN / 2]);
        assert_eq!(bodies.push(key(1), piece.clone()), []);
        assert_eq!(bodies.push(key(2), piece.clone()), []);
        assert_eq!(bodies.push(key(1), Bytes::from(vec![0; MIB])), [key(2)], "what has nothing queued stays");
        assert_eq!(soon.aborted.try_recv(), Ok(()));
        assert!(late.aborted.try_recv().is_err() && empty.aborted.try_recv().is_err());
        assert!(late.pieces.try_recv().is_ok_and(|first| first.bytes.len() == piece.len()));
        assert!(late.pieces.try_recv().is_ok_and(|second| second.bytes.len() == MIB));
        assert_eq!(bodies.queued(), 0, "its task has taken all");
    }

    #[test]
    fn a_body_that_was_begun_anew_has_not_ended() {
        let mut bodies = OutgoingBodies::default();
        let _task = begin(&mut bodies, 7, 100);
        assert!(!bodies.ended(key(7), BodySerial(6)));
        assert!(bodies.ended(key(7), BodySerial(7)));
        assert!(!bodies.ended(key(7), BodySerial(7)));
    }

    #[test]
    fn what_its_task_does_not_take_is_not_counted() {
        let mut bodies = OutgoingBodies::default();
        drop(begin(&mut bodies, 1, 100));
        bodies.push(key(1), Bytes::from_static(b"piece"));
        assert_eq!(bodies.queued(), 0);
    }
}
