//! One link: its control stream, and the shared state that its tasks and the driver look at.
//!
//! ```text
//!             driver
//!    control |      ^ events (bounded)
//!            v      |
//!   [control writer] [control reader] [acceptor]      one task each
//!   [body sender]...                  [body reader]... one task a body (see `body`)
//! ```
//!
//! The driver never waits for any of them. The readers wait for the driver, and QUIC's flow control
//! makes the peer wait for the readers.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::body;
use crate::clock;
use damson_core::hyparview::DownCause;
use damson_core::link::clock_offset::{ClockOffset, Sample, Transit};
use damson_core::link::frame::{BodyHead, FRAME_PREFIX_LEN, Frame, FrameDecoder, FrameError, Hello};
use damson_core::link::pairing::LinkNo;
use damson_core::model::NodeId;
use damson_core::model::Peer;
use damson_core::model::time::Time;
use damson_core::model::wire::WireError;

/// The most bytes of control frames that wait for a peer. Whoever doesn't take that much is wedged: its
/// link is closed, since no GRAFT or PRUNE is ever dropped.
const CONTROL_QUEUE_LEN: usize = 4 << 20;

/// Pings of a new link come faster, for a good first estimate of its clock.
const PING_FIRST: Duration = Duration::from_millis(100);
const PINGS_FIRST: u32 = 4;
/// Pings, and what the hub is told of a link. One of QUIC's own fits between two of them on a link that is else silent.
const PING: Duration = Duration::from_millis(1_750);
/// How long a peer that has ended its control stream may take to close the connection with a reason.
const CLOSING: Duration = Duration::from_secs(1);

/// Why a connection is closed, on the wire.
pub(crate) mod code {
    use quinn::VarInt;

    /// No swarm needs the link.
    pub(crate) const UNNEEDED: VarInt = VarInt::from_u32(0);
    /// The node leaves.
    pub(crate) const LEAVING: VarInt = VarInt::from_u32(1);
    /// Another connection is the link.
    pub(crate) const DUPLICATE: VarInt = VarInt::from_u32(2);
    /// The peer sent rubbish.
    pub(crate) const PROTOCOL: VarInt = VarInt::from_u32(3);
    /// The peer doesn't read its control stream.
    pub(crate) const WEDGED: VarInt = VarInt::from_u32(4);
    /// The peer isn't who it should be.
    pub(crate) const IDENTITY: VarInt = VarInt::from_u32(5);
    /// The node has all the links it takes.
    pub(crate) const FULL: VarInt = VarInt::from_u32(6);

    /// A body's stream is reset: it can't be finished, or is too old.
    pub(crate) const BODY_ABORTED: VarInt = VarInt::from_u32(1);
    /// A body's stream is stopped: refused.
    pub(crate) const BODY_REFUSED: VarInt = VarInt::from_u32(2);
    /// A stream of an unknown kind is stopped.
    pub(crate) const STREAM_UNKNOWN: VarInt = VarInt::from_u32(3);
}

/// What a peer did wrong, or its connection's end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkFault {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("frame of a swarm: {0}")]
    Control(WireError),
    #[error("head of a body: {0}")]
    Head(#[from] WireError),
    #[error("a body's stream ends at byte {at}, {missing} bytes before the body does")]
    Short { at: usize, missing: usize },
    #[error("a body's stream goes on at byte {at}, after the body's end")]
    Long { at: usize },
    #[error("a body's head didn't come in {0:?}")]
    HeadLate(Duration),
    #[error("a second hello")]
    Hello,
    #[error("doesn't read its control stream: {0} bytes wait")]
    Wedged(usize),
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    #[error("closed its control stream")]
    ControlEnded,
}

impl LinkFault {
    /// The code to close the connection with; `None` where it is closed already.
    fn code(&self) -> Option<VarInt> {
        match self {
            LinkFault::Connection(_) => None,
            LinkFault::Wedged(_) => Some(code::WEDGED),
            LinkFault::ControlEnded => Some(code::UNNEEDED),
            _ => Some(code::PROTOCOL),
        }
    }

    /// What the hub is told.
    pub(crate) fn cause(&self) -> DownCause {
        match self {
            LinkFault::Connection(ConnectionError::ApplicationClosed(close)) if close.error_code == code::LEAVING => {
                DownCause::Left
            }
            LinkFault::Connection(ConnectionError::TimedOut) => DownCause::TimedOut,
            _ => DownCause::Lost,
        }
    }

