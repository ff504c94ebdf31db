//! Packager against ffmpeg: what x264 and ffmpeg's AAC encoder made comes out of the chunks again, packet by
//! packet and frame by frame, and ffmpeg finds nothing to warn of.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use damson_core::demux::flv;
use damson_core::model::time::{Time, Timescale, UnixTime};
use damson_core::model::{Announced, Clocks, Epoch, InputClock, NodeId, PushId, Record, StreamName, TrackId};
use damson_core::packager::{Input, Output, Packager, Settings};

/// Runs a tool; what it says on stdout. It must succeed and say nothing on stderr.
pub(crate) fn run(tool: &str, args: &[&str]) -> String {
    let output = Command::new(tool).args(args).output().unwrap_or_else(|e| panic!("{tool} can't be run: {e}"));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{tool} {}: {complaints}", args.join(" "));
    String::from_utf8(output.stdout).expect("text")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is text")
}

/// The tags of an FLV file (FLV 10.1, annex E.3): kind, timestamp, body.
fn tags(file: &Bytes) -> Vec<(u8, u32, Bytes)> {
    let (mut at, mut tags) = (9 + 4, Vec::new());
    while at + 11 <= file.len() {
        let long = |at: usize| u32::from_be_bytes([0, file[at], file[at + 1], file[at + 2]]);
        let (size, low) = (long(at + 1) as usize, long(at + 4));
        let timestamp = u32::from(file[at + 7]) << 24 | low;
        tags.push((file[at] & 0x1f, timestamp, file.slice(at + 11..at + 11 + size)));
        at += 11 + size + 4;
    }
    tags
}

/// Plays an FLV file into a packager in virtual time; each track's init segment and chunks, joined.
fn package(flv: &Bytes) -> (Record, Vec<Vec<u8>>) {
    let mut packager = Packager::new(StreamName::parse("film").expect("a name"), Settings::default(), None);
    let wall = UnixTime::from_micros(1_795_359_753_000_000);
    let mut outputs = Vec::new();
    let mut send = |ms: u64, input: Input| {
        let clocks = Clocks { now: Time::from_millis(1_000 + ms), wall: wall + Duration::from_millis(ms) };
        packager.handle(clocks, input);
        outputs.extend(std::iter::from_fn(|| packager.poll_output()));
    };
    let clock = InputClock { scale: Timescale::MILLIS, wrap_bits: 32 };
    let epoch = Epoch { counter: 1, node: NodeId(1) };
    send(0, Input::Attached { push: PushId(0), rendition: None, epoch, clock, announced: Announced::default() });
    let (mut last, mut reader) = (0, flv::Tags::new(flv::TRACKS_MAX));
    for (kind, timestamp, body) in tags(flv) {
        let mut media = Vec::new();
        let read = match kind {
            8 => reader.audio(&body, timestamp, &mut media),
            9 => reader.video(&body, timestamp, &mut media),
            _ => continue,
        };
        read.expect("ffmpeg's FLV is well formed");
        last = timestamp.into();
        for media in media {
            send(last, media);
        }
    }
    send(last, Input::End);
    let records = outputs.iter().filter_map(|o| if let Output::Record(r) = o { Some(r) } else { None });
    let record = records.last().expect("a record").clone();
    let files = record.tracks.iter().map(|track| {
        let mut file = track.inits[0].bytes.to_vec();
        for output in &outputs {
            match output {
                Output::Part { header, body } if header.id.track == track.id => file.extend_from_slice(body),
                _ => {}
            }
        }
        file
    });
    let files = files.collect();
    (record, files)
}

/// An ffmpeg that speaks Enhanced RTMP: 6.1 or newer, with libx265, SVT-AV1 and libopus.
pub(crate) fn newer() -> String {
    let beside = concat!(env!("CARGO_TARGET_TMPDIR"), "/../ffmpeg/ffmpeg");
    let path = std::env::var("DAMSON_FFMPEG").unwrap_or_else(|_| beside.to_owned());
    assert!(
        Path::new(&path).exists(),
        "{path}: an ffmpeg with Enhanced RTMP is missing: `tests/run.sh setup` fetches one, or DAMSON_FFMPEG names it"
    );
    path
}

