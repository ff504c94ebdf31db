//! The packager in virtual time.

mod cutting;
mod invariants;
mod ladder;
mod late;
mod lives;
mod messages;
mod property;

use std::time::Duration;

use bytes::Bytes;

use super::diagnostic::{Diagnostic, Refusal, Unusable};
use super::io::{Input, Output};
use super::packager::Packager;
use super::plan::PART_SHARE_MIN;
use super::settings::Settings;
use crate::codec::codec::Codec;
use crate::model::time::{Time, Timescale, UnixTime};
use crate::model::{
    AccessUnit, Announced, Clocks, CodecConfig, Epoch, InputClock, InputTrack, MESSAGE_LEN_MAX, Msn, NodeId,
    PartHeader, PushId, Record, Rendition, Resume, StreamName, TrackId, UNIT_LEN_MAX,
};
pub(crate) use invariants::{check_invariants, samples};

/// x264's avcC: High@3.1, 1280x720, 30 fps.
pub(crate) const AVCC_720P30: &[u8] = &[
    0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01,
    0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60, 0x01, 0x00, 0x04, 0x68,
    0xef, 0xbc, 0xb0, 0xfd, 0xf8, 0xf8, 0x00,
];
/// x264's avcC: Main@3.0, 640x360, 30 fps.
pub(crate) const OTHER_AVCC: &[u8] = &[
    0x01, 0x4d, 0x40, 0x1e, 0xff, 0xe1, 0x00, 0x18, 0x67, 0x4d, 0x40, 0x1e, 0xec, 0xa0, 0x50, 0x17, 0xfc, 0xb8, 0x08,
    0x80, 0x00, 0x00, 0x03, 0x00, 0x80, 0x00, 0x00, 0x1e, 0x07, 0x8b, 0x16, 0xcb, 0x01, 0x00, 0x05, 0x68, 0xeb, 0xe3,
    0xcb, 0x20,
];
/// AAC-LC, 48 kHz, stereo.
const ASC_48K: &[u8] = &[0x11, 0x90];

const RTMP: InputClock = InputClock { scale: Timescale::MILLIS, wrap_bits: 32 };
const FEED: PushId = PushId(0);
const VIDEO: InputTrack = InputTrack(0);
const AUDIO: InputTrack = InputTrack(1);
/// The wallclock at `now` 0.
const WALL: u64 = 1_795_359_753_250_000;

/// A packager, its clock, and all that it has put out.
struct Bench {
    packager: Packager,
    now_ms: u64,
    outputs: Vec<Output>,
}

fn settings() -> Settings {
    Settings::default()
}

fn epoch(counter: u32) -> Epoch {
    Epoch { counter, node: NodeId(1) }
}

pub(crate) fn avcc() -> CodecConfig {
    CodecConfig::Avc(Bytes::from_static(AVCC_720P30))
}

/// The same picture, another PPS.
pub(crate) fn other_avcc() -> CodecConfig {
    let mut record = AVCC_720P30.to_vec();
    record[38] ^= 0x10;
    CodecConfig::Avc(record.into())
}

pub(crate) fn asc() -> CodecConfig {
    CodecConfig::Aac(Bytes::from_static(ASC_48K))
}

impl Bench {
    fn new(settings: Settings) -> Self {
        Bench::resumed(settings, None)
    }

    fn resumed(settings: Settings, resume: Option<Resume>) -> Self {
        let stream = StreamName::parse("cam1").expect("a name");
        Bench { packager: Packager::new(stream, settings, resume), now_ms: 10_000, outputs: Vec::new() }
    }

    fn send(&mut self, input: Input) {
        let now = Time::from_millis(self.now_ms);
        let wall = UnixTime::from_micros(WALL + self.now_ms * 1_000);
        self.packager.handle(Clocks { now, wall }, input);
        while let Some(output) = self.packager.poll_output() {
            self.outputs.push(output);
        }
        let next = self.packager.poll_timeout();
        assert!(next.is_none_or(|next| next > now), "a timer in the past: {next:?} at {now:?}");
    }

    /// Lets time pass, with each timer on its way.
    fn wait_until(&mut self, ms: u64) {
        while let Some(at) = self.packager.poll_timeout() {
            let at_ms = at.as_micros().div_ceil(1_000);
            if at_ms > ms {
                break;
            }
            self.now_ms = self.now_ms.max(at_ms);
            self.send(Input::Timeout);
        }
        self.now_ms = self.now_ms.max(ms);
    }

    fn wait(&mut self, ms: u64) {
        self.wait_until(self.now_ms + ms);
    }

    fn attach(&mut self, counter: u32) {
        self.attach_as(FEED, None, counter);
    }

    fn attach_as(&mut self, push: PushId, rendition: Option<&str>, counter: u32) {
        let rendition = rendition.map(|name| Rendition::parse(name).expect(name));
        let announced = Announced::default();
        self.send(Input::Attached { push, rendition, epoch: epoch(counter), clock: RTMP, announced });
    }

