//! What pushers do to their pictures, sounds and timestamps, from each protocol's own bytes to the parts, in virtual time.

mod carrier;
mod rows;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::live::{Epoch, NodeId, PartHeader, Record, StreamName};
use crate::media::tests::{check_invariants, samples};
use crate::media::{Announced, Clocks, Feed, Input, Output, Packager, Settings};
use crate::units::{Time, UnixTime};
use carrier::Carrier;

/// The wallclock at the start.
const WALL: u64 = 1_795_359_753_250_000;
/// After so long without a byte, a protocol's reader hands on what it waited to see the end of.
const PAUSE: Duration = Duration::from_millis(200);
/// What the frames' times count in, a second.
const HZ: u64 = 90_000;

/// A coded frame, before it is put into a protocol.
#[derive(Clone, Debug)]
struct Frame {
    /// Of pictures or of sound.
    picture: bool,
    /// When it is decoded, in 1/90,000 s since the push began, as a clock that never jumps or wraps has it.
    at: u64,
    /// By how much it is shown later.
    reordered: u64,
    key: bool,
    /// Which headers it needs, of two: 720p or 360p, sound at 48 or 8 kHz.
    headers: u8,
    /// Which frame of its kind it is.
    number: u64,
    /// What the timestamps are off by from here on, in 1/90,000 s.
    jump: i64,
}

/// So many seconds of pictures, a key picture every `gop` of them, two of three reordered.
fn pictures(seconds: u64, fps: u64, gop: u64) -> Vec<Frame> {
    let frame = HZ / fps;
    let picture = |n: u64| Frame {
        picture: true,
        at: n * frame,
        reordered: [1, 2, 0][usize::try_from(n % gop % 3).unwrap_or(0)] * frame,
        key: n.is_multiple_of(gop),
        headers: 0,
        number: n,
        jump: 0,
    };
    (0..seconds * fps).map(picture).collect()
}

/// So many seconds of AAC at 48 kHz.
fn sounds(seconds: u64) -> Vec<Frame> {
    sounds_at(seconds, 48_000, 0)
}

fn sounds_at(seconds: u64, rate: u64, headers: u8) -> Vec<Frame> {
    let at = |number: u64| number * 1_024 * HZ / rate;
    let sound =
        |number: u64| Frame { picture: false, at: at(number), reordered: 0, key: true, headers, number, jump: 0 };
    (0..seconds * rate / 1_024).map(sound).collect()
}

/// As a multiplexer interleaves them.
fn mux(tracks: [Vec<Frame>; 2]) -> Vec<Frame> {
    let mut all = tracks.concat();
    all.sort_by_key(|frame| frame.at);
    all
}

/// A frame that came out.
struct Came {
    picture: bool,
    number: u64,
    /// Of a part's first: its decode time in s, and its discontinuity sequence number.
    at: Option<(f64, u32)>,
}

/// What came out of a push.
struct Pushed {
    outputs: Vec<Output>,
    record: Record,
    /// The frames that came out, in order.
    frames: Vec<Came>,
}

/// Pushes frames, each when it is due, over a protocol whose clock shows `first` at the beginning.
fn push(carrier: &mut dyn Carrier, frames: &[Frame], first: u64, settings: Settings) -> Pushed {
    let stream = StreamName::parse("cam1").expect("a name");
    let mut packager = Packager::new(stream, settings, None);
    let mut outputs = Vec::new();
    let mut now = Time::from_millis(10_000);
    let began = now;
    let mut handle = |now: Time, input: Input, packager: &mut Packager| {
        let wall = UnixTime::from_micros(WALL + now.as_micros());
        packager.handle(Clocks { now, wall }, input);
        outputs.extend(std::iter::from_fn(|| packager.poll_output()));
    };
    let epoch = Epoch { counter: 1, node: NodeId(1) };
    let (feed, announced) = (Feed(0), Announced::default());
    let attached = Input::Attached { feed, rendition: None, epoch, clock: carrier.clock(), announced };
    handle(now, attached, &mut packager);
    for frame in frames {
        let due = began + Duration::from_micros(frame.at * 100 / 9);
        if now > began && due.since(now) > PAUSE {
            now += PAUSE;
            for input in carrier.pause() {
                handle(now, input, &mut packager);
            }
        }
        while let Some(at) = packager.poll_timeout().filter(|at| *at <= due) {
            now = now.max(at);
            handle(now, Input::Timeout, &mut packager);
        }
        now = due;
        for input in carrier.carry(frame, first) {
            handle(now, input, &mut packager);
        }
    }
    for input in carrier.finish() {
        handle(now, input, &mut packager);
    }
    handle(now, Input::End, &mut packager);
    check_invariants(&outputs);
    let records = outputs.iter().filter_map(|o| if let Output::Record(r) = o { Some(r.clone()) } else { None });
    let record = records.last().expect("something was published");
    let frames = came(&outputs, &record);
    Pushed { outputs, record, frames }
}

