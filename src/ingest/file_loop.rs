//! An .mp4 file that is looped in real time and published like an encoder's push.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use damson_core::demux::bmff::{BmffError, Handler, Header, Movie, MovieTrack};
use damson_core::demux::file_loop::{FilmSample, Looped, Reel};
use damson_core::demux::{file_loop as film, flv};
use damson_core::model::{Announced, InputTrack, StreamName};
use damson_core::packager::Input;
use tokio_util::sync::CancellationToken;

use super::publish_request::{Eviction, PublishRequest, Refused};
use super::publish_session::PublishSession;
use super::registry::PublishRegistry;
use crate::clock;

/// The longest file, in bytes: it is held in memory.
pub const FILE_LEN_MAX: u64 = 1 << 30;

/// The length of the file's beginning that a new presentation gets at once: the packager measures GOPs for up to 4 s before
/// it lists a stream, and a file needs no such wait. The newest of these frames is the live one.
const HEAD_START: Duration = Duration::from_secs(4);

/// The reason why a file can't be looped.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The fault.
    pub fault: FileFault,
}

/// A fault of a file.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// The file can't be opened or read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file isn't a plain .mp4 file.
    #[error("can't read the file as .mp4: {0}")]
    Mp4(#[from] BmffError),
    /// The file has no `moov` box.
    #[error("can't read the file as .mp4: it has no moov box")]
    NoMovie,
    /// The file is longer than [`FILE_LEN_MAX`].
    #[error("the file has {0} bytes; at most 1 GiB can be looped")]
    TooLong(u64),
    /// The file is fragmented: the reader doesn't keep the times of fragments.
    #[error("the file is fragmented; make it plain with `ffmpeg -i IN -c copy -movflags +faststart OUT.mp4`")]
    Fragmented,
    /// The file has neither H.264 nor AAC.
    #[error("the file has no frames of H.264 or AAC; convert it with `ffmpeg -i IN -c:v libx264 -c:a aac OUT.mp4`")]
    NoTrack,
}

/// A file in memory, ready to be looped.
#[derive(Debug, Clone)]
pub struct FileLoop {
    film: Looped,
    announced: Announced,
}

impl FileLoop {
    /// Reads the first H.264 and the first AAC track of a plain .mp4 file into memory.
    ///
    /// # Errors
    /// The file can't be read or looped.
    pub async fn open(path: impl Into<PathBuf>) -> Result<FileLoop, FileError> {
        let path = path.into();
        let reels = read(&path).await.and_then(|file| samples_of(&file));
        FileLoop::of(path, reels)
    }

    /// Does what [`open`](Self::open) does, for a file in memory that is called `name`.
    ///
    /// # Errors
    /// The file can't be looped.
    pub fn read(name: impl Into<PathBuf>, file: impl Into<Bytes>) -> Result<FileLoop, FileError> {
        FileLoop::of(name.into(), samples_of(&file.into()))
    }

    fn of(path: PathBuf, reels: Result<Vec<Reel>, FileFault>) -> Result<FileLoop, FileError> {
        let reels = reels.map_err(|fault| FileError { path, fault })?;
        let has = |track| Some(reels.iter().any(|reel| reel.track == track));
        let announced = Announced { video: has(flv::VIDEO), audio: has(flv::AUDIO) };
        Ok(FileLoop { film: Looped::new(reels), announced })
    }

    /// Publishes the file as `stream` until `shutdown` (`None`), or until its session is evicted.
    ///
    /// # Errors
    /// The push is refused.
    pub async fn run(
        mut self,
        registry: &PublishRegistry,
        stream: StreamName,
        shutdown: CancellationToken,
    ) -> Result<Option<Eviction>, Refused> {
        let head_start = if registry.resumes(&stream).await { Duration::ZERO } else { HEAD_START };
        let mut session = registry.publish(PublishRequest::new(stream, None, "file")).await?;
        let publish = self.publish(&mut session, head_start);
        Ok(shutdown.run_until_cancelled(publish).await.and_then(Result::err))
    }

    async fn publish(&mut self, session: &mut PublishSession, head_start: Duration) -> Result<(), Eviction> {
        let started = clock::now();
        session.attach(film::CLOCK, self.announced).await?;
        for (track, config) in self.film.configs() {
            session.input(Input::Config { track, config }).await?;
        }
        while let Some(due) = self.film.next_unit() {
            let at = started + due.after.saturating_sub(head_start);
            tokio::time::sleep_until(clock::instant(at).into()).await;
            session.input(Input::Unit(due.unit)).await?;
        }
        Ok(())
    }
}

async fn read(path: &Path) -> Result<Bytes, FileFault> {
    let len = tokio::fs::metadata(path).await?.len();
    if len > FILE_LEN_MAX {
        return Err(FileFault::TooLong(len));
    }
    Ok(tokio::fs::read(path).await?.into())
}