    /// Whether the peer broke the protocol, rather than went away.
    pub(crate) fn is_rubbish(&self) -> bool {
        self.code() == Some(code::PROTOCOL)
    }
}

/// What the tasks tell the driver, and when it happened.
pub(crate) type Events = mpsc::Sender<(Time, Event)>;

/// What happens on links and connections.
pub(crate) enum Event {
    /// A dial has found this peer; shall we say hello? `None`: a link is there, or under way.
    Dialled { no: LinkNo, peer: NodeId, hello: oneshot::Sender<Option<Hello>> },
    /// The peer has answered our hello.
    Answered(Box<Greeted>),
    /// A peer that dialled says hello.
    Greeted(Box<Greeted>),
    /// A dial is over without a link of its own.
    DialEnded(Box<super::connector::Failed>),
    /// A link has ended.
    Lost { no: LinkNo, peer: NodeId, fault: LinkFault },
    /// A frame of the swarms.
    Control { no: LinkNo, peer: NodeId, frame: Bytes },
    /// A body begins.
    BodyHead { no: LinkNo, peer: NodeId, body: body::Serial, head: Box<BodyHead>, stop: oneshot::Sender<()> },
    /// The next bytes of it.
    BodyPiece { no: LinkNo, peer: NodeId, body: body::Serial, key: body::Key, bytes: Bytes, last: bool },
    /// It ends early.
    BodyTorn { no: LinkNo, peer: NodeId, body: body::Serial, key: body::Key },
    /// A body of ours is at the peer, or (`stopped`) won't get there.
    BodySent { no: LinkNo, peer: NodeId, body: body::Serial, key: body::Key, stopped: bool },
    /// About each second.
    Estimate { no: LinkNo, peer: NodeId, rtt_us: u32, rate: u64 },
}

/// A connection whose peer is known and has said hello.
pub(crate) struct Greeted {
    pub(crate) no: LinkNo,
    pub(crate) conn: Connection,
    pub(crate) peer: Peer,
    pub(crate) name: String,
    pub(crate) hello: Hello,
    pub(crate) control: (SendStream, RecvStream),
    /// Holds what came behind the hello.
    pub(crate) decoder: FrameDecoder,
    /// The address that we dialled, where we did.
    pub(crate) dialled: Option<std::net::SocketAddr>,
}

/// Counts since the link came up.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) bodies_sent: AtomicU64,
    pub(crate) bodies_received: AtomicU64,
    pub(crate) bodies_stopped: AtomicU64,
    pub(crate) bodies_dropped: AtomicU64,
    pub(crate) bodies_refused: AtomicU64,
    pub(crate) bodies_torn: AtomicU64,
    pub(crate) body_bytes_sent: AtomicU64,
    pub(crate) body_bytes_received: AtomicU64,
    pub(crate) control_sent: AtomicU64,
    pub(crate) control_received: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Relaxed);
}

/// What the driver and all tasks of a link see.
pub(crate) struct Shared {
    pub(crate) no: LinkNo,
    pub(crate) peer: Peer,
    pub(crate) name: String,
    pub(crate) conn: Connection,
    pub(crate) events: Events,
    pub(crate) since: Time,
    /// Bytes of bodies that QUIC hasn't taken.
    pub(crate) body_queue: AtomicUsize,
    /// Bytes of control frames that QUIC hasn't taken.
    pub(crate) control_queue: AtomicUsize,
    /// Measured rate of bodies from the peer, in bytes/s.
    pub(crate) rate: AtomicU64,
    pub(crate) counters: Counters,
    /// The newest body's transit from the peer, in microseconds.
    pub(crate) newest_transit: AtomicI64,
    clock: Mutex<ClockOffset>,
}

/// Before the first body.
pub(crate) const TRANSIT_UNKNOWN: i64 = i64::MIN;

impl Shared {
    /// The peer's clock.
    pub(crate) fn clock(&self) -> MutexGuard<'_, ClockOffset> {
        // A panic elsewhere leaves the samples whole: they are plain numbers.
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long something from the peer was under way.
    pub(crate) fn transit(&self, sent: Time, received: Time) -> Transit {
        let measured = self.clock().transit(sent, received);
        // Before the first pong, half a round trip is the best guess.
        measured.unwrap_or_else(|| {
            let half = self.conn.rtt() / 2;
            Transit { micros: i64::try_from(half.as_micros()).unwrap_or(i64::MAX), uncertainty: half }
        })
    }

    /// Tells the driver; waits while it is busy. It is gone only when the node is.
    pub(crate) async fn tell(&self, at: Time, event: Event) {
        let _ = self.events.send((at, event)).await;
    }