    fn attach_av(&mut self, counter: u32) {
        self.attach(counter);
        self.send(Input::Config { track: VIDEO, config: avcc() });
        self.send(Input::Config { track: AUDIO, config: asc() });
    }

    /// Sends units, each when its decode time has come; the first one now. Decode times start at `first`.
    fn play(&mut self, units: &[AccessUnit], first: u64) {
        let start = self.now_ms;
        for unit in units {
            self.wait_until(start + unit.dts);
            let dts = first.wrapping_add(unit.dts) % (1 << 32);
            self.send(Input::Unit(AccessUnit { dts, ..unit.clone() }));
        }
    }

    fn records(&self) -> Vec<&Record> {
        self.outputs.iter().filter_map(|o| if let Output::Record(r) = o { Some(r) } else { None }).collect()
    }

    fn record(&self) -> &Record {
        self.records().last().expect("a record was put out")
    }

    fn parts(&self, track: u8) -> Vec<(&PartHeader, &Bytes)> {
        let parts = self.outputs.iter().filter_map(|output| match output {
            Output::Part { header, body } if header.id.track == TrackId(track) => Some((header, body)),
            _ => None,
        });
        parts.collect()
    }

    fn notices(&self, kind: &str) -> usize {
        self.outputs.iter().filter(|o| matches!(o, Output::Diagnostic(n) if n.kind() == kind)).count()
    }

    /// Of each segment of a track: MSN, length in ms, parts, all gap.
    fn segments(&self, track: u8) -> Vec<(Msn, u64, usize, bool)> {
        let hz = u64::from(self.record().tracks[usize::from(track)].timescale.hz());
        let mut out: Vec<(Msn, u64, usize, bool)> = Vec::new();
        for (header, _) in self.parts(track) {
            if out.last().is_none_or(|last| last.0 != header.id.msn) {
                out.push((header.id.msn, 0, 0, true));
            }
            let last = out.last_mut().expect("just pushed");
            last.1 += u64::from(header.duration);
            last.2 += 1;
            last.3 &= header.flags.gap;
        }
        for segment in &mut out {
            segment.1 = (segment.1 * 1_000 + hz / 2) / hz;
        }
        out
    }

    /// All units of a track as they came out.
    fn units(&self, track: u8) -> Vec<Bytes> {
        let record = self.record();
        self.parts(track).into_iter().flat_map(|(header, body)| invariants::samples(record, header, body)).collect()
    }

    /// The units of a track of sound that its encoder has sent.
    fn heard(&self, track: u8) -> Vec<Bytes> {
        self.units(track).into_iter().filter(|data| *data != silence()).collect()
    }
}

/// A unit of silence.
fn silence() -> Bytes {
    Codec::parse(&asc()).expect("a config").silence(1_024).expect("AAC has silence")
}

/// `n` frames at `fps`, a keyframe every `gop`; with B-frames their composition offsets vary.
fn frames(n: u64, fps: f64, gop: u64, b_frames: bool) -> Vec<AccessUnit> {
    let frame = 1_000.0 / fps;
    (0..n)
        .map(|i| AccessUnit {
            track: VIDEO,
            dts: (i as f64 * frame).round() as u64,
            composition_offset: if b_frames {
                (frame * [2.0, 4.0, 1.0, 0.0][(i % gop) as usize % 4]).round() as i32
            } else {
                0
            },
            keyframe: i % gop == 0,
            data: Bytes::from(format!("video {i} {}", "x".repeat(i as usize * 7 % 50))),
        })
        .collect()
}

/// `n` AAC units at 48 kHz.
fn sounds(n: u64) -> Vec<AccessUnit> {
    let unit = |i: u64| AccessUnit {
        track: AUDIO,
        dts: (i * 1_024 * 1_000 + 24_000) / 48_000,
        composition_offset: 0,
        keyframe: true,
        data: Bytes::from(format!("audio {i}")),
    };
    (0..n).map(unit).collect()
}

/// Interleaved by decode time, as encoders send them.
fn mux(tracks: &[Vec<AccessUnit>]) -> Vec<AccessUnit> {
    let mut all: Vec<AccessUnit> = tracks.concat();
    all.sort_by_key(|unit| unit.dts);
    all
}

/// Seconds of picture at 30 fps, GOPs of 2 s, and sound.
fn programme(seconds: u64) -> Vec<AccessUnit> {
    mux(&[frames(seconds * 30, 30.0, 60, true), sounds(seconds * 48_000 / 1_024)])
}

fn payloads(units: &[AccessUnit], track: InputTrack) -> Vec<Bytes> {
    units.iter().filter(|unit| unit.track == track).map(|unit| unit.data.clone()).collect()
}
