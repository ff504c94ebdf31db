//! ISO BMFF: any files, in any pieces, of which several may follow one another. Nothing comes out that didn't go in, and
//! whatever the pieces, the same.
#![no_main]

use damson_core::demux::bmff::{BmffReader, CLOCK, Limits, Output};
use damson_core::model::MESSAGE_LEN_MAX;
use libfuzzer_sys::fuzz_target;

fn read(size: usize, files: &[u8]) -> Vec<Output> {
    let limits = Limits { moov: 1 << 16, moof: 1 << 16, mdat: 1 << 16 };
    let (mut reader, mut out) = (BmffReader::new(limits), Vec::new());
    // A file may end anywhere; the next one goes on with its init segment.
    for file in files.split_inclusive(|&byte| byte == 0xfe) {
        for piece in file.chunks(size) {
            if reader.push(piece).is_err() {
                break;
            }
            out.extend(std::iter::from_fn(|| reader.poll_output()));
        }
        let _ = reader.finish();
        out.extend(std::iter::from_fn(|| reader.poll_output()));
    }
    out
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, rest)) = data.split_first() else { return };
    let out = read(usize::from(size) + 1, rest);
    assert_eq!(out, read(rest.len().max(1), rest));
    let len = |output: &Output| match output {
        Output::Unit { unit, .. } => unit.data.len(),
        Output::Message { at, message, .. } => {
            assert!(message.data.len() <= MESSAGE_LEN_MAX && *at >> CLOCK.wrap_bits == 0);
            assert!(message.pts.is_some_and(|pts| pts >> CLOCK.wrap_bits == 0));
            message.data.len()
        }
        _ => 0,
    };
    let len: usize = out.iter().map(len).sum();
    // Lengths of one byte become four.
    assert!(len <= rest.len() * 4);
});
