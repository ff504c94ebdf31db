//! The body of a segment under way, which is sent part by part (LL-DASH: availabilityTimeComplete="false").

use std::sync::Arc;

use bytes::Buf as _;
use damson_core::manifest::HttpError;
use damson_core::model::limits::hold;
use damson_core::model::{LifeId, Msn, TrackId};
use damson_core::window::held_requests::WaitFor;
use futures_util::stream::{BoxStream, StreamExt as _, try_unfold};
use prometheus_client::metrics::counter::Counter;

use super::chunks::{self, Chunks};
use crate::clock;
use crate::edge::streams::Stream;
use crate::edge::streams::archives::{gap, gone};
use crate::edge::streams::stream::{Requester, Step, StreamState};

/// A segment that a response follows.
struct Follow {
    stream: Arc<Stream>,
    life: LifeId,
    track: TrackId,
    msn: Msn,
    /// The number of parts taken so far.
    taken: u16,
}

/// Returns each part of segment `msn` as it is listed. Counts the bytes in `sent`, since the length isn't known when
/// the response starts. A part that is lost or late is an error, which breaks the response off, so that no player takes
/// it for whole.
pub(crate) fn follow(
    stream: Arc<Stream>,
    (life, track, msn): (LifeId, TrackId, Msn),
    sent: Counter,
) -> BoxStream<'static, Result<Chunks, HttpError>> {
    let next = async |(mut follow, sent): (Follow, Counter)| {
        let Some(chunks) = follow.next().await? else { return Ok(None) };
        sent.inc_by(chunks.remaining() as u64);
        Ok(Some((chunks, (follow, sent))))
    };
    try_unfold((Follow { stream, life, track, msn, taken: 0 }, sent), next).boxed()
}

impl Follow {
    /// Waits for the next part; returns `None` at the end of the segment.
    async fn next(&mut self) -> Result<Option<Chunks>, HttpError> {
        let stream = Arc::clone(&self.stream);
        let requester = Requester { at: clock::now(), visitor: None };
        stream.resolve(requester, |state| self.take(state)).await
    }

    fn take(&mut self, state: &StreamState) -> Result<Step<Option<Chunks>>, HttpError> {
        let record = state.window().record().filter(|r| r.life == self.life).ok_or_else(gone)?;
        let track = state.window().track(self.track).ok_or_else(gone)?;
        let segment = track.segment_under_way(self.msn).ok_or_else(gone)?;
        let mut parts = segment.parts().skip(usize::from(self.taken)).peekable();
        while let Some(part) = parts.next_if(|part| !part.is_lost()) {
            self.taken += 1;
            let chunks: Chunks = chunks::of_segment(std::iter::once(part)).collect();
            if chunks.has_remaining() {
                return Ok(Step::Answer(Some(chunks)));
            }
        }
        match parts.peek() {
            Some(_) => Err(gap()),
            None if segment.is_complete() => Ok(Step::Answer(None)),
            None => Ok(Step::Wait(WaitFor::Part(self.track, self.msn, self.taken), hold(record))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;
    use crate::edge::streams::Store;
    use crate::edge::streams::shared::closing;
    use crate::observe::Metrics;
    use damson_core::model::Record;
    use damson_core::testing::synthetic::{self, FIRST_MSN, PARTS, VIDEO};

    type Body = BoxStream<'static, Result<Chunks, HttpError>>;

    /// Makes a stream of one part, and a body that follows its first segment.
    fn followed(sent: &Counter) -> (Arc<Store>, Record, Body) {
        let (store, record) = (Store::new(Arc::new(Metrics::default())), synthetic::record("cam1"));
        store.record(record.clone());
        put(&store, &record, 0);
        let stream = store.get("cam1").expect("held");
        let body = follow(stream, (record.life, VIDEO, FIRST_MSN), sent.clone());
        (store, record, body)
    }

    /// Delivers a part, whose length is 100 bytes more than its number.
    fn put(store: &Store, record: &Record, part: u16) {
        let (header, body, trace) = synthetic::part(record, VIDEO, FIRST_MSN, part, 100 + usize::from(part));
        store.part(&record.stream, header, body, trace, clock::now());
    }

    async fn next(body: &mut Body) -> Option<Result<usize, HttpError>> {
        body.next().await.map(|piece| piece.map(|chunks| chunks.remaining()))
    }

    /// Returns true if there is nothing to send yet.
    async fn waits(follow: &mut Body) -> bool {
        tokio::select! { biased; _ = next(follow) => false, () = ready(()) => true }
    }

    #[tokio::test]
    async fn a_segment_is_sent_as_it_grows() {
        let sent = Counter::default();
        let (store, record, mut follow) = followed(&sent);
        assert_eq!(next(&mut follow).await, Some(Ok(100)));
        assert!(waits(&mut follow).await && store.waiting() == 1);
        for part in 1..PARTS {
            put(&store, &record, part);
            assert_eq!(next(&mut follow).await, Some(Ok(100 + usize::from(part))));
        }
        assert_eq!((next(&mut follow).await, store.waiting()), (None, 0));
        assert_eq!(sent.get(), (0..u64::from(PARTS)).map(|part| 100 + part).sum::<u64>());
    }

    #[tokio::test]
    async fn it_breaks_off_where_the_node_goes_down_or_the_life_ends() {
        let (store, _, mut of_closed) = followed(&Counter::default());
        assert!(next(&mut of_closed).await.is_some() && waits(&mut of_closed).await);
        store.close();
        assert_eq!(next(&mut of_closed).await, Some(Err(closing())));
        let (store, record, mut of_ended) = followed(&Counter::default());
        assert!(next(&mut of_ended).await.is_some() && waits(&mut of_ended).await);
        let (life, epoch) = (
            LifeId(record.life.0 + 1),
            damson_core::model::Epoch { counter: record.epoch.counter + 1, ..record.epoch },
        );
        store.record(Record { life, epoch, first_msn: FIRST_MSN + 5, ..record });
        assert_eq!(next(&mut of_ended).await, Some(Err(gone())));
    }
}
