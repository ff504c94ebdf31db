//! Rendered documents: once a publication, shared by all who ask (invariant 8).

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

use super::headers;
use super::headers::{Lifetime, Urgency};

/// A document, and what its responses' headers say.
#[derive(Debug)]
pub(crate) struct Document {
    /// As rendered.
    plain: Bytes,
    /// A strong one, to compare with.
    pub(crate) etag: HeaderValue,
    /// What all its responses say.
    headers: HeaderMap,
    /// `Cache-Control` where it was blocked for.
    blocking: HeaderValue,
    gzip: OnceLock<Bytes>,
    /// The header fields as HTTP/1 writes them, by coding, and by whether it was blocked for.
    fields: [[OnceLock<Bytes>; 2]; 2],
}

/// How a document is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// As it is.
    Plain,
    /// By gzip.
    Gzip,
}

impl Document {
    /// Makes a document of what a stream had `published` then.
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
        // One tag for both encodings, which are one document: a weak one then (RFC 9110 8.8.3.3).
        headers.insert(ETAG, headers::text(&format!("W/{}", etag.to_str().unwrap_or("\"\""))));
        Document { plain, etag, headers, blocking: Lifetime::Blocking.value(target), gzip, fields: Default::default() }
    }

    /// What a response says.
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

    /// The same as HTTP/1 writes it.
    pub(crate) fn fields(&self, coding: Coding, blocking: bool) -> Bytes {
        let fields = &self.fields[usize::from(coding == Coding::Gzip)][usize::from(blocking)];
        fields.get_or_init(|| headers::written(&self.headers(coding, blocking))).clone()
    }

    /// Its bytes.
    pub(crate) fn body(&self, coding: Coding) -> Bytes {
        match coding {
            Coding::Plain => self.plain.clone(),
            Coding::Gzip => self.gzip(),
        }
    }

    /// Compressed, by the first who asks.
    fn gzip(&self) -> Bytes {
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
pub(crate) enum Which {
    Multivariant,
    /// A media playlist, or an update of it.
    Media(TrackId, Skip),
    Manifest,
    /// The MPD after the end, for who has read it before.
    Update,
}

/// A stream's documents as of one version of its window.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    version: u64,
    published: UnixTime,
    rendered: BTreeMap<Which, Arc<Document>>,
    history: HlsHistory,
}

impl Documents {
    /// Forgets what is older than `version`, which was published at `published`.
    pub(crate) fn refresh(&mut self, version: u64, published: UnixTime) {
        if self.version != version {
            self.version = version;
            self.published = published;
            self.rendered.clear();
        }
    }

    /// Returns a document, which is rendered unless it already is; `None` before there is anything to render.
    pub(crate) fn get(&mut self, listed: Listed<'_>, which: Which, timing: Timing) -> Option<Arc<Document>> {
        if let Some(document) = self.rendered.get(&which) {
            return Some(Arc::clone(document));
        }
        let target = listed.window.record()?.target_duration;
        let (text, content_type) = match which {
            Which::Multivariant => (hls::multivariant(listed.window)?, hls::CONTENT_TYPE),
            Which::Media(id, skip) => (hls::update(listed, &mut self.history, id, skip)?, hls::CONTENT_TYPE),
            Which::Manifest => (dash::manifest(listed, timing)?, dash::CONTENT_TYPE),
            Which::Update => (dash::update(listed, timing)?, dash::CONTENT_TYPE),
        };
        let document = Document::rendered(text, content_type, target, self.published);
        self.rendered.insert(which, Arc::clone(&document));
        Some(document)
    }
}
