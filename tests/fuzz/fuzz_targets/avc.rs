//! AVCDecoderConfigurationRecord: any bytes are read or refused; what was read makes an init segment.
#![no_main]

use bytes::Bytes;
use damson_core::cmaf;
use damson_core::codec::codec::Codec;
use damson_core::model::CodecConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(codec) = Codec::parse(&CodecConfig::Avc(Bytes::copy_from_slice(data))) else { return };
    assert_eq!(codec.name().len(), "avc1.64001f".len());
    assert!(cmaf::init(&codec, codec.timescale()).len() <= 16 << 10, "more than a record takes");
});
