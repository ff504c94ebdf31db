//! The state that the driver and all tasks of a link share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use damson_core::link::clock_offset::{ClockOffset, Transit};
use damson_core::link::pairing::LinkNo;
use damson_core::model::Peer;
use damson_core::model::time::Time;
use parking_lot::Mutex;
use quinn::Connection;
use serde::Serialize;

use super::event::{Events, LinkEvent, MeshEvent};
use super::fault::LinkFault;
use crate::clock;

/// The counts since the link came up, and the bytes that wait, by their names in the API.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Counters {
    /// Bodies that were sent whole.
    pub(crate) bodies_sent: AtomicU64,
    /// Bodies that were received whole.
    pub(crate) bodies_received: AtomicU64,
    /// Bodies that the peer refused.
    pub(crate) bodies_stopped: AtomicU64,
    /// Bodies that this node dropped since the peer is slow: the queue was full, or they expired.
    pub(crate) bodies_dropped: AtomicU64,
    /// Bodies that this node refused.
    pub(crate) bodies_refused: AtomicU64,
    /// Bodies that the peer aborted.
    pub(crate) bodies_torn: AtomicU64,
    /// Bytes of bodies that QUIC has taken.
    pub(crate) body_bytes_sent: AtomicU64,
    pub(crate) body_bytes_received: AtomicU64,
    pub(crate) control_sent: AtomicU64,
    pub(crate) control_received: AtomicU64,
    /// Bytes of control frames that QUIC hasn't taken.
    pub(crate) control_queue: AtomicUsize,
    /// The measured rate of bodies from the peer, in bytes/s; 0 while unknown.
    pub(crate) rate: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Relaxed);
}

/// The state of one link.
pub(crate) struct LinkState {
    pub(crate) no: LinkNo,
    pub(crate) peer: Peer,
    pub(crate) name: String,
    pub(crate) conn: Connection,
    pub(crate) events: Events,
    pub(crate) since: Time,
    pub(crate) counters: Counters,
    /// The transit of the newest body from the peer, in microseconds.
    pub(crate) newest_transit: Mutex<Option<i64>>,
    /// The peer's clock.
    pub(crate) clock: Mutex<ClockOffset>,
}

impl LinkState {
    /// Returns the transit of what the peer has sent.
    pub(crate) fn transit(&self, sent: Time, received: Time) -> Transit {
        let measured = self.clock.lock().transit(sent, received);
        // Before the first pong, half a round trip is the best guess.
        measured.unwrap_or_else(|| {
            let half = self.conn.rtt() / 2;
            Transit { micros: i64::try_from(half.as_micros()).unwrap_or(i64::MAX), uncertainty: half }
        })
    }

    /// Sends an event to the driver; waits while it is busy.
    pub(crate) async fn tell(&self, at: Time, event: LinkEvent) {
        // The driver ends only when the node does.
        let _ = self.events.send((at, MeshEvent::Link { no: self.no, peer: self.peer.id, event })).await;
    }

    /// Tells the driver the link's round trip and rate.
    pub(crate) async fn tell_estimate(&self, at: Time) {
        let rtt = self.clock.lock().rtt().unwrap_or_else(|| self.conn.rtt());
        let rtt_us = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
        self.tell(at, LinkEvent::Estimate { rtt_us, rate: self.counters.rate.load(Relaxed) }).await;
    }

    /// Ends the link because of a fault, or of its connection's end.
    pub(crate) async fn fail(&self, fault: LinkFault) {
        let close = fault.code().map(|code| (code, fault.to_string()));
        // The driver hears of it first. The other tasks then only find the connection closed.
        self.tell(clock::now(), LinkEvent::Lost(fault)).await;
        if let Some((code, why)) = close {
            self.conn.close(code, why.as_bytes());
        }
    }
}
