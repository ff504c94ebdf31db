//! The latency of a stream's newest parts, for the API and for live traces.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use damson_core::model::latency::RecentLatencies;
use damson_core::model::time::Time;
use damson_core::model::{LatencyBreakdown, TrackId};
use damson_core::window::Part;
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Most parts that a live trace may be behind: three seconds of four tracks.
pub(crate) const BEHIND_MAX: usize = 64;

/// A part that was listed.
#[derive(Debug)]
pub(crate) struct ListedPart {
    breakdown: Arc<LatencyBreakdown>,
    /// Its live message, rendered once for all clients.
    text: OnceLock<Utf8Bytes>,
}

impl ListedPart {
    /// Returns its latency.
    pub(crate) fn breakdown(&self) -> &LatencyBreakdown {
        &self.breakdown
    }

    /// Returns its live message, which is rendered unless it already is.
    pub(crate) fn text(&self, render: impl FnOnce(&LatencyBreakdown) -> String) -> Utf8Bytes {
        self.text.get_or_init(|| render(&self.breakdown).into()).clone()
    }
}

/// The latency of a stream's newest parts, and the live traces that receive each new one.
#[derive(Debug)]
pub(crate) struct ListedParts {
    breakdowns: RecentLatencies,
    listeners: broadcast::Sender<Arc<ListedPart>>,
}

impl Default for ListedParts {
    fn default() -> Self {
        ListedParts { breakdowns: RecentLatencies::default(), listeners: broadcast::Sender::new(BEHIND_MAX) }
    }
}

impl ListedParts {
    /// Takes in a part that was listed just now, and passes it on to live traces. Returns its latency, if it has a
    /// trace.
    pub(crate) fn push(&mut self, part: &Part) -> Option<Arc<LatencyBreakdown>> {
        let breakdown = Arc::new(part.latency()?);
        // An error says that there are no live traces.
        let _ = self.listeners.send(Arc::new(ListedPart { breakdown: Arc::clone(&breakdown), text: OnceLock::new() }));
        self.breakdowns.push(Arc::clone(&breakdown));
        Some(breakdown)
    }

    /// Drops all of them, when a new life begins.
    pub(crate) fn clear(&mut self) {
        self.breakdowns.clear();
    }

    /// Returns the latency of a track's parts, or of all parts, oldest first.
    pub(crate) fn of(
        &self,
        now: Time,
        track: Option<TrackId>,
    ) -> impl DoubleEndedIterator<Item = &Arc<LatencyBreakdown>> {
        let is_wanted = move |breakdown: &&Arc<LatencyBreakdown>| track.is_none_or(|track| breakdown.id.track == track);
        self.breakdowns.within(now, Duration::MAX).filter(is_wanted)
    }

    /// Returns the parts that are listed from now on.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Arc<ListedPart>> {
        self.listeners.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use damson_core::model::{Hop, NodeId, NodeName};
    use damson_core::testing::synthetic::{self, AUDIO, FIRST_MSN, VIDEO};

    /// Makes a part that was listed at `listed_ms`.
    fn part(track: TrackId, number: u16, listed_ms: u64) -> Part {
        let record = synthetic::record("cam1");
        let (header, body, mut trace) = synthetic::part(&record, track, FIRST_MSN, number, 10);
        trace.hops = vec![Hop::by(NodeId(1), NodeName::of("ingest"))];
        let listed = Time::from_millis(listed_ms);
        Part { header, body, trace, received: listed, delivered: listed, listed }
    }

    #[test]
    fn each_listed_part_is_told_of_and_kept() {
        let mut parts = ListedParts::default();
        let mut listener = parts.follow();
        for (track, number) in [(VIDEO, 0), (AUDIO, 0), (VIDEO, 1)] {
            assert!(parts.push(&part(track, number, 1_000)).is_some());
        }
        assert!(parts.push(&part(VIDEO, 2, 0)).is_none(), "what an archive kept has no breakdown");
        let now = Time::from_millis(2_000);
        let count = |track| parts.of(now, track).count();
        assert_eq!([count(None), count(Some(VIDEO)), count(Some(AUDIO))], [3, 2, 1]);
        let told = listener.try_recv().expect("told");
        assert_eq!((told.breakdown().id.track, told.breakdown().id.part), (VIDEO, 0));
        let mut rendered = 0;
        for _ in 0..2 {
            let text = told.text(|breakdown| {
                rendered += 1;
                format!("part {}", breakdown.id.part)
            });
            assert_eq!(text.as_str(), "part 0");
        }
        assert_eq!(rendered, 1, "once for all who listen");
        parts.clear();
        assert_eq!(parts.of(now, None).count(), 0);
    }
}
