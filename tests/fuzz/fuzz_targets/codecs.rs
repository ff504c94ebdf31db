//! HEVC, AV1, Opus, AC-3 and E-AC-3: any headers are read or refused, what was read makes an init segment, and any unit
//! becomes a sample that isn't longer but for a sequence header.
#![no_main]

use bytes::Bytes;
use damson_core::cmaf;
use damson_core::codec::ac3::Headers;
use damson_core::codec::codec::Codec;
use damson_core::model::CodecConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [kind, split, rest @ ..] = data else { return };
    // An hvcC is longer than a byte can say.
    let (config, unit) = rest.split_at(rest.len().min(usize::from(*split) * 4));
    let (config, unit) = (Bytes::copy_from_slice(config), Bytes::copy_from_slice(unit));
    let config = match kind % 6 {
        0 => CodecConfig::Hevc(config),
        1 => CodecConfig::Av1(config),
        2 => CodecConfig::Opus(config),
        3 => CodecConfig::Ac3(config),
        4 => CodecConfig::Eac3(config),
        _ => {
            let mut headers = Headers::default();
            let Ok(Some(config)) = headers.of(&config) else { return };
            assert!(Codec::parse(&config).is_ok(), "what we made is read");
            config
        }
    };
    let Ok(codec) = Codec::parse(&config) else { return };
    assert!(!codec.name().is_empty());
    assert!(cmaf::init(&codec, codec.timescale()).len() <= 2 << 10, "more than a record takes of each");
    if !codec.is_video() {
        assert!(codec.samples(Some(&unit)).is_some_and(|samples| samples > 0));
    }
    let (sample, _) = codec.sample(unit.clone(), false);
    assert!(sample.len() <= unit.len() + config_len(&config));
});

fn config_len(config: &CodecConfig) -> usize {
    match config {
        CodecConfig::Av1(record) => record.len(),
        _ => 0,
    }
}
