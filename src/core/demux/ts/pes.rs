//! PES packets (2.4.3.6), put together from transport packets, and their headers.

use bytes::{Bytes, BytesMut};

use super::output::{End, MODULUS};
use super::packet::Packet;

/// The longest PES packet, in bytes: as long as the longest message over RTMP, and far more than a picture at 100 Mb/s.
pub const PES_LEN_MAX: usize = 8 << 20;
/// A picture to which nothing was added for this long is whole, in 1/90,000 s. Otherwise the next picture's first
/// packet ends it.
const STANDS: u64 = 22_500;
/// The length of start code, stream_id and PES_packet_length.
const START_LEN: usize = 6;
/// The length of these, flags and PES_header_data_length.
const HEADER_LEN: usize = 9;

/// The diagnostic of a scrambled PES packet.
pub(super) const SCRAMBLED: &str = "the PES packets are scrambled; send them in the clear";

/// Puts together the PES packets of one PID.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    data: BytesMut,
    begun: bool,
    /// The newest packet had stuffing, which ends a PES packet of unknown length.
    stuffed: bool,
    /// The program's decode time at the first check after the newest packet.
    stands: Option<u64>,
}

/// A PES packet.
#[derive(Debug)]
pub(super) struct Pes {
    data: Bytes,
    /// The end of the packet is missing.
    pub(super) cut: bool,
}

/// PTS and DTS, modulo 2^33. Both are the same if only PTS is given.
pub(super) type Times = (u64, u64);

/// The content of a PES packet.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) times: Option<Times>,
    /// PES_packet_length; the greatest number if it isn't given.
    pub(super) len: usize,
    pub(super) data: Bytes,
}

impl Assembler {
    /// Begins a PES packet. Returns the one before, if there was one.
    pub(super) fn begin(&mut self) -> Option<Pes> {
        let before = self.take(|assembler| assembler.expected().is_some());
        self.begun = true;
        before
    }

    /// Takes a packet's payload. Returns the PES packet that it ends.
    pub(super) fn add(&mut self, packet: &Packet<'_>) -> Option<Pes> {
        if !self.begun {
            return None;
        }
        self.data.extend_from_slice(packet.payload);
        self.stuffed = packet.stuffed;
        self.stands = None;
        if self.data.len() > PES_LEN_MAX {
            return self.take(|_| true);
        }
        let len = self.expected().filter(|len| self.data.len() >= *len)?;
        self.data.truncate(len);
        self.take(|_| false)
    }

    /// Returns the unfinished PES packet, since packets are missing.
    pub(super) fn cut(&mut self) -> Option<Pes> {
        self.take(|_| true)
    }

    /// Returns the unfinished PES packet at the end of the stream, or in a pause. In a pause, it is kept unless it looks
    /// complete.
    pub(super) fn end(&mut self, end: End) -> Option<Pes> {
        let unbounded = self.expected().is_none();
        (end == End::Said || unbounded && self.stuffed).then(|| self.take(|_| !unbounded))?
    }

    /// Returns the unfinished PES packet if it looks complete, and if nothing was added to it for [`STANDS`] when the
    /// program has reached `dts`.
    pub(super) fn stood(&mut self, dts: u64) -> Option<Pes> {
        let since = *self.stands.get_or_insert(dts);
        let for_long = (STANDS..MODULUS / 2).contains(&(dts.wrapping_sub(since) % MODULUS));
        for_long.then(|| self.end(End::Silent)).flatten()
    }

    fn take(&mut self, cut: impl Fn(&Self) -> bool) -> Option<Pes> {
        let cut = cut(self);
        let data = self.data.split().freeze();
        (std::mem::take(&mut self.begun) && !data.is_empty()).then_some(Pes { data, cut })
    }

    /// Returns the length if the header gives it. For video it usually doesn't.
    fn expected(&self) -> Option<usize> {
        let start = self.data.first_chunk::<START_LEN>()?;
        let len = usize::from(u16::from_be_bytes([start[4], start[5]]));
        (len > 0).then_some(START_LEN + len)
    }
}

impl Pes {
    /// Reads the header.
    pub(super) fn read(&self) -> Result<Payload, &'static str> {
        let Some(header) = self.data.first_chunk::<HEADER_LEN>() else {
            return Err("a PES packet ends in its header");
        };
        if header[..3] != [0, 0, 1] {
            return Err("a PES packet has no start code");
        }
        // Table 2-21: packets with these ids have another header, and none of them is audio or video.
        if matches!(header[3], 0xbc | 0xbe | 0xbf | 0xf0 | 0xf1 | 0xf2 | 0xf8 | 0xff) || header[6] >> 6 != 2 {
            return Err("a PES packet is neither audio nor video");
        }
        if header[6] & 0x30 != 0 {
            return Err(SCRAMBLED);
        }
        let at = HEADER_LEN + usize::from(header[8]);
        let Some(optional) = self.data.get(HEADER_LEN..at) else { return Err("a PES packet ends in its header") };
        let time = |at: usize| optional.get(at..).and_then(|bytes| bytes.first_chunk::<5>()).and_then(time_stamp);
        let times = match header[7] >> 6 {
            2 => time(0).map(|pts| (pts, pts)),
            3 => time(0).zip(time(5)),
            _ => None,
        };
        let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let len = if len == 0 { usize::MAX } else { len };
        Ok(Payload { times, len, data: self.data.slice(at..) })
    }
}

/// Reads a PTS or DTS: 33 bits in three pieces, with a marker bit behind each.
fn time_stamp(bytes: &[u8; 5]) -> Option<u64> {
    let marked = bytes[0] & bytes[2] & bytes[4] & 1 == 1;
    let [a, b, c, d, e] = bytes.map(u64::from);
    marked.then_some((a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1)
}