    /// Ends the link for a fault of the peer's, or since it has ended.
    pub(crate) async fn fail(&self, fault: LinkFault) {
        let close = fault.code().map(|code| (code, fault.to_string()));
        // Told first: the other tasks then only hear that the connection was closed from here.
        self.tell(clock::now(), Event::Lost { no: self.no, peer: self.peer.id, fault }).await;
        if let Some((code, why)) = close {
            self.conn.close(code, why.as_bytes());
        }
    }
}

/// Who begins the exchange of timestamps: the dialling end. The other one pings with its pong, in one packet: half
/// the packets, and the waking up, of two ends that ping on their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pings {
    Ours,
    Theirs,
}

/// The driver's side of a link.
pub(crate) struct Link {
    pub(crate) shared: Arc<Shared>,
    /// The control writer and the body senders: what must end before the link is closed in peace.
    pub(crate) senders: TaskTracker,
    control: mpsc::UnboundedSender<Bytes>,
}

impl Link {
    /// Starts the tasks of a connection that is a link now. `hello` is our answer, where one is due.
    pub(crate) fn start(greeted: Greeted, hello: Option<Hello>, events: Events) -> Self {
        let Greeted { no, conn, peer, name, control: (send, recv), decoder, dialled, .. } = greeted;
        let pings = if dialled.is_some() { Pings::Ours } else { Pings::Theirs };
        let shared = Arc::new(Shared {
            no,
            peer,
            name,
            conn,
            events,
            since: clock::now(),
            body_queue: AtomicUsize::new(0),
            control_queue: AtomicUsize::new(0),
            rate: AtomicU64::new(0),
            counters: Counters::default(),
            newest_transit: AtomicI64::new(TRANSIT_UNKNOWN),
            clock: Mutex::default(),
        });
        let (control, frames) = mpsc::unbounded_channel();
        let link = Link { shared: shared.clone(), senders: TaskTracker::new(), control: control.clone() };
        if let Some(hello) = hello {
            let _ = push(&shared.control_queue, &control, [Frame::Hello(hello)]);
        }
        // The reader answers pings, but mustn't keep the writer alive.
        let pongs = control.downgrade();
        link.senders.spawn(write_control(shared.clone(), send, frames, pings));
        tokio::spawn({
            let shared = shared.clone();
            async move {
                let Err(fault) = read_control(&shared, recv, decoder, pongs, pings).await;
                shared.fail(fault).await;
            }
        });
        tokio::spawn(body::accept(shared));
        link
    }

    /// Queues a frame of the swarms.
    pub(crate) fn send_control(&self, frame: Bytes) -> Result<(), LinkFault> {
        count(&self.shared.counters.control_sent, 1);
        push(&self.shared.control_queue, &self.control, [Frame::Control(frame)])
    }

    /// Lets what is queued and complete go out, for at most `patience`, then closes.
    pub(crate) async fn close(self, code: VarInt, patience: Duration) {
        let Link { shared, senders, control } = self;
        drop(control);
        senders.close();
        // Past its patience, the peer loses what it hasn't taken.
        let _ = tokio::time::timeout(patience, senders.wait()).await;
        shared.conn.close(code, b"");
    }
}

/// Queues whole frames as one entry: the reader queues its pongs, and the writer its pings, between any two entries.
/// `queued` counts their bytes.
fn push<const N: usize>(
    queued: &AtomicUsize,
    queue: &mpsc::UnboundedSender<Bytes>,
    frames: [Frame; N],
) -> Result<(), LinkFault> {
    let payload = |frame: &Frame| if let Frame::Control(payload) = frame { payload.len() } else { 0 };
    let len = frames.iter().map(|frame| FRAME_PREFIX_LEN + payload(frame)).sum();
    let mut bytes = BytesMut::with_capacity(len);
    for frame in frames {
        frame.encode(&mut bytes);
    }
    let len = bytes.len();
    let queued = queued.fetch_add(len, Relaxed) + len;
    // A writer that has ended has told of it, or soon will.
    let _ = queue.send(bytes.freeze());
    if queued > CONTROL_QUEUE_LEN { Err(LinkFault::Wedged(queued)) } else { Ok(()) }
}

