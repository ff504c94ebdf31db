//! Init segments (ISO 23000-19, 7.3.2): the boxes that describe a track.

use bytes::Bytes;
use mp4_atom::{
    Dinf, Dref, Encode, FourCC, Ftyp, Hdlr, Mdhd, Mdia, Minf, Moov, Mvex, Mvhd, Smhd, Stbl, Stco, Stsd, Tkhd, Trak,
    Trex, Url, Vmhd,
};

use super::sample_entry::sample_entry;
use crate::codec::codec::Codec;
use crate::model::time::Timescale;

/// The id of the one track of each file.
pub(super) const TRACK_ID: u32 = 1;

/// Returns an init segment: `ftyp` and `moov`.
pub fn init(codec: &Codec, timescale: Timescale) -> Bytes {
    // 'cmf2': composition offsets are signed, and there is no edit list (23000-19, 7.2).
    let brands = [*b"iso6", *b"cmf2", *b"cmfc", *b"mp41"].map(FourCC::from);
    let ftyp = Ftyp { major_brand: FourCC::new(b"cmf2"), minor_version: 0, compatible_brands: brands.to_vec() };
    let (video, size) = (codec.is_video(), codec.size());
    let (handler, name) = if video { (b"vide", "VideoHandler") } else { (b"soun", "SoundHandler") };
    let minf = Minf {
        vmhd: video.then(Vmhd::default),
        smhd: (!video).then(Smhd::default),
        dinf: Dinf { dref: Dref { entries: vec![Url::default().into()] } },
        stbl: Stbl { stsd: Stsd { codecs: vec![sample_entry(codec)] }, stco: Some(Stco::default()), ..Stbl::default() },
        ..Minf::default()
    };
    let moov = Moov {
        mvhd: Mvhd { rate: 1.into(), volume: 1.into(), next_track_id: TRACK_ID + 1, ..Mvhd::default() },
        mvex: Some(Mvex {
            mehd: None,
            trex: vec![Trex { track_id: TRACK_ID, default_sample_description_index: 1, ..Trex::default() }],
        }),
        trak: vec![Trak {
            tkhd: Tkhd {
                track_id: TRACK_ID,
                enabled: true,
                in_movie: true,
                volume: u8::from(!video).into(),
                // 14496-12, 8.3.2.3: the size at which the pictures are shown.
                width: (if video { codec.sar().display_width(size.0) } else { 0 }).into(),
                height: size.1.into(),
                ..Tkhd::default()
            },
            mdia: Mdia {
                mdhd: Mdhd { timescale: timescale.hz(), language: "und".to_owned(), ..Mdhd::default() },
                hdlr: Hdlr { handler: FourCC::new(handler), name: name.to_owned() },
                minf,
            },
            ..Trak::default()
        }],
        ..Moov::default()
    };
    let mut out = Vec::with_capacity(1 << 10);
    ftyp.encode(&mut out).expect("a Vec takes all, and ftyp is far below 4 GiB");
    moov.encode(&mut out).expect("a Vec takes all, and the fields were parsed from as many bits");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hevc::tests::{MAIN, SAR_16_11, bytes};
    use crate::model::CodecConfig;

    #[test]
    fn pixels_that_are_not_square_are_stated() {
        let check = |record: &str, shape: Option<[u8; 8]>, shown: u16| {
            let codec = Codec::parse(&CodecConfig::Hevc(bytes(record))).expect("x265's own");
            let init = init(&codec, Timescale::MPEG);
            let content = |name: &[u8; 4]| {
                let at = init.windows(4).position(|window| window == name)?;
                Some(&init[at + 4..])
            };
            // 14496-12, 12.1.4: hSpacing, vSpacing.
            assert_eq!(content(b"pasp").map(|pasp| &pasp[..8]), shape.as_ref().map(|shape| &shape[..]));
            // Width and height, in 16.16, are the last of tkhd's 96 bytes.
            let tkhd = content(b"tkhd").expect("there");
            assert_eq!(tkhd[88..92], (u32::from(shown) << 16).to_be_bytes());
        };
        check(MAIN, None, 320);
        check(SAR_16_11, Some([0, 0, 0, 16, 0, 0, 0, 11]), 512);
    }
}