/// The frames in parts, by the numbers in their bytes.
fn came(outputs: &[Output], record: &Record) -> Vec<Came> {
    let mut all = Vec::new();
    for output in outputs {
        let Output::Part { header, body } = output else { continue };
        let track = record.track(header.id.track).expect("a part's track is in the record");
        let at = (header.decode_time as f64 / f64::from(track.timescale.hz()), header.discontinuity);
        let frames = samples(record, header, body).into_iter().enumerate();
        all.extend(frames.map(|(n, frame)| Came {
            picture: track.is_video(),
            number: carrier::number(&frame),
            at: (n == 0).then_some(at),
        }));
    }
    all
}

impl Pushed {
    fn parts(&self, picture: bool) -> impl Iterator<Item = &PartHeader> {
        let id = self.record.tracks.iter().find(|track| track.is_video() == picture).map(|track| track.id);
        self.outputs.iter().filter_map(move |output| match output {
            Output::Part { header, .. } if Some(header.id.track) == id => Some(header),
            _ => None,
        })
    }

    /// How long the gaps of a kind are together in which nothing is to be seen or heard, in s.
    fn gaps(&self, picture: bool) -> f64 {
        let track = self.record.tracks.iter().find(|track| track.is_video() == picture);
        let hz = track.map_or(1.0, |track| f64::from(track.timescale.hz()));
        self.parts(picture)
            .filter(|header| header.flags.gap && !header.flags.held)
            .map(|header| f64::from(header.duration) / hz)
            .sum()
    }

    fn discontinuities(&self) -> u32 {
        self.record.periods.last().map_or(0, |period| period.discontinuity)
    }

    /// Every frame came out once, in order.
    fn assert_whole(&self, frames: &[Frame], what: &str) {
        for picture in [true, false] {
            let went: Vec<u64> = frames.iter().filter(|f| f.picture == picture).map(|f| f.number).collect();
            let came: Vec<u64> = self.frames.iter().filter(|f| f.picture == picture).map(|f| f.number).collect();
            assert_eq!(came.len(), went.len(), "{what}: {} frames came", if picture { "picture" } else { "sound" });
            assert_eq!(came, went, "{what}");
        }
    }

    /// Sound lies beside the pictures as it did when it was pushed, to within a frame of either.
    fn assert_in_step(&self, frames: &[Frame], what: &str) {
        let pushed: BTreeMap<(bool, u64), f64> =
            frames.iter().map(|f| ((f.picture, f.number), f.at as f64 / HZ as f64)).collect();
        let mut periods = BTreeMap::<u32, f64>::new();
        for &Came { picture, number, at } in &self.frames {
            let Some((at, discontinuity)) = at else { continue };
            let off = at - pushed[&(picture, number)];
            let drift = off - *periods.entry(discontinuity).or_insert(off);
            let kind = if picture { "picture" } else { "sound" };
            assert!(drift.abs() < 0.034, "{what}: {kind} {number} is {drift:.3} s off at {at:.1} s");
        }
    }
}

/// A frame's bytes: its number, and none that a parser looks for.
fn payload(number: u64) -> Bytes {
    let digits = (0..8).map(|n| 0x10 | u8::try_from(number >> (4 * n) & 15).unwrap_or(0));
    std::iter::once(0x41).chain(digits).chain([0x80]).collect()
}
