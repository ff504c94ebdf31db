//! Response bodies: chains of `Bytes` that the window holds, never copied; and the segment under way,
//! which grows part by part.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::mem;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;

use super::store::{Hold, State, Stream};
use damson_core::cmaf::cmaf;
use damson_core::model::limits::hold;
use damson_core::model::{LifeId, Msn, TrackId};
use damson_core::window::Part;
use damson_core::window::held_requests::{WaitFor, Wake};

/// Bytes in the order of sending, each chunk shared with the window or a rendered document. A body goes to
/// hyper as one of these, and out in as few writev calls as the socket has room for.
#[derive(Debug, Default)]
pub struct Chunks {
    chunks: VecDeque<Bytes>,
    /// Bytes in `chunks`.
    left: usize,
}

impl Chunks {
    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.chunks.iter()
    }

    /// `first`, and then these.
    pub(crate) fn after(mut self, first: Bytes) -> Self {
        self.left += first.len();
        self.chunks.push_front(first);
        self
    }

    /// These, and then `last`.
    pub(crate) fn before(mut self, last: Bytes) -> Self {
        self.left += last.len();
        self.chunks.push_back(last);
        self
    }

    /// Their bytes `range`; shared, not copied.
    fn slice(self, range: Range<u64>) -> Self {
        let mut at = 0_u64;
        let pieces = self.chunks.into_iter().map(|chunk| {
            let len = chunk.len() as u64;
            let from = range.start.clamp(at, at + len) - at;
            let to = range.end.clamp(at, at + len) - at;
            at += len;
            // Both are at most the chunk's length, which is a usize.
            chunk.slice(from as usize..to.max(from) as usize)
        });
        pieces.collect()
    }
}

impl FromIterator<Bytes> for Chunks {
    fn from_iter<I: IntoIterator<Item = Bytes>>(chunks: I) -> Self {
        let chunks: VecDeque<Bytes> = chunks.into_iter().filter(|c| !c.is_empty()).collect();
        let left = chunks.iter().map(Bytes::len).sum();
        Chunks { chunks, left }
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let pairs = dst.iter_mut().zip(&self.chunks);
        pairs.map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }

    fn advance(&mut self, mut n: usize) {
        assert!(n <= self.left, "Buf::advance past the end");
        self.left -= n;
        while let Some(front) = self.chunks.front_mut().filter(|_| n > 0) {
            let step = n.min(front.len());
            front.advance(step);
            n -= step;
            if front.is_empty() {
                self.chunks.pop_front();
            }
        }
    }
}

/// A response's body.
#[derive(Debug)]
pub enum Body {
    /// What is known when the response starts.
    Chain(Chunks),
    /// A segment that isn't whole yet.
    Follow(Follow),
}

impl Body {
    pub(crate) fn empty() -> Self {
        Body::Chain(Chunks::default())
    }

    pub(crate) fn chain(chunks: impl IntoIterator<Item = Bytes>) -> Self {
        Body::Chain(chunks.into_iter().collect())
    }

    /// The bytes `range` of a chain; shared, not copied.
    pub(crate) fn slice(self, range: Range<u64>) -> Self {
        match self {
            Body::Chain(chunks) => Body::Chain(chunks.slice(range)),
            Body::Follow(_) => self,
        }
    }

    /// Its length where it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Body::Chain(chunks) => Some(chunks.left as u64),
            Body::Follow(_) => None,
        }
    }
}

/// What is sent for a part. A publisher's silence is a chunk without samples: a DASH player asks for each `$Number$` in
/// turn, and takes a 404 for a fault. HLS's players are told of the gap, and don't ask.
pub(crate) fn of(part: &Part) -> Bytes {
    if part.is_gap() { cmaf::silence(part.header.decode_time) } else { part.body.clone() }
}

