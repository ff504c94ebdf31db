//! CMAF (ISO 23000-19) boxes: init segments and chunks, one track each.
//!
//! ```text
//! init.{n}.mp4                              {msn}.{part}.m4s: one chunk
//! ├─ ftyp  cmf2; iso6 cmfc mp41             ├─ prft  wallclock of the first presented sample
//! └─ moov                                   ├─ emsg  v1: timed metadata, where there is any
//!    │                                      ├─ moof
//!    ├─ mvhd  timescale 1000, duration 0    │  ├─ mfhd  sequence_number
//!    ├─ trak                                │  └─ traf
//!    │  ├─ tkhd  track_ID 1, width, height  │     ├─ tfhd  default-base-is-moof, default flags
//!    │  └─ mdia                             │     ├─ tfdt  v1: decode time, 64 bits
//!    │     ├─ mdhd  timescale, language     │     └─ trun  v1: duration, size, signed composition
//!    │     ├─ hdlr  vide | soun             │              offset of each sample; flags of the first
//!    │     │                                └─ mdat  the samples, in trun's order
//!    │     └─ minf
//!    │        ├─ vmhd | smhd
//!    │        ├─ dinf / dref / url          in this file itself
//!    │        └─ stbl
//!    │           ├─ stsd                    avc1 | hvc1 | av01 | mp4a | Opus | ac-3 | ec-3
//!    │           └─ stts stsc stsz stco     empty: the samples are in the chunks
//!    └─ mvex / trex                         the defaults that tfhd overrides
//! ```
//!
//! There is no edit list: composition offsets are the encoder's, and presentation times therefore
//! begin a reordering delay after the first decode time.

use bytes::{BufMut, Bytes};
use mp4_atom::{
    Atom, Decode, Dinf, Dref, Emsg, EmsgTimestamp, Encode, FourCC, Ftyp, Hdlr, Header, Mdhd, Mdia, Mfhd, Minf, Moof,
    Moov, Mvex, Mvhd, Prft, ReferenceTime, Smhd, Stbl, Stco, Stsd, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex, Trun, TrunEntry,
    TrunSamples, Url, Vmhd,
};

use super::event::Event;
use super::sample_entry::entry;
use crate::codec::codec::Codec;
use crate::model::Scheme;
use crate::model::time::{Timescale, UnixTime};

/// Of the one track of each file.
const TRACK_ID: u32 = 1;

/// sample_depends_on = 2: doesn't depend on others; a sync sample (14496-12, 8.8.3.1).
const SYNC: u32 = 2 << 24;
/// sample_depends_on = 1, sample_is_non_sync_sample = 1.
const NON_SYNC: u32 = 1 << 24 | 1 << 16;

/// Bytes of a chunk beside its samples: prft, moof with `samples` samples, and mdat's header.
pub const fn overhead(samples: usize) -> usize {
    160 + samples * 16
}

/// The wallclock of a moment of a track, for `prft` (14496-12, 8.16.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reference {
    /// A presentation time, in ticks of the track.
    pub media_time: u64,
    /// When the frame that is shown then was taken, as PROGRAM-DATE-TIME says it.
    pub wall: UnixTime,
}

/// One access unit in a chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// In ticks of the track.
    pub duration: u32,
    /// Presentation minus decode time, in ticks of the track.
    pub composition_offset: i32,
    /// A random access point.
    pub sync: bool,
    /// The access unit.
    pub data: Bytes,
}

/// An init segment: `ftyp` and `moov`.
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
        stbl: Stbl { stsd: Stsd { codecs: vec![entry(codec)] }, stco: Some(Stco::default()), ..Stbl::default() },
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

/// A chunk without a sample: what a track has for the time from `decode_time` in which its publisher sent nothing.
/// "Zero or more" runs are in a track fragment (14496-12, 8.8.6). The same wherever it is made.
pub fn silence(decode_time: u64) -> Bytes {
    let moof = Moof {
        mfhd: Mfhd { sequence_number: 0 },
        traf: vec![Traf {
            tfhd: Tfhd { track_id: TRACK_ID, default_base_is_moof: true, ..Tfhd::default() },
            tfdt: Some(Tfdt { base_media_decode_time: decode_time }),
            ..Traf::default()
        }],
    };
    let mut out = Vec::with_capacity(overhead(0));
    moof.encode(&mut out).expect("a Vec takes all, and the fields fit their bits");
    out.put_u32(8);
    out.put_slice(b"mdat");
    out.into()
}

/// Bytes of an event message beside what it says.
pub(crate) const EVENT_OVERHEAD: usize = 96;