/// A film of 5 s, 320x180 at 30 fps with a keyframe every second, and mono sounds of rising pitch.
pub(crate) fn film_of(path: &Path, pictures: &[&str], sounds: &[&[&str]]) {
    let tones: Vec<String> = (1..=sounds.len()).map(|n| format!("sine=f={}:r=48000", n * 440)).collect();
    let mut args = vec!["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30"];
    args.extend(tones.iter().flat_map(|tone| ["-f", "lavfi", "-i", tone]));
    let maps: Vec<String> = (0..=sounds.len()).map(|n| n.to_string()).collect();
    args.extend(maps.iter().flat_map(|map| ["-map", map]));
    args.extend(["-t", "5", "-g", "30", "-pix_fmt", "yuv420p"]);
    args.extend(pictures);
    args.extend(sounds.concat());
    make_by(&newer(), &args, path);
}

/// The file at `path`, as this ffmpeg makes it of `args`. It is made once for all tests, and kept beside what cargo builds for them: to
/// encode it takes more of a processor than most tests that need it.
pub(crate) fn make_by(ffmpeg: &str, args: &[&str], path: &Path) {
    let mut hasher = DefaultHasher::new();
    (ffmpeg, args).hash(&mut hasher);
    let kind = path.extension().and_then(|kind| kind.to_str()).expect("a name of our own");
    let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("film-{:016x}.{kind}", hasher.finish()));
    if !kept.exists() {
        // SVT-AV1 says what it does, however quiet ffmpeg is told to be.
        let output = Command::new(ffmpeg).args(args).arg(path).output().expect("ffmpeg starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Whoever finds it finds all of it.
        let whole = kept.with_extension(format!("{}.tmp", std::process::id()));
        std::fs::copy(path, &whole).and_then(|_| std::fs::rename(whole, &kept)).expect("cargo's folder can be written");
    }
    std::fs::copy(kept, path).expect("a temporary folder can be written");
}

/// H.265 with open GOPs, as x265 makes them unless told otherwise.
pub(crate) const H265: &[&str] =
    &["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:bframes=2"];
/// AV1.
pub(crate) const AV1: &[&str] = &["-c:v", "libsvtav1", "-preset", "12"];
/// H.264.
pub(crate) const H264: &[&str] = &["-c:v", "libx264", "-preset", "ultrafast", "-sc_threshold", "0"];

#[test]
fn codecs_of_enhanced_rtmp_come_out_as_they_went_in() {
    let check = |pictures: &[&str], sounds: &[&[&str]], codecs: &[&str]| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let source = dir.path().join("source.flv");
        film_of(&source, pictures, sounds);
        let (record, files) = package(&std::fs::read(&source).expect("ffmpeg wrote it").into());
        let names: Vec<&str> = record.tracks.iter().map(|track| track.codec.as_str()).collect();
        assert_eq!(names, codecs);
        assert_eq!(record.segment_duration.as_millis(), 2_000, "{codecs:?}");
        let (mut sound, ffmpeg) = (0, newer());
        for (track, file) in record.tracks.iter().zip(&files) {
            let path = dir.path().join(format!("{}.mp4", track.name));
            std::fs::write(&path, file).expect("a temporary folder can be written");
            if track.is_video() {
                let decoded = |file: &Path| hashes_by(&ffmpeg, file, "0:v", false);
                assert_eq!(decoded(&path), decoded(&source), "pictures of {}", track.codec);
            } else {
                let packets = |file: &Path, stream: &str| hashes_by(&ffmpeg, file, stream, true);
                assert_eq!(
                    packets(&path, "0"),
                    packets(&source, &format!("0:a:{sound}")),
                    "packets of {}",
                    track.codec
                );
                sound += 1;
            }
        }
    };
    check(H265, &[&["-c:a", "libopus"]], &["hvc1.1.6.L60.90", "opus"]);
    check(AV1, &[&["-c:a:0", "ac3"], &["-c:a:1", "eac3"]], &["av01.0.00M.08", "ac-3", "ec-3"]);
}

