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
                width: size.0.into(),
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
