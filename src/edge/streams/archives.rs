//! The segments of all streams that have left their windows: in memory, on disk, or at other nodes.

use std::sync::Arc;

use damson_core::dvr::fetch_queue::Outcome;
use damson_core::dvr::{ArchiveIndex, SegmentKey};
use damson_core::manifest::HttpError;
use damson_core::model::{Peer, StreamName};
use damson_core::window::Segment;
use parking_lot::Mutex;

use crate::dvr::{ArchiveWriter, Fetcher};
use crate::edge::byte_cache::ByteCache;

/// Most bytes of segments that have left their windows, least recently requested first out. rfc8216bis 6.2.2 wants each
/// to stay available as long as its playlist; 64 MiB hold 10 streams of 3 Mb/s for 17 s more than the window's own 8 s.
const DELISTED_BYTES_MAX: u64 = 64 << 20;

/// Most bytes of segments that were fetched from other nodes, least recently requested first out.
const FETCHED_BYTES_MAX: u64 = 64 << 20;

/// The segments of all streams that have left their windows.
#[derive(Debug)]
pub(crate) struct Archives {
    delisted: Mutex<ByteCache<SegmentKey, Arc<Segment>>>,
    fetched: Mutex<ByteCache<SegmentKey, Arc<Segment>>>,
    fetcher: Option<Arc<Fetcher>>,
    writer: Option<Arc<ArchiveWriter>>,
}

/// The places of a segment that isn't in memory.
#[derive(Debug)]
pub(crate) struct Whereabouts {
    /// Whether playlists list it.
    pub(crate) is_listed: bool,
    /// Whether this node's disk has it.
    pub(crate) is_here: bool,
    /// The other nodes that archive it.
    pub(crate) keepers: Vec<Peer>,
}

impl Archives {
    pub(crate) fn new(writer: Option<Arc<ArchiveWriter>>, fetcher: Option<Arc<Fetcher>>) -> Self {
        let memory = writer.as_ref().map_or(DELISTED_BYTES_MAX, |writer| {
            let settings = writer.settings();
            // Without a disk, `memory` bounds the archives themselves, so this cache never drops what they list.
            settings.memory + if settings.disk.is_none() { DELISTED_BYTES_MAX } else { 0 }
        });
        Archives {
            delisted: Mutex::new(ByteCache::new(memory)),
            fetched: Mutex::new(ByteCache::new(FETCHED_BYTES_MAX)),
            fetcher,
            writer,
        }
    }

    pub(crate) fn fetcher(&self) -> Option<Arc<Fetcher>> {
        self.fetcher.clone()
    }

    /// Returns the writer of this node's own archives, if it has any.
    pub(crate) fn writer(&self) -> Option<&Arc<ArchiveWriter>> {
        self.writer.as_ref()
    }

    /// Keeps a segment in memory that has left its window.
    pub(crate) fn delist(&self, key: SegmentKey, segment: Arc<Segment>) {
        let bytes = segment.length();
        self.delisted.lock().put(key, segment, bytes);
    }

    /// Returns a segment that is in memory.
    pub(crate) fn in_memory(&self, key: &SegmentKey) -> Option<Arc<Segment>> {
        let delisted = self.delisted.lock().get(key).cloned();
        delisted.or_else(|| self.fetched.lock().get(key).cloned())
    }

    /// Reads a segment of this node's archive.
    pub(crate) async fn load(&self, key: SegmentKey) -> Option<Arc<Segment>> {
        self.writer.as_ref()?.load(key).await.ok()
    }

    /// Reads a segment that isn't in memory, from the disk or from another node.
    pub(crate) async fn read(&self, key: SegmentKey, at: Whereabouts) -> Result<Arc<Segment>, HttpError> {
        if at.is_here
            && let Some(segment) = self.load(key.clone()).await
        {
            self.delist(key, Arc::clone(&segment));
            return Ok(segment);
        }
        let unreachable = || HttpError::new(503, "stream: no node that archives this segment answers; retry");
        let fetcher = self.fetcher.as_ref().filter(|_| !at.keepers.is_empty());
        let Some(fetcher) = fetcher else {
            // A listed segment may be back soon, with its nodes. Any other is older than every archive.
            return Err(if at.is_listed && !at.is_here { unreachable() } else { gone() });
        };
        match fetcher.fetch(key.clone(), at.keepers).await {
            Outcome::Here(segment) => {
                let bytes = segment.length();
                self.fetched.lock().put(key, Arc::clone(&segment), bytes);
                Ok(segment)
            }
            Outcome::Nobody => Err(gone()),
            Outcome::Unreachable => Err(unreachable()),
            Outcome::Full => Err(HttpError::new(503, "edge: too many archived segments are being fetched; retry")),
        }
    }

    /// Removes the segments that a stream's archive has dropped, and tells the writer what is left.
    pub(crate) fn settle(&self, name: &StreamName, archive: &mut ArchiveIndex) {
        let removed = archive.take_removed();
        let Some(writer) = &self.writer else { return };
        for (track, msn) in removed {
            let key = SegmentKey { stream: name.clone(), life: archive.life(), track, msn };
            self.delisted.lock().remove(&key);
            writer.remove(key);
        }
        writer.stock(name, archive.stock());
    }
}

/// Returns the error of a request for a part that was lost.
pub(crate) fn gap() -> HttpError {
    HttpError::new(404, "stream: this part was lost; the playlist lists it as a gap")
}

/// Returns the error of a request for a segment that no node has.
pub(crate) fn gone() -> HttpError {
    HttpError::new(404, "request: it has left the window, or is too far ahead")
}

#[cfg(test)]
mod tests {
    use super::*;
    use damson_core::model::LifeId;
    use damson_core::testing::synthetic::{self, FIRST_MSN, VIDEO};
    use damson_core::window::Part;

    /// Makes a segment of one part, and its key.
    fn segment() -> (SegmentKey, Arc<Segment>) {
        let record = synthetic::record("cam1");
        let mut feed = synthetic::Feed::new(record);
        feed.run(0, 2, 0);
        let track = feed.window.track(VIDEO).expect("a track");
        let whole = track.listed().next().expect("a segment").clone();
        let key = SegmentKey { stream: feed.record.stream.clone(), life: LifeId(1), track: VIDEO, msn: FIRST_MSN };
        (key, Arc::new(whole))
    }

    #[tokio::test]
    async fn who_asks_for_the_past_is_told_whether_to_ask_again() {
        let archives = Archives::new(None, None);
        let (key, segment) = segment();
        let statuses = [(true, false, 503), (true, true, 404), (false, false, 404)];
        for (is_listed, is_here, status) in statuses {
            let at = Whereabouts { is_listed, is_here, keepers: Vec::new() };
            let read = archives.read(key.clone(), at).await;
            assert_eq!(read.expect_err("nobody has it").status, status);
        }
        assert!(archives.in_memory(&key).is_none());
        archives.delist(key.clone(), Arc::clone(&segment));
        let found = archives.in_memory(&key).expect("in memory");
        assert!(Arc::ptr_eq(&found, &segment) && found.parts().all(|part: &Part| !part.is_lost()));
    }
}
