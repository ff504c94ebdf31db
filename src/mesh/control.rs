//! A link's control stream: hellos, frames of the swarms, and pings.
//!
//! Each end has a writer and a reader, a task each. The driver and the reader queue whole frames for the writer. The reader waits
//! for the driver, and QUIC's flow control makes the peer wait for the reader.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use damson_core::link::clock_offset::PingSample;
use damson_core::link::frame::{Frame, FrameDecoder, Hello};
use quinn::{RecvStream, SendStream};
use tokio::sync::mpsc;

use super::event::LinkEvent;
use super::fault::LinkFault;
use super::link_state::{LinkState, count};
use crate::clock;

/// The most bytes of control frames that wait for a peer. If a peer takes less, its link is closed, since no GRAFT or PRUNE is
/// ever dropped.
const CONTROL_QUEUE_LEN: usize = 4 << 20;

/// The interval of a new link's pings, which are faster for a good first estimate of the peer's clock.
const PING_FIRST: Duration = Duration::from_millis(100);
const PINGS_FIRST: u32 = 4;
/// The interval of pings, and of estimates for the hub. One of QUIC's own pings fits between two on a link that is silent otherwise.
const PING: Duration = Duration::from_millis(1_750);
/// The time that a peer has, after the end of its control stream, to close the connection with a reason.
const CLOSING: Duration = Duration::from_secs(1);

/// The end that begins the exchange of timestamps: the one that dialled. The other end sends its ping with its pong, in one
/// packet. Both ends on their own would send, and wake up for, twice the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pings {
    Ours,
    Theirs,
}

/// Queues whole frames as one entry, since the reader queues its pongs, and the writer its pings, between any two entries. `queued`
/// counts their bytes.
pub(crate) fn push<const N: usize>(
    queued: &AtomicUsize,
    queue: &mpsc::UnboundedSender<Bytes>,
    frames: [Frame; N],
) -> Result<(), LinkFault> {
    let mut bytes = BytesMut::new();
    for frame in frames {
        frame.encode(&mut bytes);
    }
    let len = bytes.len();
    let queued = queued.fetch_add(len, Relaxed) + len;
    // A writer that has ended has said why, or soon will.
    let _ = queue.send(bytes.freeze());
    if queued > CONTROL_QUEUE_LEN { Err(LinkFault::Wedged(queued)) } else { Ok(()) }
}

/// Writes what is queued, and our pings, until the queue or the link ends.
pub(crate) async fn write(
    state: Arc<LinkState>,
    mut send: SendStream,
    mut frames: mpsc::UnboundedReceiver<Bytes>,
    whose: Pings,
) {
    // Ahead of all bodies, which have priority 0 (docs/architecture.md, Invariants).
    let _ = send.set_priority(1);
    let mut batch = Vec::new();
    let mut pings = 0;
    let (mut alarm, mut next_ping) = (clock::Alarm::default(), (whose == Pings::Ours).then(clock::now));
    loop {
        tokio::select! {
            n = frames.recv_many(&mut batch, 64) => {
                if n == 0 {
                    break;
                }
            }
            () = alarm.until(next_ping) => {
                pings += 1;
                next_ping = Some(clock::now() + if pings < PINGS_FIRST { PING_FIRST } else { PING });
                state.tell_estimate(clock::now()).await;
                let mut bytes = BytesMut::new();
                Frame::Ping { sent: clock::now() }.encode(&mut bytes);
                state.counters.control_queue.fetch_add(bytes.len(), Relaxed);
                batch.push(bytes.freeze());
            }
        }
        let len: usize = batch.iter().map(Bytes::len).sum();
        if send.write_all_chunks(&mut batch).await.is_err() {
            // The connection is closed, or the peer has stopped the stream: the readers say so.
            return;
        }
        batch.clear();
        state.counters.control_queue.fetch_sub(len, Relaxed);
    }
    let _ = send.finish();
    let _ = send.stopped().await;
}

