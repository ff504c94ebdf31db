//! The body of a segment under way, which grows part by part.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use damson_core::model::limits::hold;
use damson_core::model::{LifeId, Msn, TrackId};
use damson_core::window::held_requests::{WaitFor, Wake};
use prometheus_client::metrics::counter::Counter;

use super::chunks;
use crate::clock;
use crate::edge::streams::Stream;
use crate::edge::streams::stream::{Hold, StreamState};

/// Why a response under way is broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FollowError {
    /// A part of the segment is a gap.
    #[error("a part of the segment is missing")]
    Gap,
    /// The next part didn't come for as long as a request is held.
    #[error("the next part didn't come in time")]
    TimedOut,
    /// The segment left the window, or its life ended.
    #[error("the segment is gone")]
    Gone,
    /// The node goes down.
    #[error("the edge is going down")]
    Closing,
}

/// Sends each part of a segment as it is listed (LL-DASH: availabilityTimeComplete="false").
pub(crate) struct Follow {
    stream: Arc<Stream>,
    life: LifeId,
    track: TrackId,
    msn: Msn,
    /// Parts taken so far.
    taken: u16,
    ready: VecDeque<Bytes>,
    hold: Option<Hold>,
    done: bool,
    /// Bytes sent: how many it will be isn't known when the response starts.
    sent: Counter,
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Follow({} of {:?}, {} parts)", self.msn, self.track, self.taken)
    }
}

impl Follow {
    /// Follows segment `msn`, and counts in `sent` what it sends.
    pub(crate) fn new(stream: Arc<Stream>, life: LifeId, track: TrackId, msn: Msn, sent: Counter) -> Self {
        Follow { stream, life, track, msn, taken: 0, ready: VecDeque::new(), hold: None, done: false, sent }
    }

    /// Returns the next piece, when it is there.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, FollowError>>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                self.sent.inc_by(chunk.len() as u64);
                return Poll::Ready(Some(Ok(chunk)));
            }
            if self.done {
                return Poll::Ready(None);
            }
            if let Some(hold) = &mut self.hold {
                let wake = ready!(Pin::new(hold).poll(cx));
                self.hold = None;
                match wake {
                    Wake::Look => {}
                    Wake::TimedOut => return self.torn(FollowError::TimedOut),
                    Wake::Closing => return self.torn(FollowError::Closing),
                }
            }
            let stream = Arc::clone(&self.stream);
            if let Err(torn) = self.take(&mut stream.lock()) {
                return self.torn(torn);
            }
        }
    }

    /// Whether nothing more is sent. All of the segment may have been taken, and not be sent yet.
    pub(crate) fn is_over(&self) -> bool {
        self.done && self.ready.is_empty()
    }

    fn torn(&mut self, torn: FollowError) -> Poll<Option<Result<Bytes, FollowError>>> {
        self.done = true;
        Poll::Ready(Some(Err(torn)))
    }

    /// Takes what is listed, or a place among the held requests.
    fn take(&mut self, state: &mut StreamState) -> Result<(), FollowError> {
        let record = state.window().record().filter(|r| r.life == self.life).ok_or(FollowError::Gone)?;
        let longest = hold(record);
        let track = state.window().track(self.track).ok_or(FollowError::Gone)?;
        let segment = track.segment_under_way(self.msn).ok_or(FollowError::Gone)?;
        for part in segment.parts().skip(usize::from(self.taken)) {
            if part.is_lost() {
                // What came before it is sent; the response then breaks off, so that no player takes it for whole.
                return if self.ready.is_empty() { Err(FollowError::Gap) } else { Ok(()) };
            }
            self.taken += 1;
            self.ready.extend(chunks::of_segment(std::iter::once(part)));
        }
        if segment.is_complete() {
            self.done = true;
        } else if self.ready.is_empty() {
            let place = WaitFor::Part(self.track, self.msn, self.taken);
            self.hold =
                Some(state.wait(&self.stream, place, clock::now() + longest).map_err(|_| FollowError::TimedOut)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::{poll_fn, ready};

    use super::*;
    use crate::clock;
    use crate::edge::streams::Store;
    use crate::observe::Metrics;
    use damson_core::model::Record;
    use damson_core::testing::synthetic;
    use damson_core::testing::synthetic::{FIRST_MSN, PARTS, VIDEO};

    /// A stream of no part yet, and a body that follows its first segment.
    fn follow() -> (Arc<Store>, Record, Follow) {
        let (store, record) = (Store::new(Arc::new(Metrics::default())), synthetic::record("cam1"));
        store.record(record.clone());
        put(&store, &record, 0);
        let stream = store.get("cam1").expect("held");
        let follow = Follow::new(stream, record.life, VIDEO, FIRST_MSN, Counter::default());
        (store, record, follow)
    }

    /// A part of so many bytes more than 100 as its number is.
    fn put(store: &Store, record: &Record, part: u16) {
        let (header, body, trace) = synthetic::part(record, VIDEO, FIRST_MSN, part, 100 + usize::from(part));
        store.part(&record.stream, header, body, trace, clock::now());
    }

    async fn next(follow: &mut Follow) -> Option<Result<usize, FollowError>> {
        poll_fn(|cx| follow.poll(cx)).await.map(|piece| piece.map(|bytes| bytes.len()))
    }

    /// Whether nothing is there yet.
    async fn waits(follow: &mut Follow) -> bool {
        tokio::select! { biased; _ = next(follow) => false, () = ready(()) => true }
    }

    #[tokio::test]
    async fn a_segment_is_sent_as_it_grows() {
        let (store, record, mut follow) = follow();
        assert_eq!(next(&mut follow).await, Some(Ok(100)));
        assert!(waits(&mut follow).await && store.waiting() == 1);
        for part in 1..PARTS {
            put(&store, &record, part);
            assert_eq!(next(&mut follow).await, Some(Ok(100 + usize::from(part))));
        }
        assert!(follow.is_over() && store.waiting() == 0);
        assert_eq!(next(&mut follow).await, None);
        assert_eq!(follow.sent.get(), (0..u64::from(PARTS)).map(|part| 100 + part).sum::<u64>());
    }

    #[tokio::test]
    async fn it_breaks_off_where_the_node_goes_down_or_the_life_ends() {
        let (store, _, mut of_closed) = follow();
        assert!(next(&mut of_closed).await.is_some() && waits(&mut of_closed).await);
        store.close();
        assert_eq!(next(&mut of_closed).await, Some(Err(FollowError::Closing)));
        assert!(of_closed.is_over());
        let (store, record, mut of_ended) = follow();
        assert!(next(&mut of_ended).await.is_some() && waits(&mut of_ended).await);
        let (life, epoch) = (
            LifeId(record.life.0 + 1),
            damson_core::model::Epoch { counter: record.epoch.counter + 1, ..record.epoch },
        );
        store.record(Record { life, epoch, first_msn: FIRST_MSN + 5, ..record });
        assert_eq!(next(&mut of_ended).await, Some(Err(FollowError::Gone)));
    }
}
