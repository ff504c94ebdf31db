//! Frames in a protocol's own bytes, and read from them again by the node's own parsers.

use bytes::Bytes;

use super::{Frame, payload};
use crate::demux::ts::{Demuxer, End};
use crate::demux::{flv, ts};
use crate::model::time::Time;
use crate::model::{Announced, InputClock};
use crate::packager::Input;
use crate::packager::tests::{AVCC_720P30, OTHER_AVCC};
use crate::testing::ts_mux::{Mux, Stamp, adts};

/// A protocol.
pub(super) trait Carrier {
    /// What its timestamps count.
    fn clock(&self) -> InputClock;
    /// With what it is attached, once something has come.
    fn attached(&self) -> (InputClock, Announced) {
        (self.clock(), Announced::default())
    }
    /// What comes of a frame that is written and read; `first` is the clock at the push's beginning, in its ticks.
    fn carry(&mut self, now: Time, frame: &Frame, first: u64) -> Vec<Input>;
    /// What comes when nothing has been heard for a while.
    fn pause(&mut self) -> Vec<Input> {
        Vec::new()
    }
    /// What comes when the pusher hangs up.
    fn finish(&mut self, now: Time) -> Vec<Input>;
    /// When something is due that was held.
    fn due(&self, _now: Time) -> Option<Time> {
        None
    }
    /// What of that is due.
    fn play(&mut self, _now: Time) -> Vec<Input> {
        Vec::new()
    }
}

/// The number in a frame's bytes, whichever protocol they came by. Silence that fills a hole has none.
pub(super) fn number(frame: &[u8]) -> Option<u64> {
    let digits = frame.get(frame.len().checked_sub(9)?..frame.len() - 1)?.iter();
    Some(digits.enumerate().map(|(n, digit)| u64::from(digit & 15) << (4 * n)).sum())
}

/// A timestamp, in ticks of a clock.
fn ticks(frame: &Frame, clock: InputClock, first: u64, of: u64) -> u64 {
    let hz = i128::from(clock.scale.hz());
    // Rounded to the nearest: RTMP has milliseconds alone.
    let ticks = ((i128::from(of) + i128::from(frame.jump)) * hz + 45_000).div_euclid(90_000) + i128::from(first);
    u64::try_from(ticks.rem_euclid(1 << clock.wrap_bits)).expect("33 bits")
}

pub(super) fn record(headers: u8) -> &'static [u8] {
    if headers == 0 { AVCC_720P30 } else { OTHER_AVCC }
}

/// RTMP: FLV tag bodies.
pub(super) struct Rtmp {
    tags: flv::Tags,
    headers: Option<u8>,
    sound: bool,
}

impl Default for Rtmp {
    fn default() -> Self {
        Rtmp { tags: flv::Tags::new(flv::TRACKS_MAX), headers: None, sound: false }
    }
}

impl Rtmp {
    fn read(&mut self, picture: bool, body: &[u8], at: u64, inputs: &mut Vec<Input>) {
        let (body, at) = (Bytes::copy_from_slice(body), u32::try_from(at).expect("32 bits"));
        let mut out = Vec::new();
        let read = if picture { self.tags.video(&body, at, &mut out) } else { self.tags.audio(&body, at, &mut out) };
        read.expect("a good tag");
        inputs.extend(out);
    }
}

impl Carrier for Rtmp {
    fn clock(&self) -> InputClock {
        flv::CLOCK
    }

    fn carry(&mut self, _now: Time, frame: &Frame, first: u64) -> Vec<Input> {
        let mut inputs = Vec::new();
        let at = ticks(frame, flv::CLOCK, first, frame.at);
        let data = payload(frame.number);
        if frame.picture {
            if frame.key && self.headers.replace(frame.headers) != Some(frame.headers) {
                self.read(true, &[&[0x17, 0, 0, 0, 0][..], record(frame.headers)].concat(), at, &mut inputs);
            }
            let shown = ticks(frame, flv::CLOCK, first, frame.at + frame.reordered);
            let offset = (u32::try_from(shown).expect("32 bits")).wrapping_sub(u32::try_from(at).expect("32 bits"));
            let nal = [&u32::try_from(data.len()).expect("short").to_be_bytes()[..], &data].concat();
            let kind = if frame.key { 0x17 } else { 0x27 };
            self.read(true, &[&[kind, 1][..], &offset.to_be_bytes()[1..], &nal].concat(), at, &mut inputs);
        } else {
            if !std::mem::replace(&mut self.sound, true) {
                let rate = if frame.headers == 0 { 0x11 } else { 0x15 };
                self.read(false, &[0xaf, 0, rate, 0x90], at, &mut inputs);
            }
            self.read(false, &[&[0xaf, 1][..], &data].concat(), at, &mut inputs);
        }
        inputs
    }

