//! Congestion control that tells a lossy link from a full one: quinn's Cubic (RFC 9438), which hears of a loss only if the link is full.
//!
//! Cubic takes each lost packet for a full queue. With 1 % loss and a round trip of 80 ms, that leaves less than 3 Mb/s of any link, and
//! live parts become gaps. Here a loss counts in two cases: packets also wait in a queue, so that the round trips exceed the shortest
//! one; or so many packets are lost that a queue must be full that is too short to be seen. ECN marks and persistent congestion
//! (RFC 9002, 7.6) always count.
//!
//! quinn's BBR was tried. It is as good over loss, but its window grows without bound while the application sends less than the link
//! takes, as a live stream always does. Over 5 Mb/s with a queue of 15 KB it lost 4,800 packets of a minute of 3 Mb/s, Cubic 190. The
//! tests make the comparison.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

/// The shortest round trip is that of the last one to two of these: a longer route is learnt, and a standing queue isn't soon taken
/// for one.
const MIN_RTT_SPAN: Duration = Duration::from_secs(60);
/// A queue stands if the newest round trips exceed the shortest one by a quarter of it, and at least by the delay that an
/// acknowledgement may have (RFC 9000, 18.2: max_ack_delay).
const QUEUE_MIN: Duration = Duration::from_millis(25);
/// All of this many packets, acknowledged last, must show the queue: if a queue made another packet lost, they have waited in it, too.
/// A single late packet shows no queue.
const LAST: usize = 8;
/// The bytes of one packet. A full queue loses several in a row, or another one within the next round trip.
const ALONE_MAX: u64 = 1_500;
/// The percentage of lost bytes above which a queue must be full, seen or not. Radio links that work lose less.
const LOST_PERCENT_MAX: u64 = 15;
/// The share of lost bytes is that of the last one to two of these: about a second of a 3 Mb/s stream. Less would be chance.
const SHARE_SPAN: u64 = 128 << 10;

/// Makes the controller of each link.
#[derive(Debug, Default)]
pub(crate) struct LossTolerant(Arc<CubicConfig>);

impl ControllerFactory for LossTolerant {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::clone(&self.0).build(now, current_mtu);
        Box::new(Judged { cubic, path: Path::default() })
    }
}

/// Cubic, and the path that decides which losses it hears of.
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

/// A model of a path, from acknowledgements and losses.
#[derive(Clone, Debug, Default)]
struct Path {
    /// The round trips of the packets acknowledged last, with the delay of their acknowledgements; the newest comes last.
    last: VecDeque<Duration>,
    /// The shortest round trip of this span, with the span's start, and of the span before.
    min_rtt: Option<(Instant, Duration)>,
    min_rtt_before: Option<Duration>,
    /// A loss that a queue may have caused: when it was noticed, when the packet was sent, and its bytes.
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
        self.min_rtt = match self.min_rtt {
            Some((since, min_rtt)) if now.saturating_duration_since(since) < MIN_RTT_SPAN => {
                Some((since, min_rtt.min(rtt)))
            }
            ended => {
                self.min_rtt_before = ended.map(|(_, min_rtt)| min_rtt);
                Some((now, rtt))
            }
        };
        self.acked += bytes;
        self.age();
    }

    /// Takes a loss. Returns whether the link is full, as far as that can be told now. If a single packet is lost while a queue stands,
    /// a radio link may have held up all others: [`Path::judged`] tells later.
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

    /// Returns the loss that was left open, if the queue still stands a round trip later.
    fn judged(&mut self, now: Instant) -> Option<(Instant, u64)> {
        let (since, sent, bytes) = self.open?;
        if now.saturating_duration_since(since) < self.min_rtt()? {
            return None;
        }
        self.open = None;
        self.queues().then_some((sent, bytes))
    }

    fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt.map(|(_, min_rtt)| min_rtt).into_iter().chain(self.min_rtt_before).min()
    }

    fn queues(&self) -> bool {
        let min_rtt = self.min_rtt();
        let standing = self.last.iter().min();
        min_rtt.zip(standing).is_some_and(|(min_rtt, standing)| *standing > min_rtt + (min_rtt / 4).max(QUEUE_MIN))
    }

    fn loses_many(&self) -> bool {
        let all = self.acked + self.lost;
        all >= SHARE_SPAN && self.lost * 100 > all * LOST_PERCENT_MAX
    }

    /// Halves the older counts.
    fn age(&mut self) {
        if self.acked + self.lost >= 2 * SHARE_SPAN {
            self.acked /= 2;
            self.lost /= 2;
        }
    }
}

#[cfg(test)]
mod tests;
