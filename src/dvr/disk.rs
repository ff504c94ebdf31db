//! Archived segments on disk: a file each, `DIR/{stream}/{life}/{track}/{msn}.dvr`. The life's folder also holds the init
//! segments, and the file `cut` with the oldest MSN that is listed.
//!
//! A file is written under another name and then renamed, so that a process that dies leaves no half file. The node doesn't
//! wait until the medium has it: after a loss of power, the last files may be torn or empty. Reading them shows it
//! ([`segment_file`]); they are removed, and listed as gaps.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use bytes::Bytes;
use damson_core::dvr::{Listing, SegmentEntry, SegmentKey, Stock, segment_file};
use damson_core::model::{LifeId, Msn, Period, StreamName, TrackId};
use damson_core::window::Segment;

/// The files of the archives, by relative paths. Tests implement it by a disk that fills up, tears files and dies.
pub trait ArchiveFiles: fmt::Debug + Send + Sync {
    /// Writes a file of `chunks`, and makes its folders. Leaves the whole file or nothing, unless the machine loses power.
    fn write(&self, path: &Path, chunks: &[Bytes]) -> io::Result<()>;
    /// Returns the first bytes of a file, at most `max`, and its length.
    fn read(&self, path: &Path, max: u64) -> io::Result<(Bytes, u64)>;
    /// Removes a file, or a folder with all that is in it.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Returns the names in a folder.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
}

/// A folder that only this process uses.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    /// Locked while it is open: another node would remove our archives as those of old lives.
    _lock: fs::File,
}

impl Folder {
    /// Opens the folder, and makes it if there is none.
    ///
    /// # Errors
    /// The folder can't be made, or another node uses it.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let lock = fs::File::create(root.join(".lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Folder { root: root.to_owned(), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => {
                Err(io::Error::other("another node uses this folder; choose another one with --dvr-dir"))
            }
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

impl ArchiveFiles for Folder {
    fn write(&self, path: &Path, chunks: &[Bytes]) -> io::Result<()> {
        let path = self.root.join(path);
        let unfinished = path.with_extension("part");
        let mut file = match fs::File::create(&unfinished) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
                fs::File::create(&unfinished)?
            }
            created => created?,
        };
        let written = chunks.iter().try_for_each(|chunk| file.write_all(chunk));
        let written = written.and_then(|()| fs::rename(&unfinished, &path));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        written
    }

    fn read(&self, path: &Path, max: u64) -> io::Result<(Bytes, u64)> {
        let file = fs::File::open(self.root.join(path))?;
        let len = file.metadata()?.len();
        let mut bytes = Vec::with_capacity(usize::try_from(len.min(max)).unwrap_or(0));
        file.take(max).read_to_end(&mut bytes)?;
        Ok((Bytes::from(bytes), len))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = self.root.join(path);
        // A symbolic link is removed itself, not its target.
        if fs::symlink_metadata(&path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.root.join(path))?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }
}

/// A stream's archive of a former run.
#[derive(Debug)]
pub struct FoundArchive {
    /// The stream's newest life.
    pub life: LifeId,
    /// Its segments in any order, and their headers and periods.
    pub listing: Listing,
}

impl FoundArchive {
    /// Returns its sizes.
    pub fn stock(&self) -> Stock {
        let entries = || self.listing.entries.iter().map(|(_, entry)| entry);
        let oldest_kept = entries().map(|entry| entry.program_date_time).min();
        Stock { kept: entries().map(|entry| entry.length).sum(), oldest_kept, ..Stock::default() }
    }
}

/// The longest init segment that is read; a record has none of more than 16 KB.
const INIT_LEN_MAX: u64 = 64 << 10;
/// The longest file that is read: 10 s at 400 Mb/s.
const FILE_LEN_MAX: u64 = 512 << 20;

/// The archives of a node, on disk.
#[derive(Debug)]
pub struct Disk {
    files: Box<dyn ArchiveFiles>,
}

fn life_path(stream: &StreamName, life: LifeId) -> PathBuf {
    // A stream's name has no dot and no slash, so that the path stays in the folder.
    Path::new(stream.as_str()).join(format!("{:016x}", life.0))
}

fn path(key: &SegmentKey) -> PathBuf {
    life_path(&key.stream, key.life).join(format!("{}/{}.dvr", key.track.0, key.msn))
}

