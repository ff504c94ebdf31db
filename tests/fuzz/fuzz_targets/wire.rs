//! Frames of the mesh: any bytes are read or refused, and what was read is written and read again as the same.
#![no_main]

use bytes::{Bytes, BytesMut};
use damson_core::link::clock_offset::{ClockOffset, PingSample};
use damson_core::link::frame::{BodyHead, Frame, FrameDecoder, Progress};
use damson_core::model::wire::Reader;
use damson_core::model::{PartHeader, Record, Trace};
use damson_core::plumtree::Message;
use damson_core::{hyparview as overlay, swarm};
use libfuzzer_sys::fuzz_target;

/// The frames of a control stream that comes in steps of this many bytes, up to the first bad one.
fn frames(stream: &[u8], step: usize) -> Vec<Frame> {
    let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
    for bytes in stream.chunks(step) {
        decoder.push(bytes);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, frame)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(frame);
    let mut r = Reader::new(bytes.clone());
    let mut out = BytesMut::new();
    match kind % 9 {
        0 => {
            let Ok(header) = PartHeader::decode(&mut r) else { return };
            header.encode(&mut out);
            assert_eq!(PartHeader::decode(&mut Reader::new(out.freeze())), Ok(header));
        }
        1 => {
            let Ok(trace) = Trace::decode(&mut r) else { return };
            trace.encode(&mut out);
            assert_eq!(Trace::decode(&mut Reader::new(out.freeze())), Ok(trace));
        }
        2 => {
            let Ok(message) = Message::decode(&mut r) else { return };
            message.encode(&mut out);
            assert_eq!(Message::decode(&mut Reader::new(out.freeze())), Ok(message));
        }
        3 => {
            let Ok(record) = Record::decode(bytes) else { return };
            assert_eq!(Record::decode(record.encode()), Ok(record));
        }
        4 => {
            // Where the network cuts the stream changes nothing.
            let read = frames(frame, frame.len().max(1));
            assert_eq!(frames(frame, 7), read);
            read.iter().for_each(|frame| frame.encode(&mut out));
            assert_eq!(frames(&out, out.len().max(1)), read);
        }
        5 => {
            let Ok(Progress::Head(head, at)) = BodyHead::decode(&bytes) else { return };
            assert!(at <= frame.len() && head.body_len() <= head.header.length as usize);
            let again = head.encode();
            assert_eq!(BodyHead::decode(&again), Ok(Progress::Head(head, again.len())));
        }
        6 => {
            let Ok(Some(message)) = overlay::Message::decode(&mut r) else { return };
            message.encode(&mut out);
            assert_eq!(overlay::Message::decode(&mut Reader::new(out.freeze())), Ok(Some(message)));
        }
        7 => {
            let Ok(Some(frame)) = swarm::SwarmFrame::decode(bytes) else { return };
            assert_eq!(swarm::SwarmFrame::decode(frame.encode()), Ok(Some(frame)));
        }
        _ => {
            let mut clock = ClockOffset::default();
            let mut time = || r.u64("time").map(damson_core::model::time::Time::from_micros);
            while let (Ok(t1), Ok(t2), Ok(t3), Ok(t4)) = (time(), time(), time(), time()) {
                clock.record(PingSample { t1, t2, t3, t4 });
                let _ = clock.transit(t1, t4);
            }
        }
    }
});
