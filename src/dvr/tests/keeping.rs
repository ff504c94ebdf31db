//! Archives on a disk that fills up, refuses, tears files and dies, behind a store.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use damson_core::model::{LifeId, Msn, Record, TrackId};
use damson_core::testing::playlist::ReadPlaylist;
use damson_core::testing::synthetic::{self, AUDIO, FIRST_MSN, PARTS, VIDEO};

use crate::clock;
use crate::dvr::archive_writer::ArchiveWriter;
use crate::dvr::disk::{ArchiveFiles, Disk, Folder};
use crate::dvr::settings::Settings;
use crate::edge::Store;
use crate::observe::Metrics;

/// A disk in memory.
#[derive(Debug, Clone, Default)]
struct Fake(Arc<(Mutex<Content>, Condvar)>);

#[derive(Debug, Default, Clone)]
struct Content {
    files: BTreeMap<PathBuf, Bytes>,
    room: u64,
    refuses: bool,
    refused: usize,
}

impl Content {
    fn used(&self) -> u64 {
        self.files.values().map(|f| f.len() as u64).sum()
    }
}

impl Fake {
    fn new(room: u64) -> Fake {
        let fake = Fake::default();
        fake.with(|c| c.room = room);
        fake
    }

    fn with<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        let out = change(&mut self.0.0.lock().expect("no disk panics"));
        self.0.1.notify_all();
        out
    }

    /// Returns the disk as a killed process leaves it.
    fn copy(&self) -> Fake {
        let content = self.with(|c| c.clone());
        Fake(Arc::new((Mutex::new(content), Condvar::new())))
    }
}

impl ArchiveFiles for Fake {
    fn write(&self, path: &Path, chunks: &[Bytes]) -> io::Result<()> {
        self.with(|c| {
            let bytes = chunks.concat();
            if c.refuses {
                c.refused += 1;
                return Err(io::Error::other("broken"));
            }
            if c.used() + bytes.len() as u64 > c.room {
                c.refused += 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            c.files.insert(path.to_owned(), Bytes::from(bytes));
            Ok(())
        })
    }

    fn read(&self, path: &Path, max: u64) -> io::Result<(Bytes, u64)> {
        let file = self.with(|c| c.files.get(path).cloned()).ok_or(io::ErrorKind::NotFound)?;
        let len = file.len() as u64;
        Ok((file.slice(..len.min(max) as usize), len))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.with(|c| c.files.retain(|p, _| !p.starts_with(path)));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let below = |p: &PathBuf| Some(p.strip_prefix(path).ok()?.iter().next()?.to_str()?.to_owned());
        let mut names: Vec<_> = self.with(|c| c.files.keys().filter_map(below).collect());
        names.dedup();
        Ok(names)
    }
}

struct Rig {
    disk: Fake,
    writer: Arc<ArchiveWriter>,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    record: Record,
    /// Bytes of a video part.
    len: usize,
    next: Msn,
}

/// The number of segments that the swarm has for a node that joins: as many as a playlist lists.
const WINDOW: u32 = 18;

fn settings(memory: u64) -> Settings {
    Settings { depth: Duration::from_secs(600), memory, disk: Some((PathBuf::new(), 1 << 30)) }
}

impl Rig {
    fn new(settings: Settings, disk: Fake, len: usize) -> Rig {
        let metrics = Arc::new(Metrics::default());
        let on_disk = settings.disk.as_ref().map(|_| Disk::new(Box::new(disk.clone())));
        let writer = ArchiveWriter::start_on(on_disk, settings, Arc::clone(&metrics)).expect("readable");
        let store = Store::with(Arc::clone(&metrics), Some(Arc::clone(&writer)), None, None);
        let record = synthetic::record("cam1");
        let rig = Rig { disk, writer, store, metrics, record, len, next: FIRST_MSN };
        rig.store.record(rig.record.clone());
        rig
    }

    fn run(&mut self, segments: u32, settles: bool) {
        for _ in 0..segments {
            for (number, track) in (0..PARTS).flat_map(|n| [(n, VIDEO), (n, AUDIO)]) {
                let len = if track == VIDEO { self.len } else { 1_000 };
                let (header, body, trace) = synthetic::part(&self.record, track, self.next, number, len);
                self.store.part(&self.record.stream, header, body, trace, clock::now());
            }
            self.next += 1;
            if settles {
                self.settle();
            }
        }
    }

