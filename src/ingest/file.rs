//! An .mp4 file looped in real time, published through the desk like any encoder's push.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use mp4::{Mp4Reader, Mp4Track, WriteBox};
use tokio_util::sync::CancellationToken;

use self::film::{Looped, Reel, Sample};
use super::desk::{Desk, Eviction, Gone, PublishRequest, Refused};
use super::flv;
use crate::clock;
use crate::live::StreamName;
use crate::media::{Announced, CodecConfig, InputTrack};
use crate::units::Timescale;

mod film;

/// The longest file, in bytes: it is held in memory.
pub const FILE_LEN_MAX: u64 = 1 << 30;

/// Why a file can't be looped.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: FileFault,
}

/// What can be wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// It can't be opened or read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It isn't a plain .mp4 file.
    #[error("not an .mp4 file that can be read: {0}")]
    Mp4(String),
    /// Longer than [`FILE_LEN_MAX`].
    #[error("{0} bytes; at most 1 GiB can be looped")]
    TooLong(u64),
    /// Fragments carry times that the reader doesn't keep.
    #[error("a fragmented file: make it plain with `ffmpeg -i IN -c copy -movflags +faststart OUT.mp4`")]
    Fragmented,
    /// Neither H.264 nor AAC.
    #[error("no H.264 and no AAC track with frames in it")]
    NoTrack,
}

/// A file that was read, ready to be looped.
#[derive(Debug, Clone)]
pub struct FileLoop {
    film: Looped,
    announced: Announced,
}

impl FileLoop {
    /// Reads the first H.264 and the first AAC track of a plain .mp4 file into memory.
    pub async fn open(path: impl Into<PathBuf>) -> Result<FileLoop, FileError> {
        let path = path.into();
        let read = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || read(&path))
        };
        // The reader is not made for damaged files, and may panic on one.
        let reels = read.await.unwrap_or_else(|panic| Err(FileFault::Mp4(panic.to_string())));
        Ok(FileLoop::of(reels.map_err(|fault| FileError { path, fault })?))
    }

    /// The same of a file in memory, which `name` calls.
    pub fn read(name: impl Into<PathBuf>, bytes: &[u8]) -> Result<FileLoop, FileError> {
        let reels = samples_of(Cursor::new(bytes), bytes.len() as u64);
        Ok(FileLoop::of(reels.map_err(|fault| FileError { path: name.into(), fault })?))
    }

    fn of(reels: Vec<Reel>) -> FileLoop {
        let has = |track| Some(reels.iter().any(|reel| reel.track == track));
        let announced = Announced { video: has(flv::VIDEO), audio: has(flv::AUDIO) };
        FileLoop { film: Looped::new(reels), announced }
    }

    /// Publishes it as `stream` until `shutdown` (`None`), or until the desk ends its tenure.
    pub async fn run(
        mut self,
        desk: &Desk,
        stream: StreamName,
        shutdown: CancellationToken,
    ) -> Result<Option<Eviction>, Refused> {
        let request = PublishRequest {
            stream,
            rendition: None,
            app: "live".to_owned(),
            query: None,
            remote: None,
            protocol: "file",
        };
        let mut claim = desk.claim(request).await?;
        let started = clock::now();
        let fed: Result<(), Gone> = async {
            claim.attach(film::CLOCK, self.announced).await?;
            for (track, config) in self.film.configs() {
                claim.config(track, config).await?;
            }
            while let Some(due) = self.film.next() {
                let at = clock::instant(started + due.after).into();
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep_until(at) => claim.unit(due.unit).await?,
                }
            }
            Ok(())
        }
        .await;
        match fed {
            Ok(()) => Ok(None),
            Err(Gone) => Ok(Some(claim.evicted().await)),
        }
    }
}

fn read(path: &Path) -> Result<Vec<Reel>, FileFault> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    if len > FILE_LEN_MAX {
        return Err(FileFault::TooLong(len));
    }
    samples_of(BufReader::new(file), len)
}

fn samples_of(file: impl Read + Seek, len: u64) -> Result<Vec<Reel>, FileFault> {
    let mut reader = Mp4Reader::read_header(file, len).map_err(broken)?;
    if reader.is_fragmented() {
        return Err(FileFault::Fragmented);
    }
    let mut video = None;
    let mut audio = None;
    let mut ids: Vec<u32> = reader.tracks().keys().copied().collect();
    ids.sort_unstable();
    for id in ids {
        let Some((track, config, scale, edit)) = reader.tracks().get(&id).and_then(describe) else {
            continue;
        };
        let reel = if track == flv::VIDEO { &mut video } else { &mut audio };
        if reel.is_none() {
            *reel = samples(&mut reader, id)?.map(|(first, samples)| Reel {
                track,
                config,
                scale,
                start: first - edit,
                samples,
            });
        }
    }
    let reels: Vec<Reel> = video.into_iter().chain(audio).collect();
    if reels.is_empty() { Err(FileFault::NoTrack) } else { Ok(reels) }
}

