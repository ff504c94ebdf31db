//! A link, as the driver sees it.
//!
//! ```text
//!             driver
//!    control |      ^ events (bounded)
//!            v      |
//!   [control writer] [control reader and acceptor]    one task each
//!   [body sender]...                  [body reader]... one task a body
//! ```
//!
//! The driver never waits for these tasks. The readers wait for the driver, and QUIC's flow control
//! makes the peer wait for the readers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use damson_core::link::frame::{Frame, Hello};
use damson_core::model::Peer;
use damson_core::model::time::Time;
use parking_lot::Mutex;
use quinn::VarInt;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::body_receiver::IncomingBodies;
use super::body_sender::{BodyJob, OutgoingBodies};
use super::control::Pings;
use super::event::{BodyKey, BodySerial, Events, Greeted};
use super::fault::LinkFault;
use super::link_state::{Counters, LinkState, count};
use super::snapshot::LinkView;
use super::{body_receiver, control};
use crate::clock;

/// The longest time in which a link that is being closed sends what is queued.
pub(crate) const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// A link and the bodies on it.
pub(crate) struct Link {
    state: Arc<LinkState>,
    /// The address that we dialled, if we did.
    dialled: Option<SocketAddr>,
    /// The control writer and the body senders, which end before the link is closed.
    senders: TaskTracker,
    control: mpsc::UnboundedSender<Bytes>,
    outgoing: OutgoingBodies,
    incoming: IncomingBodies,
}

impl Link {
    /// Starts the tasks of a connection that has become a link. `hello` is our answer, if one is due.
    pub(crate) fn start(greeted: Greeted, hello: Option<Hello>, events: Events) -> Self {
        let Greeted { no, conn, peer, name, control: (send, recv), decoder, dialled, .. } = greeted;
        let pings = if dialled.is_some() { Pings::Ours } else { Pings::Theirs };
        let state = Arc::new(LinkState {
            no,
            peer,
            name,
            conn,
            events,
            since: clock::now(),
            counters: Counters::default(),
            newest_transit: Mutex::default(),
            clock: Mutex::default(),
        });
        let (control, frames) = mpsc::unbounded_channel();
        if let Some(hello) = hello {
            let _ = control::push(&state.counters.control_queue, &control, [Frame::Hello(hello)]);
        }
        let senders = TaskTracker::new();
        senders.spawn(control::write(Arc::clone(&state), send, frames, pings));
        // The reader queues pongs, but must not keep the writer alive.
        let (reader, queue) = (Arc::clone(&state), control.downgrade());
        tokio::spawn(async move {
            let control = control::read(&reader, recv, decoder, queue, pings);
            let Err(fault) = tokio::try_join!(biased; control, body_receiver::accept(&reader));
            reader.fail(fault).await;
        });
        Link {
            state,
            dialled,
            senders,
            control,
            outgoing: OutgoingBodies::default(),
            incoming: IncomingBodies::default(),
        }
    }

    pub(crate) fn peer(&self) -> Peer {
        self.state.peer
    }

    pub(crate) fn name(&self) -> &str {
        &self.state.name
    }

    /// Returns the address that the peer's packets come from.
    pub(crate) fn remote(&self) -> SocketAddr {
        self.state.conn.remote_address()
    }

    /// Returns the address that we dialled, and the time at which the link came up.
    pub(crate) fn dialled(&self) -> Option<(SocketAddr, Time)> {
        self.dialled.map(|addr| (addr, self.state.since))
    }

    pub(crate) fn view(&self, now: Time) -> LinkView {
        LinkView::of(&self.state, self.outgoing.queued(), now)
    }

    /// Queues a frame of the swarms.
    pub(crate) fn send_control(&self, frame: Bytes) -> Result<(), LinkFault> {
        count(&self.state.counters.control_sent, 1);
        control::push(&self.state.counters.control_queue, &self.control, [Frame::Control(frame)])
    }

    // Bodies to the peer.

    /// Starts to send a body.
    pub(crate) fn send_body(&mut self, job: BodyJob) {
        self.outgoing.start(&self.state, &self.senders, job);
    }

    /// Queues a body's next piece. Returns the bodies that were dropped to make room.
    pub(crate) fn send_piece(&mut self, key: BodyKey, bytes: Bytes) -> Vec<BodyKey> {
        let dropped = self.outgoing.push(key, bytes);
        for _ in &dropped {
            count(&self.state.counters.bodies_dropped, 1);
            debug!(peer = %self.state.peer.id, name = self.state.name, "dropped a body for a slow peer");
        }
        dropped
    }

    /// Aborts a body.
    pub(crate) fn abort_body(&mut self, key: BodyKey) {
        self.outgoing.abort(key);
    }

    /// A body's task has ended. Returns whether the body was still being sent.
    pub(crate) fn body_sent(&mut self, key: BodyKey, serial: BodySerial) -> bool {
        self.outgoing.ended(key, serial)
    }

    // Bodies from the peer.

    /// A body of this length begins. Returns whether it replaces an earlier one with the same key.
    pub(crate) fn body_begins(
        &mut self,
        key: BodyKey,
        serial: BodySerial,
        stop: oneshot::Sender<()>,
        len: usize,
    ) -> bool {
        let replaces = self.incoming.begin(key, serial, stop);
        if len == 0 {
            self.incoming.goes_on(key, serial, true);
        }
        replaces
    }

    /// More bytes of a body are here, or it ends. Returns whether it is wanted.
    pub(crate) fn body_goes_on(&mut self, key: BodyKey, serial: BodySerial, ends: bool) -> bool {
        self.incoming.goes_on(key, serial, ends)
    }

    /// Refuses the rest of a body.
    pub(crate) fn refuse_body(&mut self, key: BodyKey) {
        self.incoming.refuse(key);
    }

    // The end.

    /// Closes the connection at once.
    pub(crate) fn cut(&self, code: VarInt, why: &[u8]) {
        self.state.conn.close(code, why);
    }

    /// Sends what is queued and complete, for at most [`CLOSE_PATIENCE`], and then closes.
    pub(crate) async fn close(self, code: VarInt) {
        let Link { state, senders, control, outgoing, incoming, .. } = self;
        // A body that has its last piece is still sent.
        drop((control, outgoing, incoming));
        senders.close();
        // When the time is over, the peer loses what it hasn't taken.
        let _ = tokio::time::timeout(CLOSE_PATIENCE, senders.wait()).await;
        state.conn.close(code, b"");
    }
}
