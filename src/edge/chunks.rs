//! The bytes of a response: a chain of `Bytes` of the window or of a document, never copied.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

use bytes::{Buf, Bytes};
use damson_core::cmaf;
use damson_core::window::Part;

/// Bytes in the order of sending. hyper takes a body as one of these, and sends it in as few writev calls as the socket
/// has room for.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    chunks: VecDeque<Bytes>,
    /// The number of bytes in `chunks`.
    left: usize,
}

impl Chunks {
    /// Returns the chunks.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.chunks.iter()
    }

    /// Puts `first` before the chunks.
    pub(crate) fn after(mut self, first: Bytes) -> Self {
        self.left += first.len();
        self.chunks.push_front(first);
        self
    }

    /// Puts `last` behind the chunks.
    pub(crate) fn before(mut self, last: Bytes) -> Self {
        self.left += last.len();
        self.chunks.push_back(last);
        self
    }

    /// Returns the bytes `range`, shared and not copied.
    pub(crate) fn slice(self, range: Range<u64>) -> Self {
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

/// Returns the bytes that are sent for a part. A silence of the publisher is a chunk without samples: a DASH player
/// asks for each `$Number$` in turn, and takes a 404 for an error. HLS players see the gap in the playlist, and don't
/// ask for it.
pub(crate) fn of_part(part: &Part) -> Bytes {
    if part.is_gap() { cmaf::silence(part.header.decode_time) } else { part.body.clone() }
}

/// Returns the bytes that are sent for parts as one segment. A part in which the sample before is held has none.
pub(crate) fn of_segment<'a>(parts: impl Iterator<Item = &'a Part>) -> impl Iterator<Item = Bytes> {
    parts.filter(|part| !part.is_held()).map(of_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_shares_the_chunks_it_touches() {
        let check = |range: Range<u64>, expect: &[&str]| {
            let all = ["abc", "", "de", "fgh"].map(|c| Bytes::from_static(c.as_bytes()));
            let Chunks { chunks, left } = Chunks::from_iter(all).slice(range);
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