fn invalid(error: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A small file to write, or something to remove.
#[derive(Debug)]
pub(crate) enum Chore {
    Write(PathBuf, Vec<Bytes>),
    Remove(PathBuf),
}

impl Chore {
    /// Returns the file of an init segment: its hash, then its bytes.
    pub(crate) fn init(stream: &StreamName, life: LifeId, (track, number, bytes): (TrackId, u16, Bytes)) -> Self {
        let hash = Bytes::copy_from_slice(blake3::hash(&bytes).as_bytes());
        Chore::Write(life_path(stream, life).join(format!("init.{}.{number}", track.0)), vec![hash, bytes])
    }

    /// Returns the file that says that nothing before `msn` is listed any more.
    pub(crate) fn cut(stream: &StreamName, life: LifeId, msn: Msn) -> Self {
        Chore::Write(life_path(stream, life).join("cut"), vec![Bytes::from(msn.to_string())])
    }

    /// Returns the removal of a segment.
    pub(crate) fn remove(key: &SegmentKey) -> Self {
        Chore::Remove(path(key))
    }

    /// Returns the removal of a life.
    pub(crate) fn remove_life(stream: &StreamName, life: LifeId) -> Self {
        Chore::Remove(life_path(stream, life))
    }
}

impl Disk {
    /// Returns the archives in these files.
    pub fn new(files: Box<dyn ArchiveFiles>) -> Self {
        Disk { files }
    }

    /// Returns the archives in a folder, which is made if there is none.
    ///
    /// # Errors
    /// The folder can't be made, or another node uses it.
    pub fn open(dir: &Path) -> io::Result<Self> {
        Ok(Disk::new(Box::new(Folder::open(dir)?)))
    }

    /// Writes a segment.
    pub fn save(&self, key: &SegmentKey, segment: &Segment, period: Option<Period>) -> io::Result<()> {
        let head = segment_file::head(segment, period);
        let bodies = segment.parts().map(|part| part.body.clone()).filter(|body| !body.is_empty());
        let chunks: Vec<Bytes> = std::iter::once(head).chain(bodies).collect();
        self.files.write(&path(key), &chunks)
    }

    /// Reads a segment, and checks each byte of it.
    pub fn load(&self, key: &SegmentKey) -> io::Result<Segment> {
        let (bytes, _) = self.files.read(&path(key), FILE_LEN_MAX)?;
        let (track, segment) = segment_file::read(bytes).map_err(invalid)?;
        let is_it = (track, segment.msn) == (key.track, key.msn);
        is_it.then_some(segment).ok_or_else(|| invalid("another segment"))
    }

    pub(crate) fn run(&self, chore: &Chore) -> io::Result<()> {
        match chore {
            Chore::Write(path, chunks) => self.files.write(path, chunks),
            Chore::Remove(path) => self.files.remove(path),
        }
    }

    /// Reads the archives of a former run: the newest life of each stream. Torn files and older lives are removed.
    pub fn recover(&self) -> io::Result<BTreeMap<StreamName, FoundArchive>> {
        let mut found = BTreeMap::new();
        let streams = self.files.list(Path::new(""))?;
        for stream in streams.iter().filter_map(|name| StreamName::parse(name).ok()) {
            let of_life = |name: &String| {
                let life = u64::from_str_radix(name, 16).ok().map(LifeId);
                life.filter(|life| format!("{:016x}", life.0) == *name)
            };
            let mut lives: Vec<LifeId> =
                self.files.list(Path::new(stream.as_str())).unwrap_or_default().iter().filter_map(of_life).collect();
            lives.sort_unstable();
            let Some(newest) = lives.pop() else { continue };
            for old in lives {
                self.tidy(&life_path(&stream, old));
            }
            found.insert(stream.clone(), self.recover_life(&stream, newest)?);
        }
        Ok(found)
    }

    fn recover_life(&self, stream: &StreamName, life: LifeId) -> io::Result<FoundArchive> {
        let folder = life_path(stream, life);
        let mut listing = Listing::default();
        for name in self.files.list(&folder)? {
            let at = folder.join(&name);
            if let Some((track, number)) = name.strip_prefix("init.").and_then(|rest| rest.split_once('.')) {
                let (Ok(track), Ok(number)) = (track.parse().map(TrackId), number.parse()) else { continue };
                let (bytes, _) = self.files.read(&at, INIT_LEN_MAX)?;
                let body = bytes.slice(bytes.len().min(32)..);
                if bytes.get(..32) == Some(blake3::hash(&body).as_bytes().as_slice()) {
                    listing.inits.push((track, number, body));
                }
            } else if name == "cut" {
                let (bytes, _) = self.files.read(&at, 16)?;
                listing.listed_from = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
            } else if let Ok(track) = name.parse().map(TrackId) {
                self.recover_track(&SegmentKey { stream: stream.clone(), life, track, msn: 0 }, &at, &mut listing)?;
            }
        }
        Ok(FoundArchive { life, listing })
    }

    fn recover_track(&self, of: &SegmentKey, folder: &Path, listing: &mut Listing) -> io::Result<()> {
        let names = self.files.list(folder)?;
        let mut msns: Vec<Msn> = Vec::with_capacity(names.len());
        for name in names {
            match name.strip_suffix(".dvr").and_then(|n| n.parse().ok()) {
                Some(msn) => msns.push(msn),
                // The process died while it wrote this file.
                None if name.ends_with(".part") => self.tidy(&folder.join(name)),
                None => {}
            }
        }
        msns.sort_unstable();
        for msn in msns {
            let key = SegmentKey { msn, ..of.clone() };
            match self.entry(&key) {
                Ok((entry, period)) => {
                    listing.entries.push((key.track, entry));
                    listing.periods.extend(period.filter(|period| listing.periods.last() != Some(period)));
                }
                Err(error) => {
                    tracing::warn!(stream = %key.stream, msn, %error, "DVR: removed a damaged segment file");
                    self.tidy(&path(&key));
                }
            }
        }
        Ok(())
    }

    /// Reads a segment's entry and period. Its bodies are checked when a player asks for them.
    fn entry(&self, key: &SegmentKey) -> io::Result<(SegmentEntry, Option<Period>)> {
        let path = path(key);
        let (mut begin, len) = self.files.read(&path, segment_file::HEAD_GUESS as u64)?;
        let head_len = segment_file::head_len(&begin).map_err(invalid)?;
        if head_len > begin.len() {
            begin = self.files.read(&path, head_len as u64)?.0;
        }
        let head = segment_file::read_head(&begin).map_err(invalid)?;
        let torn = || invalid("the file has another length or segment than its head says");
        if head.file_len() != len {
            return Err(torn());
        }
        let period = head.period;
        let segment = segment_file::described(head).filter(|s| s.msn == key.msn).ok_or_else(torn)?;
        Ok((SegmentEntry::of(&segment), period))
    }

    fn tidy(&self, path: &Path) {
        if let Err(error) = self.files.remove(path) {
            tracing::warn!(path = %path.display(), %error, "DVR: can't remove an archived file");
        }
    }
}
