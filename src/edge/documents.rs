//! Rendered documents: each is rendered once a publication, and shared by all requests (invariant 8).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use damson_core::manifest::dash::Timing;
use damson_core::manifest::directives::Skip;
use damson_core::manifest::hls_history::HlsHistory;
use damson_core::manifest::listed::Listed;
use damson_core::manifest::{dash, hls};
use damson_core::model::TrackId;
use damson_core::model::time::UnixTime;
use hyper::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue, VARY};

use super::headers::{self, Lifetime, Urgency};

/// A document, and the header fields of its responses.
#[derive(Debug)]
pub(crate) struct Document {
    plain: Bytes,
    /// A strong ETag, to compare with.
    pub(crate) etag: HeaderValue,
    /// The header fields of all its responses.
    headers: HeaderMap,
    /// `Cache-Control` of a response to a blocking request.
    blocking: HeaderValue,
    gzip: OnceLock<Bytes>,
    /// The header fields as HTTP/1 writes them, by coding, and by whether the request was blocking.
    fields: [[OnceLock<Bytes>; 2]; 2],
}

/// The content coding of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Plain,
    Gzip,
}

impl Document {
    /// Makes the document of a stream, as of its publication at `published`.
    fn rendered(text: String, content_type: &'static str, target: u32, published: UnixTime) -> Arc<Self> {
        let plain = Bytes::from(text);
        let etag = headers::etag(blake3::hash(&plain).as_bytes());
        let mut document = Document::new(plain, OnceLock::new(), etag, content_type, target);
        headers::published(&mut document.headers, published);
        Urgency::DOCUMENT.set(&mut document.headers);
        Arc::new(document)
    }

    /// Makes a document; `target` is TARGETDURATION in seconds.
    pub(crate) fn new(
        plain: Bytes,
        gzip: OnceLock<Bytes>,
        etag: HeaderValue,
        content_type: &'static str,
        target: u32,
    ) -> Self {
        let mut headers = headers::common(content_type, Lifetime::Plain.value(target));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        // Both codings share the tag, so it is a weak one (RFC 9110 8.8.3.3).
        headers.insert(ETAG, headers::text(&format!("W/{}", etag.to_str().unwrap_or("\"\""))));
        Document { plain, etag, headers, blocking: Lifetime::Blocking.value(target), gzip, fields: Default::default() }
    }

    /// Returns the header fields of a response.
    pub(crate) fn headers(&self, coding: Coding, blocking: bool) -> HeaderMap {
        let mut headers = self.headers.clone();
        if blocking {
            headers.insert(CACHE_CONTROL, self.blocking.clone());
        }
        if coding == Coding::Gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(self.body(coding).len()));
        headers
    }

    /// Returns the header fields as HTTP/1 writes them.
    pub(crate) fn fields(&self, coding: Coding, blocking: bool) -> Bytes {
        let fields = &self.fields[usize::from(coding == Coding::Gzip)][usize::from(blocking)];
        fields.get_or_init(|| headers::written(&self.headers(coding, blocking))).clone()
    }

    /// Returns the bytes; the first request for gzip compresses them.
    pub(crate) fn body(&self, coding: Coding) -> Bytes {
        if coding == Coding::Plain {
            return self.plain.clone();
        }
        let compress = || {
            let out = Vec::with_capacity(self.plain.len() / 4);
            // The fastest level, since playlists are repetitive and short-lived.
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
            let written = encoder.write_all(&self.plain).and_then(|()| encoder.finish());
            // Writing to memory can't fail.
            written.map(Bytes::from).unwrap_or_default()
        };
        self.gzip.get_or_init(compress).clone()
    }
}

/// The key of a document of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Which {
    Multivariant,
    /// A media playlist, or a delta update of it.
    Media(TrackId, Skip),
    /// The MPD; until the end `follows` makes no difference.
    Mpd {
        follows: bool,
    },
}

/// The documents of a stream, as of one version of its window.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    version: u64,
    published: UnixTime,
    rendered: BTreeMap<Which, Arc<Document>>,
    history: HlsHistory,
}

impl Documents {
    /// Drops the documents of other versions than `version`, which was published at `published`.
    pub(crate) fn refresh(&mut self, version: u64, published: UnixTime) {
        if self.version != version {
            self.version = version;
            self.published = published;
            self.rendered.clear();
        }
    }

    /// Returns a document, and renders it unless it already is; `None` before there is anything to render.
    pub(crate) fn get(&mut self, listed: Listed<'_>, which: Which, timing: Timing) -> Option<Arc<Document>> {
        if let Some(document) = self.rendered.get(&which) {
            return Some(Arc::clone(document));
        }
        let target = listed.window.record()?.target_duration;
        let (text, content_type) = match which {
            Which::Multivariant => (hls::multivariant(listed.window)?, hls::CONTENT_TYPE),
            Which::Media(id, skip) => (hls::media(listed, &mut self.history, id, skip)?, hls::CONTENT_TYPE),
            Which::Mpd { follows } => (dash::mpd(listed, timing, follows)?, dash::CONTENT_TYPE),
        };
        let document = Document::rendered(text, content_type, target, self.published);
        self.rendered.insert(which, Arc::clone(&document));
        Some(document)
    }
}