async fn write_control(
    shared: Arc<Shared>,
    mut send: SendStream,
    mut frames: mpsc::UnboundedReceiver<Bytes>,
    whose: Pings,
) {
    // Ahead of all bodies (DESIGN invariant 5); theirs is 0.
    let _ = send.set_priority(1);
    let mut batch = Vec::new();
    let mut pings = 0;
    let ping = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(ping);
    loop {
        tokio::select! {
            n = frames.recv_many(&mut batch, 64) => {
                if n == 0 {
                    break;
                }
            }
            () = &mut ping, if whose == Pings::Ours => {
                pings += 1;
                let next = if pings < PINGS_FIRST { PING_FIRST } else { PING };
                ping.as_mut().reset(tokio::time::Instant::from_std(clock::instant(clock::now() + next)));
                shared.tell(clock::now(), estimate(&shared)).await;
                let mut bytes = BytesMut::new();
                Frame::Ping { sent: clock::now() }.encode(&mut bytes);
                shared.control_queue.fetch_add(bytes.len(), Relaxed);
                batch.push(bytes.freeze());
            }
        }
        let len: usize = batch.iter().map(Bytes::len).sum();
        if send.write_all_chunks(&mut batch).await.is_err() {
            // The connection is closed, or the peer has stopped the stream: the readers tell.
            return;
        }
        batch.clear();
        shared.control_queue.fetch_sub(len, Relaxed);
    }
    let _ = send.finish();
    let _ = send.stopped().await;
}

fn estimate(shared: &Shared) -> Event {
    let rtt = shared.clock().rtt().unwrap_or_else(|| shared.conn.rtt());
    let rtt_us = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
    Event::Estimate { no: shared.no, peer: shared.peer.id, rtt_us, rate: shared.rate.load(Relaxed) }
}

async fn read_control(
    shared: &Shared,
    mut recv: RecvStream,
    mut decoder: FrameDecoder,
    pongs: mpsc::WeakUnboundedSender<Bytes>,
    pings: Pings,
) -> Result<std::convert::Infallible, LinkFault> {
    let mut received = clock::now();
    loop {
        while let Some(frame) = decoder.next_frame()? {
            match frame {
                Frame::Control(frame) => {
                    count(&shared.counters.control_received, 1);
                    shared.tell(received, Event::Control { no: shared.no, peer: shared.peer.id, frame }).await;
                }
                Frame::Ping { sent: echo } => {
                    if let Some(pongs) = pongs.upgrade() {
                        let sent = clock::now();
                        let pong = Frame::Pong { echo, received, sent };
                        match pings {
                            Pings::Ours => push(&shared.control_queue, &pongs, [pong])?,
                            Pings::Theirs => push(&shared.control_queue, &pongs, [pong, Frame::Ping { sent }])?,
                        }
                    }
                    if pings == Pings::Theirs {
                        shared.tell(received, estimate(shared)).await;
                    }
                }
                Frame::Pong { echo: t1, received: t2, sent: t3 } => {
                    shared.clock().record(Sample { t1, t2, t3, t4: received });
                }
                Frame::Hello(_) => return Err(LinkFault::Hello),
            }
        }
        match read_chunk(&mut recv).await? {
            Some(bytes) => {
                received = clock::now();
                decoder.push(&bytes);
            }
            // The peer is closing: let it, so that its reason is the one told.
            None => {
                let closed = tokio::time::timeout(CLOSING, shared.conn.closed()).await;
                return Err(closed.map_or(LinkFault::ControlEnded, LinkFault::Connection));
            }
        }
    }
}

/// The next bytes of a control stream; `None` at its end.
pub(crate) async fn read_chunk(recv: &mut RecvStream) -> Result<Option<Bytes>, LinkFault> {
    match recv.read_chunk(64 << 10, true).await {
        Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
        Err(ReadError::ConnectionLost(e)) => Err(e.into()),
        Err(_) => Err(LinkFault::ControlEnded),
    }
}

/// Writes our hello.
pub(crate) async fn write_hello(send: &mut SendStream, hello: Hello) -> Result<(), WriteError> {
    let mut bytes = BytesMut::new();
    Frame::Hello(hello).encode(&mut bytes);
    send.write_chunk(bytes.freeze()).await
}

/// Reads the peer's hello.
pub(crate) async fn read_hello(recv: &mut RecvStream, decoder: &mut FrameDecoder) -> Result<Hello, LinkFault> {
    loop {
        match decoder.next_frame()? {
            Some(Frame::Hello(hello)) => return Ok(hello),
            Some(_) => return Err(LinkFault::Hello),
            None => {}
        }
        let bytes = read_chunk(recv).await?.ok_or(LinkFault::ControlEnded)?;
        decoder.push(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever else is queued before or behind it, a frame isn't parted: a peer that finds a ping between prefix and
    /// payload reads a length from the ping's bytes, and closes the link.
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
