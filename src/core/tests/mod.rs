//! What pushers do to their pictures, sounds and timestamps, from each protocol's own bytes to the parts, in virtual time.

mod carrier;
mod http;
mod rows;
mod ts_segments;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use self::carrier::Carrier;
use crate::model::time::{Time, UnixTime};
use crate::model::{Clocks, Epoch, NodeId, PartHeader, PushId, Record, StreamName};
use crate::packager::tests::{check_invariants, samples};
use crate::packager::{Input, Output, Packager, Settings};

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
    let mut node = Node::new(settings);
    let began = node.now;
    for frame in frames {
        let due = began + Duration::from_micros(frame.at * 100 / 9);
        if node.now > began && due.since(node.now) > PAUSE {
            node.wait(carrier, node.now + PAUSE);
            let inputs = carrier.pause();
            node.handle(carrier, inputs);
        }
        node.wait(carrier, due);
        let inputs = carrier.carry(due, frame, first);
        node.handle(carrier, inputs);
    }
    let inputs = carrier.finish(node.now);
    node.handle(carrier, inputs);
    while let Some(due) = carrier.due(node.now) {
        node.wait(carrier, due.max(node.now));
    }
    node.input(Input::End);
    let outputs = node.outputs;
    check_invariants(&outputs);
    let records = outputs.iter().filter_map(|o| if let Output::Record(r) = o { Some(r.clone()) } else { None });
    let record = records.last().expect("something was published");
    let frames = came(&outputs, &record);
    Pushed { outputs, record, frames }
}

/// A packager that is fed by a carrier, and its clock.
struct Node {
    packager: Packager,
    outputs: Vec<Output>,
    now: Time,
    attached: bool,
}

impl Node {
    fn new(settings: Settings) -> Self {
        let stream = StreamName::parse("cam1").expect("a name");
        let (packager, now) = (Packager::new(stream, settings, None), Time::from_millis(10_000));
        Node { packager, outputs: Vec::new(), now, attached: false }
    }

    fn input(&mut self, input: Input) {
        let wall = UnixTime::from_micros(WALL + self.now.as_micros());
        self.packager.handle(Clocks { now: self.now, wall }, input);
        self.outputs.extend(std::iter::from_fn(|| self.packager.poll_output()));
    }

    fn handle(&mut self, carrier: &dyn Carrier, inputs: Vec<Input>) {
        if !inputs.is_empty() && !std::mem::replace(&mut self.attached, true) {
            let epoch = Epoch { counter: 1, node: NodeId(1) };
            let (clock, announced) = carrier.attached();
            self.input(Input::Attached { push: PushId(0), rendition: None, epoch, clock, announced });
        }
        inputs.into_iter().for_each(|input| self.input(input));
    }

    /// Lets time pass, with all that is due on its way.
    fn wait(&mut self, carrier: &mut dyn Carrier, until: Time) {
        loop {
            let held = carrier.due(self.now).filter(|at| *at <= until);
            let timer = self.packager.poll_timeout().filter(|at| *at <= until);
            match (held, timer) {
                (Some(at), timer) if timer.is_none_or(|timer| at <= timer) => {
                    self.now = self.now.max(at);
                    let inputs = carrier.play(self.now);
                    self.handle(carrier, inputs);
                }
                (_, Some(at)) => {
                    self.now = self.now.max(at);
                    self.input(Input::Timeout);
                }
                (_, None) => break,
            }
        }
        self.now = until;
    }
}

/// The frames in parts, by the numbers in their bytes.
fn came(outputs: &[Output], record: &Record) -> Vec<Came> {
    let mut all = Vec::new();
    for output in outputs {
        let Output::Part { header, body } = output else { continue };
        let track = record.track(header.id.track).expect("a part's track is in the record");
        let at = (header.decode_time as f64 / f64::from(track.timescale.hz()), header.discontinuity);
        let frames = samples(record, header, body).into_iter().enumerate();
        all.extend(frames.filter_map(|(n, frame)| {
            let number = carrier::number(&frame)?;
            Some(Came { picture: track.is_video(), number, at: (n == 0).then_some(at) })
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
            let kind = if picture { "picture" } else { "sound" };
            let there: BTreeSet<u64> = came.iter().copied().collect();
            let missing: Vec<u64> = went.iter().copied().filter(|number| !there.contains(number)).collect();
            assert_eq!(missing, [0; 0], "{what}: {kind} frames");
            assert_eq!(came, went, "{what}: {kind} frames");
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
