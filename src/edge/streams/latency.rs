//! Where the time of a stream's newest parts went, for those who ask and those who are told live.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use damson_core::model::latency::RecentLatencies;
use damson_core::model::time::Time;
use damson_core::model::{LatencyBreakdown, TrackId};
use damson_core::window::Part;
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// A client may be so many parts behind: three seconds of four tracks.
pub(crate) const BEHIND_MAX: usize = 64;

/// A part that was listed.
#[derive(Debug)]
pub(crate) struct ListedPart {
    account: Arc<LatencyBreakdown>,
    /// Its message: rendered by the first who sends it, shared by all.
    text: OnceLock<Utf8Bytes>,
}

impl ListedPart {
    /// Returns where its time went.
    pub(crate) fn account(&self) -> &LatencyBreakdown {
        &self.account
    }

    /// Returns its message, rendered if it isn't yet.
    pub(crate) fn text(&self, render: impl FnOnce(&LatencyBreakdown) -> String) -> Utf8Bytes {
        self.text.get_or_init(|| render(&self.account).into()).clone()
    }
}

/// The accounts of a stream's newest parts, and those who are told of each more.
#[derive(Debug)]
pub(crate) struct ListedParts {
    accounts: RecentLatencies,
    listeners: broadcast::Sender<Arc<ListedPart>>,
}

impl Default for ListedParts {
    fn default() -> Self {
        ListedParts { accounts: RecentLatencies::default(), listeners: broadcast::Sender::new(BEHIND_MAX) }
    }
}

impl ListedParts {
    /// Takes in a part that was listed just now, and tells of it; returns its account, if it has one.
    pub(crate) fn push(&mut self, part: &Part) -> Option<Arc<LatencyBreakdown>> {
        let account = Arc::new(part.latency()?);
        // An error says that nobody listens.
        let _ = self.listeners.send(Arc::new(ListedPart { account: Arc::clone(&account), text: OnceLock::new() }));
        self.accounts.push(Arc::clone(&account));
        Some(account)
    }

    /// Forgets all of them: a new life.
    pub(crate) fn clear(&mut self) {
        self.accounts.clear();
    }

    /// Returns the accounts of a track's parts, or of all, oldest first.
    pub(crate) fn of(
        &self,
        now: Time,
        track: Option<TrackId>,
    ) -> impl DoubleEndedIterator<Item = &Arc<LatencyBreakdown>> {
        let is_wanted = move |account: &&Arc<LatencyBreakdown>| track.is_none_or(|track| account.id.track == track);
        self.accounts.within(now, Duration::MAX).filter(is_wanted)
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
    use damson_core::testing::synthetic;
    use damson_core::testing::synthetic::{AUDIO, FIRST_MSN, VIDEO};

    /// A part that was listed after so many milliseconds.
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
        assert!(parts.push(&part(VIDEO, 2, 0)).is_none(), "what an archive kept has no account");
        let now = Time::from_millis(2_000);
        let count = |track| parts.of(now, track).count();
        assert_eq!([count(None), count(Some(VIDEO)), count(Some(AUDIO))], [3, 2, 1]);
        let told = listener.try_recv().expect("told");
        assert_eq!((told.account().id.track, told.account().id.part), (VIDEO, 0));
        let mut rendered = 0;
        for _ in 0..2 {
            let text = told.text(|account| {
                rendered += 1;
                format!("part {}", account.id.part)
            });
            assert_eq!(text.as_str(), "part 0");
        }
        assert_eq!(rendered, 1, "once for all who listen");
        parts.clear();
        assert_eq!(parts.of(now, None).count(), 0);
    }
}