/// The sizes and MD5s of packets (`copy`) or decoded frames.
pub(crate) fn hashes(file: &Path, stream: &str, copy: bool) -> Vec<String> {
    hashes_by("ffmpeg", file, stream, copy)
}

/// The same, by this ffmpeg.
pub(crate) fn hashes_by(ffmpeg: &str, file: &Path, stream: &str, copy: bool) -> Vec<String> {
    let codec: &[&str] = if copy { &["-c", "copy"] } else { &["-fps_mode", "passthrough"] };
    let args = [&["-v", "warning", "-i", text(file), "-map", stream][..], codec, &["-f", "framemd5", "-"]].concat();
    let lines = run(ffmpeg, &args);
    // Behind them stand those of side data, which a container adds.
    let hash = |line: &str| line.split(',').skip(4).take(2).map(str::trim).collect::<Vec<_>>().join(" ");
    lines.lines().filter(|line| !line.starts_with('#')).map(hash).collect()
}

/// Decode and presentation times of packets, in ms from the first decode time.
pub(crate) fn times(file: &Path, stream: &str) -> Vec<(i64, i64)> {
    let args =
        ["-v", "warning", "-select_streams", stream, "-show_entries", "packet=dts_time,pts_time", "-of", "csv=p=0"];
    let lines = run("ffprobe", &[&args[..], &[text(file)]].concat());
    let ms = |field: &str| (field.parse::<f64>().expect("a time") * 1_000.0).round() as i64;
    let pairs = lines.lines().filter_map(|line| line.trim_end_matches(',').split_once(','));
    let all: Vec<(i64, i64)> = pairs.map(|(pts, dts)| (ms(dts), ms(pts))).collect();
    let first = all.first().expect("packets").0;
    all.iter().map(|(dts, pts)| (dts - first, pts - first)).collect()
}

fn check(rate: &str, gop: &str, b_frames: &str, audio_rate: &str, codec: &str) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let source = dir.path().join("source.flv");
    let picture = format!("testsrc2=s=320x180:r={rate}");
    let sound = format!("sine=r={audio_rate}");
    run(
        "ffmpeg",
        &[
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            &picture,
            "-f",
            "lavfi",
            "-i",
            &sound,
            "-t",
            "10",
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-bf",
            b_frames,
            "-g",
            gop,
            "-sc_threshold",
            "0",
            "-pix_fmt",
            "yuv420p",
            "-c:a",
            "aac",
            "-ac",
            "2",
            "-flvflags",
            "no_duration_filesize",
            text(&source),
        ],
    );
    let (record, files) = package(&std::fs::read(&source).expect("ffmpeg wrote it").into());
    assert_eq!(record.track(TrackId(0)).map(|t| t.codec.as_str()), Some(codec));
    for (track, file) in record.tracks.iter().zip(&files) {
        let path = dir.path().join(format!("{}.mp4", track.name));
        std::fs::write(&path, file).expect("a temporary folder can be written");
        let stream = if track.is_video() { "0:v" } else { "0:a" };
        assert_eq!(hashes(&path, "0", true), hashes(&source, stream, true), "packets of {}", track.name);
        let probed =
            run("ffprobe", &["-v", "warning", "-show_entries", "stream=width,height,sample_rate", text(&path)]);
        if track.is_video() {
            assert!(probed.contains("width=320") && probed.contains("height=180"), "{probed}");
            assert_eq!(hashes(&path, "0", false), hashes(&source, stream, false), "frames");
            assert_eq!(times(&path, "v"), times(&source, "v"));
        } else {
            assert!(probed.contains(&format!("sample_rate={audio_rate}")), "{probed}");
        }
    }
}

#[test]
fn pictures_and_sound_come_out_as_they_went_in() {
    check("30", "60", "2", "48000", "avc1.64000d");
    check("30000/1001", "30", "3", "44100", "avc1.64000d");
}
