//! MPEG-TS: any bytes, in any datagrams, with any gaps between them. What comes out is bounded by what went in, and its
//! NAL units fill their unit exactly.
#![no_main]

use damson_core::demux::ts::{CLOCK, Demuxer, End, Output, VIDEO};
use damson_core::model::CodecConfig;
use damson_core::packager::Input;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&size, rest)) = data.split_first() else { return };
    let (plain, lossy) = (size & 1 == 0, size & 2 != 0);
    let size = (usize::from(size) >> 2) * 47 + 1;
    let mut demuxer = Demuxer::new(lossy.then_some(1));
    let (mut out, mut configured) = (0, false);
    let mut drain = |demuxer: &mut Demuxer| {
        while let Some(output) = demuxer.poll_output() {
            match output {
                Output::Input(Input::Config { track, config: CodecConfig::Avc(_) | CodecConfig::Hevc(_) }) => {
                    configured |= track == VIDEO
                }
                Output::Input(Input::Unit(unit)) => {
                    assert!(unit.dts >> CLOCK.wrap_bits == 0 && !unit.data.is_empty());
                    out += unit.data.len();
                    if unit.track == VIDEO {
                        assert!(configured, "headers come first");
                        let mut rest = &unit.data[..];
                        while let Some((len, tail)) = rest.split_first_chunk::<4>() {
                            let len = u32::from_be_bytes(*len) as usize;
                            assert!(len > 0 && len <= tail.len(), "a NAL unit is whole");
                            rest = &tail[len..];
                        }
                        assert!(rest.is_empty());
                    }
                }
                _ => {}
            }
        }
    };
    for (n, bytes) in rest.chunks(size).enumerate() {
        if plain {
            demuxer.push(bytes)
        } else {
            demuxer.datagram(bytes)
        }
        if lossy && n % 5 == 4 {
            demuxer.lost();
        }
        drain(&mut demuxer);
    }
    demuxer.finish(if plain { End::Said } else { End::Silent });
    drain(&mut demuxer);
    // A start code of three bytes becomes a length of four.
    assert!(out <= rest.len() * 2);
});