    /// Waits until the disk has all that is queued.
    fn settle(&self) {
        let (content, changed) = &*self.disk.0;
        while !self.writer.is_idle() {
            self.store.tend();
            let guard = content.lock().expect("no disk panics");
            drop(changed.wait_timeout(guard, Duration::from_millis(10)).expect("no disk panics"));
        }
        self.store.tend();
    }

    fn playlist(&self) -> ReadPlaylist {
        let stream = self.store.get("cam1").expect("held");
        let mut state = stream.lock();
        let (listed, _) = state.rendered();
        ReadPlaylist::parse(&synthetic::playlist(listed, VIDEO).expect("listed"))
    }

    /// Returns a segment's bytes, from the place where a request would find it.
    fn bytes(&self, track: TrackId, msn: Msn) -> Option<Vec<u8>> {
        let stream = self.store.get("cam1").expect("held");
        let life = self.record.life;
        let held = {
            let state = stream.lock();
            let held = state.window().track(track).and_then(|t| t.whole_after(msn.checked_sub(1)).next().cloned());
            held.filter(|segment| segment.msn == msn).map(Arc::new)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let found = held.or_else(|| stream.delisted(life, track, msn));
        let segment = found.or_else(|| runtime.block_on(stream.archived(life, track, msn)).ok())?;
        Some(segment.parts().flat_map(|part| part.body.to_vec()).collect())
    }

    /// Checks that all listed segments are there, as they were made.
    fn check(&self) -> ReadPlaylist {
        let list = self.playlist();
        for (msn, _) in list.lines.iter().filter(|(_, line)| !line.gap) {
            let made = (0..PARTS).flat_map(|n| synthetic::part(&self.record, VIDEO, *msn, n, self.len).1.to_vec());
            assert!(self.bytes(VIDEO, *msn) == Some(made.collect()), "{msn} of {:?}", list.lines.keys());
        }
        assert_eq!(list.last(), self.next - 1, "live goes on");
        list
    }
}

#[test]
fn a_full_disk_is_a_shorter_dvr() {
    let mut rig = Rig::new(settings(100_000), Fake::new(1_500_000), 1_000);
    let mut first = FIRST_MSN;
    for _ in 0..15 {
        rig.run(10, true);
        let list = rig.check();
        assert!(list.first >= first);
        first = list.first;
    }
    let full = rig.playlist();
    assert!((20..40).contains(&full.lines.len()), "half of 1.5 MB of 22 KB each: {}", full.lines.len());
    assert!(rig.disk.with(|c| c.refused) > 0 && rig.metrics.dvr.failures.get() > 0);
    assert_eq!(rig.metrics.dvr.lost.get(), 0);
    // There is room again.
    rig.disk.with(|c| c.room = 1 << 30);
    rig.run(100, true);
    let list = rig.check();
    assert!(list.lines.len() > full.lines.len() + 40, "{} after {}", list.lines.len(), full.lines.len());
    assert!(rig.metrics.dvr.reads.get() > 100, "memory holds but a few");
    rig.store.close();
}

#[test]
fn a_broken_disk_cuts_the_archive_and_no_more() {
    let mut rig = Rig::new(settings(0), Fake::new(1 << 30), 10_000);
    rig.run(20, true);
    rig.disk.with(|c| c.refuses = true);
    rig.run(60, false);
    rig.store.tend();
    assert!(rig.metrics.dvr.lost.get() > 0, "more than the queue holds");
    let list = rig.check();
    assert!(list.first > FIRST_MSN + 20);
    rig.disk.with(|c| c.refuses = false);
    rig.settle();
    // The window has let go of the last segment that is lost.
    rig.run(15, true);
    let list = rig.check();
    rig.run(10, true);
    assert_eq!(rig.check().first, list.first, "it goes on");
    // A restart lists nothing before the cut.
    let mut again = Rig::new(settings(0), rig.disk.copy(), 10_000);
    again.next = rig.next - WINDOW;
    again.run(WINDOW + 2, true);
    assert_eq!(again.check().first, list.first);
    rig.store.close();
    again.store.close();
}

#[test]
fn a_restarted_edge_goes_on() {
    let mut rig = Rig::new(settings(0), Fake::new(1 << 30), 1_000);
    rig.run(80, true);
    let before = rig.check();
    assert_eq!(before.lines.len(), 80);
    // The process is killed, and the power fails: two files are torn, one is half written.
    let disk = rig.disk.copy();
    rig.store.close();
    let torn = [FIRST_MSN + 40, FIRST_MSN + 79];
    disk.with(|c| {
        for (path, file) in &mut c.files {
            if torn.iter().any(|msn| path.ends_with(format!("0/{msn}.dvr"))) {
                *file = file.slice(..file.len() / 2);
            }
        }
        let life = c.files.keys().next().and_then(|p| p.iter().nth(1)).expect("a life").to_owned();
        c.files.insert(Path::new("cam1").join(&life).join("0/7.part"), Bytes::from_static(b"half"));
        c.files.insert(PathBuf::from("cam1/0000000000000001/0/7.dvr"), Bytes::from_static(b"of an old life"));
        c.files.insert(PathBuf::from("gone/0000000000000002/0/7.dvr"), Bytes::from_static(b"torn"));
    });
    let mut again = Rig::new(settings(0), disk.clone(), 1_000);
    let others = disk.with(|c| c.files.keys().filter(|p| p.ends_with("7.part") || p.ends_with("7.dvr")).count());
    assert_eq!(others, 0, "what is torn or old is removed");
    again.next = rig.next - WINDOW;
    again.run(WINDOW + 4, true);
    let list = again.check();
    assert_eq!((list.first, list.lines.len()), (before.first, 84));
    let gaps: Vec<_> = list.lines.iter().filter(|(_, line)| line.gap).map(|(msn, _)| *msn).collect();
    assert_eq!(gaps, [FIRST_MSN + 40], "the other one came again");
    for (msn, line) in before.lines.iter().filter(|(msn, _)| **msn != FIRST_MSN + 40) {
        assert_eq!(list.lines.get(msn), Some(line));
    }
    // The next life replaces this one.
    again.record.life = LifeId(again.record.life.0 + 1);
    again.record.epoch.counter += 1;
    again.store.record(again.record.clone());
    again.run(WINDOW, true);
    let life = format!("{:016x}", again.record.life.0);
    let old = disk.with(|c| c.files.keys().filter(|p| p.iter().nth(1).is_none_or(|l| l != life.as_str())).count());
    assert_eq!(old, 0);
    again.store.close();
}

#[test]
fn without_a_disk_memory_bounds_it() {
    let mut rig = Rig::new(Settings { disk: None, ..settings(1_500_000) }, Fake::default(), 1_000);
    rig.run(150, false);
    let list = rig.check();
    assert!((30..=38).contains(&list.lines.len()), "half of 1.5 MB: {}", list.lines.len());
    assert!(rig.metrics.dvr.kept.get() <= 1_500_000);
}

#[test]
fn a_folder_holds_whole_files() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = Folder::open(&dir.path().join("dvr")).expect("made");
    assert!(Folder::open(&dir.path().join("dvr")).is_err(), "another node's");
    let (path, chunks) = (Path::new("a/b/1.dvr"), [Bytes::from_static(b"one"), Bytes::from_static(b"two")]);
    folder.write(path, &chunks).expect("room");
    assert_eq!(folder.read(path, 4).expect("there"), (Bytes::from_static(b"onet"), 6));
    assert_eq!(folder.list(Path::new("a/b")).expect("a folder"), ["1.dvr"]);
    // A folder has the file's name: the write fails, and leaves nothing.
    std::fs::create_dir_all(dir.path().join("dvr/a/b/2.dvr/x")).expect("made");
    assert!(folder.write(Path::new("a/b/2.dvr"), &chunks).is_err());
    let mut names = folder.list(Path::new("a/b")).expect("a folder");
    names.sort();
    assert_eq!(names, ["1.dvr", "2.dvr"]);
    folder.remove(path).expect("there");
    folder.remove(Path::new("a")).expect("there");
    assert_eq!(folder.remove(path).map_err(|e| e.kind()), Err(io::ErrorKind::NotFound));
}