    fn finish(&mut self, _now: Time) -> Vec<Input> {
        let mut inputs = Vec::new();
        self.tags.end(&mut inputs);
        inputs
    }
}

/// Writes transport packets.
#[derive(Default)]
pub(super) struct TsMuxer {
    mux: Mux,
    headers: u8,
}

const PMT: u16 = 0x100;
const PICTURES: u16 = 0x101;
const SOUNDS: u16 = 0x102;
const SPLICES: u16 = 0x103;

impl TsMuxer {
    pub(super) fn write(&mut self, frame: &Frame, first: u64) {
        let dts = ticks(frame, ts::CLOCK, first, frame.at);
        let data = payload(frame.number);
        if frame.picture {
            if frame.key {
                self.headers = frame.headers;
                self.mux.pat(&[(1, PMT)]);
                self.mux.pmt(PMT, 1, 0, &[(0x1b, PICTURES), (0x0f, SOUNDS), (0x86, SPLICES)]);
            }
            let slice = [&[if frame.key { 0x65 } else { 0x41 }][..], &data[1..]].concat();
            let record = record(self.headers);
            let sps = 8 + usize::from(record[7]);
            let pps = &record[sps + 3..sps + 3 + usize::from(record[sps + 2])];
            let nals: &[&[u8]] =
                if frame.key { &[&[9, 0xf0], &record[8..sps], pps, &slice] } else { &[&[9, 0xf0], &slice] };
            let stream: Vec<u8> = nals.iter().flat_map(|nal| [&[0, 0, 0, 1][..], nal].concat()).collect();
            let pts = ticks(frame, ts::CLOCK, first, frame.at + frame.reordered);
            self.mux.pes(PICTURES, 0xe0, Some(Stamp { pts, dts: Some(dts), bounded: false }), &stream);
        } else {
            let mut sound = adts(&data);
            // sampling_frequency_index 3 or 11.
            sound[2] |= if frame.headers == 0 { 0 } else { 0x20 };
            self.mux.pes(SOUNDS, 0xc0, Some(Stamp { pts: dts, dts: None, bounded: true }), &sound);
        }
    }

    /// A splice_info_section.
    pub(super) fn splice(&mut self, section: &[u8]) {
        self.mux.section(SPLICES, section);
    }

    /// The packets written so far.
    pub(super) fn take(&mut self) -> Vec<[u8; 188]> {
        std::mem::take(&mut self.mux.packets)
    }
}

/// MPEG-TS, as UDP and SRT bring it.
pub(super) struct Ts {
    muxer: TsMuxer,
    demuxer: Demuxer,
}

impl Ts {
    pub(super) fn new() -> Self {
        Ts { muxer: TsMuxer::default(), demuxer: Demuxer::new(None) }
    }

    fn drain(&mut self) -> Vec<Input> {
        let outputs = std::iter::from_fn(|| self.demuxer.poll_output());
        outputs
            .filter_map(|output| match output {
                ts::Output::Input(input) => Some(input),
                ts::Output::Program { .. } | ts::Output::Diagnostic(_) => None,
            })
            .collect()
    }
}

impl Carrier for Ts {
    fn clock(&self) -> InputClock {
        ts::CLOCK
    }

    fn carry(&mut self, _now: Time, frame: &Frame, first: u64) -> Vec<Input> {
        self.muxer.write(frame, first);
        let packets = self.muxer.take();
        for datagram in packets.chunks(7) {
            self.demuxer.datagram(&datagram.concat());
        }
        self.drain()
    }

    fn pause(&mut self) -> Vec<Input> {
        self.demuxer.finish(End::Silent);
        self.drain()
    }

    fn finish(&mut self, _now: Time) -> Vec<Input> {
        self.demuxer.finish(End::Said);
        self.drain()
    }
}
