//! Whole segments in memory files, which the kernel sends without a copy for each viewer.
//!
//! Copying a segment of 0.7 MB into the socket costs about half of what sending it costs. So the second request for a
//! segment writes it into a memfd, once, and `sendfile` sends it from there. hyper knows nothing of files: it hands the
//! connection slices of the window's own `Bytes`, and the connection looks their addresses up in the file. A
//! [`MemoryFile`] holds those `Bytes`, so that no other bytes have their addresses. Slices that aren't found are
//! written as usual. Small bodies are copied: for a part, `sendfile`'s work for each page costs as much.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::HeaderValue;
use parking_lot::Mutex;

use super::byte_cache::ByteCache;

/// The least length of a body that is sent from a file, in bytes. A guess: 0.7 MB gains much, a part of 60 KB nothing.
pub(crate) const FILE_LEN_MIN: usize = 256 << 10;

/// Most bytes in all files of a node, least recently requested first out: the newest four segments of ten streams of 3
/// Mb/s. The files hold as many bytes of the windows.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// The bytes that count for an entry without a file, which remembers a first request, so that their number is bounded,
/// too.
const ASKED_LEN: u64 = 1 << 10;

/// A segment in a file.
#[derive(Debug)]
pub(crate) struct MemoryFile {
    file: File,
    /// Each chunk, and its offset in the file.
    chunks: Vec<(Bytes, u64)>,
}

impl MemoryFile {
    fn new(chunks: impl IntoIterator<Item = Bytes>) -> io::Result<Self> {
        let (mut file, mut at) = (sys::file()?, 0);
        let mut placed = Vec::new();
        for chunk in chunks {
            file.write_all(&chunk)?;
            let len = chunk.len() as u64;
            placed.push((chunk, at));
            at += len;
        }
        Ok(MemoryFile { file, chunks: placed })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Returns the offset of these very bytes in the file; equal bytes at another address don't count.
    pub(crate) fn find(&self, slice: &[u8]) -> Option<u64> {
        let wanted = slice.as_ptr_range();
        self.chunks.iter().filter(|_| !slice.is_empty()).find_map(|(chunk, at)| {
            let held = chunk.as_ptr_range();
            let within = held.start <= wanted.start && wanted.end <= held.end;
            within.then(|| at + (wanted.start.addr() - held.start.addr()) as u64)
        })
    }

    /// Returns the offset of the first of `slices` in the file, and the number of bytes that follow there in the order
    /// of `slices`.
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

/// The files of a node, by ETag.
#[derive(Debug)]
pub(crate) struct MemoryFiles(Mutex<ByteCache<HeaderValue, Option<Arc<MemoryFile>>>>);

impl Default for MemoryFiles {
    fn default() -> Self {
        MemoryFiles(Mutex::new(ByteCache::new(FILE_BYTES_MAX)))
    }
}

impl MemoryFiles {
    /// Returns the file of a body that is requested; `None` the first time, or if the file can't be made.
    pub(crate) fn get(&self, etag: &HeaderValue, chunks: impl IntoIterator<Item = Bytes>) -> Option<Arc<MemoryFile>> {
        let put = |file, bytes| self.0.lock().put(etag.clone(), file, bytes);
        let Some(asked) = self.0.lock().get(etag).cloned() else {
            put(None, ASKED_LEN);
            return None;
        };
        // Outside the lock: two threads that write at once waste one copy.
        asked.or_else(|| {
            let file = MemoryFile::new(chunks).map(Arc::new);
            let file = file
                .inspect_err(|error| tracing::debug!(%error, "a segment can't be written to a memory file"))
                .ok()?;
            put(Some(Arc::clone(&file)), file.chunks.iter().map(|(chunk, _)| chunk.len() as u64).sum());
            Some(file)
        })
    }

    /// Returns the bytes that count for all entries.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.lock().bytes()
    }
}

/// The file of the response under way on a connection. A wrong one does no harm, since no slice is found in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileSlot(Arc<Mutex<Option<Arc<MemoryFile>>>>);

impl FileSlot {
    pub(crate) fn set(&self, file: Option<Arc<MemoryFile>>) {
        *self.0.lock() = file;
    }

    pub(crate) fn get(&self) -> Option<Arc<MemoryFile>> {
        self.0.lock().clone()
    }
}

#[cfg(target_os = "linux")]
pub(crate) mod sys {
    use super::{File, io};
    use tokio::net::TcpStream;

    /// Makes a file that exists only in memory.
    pub(crate) fn file() -> io::Result<File> {
        let file = rustix::fs::memfd_create("damson-segment", rustix::fs::MemfdFlags::CLOEXEC)?;
        Ok(File::from(file))
    }

    /// Sends as much of a file as the socket has room for.
    pub(crate) fn send(stream: &TcpStream, file: &File, mut at: u64, len: usize) -> io::Result<usize> {
        Ok(rustix::fs::sendfile(stream, file, Some(&mut at), len)?)
    }
}

/// Elsewhere nothing is sent from files.
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

    fn file(chunks: &[Bytes]) -> MemoryFile {
        MemoryFile::new(chunks.iter().cloned()).expect("memory")
    }

    #[test]
    fn bytes_are_found_by_where_they_are() {
        let chunks = [Bytes::from(vec![1; 10]), Bytes::from(vec![2; 20]), Bytes::from(vec![1; 10])];
        let file = file(&chunks);
        assert_eq!(file.find(&chunks[0]), Some(0));
        assert_eq!(file.find(&chunks[1][5..]), Some(15));
        assert_eq!(file.find(&chunks[2][..1]), Some(30));
        assert_eq!(file.find(&[1; 10]), None, "equal bytes elsewhere");
        assert_eq!(file.find(&chunks[1][..0]), None);
    }

    #[test]
    fn what_follows_in_the_file_is_sent_at_once() {
        let chunks = [Bytes::from(vec![1; 10]), Bytes::from(vec![2; 20]), Bytes::from(vec![3; 10])];
        let file = file(&chunks);
        let check = |slices: &[&[u8]], expect: Option<(u64, usize)>| {
            let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
            assert_eq!(file.run(&slices), expect);
        };
        check(&[&chunks[0], &chunks[1], &chunks[2]], Some((0, 40)));
        check(&[&chunks[1][4..], &chunks[2]], Some((14, 26)));
        check(&[&chunks[0][..5], &chunks[1]], Some((0, 5)));
        check(&[&chunks[0], b"else", &chunks[1]], Some((0, 10)));
        check(&[b"HTTP/1.1 200 OK", &chunks[0]], None);
        check(&[], None);
    }

    #[test]
    fn only_what_is_asked_for_again_lies_in_a_file() {
        let files = MemoryFiles::default();
        let body = || [Bytes::from(vec![7; 100])];
        let etag = HeaderValue::from_static("\"a\"");
        assert!(files.get(&etag, body()).is_none());
        let first = files.get(&etag, body()).expect("a file");
        let again = files.get(&etag, body()).expect("a file");
        assert!(Arc::ptr_eq(&first, &again), "once for all viewers");
        assert!(files.get(&HeaderValue::from_static("\"b\""), body()).is_none());
    }
}
