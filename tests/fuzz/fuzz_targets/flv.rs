//! FLV tag bodies and AMF0: any bytes are read or refused; AMF0 that was read is written and read again as the same.
#![no_main]

use bytes::Bytes;
use damson::ingest::{amf0, flv};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, body)) = data.split_first() else { return };
    let body = Bytes::copy_from_slice(body);
    match kind % 3 {
        0 => drop(flv::video(&body, 0xffff_fff0)),
        1 => drop(flv::audio(&body, 0xffff_fff0)),
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