fn broken(error: mp4::Error) -> FileFault {
    match error {
        mp4::Error::IoError(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => FileFault::Io(error),
        error => FileFault::Mp4(error.to_string()),
    }
}

/// Decode time of the first sample, in ticks, and all of them.
fn samples(reader: &mut Mp4Reader<impl Read + Seek>, id: u32) -> Result<Option<(i64, Vec<Sample>)>, FileFault> {
    let count = reader.sample_count(id).map_err(broken)?;
    let mut first = None;
    let mut samples = Vec::new();
    for n in 1..=count {
        let Some(sample) = reader.read_sample(id, n).map_err(broken)? else {
            break;
        };
        first.get_or_insert(i64::try_from(sample.start_time).unwrap_or(0));
        samples.push(Sample {
            duration: sample.duration.max(1),
            composition_offset: sample.rendering_offset,
            keyframe: sample.is_sync,
            data: sample.bytes,
        });
    }
    Ok(first.map(|first| (first, samples)))
}

/// What we need to know of a track that we can use; last, the media time at which its presentation begins.
fn describe(track: &Mp4Track) -> Option<(InputTrack, CodecConfig, Timescale, i64)> {
    let trak = &track.trak;
    let entry = &trak.mdia.minf.stbl.stsd;
    let (input, config) = if let Some(avc1) = &entry.avc1 {
        (flv::VIDEO, CodecConfig::Avc(avc_config(&avc1.avcc)?))
    } else {
        let esds = entry.mp4a.as_ref()?.esds.as_ref()?;
        let specific = &esds.es_desc.dec_config.dec_specific;
        (flv::AUDIO, CodecConfig::Aac(audio_config(specific.profile, specific.freq_index, specific.chan_conf)?))
    };
    let scale = Timescale::new(trak.mdia.mdhd.timescale)?;
    // 14496-12, 8.6.6: -1 is an empty edit, which the reader gives without its sign.
    let edits = trak.edts.as_ref().and_then(|edts| edts.elst.as_ref());
    let starts = edits.into_iter().flat_map(|elst| &elst.entries).map(|entry| entry.media_time);
    let edit =
        starts.filter_map(|time| i64::try_from(time).ok()).find(|time| *time != i64::from(u32::MAX)).unwrap_or(0);
    Some((input, config, scale, edit))
}

/// The AVCDecoderConfigurationRecord as it stands in the box (14496-15, 5.3.3.1), less the tail with chroma
/// format and bit depths, which the reader drops and decoders take from the SPS.
fn avc_config(avcc: &impl for<'a> WriteBox<&'a mut Vec<u8>>) -> Option<Bytes> {
    let mut bytes = Vec::new();
    avcc.write_box(&mut bytes).ok()?;
    (bytes.len() > 8).then(|| Bytes::from(bytes).slice(8..))
}

/// An AudioSpecificConfig (14496-3, 1.6.2.1): object type:5, frequency index:4, channels:4, and three zeros.
fn audio_config(profile: u8, freq_index: u8, channels: u8) -> Option<Bytes> {
    if profile == 0 || profile > 30 || freq_index > 12 {
        return None;
    }
    let mut out = BytesMut::new();
    out.put_u16(u16::from(profile) << 11 | u16::from(freq_index) << 7 | u16::from(channels & 0xf) << 3);
    Some(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/media/plum-720p30.mp4")
    }

    #[tokio::test]
    async fn the_demo_film_loops_without_a_jump() {
        let mut film = FileLoop::open(fixture()).await.expect("a plain file").film;
        let configs: Vec<_> = film.configs().collect();
        assert!(matches!(&configs[0], (flv::VIDEO, CodecConfig::Avc(avcc)) if avcc[..2] == [1, 100]), "{configs:?}");
        assert_eq!(configs[1], (flv::AUDIO, CodecConfig::Aac(Bytes::from_static(&[0x11, 0x90]))));
        // Three passes: 480 frames and 750 frames of sound in 16 s each.
        let mut last = [None, None];
        let mut frames = 0;
        for _ in 0..3 * (480 + 750) {
            let unit = film.next().expect("endless").unit;
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
        check(
            "text",
            b"not a film at all",
            "not an .mp4 file that can be read: file contains a box with a larger size than it",
        )
        .await;
        let mut film = std::fs::read(fixture()).expect("the fixture");
        // Sample entries under other names are of codecs that aren't known.
        for (name, other) in [(b"avc1", b"xvc1"), (b"mp4a", b"xp4a")] {
            for at in 0..film.len() - 4 {
                if &film[at..at + 4] == name {
                    film[at..at + 4].copy_from_slice(other);
                }
            }
        }
        check("codecs", &film, "no H.264 and no AAC track with frames in it").await;
        let missing = FileLoop::open(folder.path().join("missing")).await.expect_err("nothing there");
        assert!(matches!(missing.fault, FileFault::Io(_)), "{missing}");
    }
}