/// A chunk: `prft`, an `emsg` for each event, `moof` and `mdat`. `sequence` goes up with each chunk of a track, whose `timescale` is that
/// of the events.
pub fn chunk(
    sequence: u32,
    decode_time: u64,
    reference: Reference,
    (timescale, events): (Timescale, &[Event]),
    samples: &[Sample],
) -> Bytes {
    // All samples but the first are mostly no sync samples (video) or all are (audio): one default, and
    // the first sample's own flags where only it differs.
    let default_flags = if samples.iter().skip(1).all(|s| s.sync) && !samples.is_empty() { SYNC } else { NON_SYNC };
    let flags = |sample: &Sample| if sample.sync { SYNC } else { NON_SYNC };
    let only_first = samples.iter().skip(1).all(|s| flags(s) == default_flags);
    let first_differs = samples.first().is_some_and(|s| flags(s) != default_flags);
    let entries = samples.iter().enumerate().map(|(i, s)| TrunEntry {
        duration: Some(s.duration),
        size: Some(u32::try_from(s.data.len()).expect("bounded by BODY_LEN_MAX")),
        flags: if only_first { (i == 0 && first_differs).then(|| flags(s)) } else { Some(flags(s)) },
        cts: Some(i64::from(s.composition_offset)),
    });
    let mut moof = Moof {
        mfhd: Mfhd { sequence_number: sequence },
        traf: vec![Traf {
            tfhd: Tfhd {
                track_id: TRACK_ID,
                default_sample_flags: Some(default_flags),
                default_base_is_moof: true,
                ..Tfhd::default()
            },
            tfdt: Some(Tfdt { base_media_decode_time: decode_time }),
            trun: vec![Trun { data_offset: Some(0), samples: TrunSamples::Explicit(entries.collect()) }],
            ..Traf::default()
        }],
    };
    let body_len: usize = samples.iter().map(|s| s.data.len()).sum();
    let events_len: usize = events.iter().map(|event| EVENT_OVERHEAD + event.data.len()).sum();
    let mut out = Vec::with_capacity(overhead(samples.len()) + events_len + body_len);
    let prft = Prft {
        reference_track_id: TRACK_ID,
        ntp_timestamp: reference.wall.ntp(),
        media_time: reference.media_time,
        utc_time_semantics: ReferenceTime::Input,
    };
    prft.encode(&mut out).expect("a Vec takes all");
    for event in events {
        emsg(event, timescale).encode(&mut out).expect("a Vec takes all, and a message is below 4 GiB");
    }
    let start = out.len();
    moof.encode(&mut out).expect("a Vec takes all, and the fields fit their bits");
    // The offset is known once the moof's length is; its length doesn't depend on it.
    let data_offset = i32::try_from(out.len() - start + 8).expect("a moof is far below 2 GiB");
    moof.traf[0].trun[0].data_offset = Some(data_offset);
    out.truncate(start);
    moof.encode(&mut out).expect("it has been encoded once");
    debug_assert_eq!(out.len() - start + 8, data_offset as usize);
    out.put_u32(u32::try_from(body_len + 8).expect("bounded by BODY_LEN_MAX"));
    out.put_slice(b"mdat");
    for sample in samples {
        out.put_slice(&sample.data);
    }
    out.into()
}

/// 23009-1, 5.10.3.3. A duration that nobody knows is 2^32 - 1.
fn emsg(event: &Event, timescale: Timescale) -> Emsg {
    Emsg {
        timescale: timescale.hz(),
        presentation_time: EmsgTimestamp::Absolute(event.time),
        event_duration: event.duration.unwrap_or(u32::MAX),
        id: event.id,
        scheme_id_uri: event.scheme.uri().to_owned(),
        value: String::new(),
        message_data: event.data.to_vec(),
    }
}

/// The events of a chunk of ours, each with the wallclock of its time as PROGRAM-DATE-TIME has it. What can't be read is left out: a body
/// is what its publisher has made.
pub fn events(chunk: &[u8], timescale: Timescale) -> Vec<(Event, UnixTime)> {
    let (mut rest, mut events, mut reference) = (chunk, Vec::new(), None);
    while let Ok(header) = Header::decode(&mut rest) {
        let Some((mut body, behind)) = header.size.and_then(|size| rest.split_at_checked(size)) else { break };
        if header.kind == Prft::KIND {
            reference = Prft::decode_body(&mut body).ok();
        } else if header.kind == Emsg::KIND {
            let event = Emsg::decode_body(&mut body).ok().and_then(|emsg| read_event(emsg, timescale));
            events.extend(event.zip(reference.as_ref()).map(|(event, prft)| {
                let wall = date(prft, event.time, timescale);
                (event, wall)
            }));
        } else {
            break;
        }
        rest = behind;
    }
    events
}

fn read_event(emsg: Emsg, timescale: Timescale) -> Option<Event> {
    let scheme = Scheme::parse(&emsg.scheme_id_uri)?;
    let EmsgTimestamp::Absolute(time) = emsg.presentation_time else { return None };
    let duration = Some(emsg.event_duration).filter(|&duration| duration != u32::MAX);
    let data = Bytes::from(emsg.message_data);
    (emsg.timescale == timescale.hz()).then_some(Event { scheme, id: emsg.id, time, duration, data })
}

/// The wallclock of a presentation time, by a chunk's `prft`.
fn date(prft: &Prft, time: u64, timescale: Timescale) -> UnixTime {
    let at = UnixTime::from_ntp(prft.ntp_timestamp);
    match time.checked_sub(prft.media_time) {
        Some(ahead) => at + timescale.duration(ahead),
        None => at - timescale.duration(prft.media_time - time),
    }
}
