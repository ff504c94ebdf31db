//! Frames of the mesh: any bytes are read or refused, and what was read is written and read again as the same.
#![no_main]

use bytes::{Bytes, BytesMut};
use damson::broadcast::Message;
use damson::live::{PartHeader, Record, Trace};
use damson::mesh::frame::{BodyHead, FrameDecoder};
use damson::overlay;
use damson::wire::Reader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, frame)) = data.split_first() else { return };
    let mut r = Reader::new(Bytes::copy_from_slice(frame));
    let mut out = BytesMut::new();
    match kind % 6 {
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
            assert_eq!(Message::decode(&mut Reader::new(message.to_bytes())), Ok(message));
        }
        3 => {
            let Ok(Some(message)) = overlay::Message::decode(&mut r) else { return };
            message.encode(&mut out);
            assert_eq!(overlay::Message::decode(&mut Reader::new(out.freeze())), Ok(Some(message)));
        }
        4 => drop(BodyHead::decode(&Bytes::copy_from_slice(frame))),
        _ => {
            let Ok(record) = Record::decode(Bytes::copy_from_slice(frame)) else { return };
            assert_eq!(Record::decode(record.encode()), Ok(record));
        }
    }

    // The same bytes as a link's control stream, cut anywhere: frames come out, or an error that ends the link.
    let mut decoder = FrameDecoder::default();
    for piece in frame.chunks(usize::from(*kind) + 1) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
