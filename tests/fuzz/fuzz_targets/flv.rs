//! FLV tag bodies and AMF0: any bytes are read or refused; AMF0 that was read is written and read again as the same.
#![no_main]

use bytes::Bytes;
use damson_core::demux::flv::{TRACKS_MAX, Tags};
use damson_core::demux::{amf0, flv};
use damson_core::packager::Input;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, body)) = data.split_first() else { return };
    let body = Bytes::copy_from_slice(body);
    match kind % 3 {
        which @ 0..=1 => {
            // Several tags of a push: each behind its length.
            let (mut tags, mut rest, mut out) = (Tags::new(TRACKS_MAX), body, Vec::new());
            while !rest.is_empty() {
                let len = usize::from(rest[0]).min(rest.len() - 1);
                let tag = rest.slice(1..1 + len);
                rest = rest.slice(1 + len..);
                let read =
                    if which == 0 { tags.video(&tag, 0xffff_fff0, &mut out) } else { tags.audio(&tag, 7, &mut out) };
                if read.is_err() {
                    return;
                }
            }
            assert!(out.iter().all(|media| match media {
                Input::Config { track, .. } => track.0 < 16,
                Input::Unit(unit) => unit.track.0 < 16 && !unit.data.is_empty(),
                _ => false,
            }));
        }
        _ => {
            let Ok(values) = amf0::decode_all(&body) else { return };
            for value in &values {
                let _ = flv::announced(value);
            }
            let written = amf0::encode_all(&values);
            let again = amf0::decode_all(&written).expect("what we write can be read");
            // Compared as bytes, since a NaN isn't equal to itself.
            assert_eq!(amf0::encode_all(&again), written);
        }
    }
});