fn samples_of(file: &Bytes) -> Result<Vec<Reel>, FileFault> {
    let movie = movie(file)?;
    if !movie.has_samples() && movie.fragmented {
        return Err(FileFault::Fragmented);
    }
    let mut reels = Vec::new();
    for (handler, input) in [(Handler::Video, flv::VIDEO), (Handler::Audio, flv::AUDIO)] {
        let usable = |track: &&MovieTrack| track.handler == handler && matches!(track.config, Ok(Some(_)));
        let mut tracks = movie.tracks.iter().filter(usable).filter(|track| track.samples().next().is_some());
        if let Some(track) = tracks.next() {
            reels.extend(reel(file, track, input)?);
        }
    }
    if reels.is_empty() { Err(FileFault::NoTrack) } else { Ok(reels) }
}

/// Reads the file's `moov` box, wherever it stands.
fn movie(file: &Bytes) -> Result<Movie, FileFault> {
    let mut at = 0;
    while at < file.len() {
        let header = Header::read(&file[at..], at as u64)?;
        let bounds = header.and_then(|header| {
            let content = at + usize::try_from(header.len).ok()?;
            let size = header.content.map_or(Some(file.len().checked_sub(content)?), |size| usize::try_from(size).ok());
            Some((header.kind, content, content.checked_add(size?).filter(|&end| end <= file.len())?))
        });
        let (kind, content, end) = bounds.ok_or(BmffError::Cut { at: file.len() as u64 })?;
        if kind.0 == *b"moov" {
            return Ok(Movie::read(&file.slice(content..end), content as u64)?);
        }
        at = end;
    }
    Err(FileFault::NoMovie)
}

/// Reads a track's samples and headers.
fn reel(file: &Bytes, track: &MovieTrack, input: InputTrack) -> Result<Option<Reel>, FileFault> {
    let Ok(Some(config)) = &track.config else { return Ok(None) };
    let mut start = None;
    let mut samples = Vec::new();
    for place in track.samples().filter(|place| place.len > 0) {
        let from = usize::try_from(place.offset).unwrap_or(usize::MAX);
        let to = from.saturating_add(place.len as usize);
        if to > file.len() {
            return Err(BmffError::Cut { at: file.len() as u64 }.into());
        }
        start.get_or_insert(place.dts);
        samples.push(FilmSample {
            duration: place.duration.max(1),
            composition_offset: place.composition_offset,
            keyframe: place.keyframe,
            data: file.slice(from..to),
        });
    }
    let (config, scale) = (config.clone(), track.timescale);
    Ok(start.map(|start| Reel { track: input, config, scale, start, samples }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use damson_core::model::CodecConfig;

    fn fixture() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/media/plum-720p30.mp4")
    }

    #[tokio::test]
    async fn the_demo_film_loops_without_a_jump() {
        let mut film = FileLoop::open(fixture()).await.expect("a plain file").film;
        let configs: Vec<_> = film.configs().collect();
        assert!(matches!(&configs[0], (flv::VIDEO, CodecConfig::Avc(avcc)) if avcc[..2] == [1, 100]), "{configs:?}");
        // As it stands in the file: AAC-LC, 48 kHz, stereo, and SBR ruled out.
        let config = Bytes::from_static(&[0x11, 0x90, 0x56, 0xe5, 0]);
        assert_eq!(configs[1], (flv::AUDIO, CodecConfig::Aac(config)));
        // Three passes: 480 frames and 750 frames of sound in 16 s each.
        let mut last = [None, None];
        let mut frames = 0;
        for _ in 0..3 * (480 + 750) {
            let unit = film.next_unit().expect("endless").unit;
            let (video, step) = if unit.track == flv::VIDEO { (true, 3_000) } else { (false, 1_920) };
            if video {
                assert_eq!(unit.keyframe, frames % 60 == 0, "frame {frames}");
                frames += 1;
            }
            let before = last[usize::from(video)].replace(unit.dts);
            assert!(before.is_none_or(|before| unit.dts == before + step), "{before:?} then {}", unit.dts);
        }
        // Frames are decoded a little ahead of the sound beside them.
        assert!((1_440..1_450).contains(&frames), "{frames}");
    }

    #[tokio::test]
    async fn what_cannot_be_looped_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let check = async |name: &str, content: &[u8], expect: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("written");
            let error = FileLoop::open(&path).await.expect_err("not a film").to_string();
            assert_eq!(error, format!("{}: {expect}", path.display()));
        };
        check("text", b"not a film at all", "can't read the file as .mp4: the data ends too early, at byte 17").await;
        let mut film = std::fs::read(fixture()).expect("the fixture");
        // The sample entries get other names, so that their codecs are unknown.
        for (name, other) in [(b"avc1", b"xvc1"), (b"mp4a", b"xp4a")] {
            for at in 0..film.len() - 4 {
                if &film[at..at + 4] == name {
                    film[at..at + 4].copy_from_slice(other);
                }
            }
        }
        check(
            "codecs",
            &film,
            "the file has no frames of H.264 or AAC; convert it with `ffmpeg -i IN -c:v libx264 -c:a aac OUT.mp4`",
        )
        .await;
        let missing = FileLoop::open(folder.path().join("missing")).await.expect_err("nothing there");
        assert!(matches!(missing.fault, FileFault::Io(_)), "{missing}");
    }
}
