//! Whole segments in files of memory, which the kernel sends without a copy for each viewer.
//!
//! Of what a segment of 0.7 MB costs, about half is its copy into the socket. So a segment that is asked for a second
//! time is laid, once, into a memfd, and `sendfile` sends it from there. hyper knows nothing of files: it hands the
//! connection slices of the window's own `Bytes`, and [`Outlet`](super::outlet::Outlet) knows by their addresses where
//! in the file they are. A seal holds those `Bytes`, so that an address is theirs for as long as it is looked up; what
//! isn't found is written as ever. Small bodies are copied: for a part, `sendfile`'s work for each page costs as much.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::header::HeaderValue;

use super::byte_cache::ByteCache;

/// Bodies from here on are sealed, in bytes. A guess: 0.7 MB gains much, a part of 60 KB nothing.
pub(crate) const SEALED_LEN_MIN: usize = 256 << 10;

/// Bytes of all seals of a node, least recently asked for first out: the newest four segments of ten streams of 3 Mb/s.
/// As many bytes of the windows are held by them.
pub(crate) const SEALED_BYTES_MAX: u64 = 32 << 20;

/// What the memory of having been asked for once counts as, in bytes: the number of those is bounded, too.
const ASKED_LEN: u64 = 1 << 10;

/// A segment in a file.
#[derive(Debug)]
pub(crate) struct Sealed {
    file: File,
    /// Each chunk, and where in the file it begins.
    chunks: Vec<(Bytes, u64)>,
}

impl Sealed {
    fn new(chunks: impl IntoIterator<Item = Bytes>) -> io::Result<Self> {
        let (mut file, mut at) = (sys::file()?, 0);
        let mut placed = Vec::new();
        for chunk in chunks {
            file.write_all(&chunk)?;
            let len = chunk.len() as u64;
            placed.push((chunk, at));
            at += len;
        }
        Ok(Sealed { file, chunks: placed })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Where in the file these very bytes are; not merely equal ones.
    pub(crate) fn find(&self, slice: &[u8]) -> Option<u64> {
        let wanted = slice.as_ptr_range();
        self.chunks.iter().filter(|_| !slice.is_empty()).find_map(|(chunk, at)| {
            let held = chunk.as_ptr_range();
            let within = held.start <= wanted.start && wanted.end <= held.end;
            within.then(|| at + (wanted.start.addr() - held.start.addr()) as u64)
        })
    }

    /// Where the first of `slices` is in the file, and how many bytes follow there in the order of `slices`.
    pub(crate) fn run(&self, slices: &[IoSlice<'_>]) -> Option<(u64, usize)> {
        let start = self.find(slices.first()?)?;
        let mut len = 0;
        for slice in slices {
            if self.find(slice) != Some(start + len as u64) {
                break;
            }
            len += slice.len();
        }
        Some((start, len))
    }
}

/// The seals of a node, by ETag.
#[derive(Debug)]
pub(crate) struct Seals(Mutex<ByteCache<HeaderValue, Option<Arc<Sealed>>>>);

impl Default for Seals {
    fn default() -> Self {
        Seals(Mutex::new(ByteCache::new(SEALED_BYTES_MAX)))
    }
}

impl Seals {
    /// The seal of a body that is asked for; `None` the first time, or where there can't be one.
    pub(crate) fn get(&self, etag: &HeaderValue, chunks: impl IntoIterator<Item = Bytes>) -> Option<Arc<Sealed>> {
        let put = |seal, bytes| self.lock().put(etag.clone(), seal, bytes);
        let Some(asked) = self.lock().get(etag).cloned() else {
            put(None, ASKED_LEN);
            return None;
        };
        // Outside the lock: two who seal at once waste one copy.
        asked.or_else(|| {
            let sealed = Sealed::new(chunks).map(Arc::new);
            let sealed = sealed.inspect_err(|error| tracing::debug!(%error, "a segment isn't sealed")).ok()?;
            put(Some(Arc::clone(&sealed)), sealed.chunks.iter().map(|(chunk, _)| chunk.len() as u64).sum());
            Some(sealed)
        })
    }

    /// Bytes of all of them, and of the memory of what was asked for once.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ByteCache<HeaderValue, Option<Arc<Sealed>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The seal of the response under way on a connection. A wrong one is merely of no use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<Arc<Sealed>>>>);

impl Slot {
    pub(crate) fn set(&self, sealed: Option<Arc<Sealed>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sealed;
    }

    pub(crate) fn get(&self) -> Option<Arc<Sealed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(target_os = "linux")]
pub(crate) mod sys {
    use super::{File, io};
    use tokio::net::TcpStream;

    /// A file that is nowhere but in memory.
    pub(crate) fn file() -> io::Result<File> {
        let file = rustix::fs::memfd_create("damson-segment", rustix::fs::MemfdFlags::CLOEXEC)?;
        Ok(File::from(file))
    }

    /// Sends from a file what the socket has room for.
    pub(crate) fn send(stream: &TcpStream, file: &File, mut at: u64, len: usize) -> io::Result<usize> {
        Ok(rustix::fs::sendfile(stream, file, Some(&mut at), len)?)
    }
}

/// Elsewhere nothing is sealed.
#[cfg(not(target_os = "linux"))]
pub(crate) mod sys {
    use super::{File, io};
    use tokio::net::TcpStream;

    pub(crate) fn file() -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn send(_: &TcpStream, _: &File, _: u64, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(chunks: &[Bytes]) -> Sealed {
        Sealed::new(chunks.iter().cloned()).expect("memory")
    }

    #[test]
    fn bytes_are_found_by_where_they_are() {
        let chunks = [Bytes::from(vec![1; 10]), Bytes::from(vec![2; 20]), Bytes::from(vec![1; 10])];
        let sealed = sealed(&chunks);
        assert_eq!(sealed.find(&chunks[0]), Some(0));
        assert_eq!(sealed.find(&chunks[1][5..]), Some(15));
        assert_eq!(sealed.find(&chunks[2][..1]), Some(30));
        assert_eq!(sealed.find(&[1; 10]), None, "equal bytes elsewhere");
        assert_eq!(sealed.find(&chunks[1][..0]), None);
    }

    #[test]
    fn what_follows_in_the_file_is_sent_at_once() {
        let chunks = [Bytes::from(vec![1; 10]), Bytes::from(vec![2; 20]), Bytes::from(vec![3; 10])];
        let sealed = sealed(&chunks);
        let check = |slices: &[&[u8]], expect: Option<(u64, usize)>| {
            let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
            assert_eq!(sealed.run(&slices), expect);
        };
        check(&[&chunks[0], &chunks[1], &chunks[2]], Some((0, 40)));
        check(&[&chunks[1][4..], &chunks[2]], Some((14, 26)));
        check(&[&chunks[0][..5], &chunks[1]], Some((0, 5)));
        check(&[&chunks[0], b"else", &chunks[1]], Some((0, 10)));
        check(&[b"HTTP/1.1 200 OK", &chunks[0]], None);
        check(&[], None);
    }

    #[test]
    fn only_what_is_asked_for_again_is_sealed() {
        let seals = Seals::default();
        let body = || [Bytes::from(vec![7; 100])];
        let etag = HeaderValue::from_static("\"a\"");
        assert!(seals.get(&etag, body()).is_none());
        let first = seals.get(&etag, body()).expect("sealed");
        let again = seals.get(&etag, body()).expect("sealed");
        assert!(Arc::ptr_eq(&first, &again), "once for all viewers");
        assert!(seals.get(&HeaderValue::from_static("\"b\""), body()).is_none());
    }
}
