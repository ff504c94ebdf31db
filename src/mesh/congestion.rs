//! Congestion control that tells a lossy link from a full one: quinn's Cubic (RFC 9438), told of a loss only if the link is full.
//!
//! Cubic takes each lost packet for a full queue. At 1 % loss and a round trip of 80 ms that leaves less than 3 Mb/s of whatever the
//! link could carry, and a live part is then a gap. Here a loss counts if packets also wait in a queue, so that the round trips stand
//! above their floor, or if so many are lost that a queue too short to be seen must be full. ECN marks and persistent
//! congestion (RFC 9002, 7.6) always count.
//!
//! quinn's BBR was tried: as good over loss, but a window that grows without bound while the application sends less than the
//! link takes, which a live stream always does. Over 5 Mb/s with a queue of 15 KB it had 4,800 packets of a minute of 3 Mb/s dropped,
//! Cubic 190. The tests are the comparison.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

/// The floor is the least round trip of the last one to two of these: a route that has become longer is learnt, and a queue
/// that stands doesn't soon pass for one.
const FLOOR_SPAN: Duration = Duration::from_secs(60);
/// A queue stands if the round trips last seen are above their floor by a quarter of it, and at least by what an acknowledgement may
/// be late (RFC 9000, 18.2: max_ack_delay).
const QUEUE_MIN: Duration = Duration::from_millis(25);
/// Of so many packets acknowledged last, all: each of them has stood in the queue in which another was lost, while what was held up
/// somewhere on its way alone says nothing.
const LAST: usize = 8;
/// The bytes of a packet lost alone. A full queue takes several in a row, or another within the next round trip.
const ALONE_MAX: u64 = 1_500;
/// So many of a hundred bytes lost are a full queue, though none is seen. Radio links that work lose less.
const LOST_PERCENT_MAX: u64 = 15;
/// The share is that of the last one to two of these: about a second of a 3 Mb/s stream. With less, chance would speak.
const SHARE_SPAN: u64 = 128 << 10;

/// Makes a controller for each link.
#[derive(Debug, Default)]
pub(crate) struct LossTolerant(Arc<CubicConfig>);

impl ControllerFactory for LossTolerant {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::clone(&self.0).build(now, current_mtu);
        Box::new(Judged { cubic, path: Path::default() })
    }
}

/// Cubic, and the judge of what it is told.
struct Judged {
    cubic: Box<dyn Controller>,
    path: Path,
}

impl Controller for Judged {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.path.acknowledged(now, bytes, now.saturating_duration_since(sent));
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
        if let Some((sent, lost_bytes)) = self.path.judged(now) {
            self.cubic.on_congestion_event(now, sent, false, lost_bytes);
        }
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        let marked = lost_bytes == 0;
        if self.path.lost(now, sent, lost_bytes) || marked || persistent {
            self.cubic.on_congestion_event(now, sent, persistent, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.cubic.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Judged { cubic: self.cubic.clone_box(), path: self.path.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// What acknowledgements and losses tell of a path.
#[derive(Clone, Debug, Default)]
struct Path {
    /// The round trips of the packets acknowledged last, acknowledgements' own delay included, the newest last.
    last: VecDeque<Duration>,
    /// The least round trip of this span (since when), and of the one before.
    floor: Option<(Instant, Duration)>,
    floor_before: Option<Duration>,
    /// A loss that may have been to a queue: when it was noticed, when the packet was sent, and its bytes.
    open: Option<(Instant, Instant, u64)>,
    acked: u64,
    lost: u64,
}

impl Path {
    fn acknowledged(&mut self, now: Instant, bytes: u64, rtt: Duration) {
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(rtt);
        self.floor = match self.floor {
            Some((since, floor)) if now.saturating_duration_since(since) < FLOOR_SPAN => Some((since, floor.min(rtt))),
            ended => {
                self.floor_before = ended.map(|(_, floor)| floor);
                Some((now, rtt))
            }
        };
        self.acked += bytes;
        self.age();
    }

    /// Whether the link is full, as far as that can be told now. A packet lost alone while a queue stood may have been lost to
    /// chance while all others were held up, as radio does: that is told by [`Path::judged`].
    fn lost(&mut self, now: Instant, sent: Instant, bytes: u64) -> bool {
        self.lost += bytes;
        let mut full = self.loses_many();
        if self.queues() {
            full |= self.open.is_some() || bytes > ALONE_MAX;
            self.open = Some((now, sent, bytes)).filter(|_| !full);
        }
        self.age();
        full
    }

    /// The loss that was left open, if a round trip later the queue still stands.
    fn judged(&mut self, now: Instant) -> Option<(Instant, u64)> {
        let (since, sent, bytes) = self.open?;
        if now.saturating_duration_since(since) < self.floor()? {
            return None;
        }
        self.open = None;
        self.queues().then_some((sent, bytes))
    }

    fn floor(&self) -> Option<Duration> {
        self.floor.map(|(_, floor)| floor).into_iter().chain(self.floor_before).min()
    }

    fn queues(&self) -> bool {
        let floor = self.floor();
        let standing = self.last.iter().min();
        floor.zip(standing).is_some_and(|(floor, standing)| *standing > floor + (floor / 4).max(QUEUE_MIN))
    }

    fn loses_many(&self) -> bool {
        let all = self.acked + self.lost;
        all >= SHARE_SPAN && self.lost * 100 > all * LOST_PERCENT_MAX
    }

    /// What is long ago counts half.
    fn age(&mut self) {
        if self.acked + self.lost >= 2 * SHARE_SPAN {
            self.acked /= 2;
            self.lost /= 2;
        }
    }
}

#[cfg(test)]
mod tests;
