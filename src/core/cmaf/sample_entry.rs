//! Sample entries (ISO 14496-12, 8.5.2): the headers of codecs as init segments have them.

use mp4_atom::{Ac3, Audio, Av01, Avc1, Codec as SampleEntry, Eac3, Esds, Hvc1, Mp4a, Opus, Pasp, Visual, esds};

use crate::codec::aac::Aac;
use crate::codec::codec::Codec;
use crate::model::SampleAspectRatio;

/// Returns the sample entry of a codec.
pub(super) fn sample_entry(codec: &Codec) -> SampleEntry {
    let (width, height) = codec.size();
    let visual = Visual { data_reference_index: 1, width, height, ..Visual::default() };
    let sar = codec.sar();
    let pasp =
        (sar != SampleAspectRatio::SQUARE).then(|| Pasp { h_spacing: sar.width.into(), v_spacing: sar.height.into() });
    let sound = |channels: u8, sample_rate: u32| Audio {
        data_reference_index: 1,
        channel_count: channels.into(),
        sample_size: 16,
        // The field has no room for rates above 65,535 Hz; players take the decoder's rate (14496-12, 12.2.3.2).
        sample_rate: u16::try_from(sample_rate).unwrap_or(0).into(),
    };
    match codec {
        Codec::Avc(avc) => Avc1 { visual, avcc: avc.avcc.clone(), pasp, ..Avc1::default() }.into(),
        Codec::Hevc(hevc) => Hvc1 { visual, hvcc: hevc.hvcc.clone(), pasp, ..Hvc1::default() }.into(),
        Codec::Av1(av1) => Av01 { visual, av1c: av1.av1c.clone(), pasp, ..Av01::default() }.into(),
        Codec::Aac(aac) => mp4a(aac, sound(aac.channels, aac.sample_rate)),
        Codec::Opus(opus) => {
            let audio = sound(opus.dops.output_channel_count, codec.sample_rate());
            Opus { audio, dops: opus.dops.clone(), btrt: None }.into()
        }
        Codec::Ac3(ac3) => Ac3 { audio: sound(ac3.channels, ac3.sample_rate), dac3: ac3.dac3.clone() }.into(),
        Codec::Eac3(eac3) => Eac3 { audio: sound(eac3.channels, eac3.sample_rate), dec3: eac3.dec3.clone() }.into(),
    }
}

fn mp4a(aac: &Aac, audio: Audio) -> SampleEntry {
    Mp4a {
        audio,
        esds: Esds {
            es_desc: esds::EsDescriptor {
                es_id: 1,
                dec_config: esds::DecoderConfig {
                    object_type_indication: 0x40, // Audio ISO/IEC 14496-3 (14496-1, table 5)
                    stream_type: 5,               // AudioStream (table 6)
                    dec_specific: Some(esds::DecoderSpecific {
                        profile: 0,
                        freq_index: 0,
                        chan_conf: 0,
                        raw: aac.config.to_vec(),
                    }),
                    ..esds::DecoderConfig::default()
                },
                ..esds::EsDescriptor::default()
            },
        },
        btrt: None,
        taic: None,
    }
    .into()
}
