//! Rendered documents: once a publication, shared by all who ask (invariant 8).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hyper::header::HeaderValue;

use super::headers;
use crate::live::TrackId;

/// A document, and what its responses' headers say.
#[derive(Debug)]
pub(super) struct Document {
    /// As rendered.
    pub(super) plain: Bytes,
    pub(super) etag: HeaderValue,
    pub(super) content_type: &'static str,
    gzip: OnceLock<Bytes>,
}

impl Document {
    pub(super) fn new(text: String, content_type: &'static str) -> Arc<Self> {
        let plain = Bytes::from(text);
        let etag = headers::etag(blake3::hash(&plain).as_bytes());
        Arc::new(Document { plain, etag, content_type, gzip: OnceLock::new() })
    }

    /// What is compressed already.
    pub(super) fn compressed(plain: Bytes, gzip: Bytes, etag: HeaderValue, content_type: &'static str) -> Self {
        Document { plain, etag, content_type, gzip: OnceLock::from(gzip) }
    }

    /// Compressed, by the first who asks.
    pub(super) fn gzip(&self) -> Bytes {
        let compress = || {
            let out = Vec::with_capacity(self.plain.len() / 4);
            // The fastest level: playlists are repetitive, and short-lived.
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
            let written = encoder.write_all(&self.plain).and_then(|()| encoder.finish());
            // Writing to memory can't fail.
            written.map(Bytes::from).unwrap_or_default()
        };
        self.gzip.get_or_init(compress).clone()
    }
}

/// Which document of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Which {
    Multivariant,
    Media(TrackId),
    Manifest,
}

/// A stream's documents as of one version of its window.
#[derive(Debug, Default)]
pub(super) struct Documents {
    version: u64,
    rendered: BTreeMap<Which, Arc<Document>>,
}

impl Documents {
    /// Forgets what is older than `version`.
    pub(super) fn refresh(&mut self, version: u64) {
        if self.version != version {
            self.version = version;
            self.rendered.clear();
        }
    }

    /// A document, rendered if it isn't yet; `None` if there is nothing to render yet.
    pub(super) fn get(
        &mut self,
        which: Which,
        content_type: &'static str,
        render: impl FnOnce() -> Option<String>,
    ) -> Option<Arc<Document>> {
        if let Some(document) = self.rendered.get(&which) {
            return Some(Arc::clone(document));
        }
        let document = Document::new(render()?, content_type);
        self.rendered.insert(which, Arc::clone(&document));
        Some(document)
    }
}
