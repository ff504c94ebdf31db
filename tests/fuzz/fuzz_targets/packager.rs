//! A packager driven by a list of operations: it never panics, its parts are numbered in a row, their times
//! go forward, and none is longer than PART-TARGET.
#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use damson_core::model::time::{Time, Timescale, UnixTime};
use damson_core::model::{
    AccessUnit, Announced, Clocks, CodecConfig, Epoch, InputClock, InputTrack, TimedMessage, NodeId, PartHeader, PushId,
    Record, Rendition, Scheme, StreamName, TrackId,
};
use damson_core::packager::{Input, Output, Packager, Settings};
use libfuzzer_sys::fuzz_target;

/// x264's, 1280x720.
const AVCC: [u8; 45] = [
    0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01,
    0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60, 0x01, 0x00, 0x04, 0x68,
    0xef, 0xbc, 0xb0, 0xfd, 0xf8, 0xf8, 0x00,
];

/// SVT-AV1's, 320x180.
const AV1C: [u8; 17] =
    [0x81, 0x00, 0x0c, 0x00, 0x0a, 0x0b, 0x02, 0x00, 0x00, 0x05, 0x21, 0xe7, 0xf6, 0x60, 0x17, 0xc0, 0x02];

#[derive(Default)]
struct Checked {
    record: Option<Record>,
    last: BTreeMap<TrackId, PartHeader>,
}

impl Checked {
    fn output(&mut self, output: Output) {
        match output {
            Output::Diagnostic(_) | Output::Refused { .. } => {}
            Output::Record(new) => {
                assert!(Record::decode(new.encode()).as_ref() == Ok(&new));
                assert!(self.record.as_ref().is_none_or(|old| new.supersedes(old)));
                if let Some(old) = self.record.as_ref().filter(|old| old.life != new.life) {
                    assert!(old.ended.is_some_and(|ended| ended < new.first_msn) && old.life < new.life);
                    self.last.clear();
                }
                self.record = Some(new);
            }
            Output::Part { header, body } => {
                let record = self.record.as_ref().expect("a record comes first");
                let track = record.track(header.id.track).expect("of the record");
                assert!(header.matches(&body) && header.duration > 0);
                assert!(track.inits.iter().any(|init| init.number == header.init));
                let lasts = track.timescale.duration(header.duration.into());
                assert!(lasts <= record.part_target, "{lasts:?}");
                if let Some(last) = self.last.insert(header.id.track, header) {
                    let next = match last.flags.last {
                        true => (last.id.msn + 1, 0),
                        false => (last.id.msn, last.id.part + 1),
                    };
                    assert_eq!((header.id.msn, header.id.part), next);
                    assert!(header.decode_time >= last.decode_time + u64::from(last.duration));
                }
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let settings = Settings { segment: Some(Duration::from_secs(2)), ..Settings::default() };
    let mut packager = Packager::new(StreamName::parse("fuzz").expect("a name"), settings, None);
    let (mut now, mut counter, mut checked) = (1_000u64, 0, Checked::default());
    for op in data.chunks_exact(4) {
        let [kind, a, b, c] = [op[0], op[1], op[2], op[3]];
        // Two bits for the track, two for the push.
        let push = PushId(kind >> 6);
        let track = InputTrack::of(push, InputTrack(kind >> 4 & 3));
        let input = match kind & 15 {
            0 => {
                // A push beside others is of their tenure.
                counter += u32::from(a & 4 == 0);
                let names = [None, Some("high"), Some("low"), Some("audio_de")];
                let rendition = names[usize::from(push.0)].and_then(|name| Rendition::parse(name).ok());
                let (epoch, clock) = (
                    Epoch { counter, node: NodeId(1) },
                    InputClock { scale: Timescale::MILLIS, wrap_bits: [32, 33, 24, 0][usize::from(a & 3)] },
                );
                let said = |bits: u8| [None, Some(true), Some(false), None][usize::from(bits & 3)];
                Input::Attached {
                    push,
                    rendition,
                    epoch,
                    clock,
                    announced: Announced { video: said(b), audio: said(c) },
                }
            }
            1 => {
                let mut avcc = AVCC;
                avcc[38] ^= a & 1;
                avcc[8 + usize::from(b) % 37] ^= c & 0x80;
                Input::Config { track, config: CodecConfig::Avc(Bytes::copy_from_slice(&avcc)) }
            }
            2 => {
                let of = Bytes::copy_from_slice;
                let config = match a >> 6 {
                    0 => CodecConfig::Aac(of(&[0x11 ^ a & 1, 0x90, b, c])),
                    1 => CodecConfig::Opus(of(b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0")),
                    2 => CodecConfig::Ac3(of(&[0x50, 0x3d, b])),
                    _ => CodecConfig::Av1(of(&AV1C)),
                };
                Input::Config { track, config }
            }
            3 => Input::Detached(push),
            4 if a == 0 => Input::End,
            6 if a > 200 => Input::Message(TimedMessage {
                track,
                scheme: if b & 1 == 0 { Scheme::Id3 } else { Scheme::Scte35 },
                pts: (b > 8).then_some(now.wrapping_add(u64::from(b) << (c & 31))),
                duration: (c > 128).then_some(Duration::from_millis(u64::from(a) << (b & 31))),
                data: Bytes::from([op, &[0xfc; 40]].concat()),
            }),
            4 | 5 => {
                now += u64::from(a) * u64::from(b);
                Input::Timeout
            }
            wild => {
                now += u64::from(a & 63);
                let off = if wild == 15 { u64::from(b) << (c & 31) } else { u64::from(b & 7) };
                Input::Unit(AccessUnit {
                    track,
                    dts: now.wrapping_add(off),
                    composition_offset: i32::from(c) - 64,
                    keyframe: c % 16 == 0,
                    data: Bytes::copy_from_slice(op),
                })
            }
        };
        let wall = UnixTime::from_micros(1_795_359_753_000_000 + now * 1_000);
        packager.handle(Clocks { now: Time::from_millis(now), wall }, input);
        while let Some(output) = packager.poll_output() {
            checked.output(output);
        }
        assert!(packager.poll_timeout().is_none_or(|at| at > Time::from_millis(now)), "a timer in the past");
    }
});
