//! Chunks (ISO 23000-19, 7.3.2.3): samples of a track, with the boxes that describe them.

use bytes::{BufMut, Bytes};
use mp4_atom::{Encode, Mfhd, Moof, Prft, ReferenceTime, Tfdt, Tfhd, Traf, Trun, TrunEntry, TrunSamples};

use super::event::{EVENT_OVERHEAD, EventMessage, emsg};
use super::init::TRACK_ID;
use crate::model::time::{Timescale, UnixTime};

/// sample_depends_on = 2: doesn't depend on others; a sync sample (14496-12, 8.8.3.1).
const SYNC: u32 = 2 << 24;
/// sample_depends_on = 1, sample_is_non_sync_sample = 1.
const NON_SYNC: u32 = 1 << 24 | 1 << 16;

/// Returns the bytes of a chunk beside its samples: prft, moof with `samples` samples, and mdat's header.
pub const fn overhead(samples: usize) -> usize {
    160 + samples * 16
}

/// The wallclock of a moment of a track, for `prft` (14496-12, 8.16.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerReferenceTime {
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

/// Returns a chunk without a sample, for the time from `decode_time` in which a track's publisher sent nothing.
/// "Zero or more" runs are in a track fragment (14496-12, 8.8.6). Every node makes the same one.
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

/// Returns a chunk: `prft`, an `emsg` for each event, `moof` and `mdat`. `sequence` goes up with each chunk of a track.
/// `timescale` is the track's, and so that of the events.
pub fn chunk(
    sequence: u32,
    decode_time: u64,
    reference: ProducerReferenceTime,
    (timescale, events): (Timescale, &[EventMessage]),
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
