//! The body of a response: bytes that are known when the response starts, or a segment under way.

use std::mem;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use damson_core::manifest::HttpError;
use futures_util::stream::{BoxStream, StreamExt as _};
use http_body::{Frame, SizeHint};

use super::chunks::Chunks;

pub(crate) enum ResponseBody {
    /// Bytes that are known when the response starts.
    Chain(Chunks),
    /// A segment under way.
    Follow(BoxStream<'static, Result<Chunks, HttpError>>),
}

impl ResponseBody {
    pub(crate) fn empty() -> Self {
        Self::Chain(Chunks::default())
    }

    pub(crate) fn chain(chunks: impl IntoIterator<Item = Bytes>) -> Self {
        Self::Chain(chunks.into_iter().collect())
    }

    /// Returns the bytes `range` of a chain, shared and not copied.
    pub(crate) fn slice(self, range: Range<u64>) -> Self {
        match self {
            Self::Chain(chunks) => Self::Chain(chunks.slice(range)),
            Self::Follow(_) => self,
        }
    }

    /// Returns the length, if it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Chain(chunks) => Some(chunks.remaining() as u64),
            Self::Follow(_) => None,
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Chunks;
    type Error = HttpError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunks>, HttpError>>> {
        match self.get_mut() {
            Self::Chain(chunks) => Poll::Ready(chunks.has_remaining().then(|| Ok(Frame::data(mem::take(chunks))))),
            Self::Follow(chunks) => chunks.poll_next_unpin(cx).map(|next| next.map(|chunks| chunks.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Chain(chunks) => !chunks.has_remaining(),
            Self::Follow(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