/// Reads until the link ends. Queues pongs in `queue`, and doesn't keep it open.
pub(crate) async fn read(
    state: &LinkState,
    mut recv: RecvStream,
    mut decoder: FrameDecoder,
    queue: mpsc::WeakUnboundedSender<Bytes>,
    pings: Pings,
) -> Result<Infallible, LinkFault> {
    let mut received = clock::now();
    loop {
        while let Some(frame) = decoder.next_frame()? {
            match frame {
                Frame::Control(frame) => {
                    count(&state.counters.control_received, 1);
                    state.tell(received, LinkEvent::Control(frame)).await;
                }
                Frame::Ping { sent: echo } => {
                    if let Some(queue) = queue.upgrade() {
                        let sent = clock::now();
                        let pong = Frame::Pong { echo, received, sent };
                        match pings {
                            Pings::Ours => push(&state.counters.control_queue, &queue, [pong])?,
                            Pings::Theirs => push(&state.counters.control_queue, &queue, [pong, Frame::Ping { sent }])?,
                        }
                    }
                    if pings == Pings::Theirs {
                        state.tell_estimate(received).await;
                    }
                }
                Frame::Pong { echo: t1, received: t2, sent: t3 } => {
                    state.clock.lock().record(PingSample { t1, t2, t3, t4: received });
                }
                Frame::Hello(_) => return Err(LinkFault::Hello),
            }
        }
        match read_chunk(&mut recv).await? {
            Some(bytes) => {
                received = clock::now();
                decoder.push(&bytes);
            }
            // The peer is about to close the connection, with the reason that is to be logged.
            None => {
                let closed = tokio::time::timeout(CLOSING, state.conn.closed()).await;
                return Err(closed.map_or(LinkFault::StreamEnded, LinkFault::Connection));
            }
        }
    }
}

/// Returns the next bytes of a control stream, or `None` at its end.
pub(crate) async fn read_chunk(recv: &mut RecvStream) -> Result<Option<Bytes>, LinkFault> {
    Ok(recv.read_chunk(64 << 10, true).await?.map(|chunk| chunk.bytes))
}

/// Writes our hello.
pub(crate) async fn write_hello(send: &mut SendStream, hello: Hello) -> Result<(), LinkFault> {
    let mut bytes = BytesMut::new();
    Frame::Hello(hello).encode(&mut bytes);
    Ok(send.write_chunk(bytes.freeze()).await?)
}

/// Reads the peer's hello.
pub(crate) async fn read_hello(recv: &mut RecvStream, decoder: &mut FrameDecoder) -> Result<Hello, LinkFault> {
    loop {
        match decoder.next_frame()? {
            Some(Frame::Hello(hello)) => return Ok(hello),
            Some(_) => return Err(LinkFault::Hello),
            None => {}
        }
        let bytes = read_chunk(recv).await?.ok_or(LinkFault::StreamEnded)?;
        decoder.push(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use damson_core::model::time::Time;

    /// A frame is never split by another one: a peer that finds a ping between prefix and payload reads a length from the ping's bytes,
    /// and closes the link.
    #[test]
    fn what_is_queued_is_a_whole_frame() {
        let (queue, mut frames) = mpsc::unbounded_channel();
        let queued = AtomicUsize::new(0);
        let sent = [
            Frame::Control(Bytes::from_static(b"graft")),
            Frame::Ping { sent: Time::from_millis(7) },
            Frame::Control(Bytes::new()),
        ];
        for frame in sent.clone() {
            push(&queued, &queue, [frame]).expect("the queue has room");
        }
        drop(queue);
        let mut bytes = 0;
        for frame in sent {
            let entry = frames.try_recv().expect("one entry for each frame");
            bytes += entry.len();
            let mut decoder = FrameDecoder::default();
            decoder.push(&entry);
            assert_eq!(decoder.next_frame().expect("well formed"), Some(frame));
        }
        assert!(frames.try_recv().is_err());
        assert_eq!(queued.load(Relaxed), bytes);
    }

    #[test]
    fn a_peer_that_does_not_read_is_given_up() {
        let (queue, _frames) = mpsc::unbounded_channel();
        let fill = Frame::Control(Bytes::from(vec![0; 64 << 10]));
        let queued = AtomicUsize::new(CONTROL_QUEUE_LEN - (64 << 10));
        assert!(matches!(push(&queued, &queue, [fill]), Err(LinkFault::Wedged(n)) if n > CONTROL_QUEUE_LEN));
    }
}
