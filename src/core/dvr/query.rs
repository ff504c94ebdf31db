//! The queries about archived segments between nodes, and the answers. Pure.
//!
//! ```text
//! query:    kind u8 | stream | life u64 | 1: track u8, msn u32     a segment; its answer is its file (`segment_file`)
//!                                       | 2: from u32, before u32  the listing of these segments
//! listing:  listed from u32 | periods | inits | entries | BLAKE3 of all bytes before
//! ```
//!
//! Big-endian. Bytes after a query's fields are skipped, so that a newer node may add some.

use bytes::{BufMut, Bytes, BytesMut};

use super::entry::{SegmentEntry, SegmentKey};
use super::segment_file::{HASH_LEN, PERIOD_LEN, put_period, read_period, seal, unseal};
use crate::model::time::UnixTime;
use crate::model::wire::{Fault, Reader, WireError};
use crate::model::{LifeId, Msn, Period, StreamName, TrackId, wire};

/// The longest listing, in bytes: 380,000 segments.
pub const LISTING_LEN_MAX: usize = 16 << 20;
/// The longest segment that is fetched, in bytes: 10 s of 50 Mb/s.
pub const SEGMENT_LEN_MAX: usize = 64 << 20;

const INIT_LEN_MAX: usize = 16 << 10;
const INITS_MAX: usize = 4_096;
const PERIODS_MAX: usize = 32_768;
const ENTRY_LEN: usize = 1 + 4 + 8 + 8 + 8 + 4 + 2 + 1 + 8;
const GAP: u8 = 1;

/// A query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Asks for a segment.
    Segment(SegmentKey),
    /// Asks what is kept of a life.
    Listing {
        /// The stream.
        stream: StreamName,
        /// Its life.
        life: LifeId,
        /// The oldest segment.
        from: Msn,
        /// The one after the newest segment.
        before: Msn,
    },
}

impl Query {
    const SEGMENT: u8 = 1;
    const LISTING: u8 = 2;

    /// Returns the query as it is sent.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        let mut put = |kind, stream: &StreamName, life: LifeId| {
            out.put_u8(kind);
            wire::put_text(&mut out, stream.as_str());
            out.put_u64(life.0);
        };
        match self {
            Query::Segment(key) => {
                put(Self::SEGMENT, &key.stream, key.life);
                out.put_u8(key.track.0);
                out.put_u32(key.msn);
            }
            Query::Listing { stream, life, from, before } => {
                put(Self::LISTING, stream, *life);
                out.put_u32(*from);
                out.put_u32(*before);
            }
        }
        out.freeze()
    }

    /// Reads a query. Returns `None` for a kind that only a newer node knows.
    pub fn decode(bytes: Bytes) -> Result<Option<Self>, WireError> {
        let r = &mut Reader::new(bytes);
        let kind = r.u8("question kind")?;
        if kind != Self::SEGMENT && kind != Self::LISTING {
            return Ok(None);
        }
        let stream = r.text(StreamName::LEN_MAX, "stream")?;
        let stream = StreamName::parse(&stream).map_err(|_| r.fault("stream", Fault::Invalid))?;
        let life = LifeId(r.u64("life")?);
        Ok(Some(match kind {
            Self::SEGMENT => {
                Query::Segment(SegmentKey { stream, life, track: TrackId(r.u8("track")?), msn: r.u32("segment")? })
            }
            _ => Query::Listing { stream, life, from: r.u32("from")?, before: r.u32("before")? },
        }))
    }
}

/// The segments that a node archives of one presentation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The oldest segment that is listed; older ones are only kept.
    pub listed_from: Msn,
    /// The periods, oldest first.
    pub periods: Vec<Period>,
    /// The init segments, by track and number.
    pub inits: Vec<(TrackId, u16, Bytes)>,
    /// The segments, oldest first within each track.
    pub entries: Vec<(TrackId, SegmentEntry)>,
}

impl Listing {
    /// Returns the listing as it is sent. If it is too long, the oldest entries are left out.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u32(self.listed_from);
        let periods = &self.periods[self.periods.len().saturating_sub(PERIODS_MAX)..];
        wire::put_count(&mut out, periods.len());
        periods.iter().for_each(|period| put_period(&mut out, period));
        let inits = &self.inits[self.inits.len().saturating_sub(INITS_MAX)..];
        let inits: Vec<_> = inits.iter().filter(|(.., bytes)| bytes.len() <= INIT_LEN_MAX).collect();
        wire::put_count(&mut out, inits.len());
        for (track, number, bytes) in inits {
            out.put_u8(track.0);
            out.put_u16(*number);
            wire::put_blob(&mut out, bytes);
        }
        let room = LISTING_LEN_MAX.saturating_sub(out.len() + 4 + HASH_LEN) / ENTRY_LEN;
        let entries = &self.entries[self.entries.len().saturating_sub(room)..];
        out.put_u32(u32::try_from(entries.len()).unwrap_or(u32::MAX));
        for (track, entry) in entries {
            out.put_u8(track.0);
            out.put_u32(entry.msn);
            out.put_u64(entry.decode_time);
            out.put_u64(entry.duration);
            out.put_u64(entry.program_date_time.as_micros());
            out.put_u32(entry.discontinuity);
            out.put_u16(entry.init);
            out.put_u8(if entry.gap { GAP } else { 0 });
            out.put_u64(entry.length);
        }
        seal(out)
    }

    /// Reads a listing.
    ///
    /// # Errors
    /// The listing is cut off or damaged.
    pub fn decode(bytes: Bytes) -> Result<Self, WireError> {
        let r = &mut unseal(bytes)?;
        let listed_from = r.u32("listed from")?;
        let n = r.count(PERIODS_MAX, PERIOD_LEN, "periods")?;
        let periods = (0..n).map(|_| read_period(r)).collect::<Result<_, _>>()?;
        let n = r.count(INITS_MAX, 7, "inits")?;
        let mut inits = Vec::with_capacity(n);
        for _ in 0..n {
            inits.push((TrackId(r.u8("track")?), r.u16("init number")?, r.blob(INIT_LEN_MAX, "init")?));
        }
        let n = r.u32("entries")? as usize;
        if n.saturating_mul(ENTRY_LEN) > r.remaining() {
            return Err(r.fault("entries", Fault::Truncated));
        }
        let mut entries = Vec::with_capacity(n);
        for _ in 0..n {
            let track = TrackId(r.u8("track")?);
            let entry = SegmentEntry {
                msn: r.u32("segment")?,
                decode_time: r.u64("decode time")?,
                duration: r.u64("duration")?,
                program_date_time: UnixTime::from_micros(r.u64("date")?),
                discontinuity: r.u32("discontinuity")?,
                init: r.u16("init")?,
                gap: r.u8("flags")? & GAP != 0,
                lost: false,
                whole: true,
                length: r.u64("length")?,
                here: false,
            };
            entries.push((track, entry));
        }
        Ok(Listing { listed_from, periods, inits, entries })
    }
}