/// What is sent for parts as one segment: nothing where the sample before is held.
pub(crate) fn of_segment<'a>(parts: impl Iterator<Item = &'a Part>) -> impl Iterator<Item = Bytes> {
    parts.filter(|part| !part.is_held()).map(of)
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body::chain([bytes])
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

/// Why a response under way is broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Torn {
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

impl http_body::Body for Body {
    type Data = Chunks;
    type Error = Torn;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunks>, Torn>>> {
        match self.get_mut() {
            Body::Chain(chunks) => Poll::Ready((chunks.left > 0).then(|| Ok(Frame::data(mem::take(chunks))))),
            Body::Follow(follow) => {
                follow.poll(cx).map(|next| next.map(|part| part.map(|part| Frame::data(Chunks::from_iter([part])))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Chain(chunks) => chunks.left == 0,
            // All of the segment may have been taken, and not be sent yet.
            Body::Follow(follow) => follow.done && follow.ready.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Sends each part of a segment as it is listed (LL-DASH: availabilityTimeComplete="false").
pub struct Follow {
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

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Torn>>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                self.sent.inc_by(chunk.len() as u64);
                return Poll::Ready(Some(Ok(chunk)));
            }
            if self.done {
                return Poll::Ready(None);
            }
            if let Some(hold) = &mut self.hold {
                let wake = ready!(hold.poll(cx));
                self.hold = None;
                match wake {
                    Wake::Look => {}
                    Wake::TimedOut => return self.torn(Torn::TimedOut),
                    Wake::Closing => return self.torn(Torn::Closing),
                }
            }
            let stream = Arc::clone(&self.stream);
            if let Err(torn) = self.take(&mut stream.lock()) {
                return self.torn(torn);
            }
        }
    }

    fn torn(&mut self, torn: Torn) -> Poll<Option<Result<Bytes, Torn>>> {
        self.done = true;
        Poll::Ready(Some(Err(torn)))
    }

    /// Takes what is listed, or a place among the waiters.
    fn take(&mut self, state: &mut State) -> Result<(), Torn> {
        let record = state.window().record().filter(|r| r.life == self.life).ok_or(Torn::Gone)?;
        let hold = hold(record);
        let track = state.window().track(self.track).ok_or(Torn::Gone)?;
        let segment = track.segment_under_way(self.msn).ok_or(Torn::Gone)?;
        for part in segment.parts().skip(usize::from(self.taken)) {
            if part.is_lost() {
                // What came before it is sent; the response then breaks off, so that no player takes it for whole.
                return if self.ready.is_empty() { Err(Torn::Gap) } else { Ok(()) };
            }
            self.taken += 1;
            self.ready.extend(of_segment(std::iter::once(part)));
        }
        if segment.is_complete() {
            self.done = true;
        } else if self.ready.is_empty() {
            let place = WaitFor::Part(self.track, self.msn, self.taken);
            self.hold = Some(state.wait(&self.stream, place, hold).map_err(|_| Torn::TimedOut)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_shares_the_chunks_it_touches() {
        let check = |range: Range<u64>, expect: &[&str]| {
            let chain = Body::chain(["abc", "", "de", "fgh"].map(|c| Bytes::from_static(c.as_bytes())));
            let Body::Chain(Chunks { chunks, left }) = chain.slice(range) else { panic!("a chain") };
            assert_eq!(chunks, expect);
            assert_eq!(left, expect.iter().map(|c| c.len()).sum::<usize>());
        };
        check(0..8, &["abc", "de", "fgh"]);
        check(2..4, &["c", "d"]);
        check(3..5, &["de"]);
        check(7..8, &["h"]);
        check(8..8, &[]);
    }

    #[test]
    fn what_a_socket_takes_is_let_go_of() {
        let mut chunks: Chunks = ["abc", "de", "fgh"].map(|c| Bytes::from_static(c.as_bytes())).into_iter().collect();
        let seen = |chunks: &Chunks| {
            let mut slices = [IoSlice::new(&[]); 2];
            let n = chunks.chunks_vectored(&mut slices);
            slices[..n].iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect::<Vec<_>>()
        };
        for (take, expect) in [(0, &["abc", "de"][..]), (2, &["c", "de"]), (1, &["de", "fgh"]), (4, &["h"]), (1, &[])] {
            chunks.advance(take);
            assert_eq!(seen(&chunks), expect, "after {take}");
            assert_eq!(chunks.chunk(), expect.first().map_or("", |s| s).as_bytes());
        }
        assert!(!chunks.has_remaining());
    }
}
