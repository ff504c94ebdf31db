//! An archived segment as a file: a head that describes it, and the bodies of its parts in order. Pure.
//!
//! ```text
//! "DVR1" | length of the description | the description: period, part headers | BLAKE3 of all bytes before | bodies
//! ```
//!
//! A file is whole if it is as long as its head says. Each body has its own hash in its part's header. So the head and the
//! length show a torn file, and reading it shows a damaged one.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::wire::{Fault, Reader, WireError};
use crate::model::{PartHeader, Period, TrackId, TrackSet, wire};
use crate::window::{Part, Segment};

const MAGIC: u32 = u32::from_be_bytes(*b"DVR1");
/// The length of a BLAKE3 hash.
pub(super) const HASH_LEN: usize = 32;
/// The length of the magic number and the length field.
const PREFIX_LEN: usize = 8;
/// The longest description: a segment of 10 s in the shortest parts has much less.
const DESCRIPTION_LEN_MAX: usize = 1 << 20;
/// The length of a period.
pub(super) const PERIOD_LEN: usize = 4 + 4 + 8 + 8 + 1;

/// The bytes of a file that are read at first: most heads fit.
pub const HEAD_GUESS: usize = 4 << 10;

/// The head of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHead {
    /// The period of the segment, where it is known.
    pub period: Option<Period>,
    /// The headers of its parts.
    pub headers: Vec<PartHeader>,
    /// The length of the head, in bytes.
    pub len: usize,
}

impl SegmentHead {
    /// Returns the length of the whole file, in bytes.
    pub fn file_len(&self) -> u64 {
        self.len as u64 + self.headers.iter().map(|h| u64::from(h.length)).sum::<u64>()
    }
}

/// Returns the head of a segment's file; the bodies of its parts come after it.
pub fn head(segment: &Segment, period: Option<Period>) -> Bytes {
    let parts = segment.parts();
    let len = PERIOD_LEN + 1 + 2 + parts.len() * PartHeader::WIRE_LEN;
    let mut out = BytesMut::with_capacity(PREFIX_LEN + len + HASH_LEN);
    out.put_u32(MAGIC);
    out.put_u32(u32::try_from(len).expect("parts are counted in 16 bits"));
    out.put_u8(u8::from(period.is_some()));
    put_period(&mut out, &period.unwrap_or(Period::new(0, 0, Duration::ZERO)));
    wire::put_count(&mut out, parts.len());
    for part in parts {
        part.header.encode(&mut out);
    }
    seal(out)
}

/// Returns the length of the head of a file that begins so.
///
/// # Errors
/// The file isn't an archived segment.
pub fn head_len(begin: &Bytes) -> Result<usize, WireError> {
    let r = &mut Reader::new(begin.clone());
    if r.u32("magic")? != MAGIC {
        return Err(r.fault("magic", Fault::Invalid));
    }
    let len = r.u32("description length")? as usize;
    if len > DESCRIPTION_LEN_MAX {
        return Err(r.fault("description length", Fault::TooLarge));
    }
    Ok(PREFIX_LEN + len + HASH_LEN)
}

/// Reads a head; bytes after it are ignored.
///
/// # Errors
/// The head is cut off or damaged.
pub fn read_head(bytes: &Bytes) -> Result<SegmentHead, WireError> {
    let len = head_len(bytes)?;
    let sealed = Reader::new(bytes.clone()).bytes(len, "head")?;
    let r = &mut unseal(sealed)?;
    r.bytes(PREFIX_LEN, "prefix")?;
    let is_known = r.u8("period")? != 0;
    let period = read_period(r)?;
    let n = r.count(usize::from(u16::MAX), PartHeader::WIRE_LEN, "parts")?;
    let headers = (0..n).map(|_| PartHeader::decode(r)).collect::<Result<_, _>>()?;
    r.finish("description")?;
    Ok(SegmentHead { period: is_known.then_some(period), headers, len })
}

/// Returns the segment that a head describes, without its bodies.
pub fn described(head: SegmentHead) -> Option<Segment> {
    Segment::whole(head.headers.into_iter().map(|header| Part::untraced(header, Bytes::new())).collect())
}

/// Reads a whole file.
///
/// # Errors
/// The file is cut off or damaged, or isn't a whole segment.
pub fn read(bytes: Bytes) -> Result<(TrackId, Segment), WireError> {
    let head = read_head(&bytes)?;
    let r = &mut Reader::new(bytes);
    r.bytes(head.len, "head")?;
    let mut parts = Vec::with_capacity(head.headers.len());
    for header in head.headers {
        let body = r.bytes(header.length as usize, "body")?;
        if header.length > 0 && !header.matches(&body) {
            return Err(r.fault("body", Fault::Invalid));
        }
        parts.push(Part::untraced(header, body));
    }
    r.finish("bodies")?;
    let track = parts.first().map(|p| p.header.id.track);
    track.zip(Segment::whole(parts)).ok_or_else(|| r.fault("parts", Fault::Invalid))
}

/// Writes a period.
pub(super) fn put_period(out: &mut BytesMut, period: &Period) {
    out.put_u32(period.first_msn);
    out.put_u32(period.discontinuity);
    out.put_u64(u64::try_from(period.start.as_micros()).unwrap_or(u64::MAX));
    out.put_u64(period.tracks.0);
    out.put_u8(period.continues.into());
}

/// Reads a period.
pub(super) fn read_period(r: &mut Reader) -> Result<Period, WireError> {
    Ok(Period {
        first_msn: r.u32("period msn")?,
        discontinuity: r.u32("period discontinuity")?,
        start: Duration::from_micros(r.u64("period start")?),
        tracks: TrackSet(r.u64("period tracks")?),
        continues: r.u8("period continues")? != 0,
    })
}

/// Appends the hash of all that was written.
pub(super) fn seal(mut out: BytesMut) -> Bytes {
    let hash = blake3::hash(&out);
    out.put_slice(hash.as_bytes());
    out.freeze()
}

/// Checks the hash at the end, and returns a reader of what comes before it.
pub(super) fn unseal(sealed: Bytes) -> Result<Reader, WireError> {
    let r = &mut Reader::new(sealed.clone());
    let hashed = r.bytes(sealed.len().saturating_sub(HASH_LEN), "hashed")?;
    if blake3::hash(&hashed) != blake3::Hash::from_bytes(r.array("hash")?) {
        return Err(r.fault("hash", Fault::Invalid));
    }
    Ok(Reader::new(hashed))
}
