//! RTP (RFC 3550, 5.1) around MPEG-TS (RFC 2250). Nothing announces RTP, so it is recognised by its headers.
//!
//! A datagram that begins with a sync byte is no RTP. One that begins within a packet may look like RTP by chance: the
//! sender is believed when the payload consists of packets, or when the next header follows.

/// The length of the fixed header, in bytes.
const HEADER_LEN: usize = 12;
/// The first byte of a transport packet. No RTP header begins with it: its version would be 1.
const SYNC_BYTE: u8 = 0x47;
/// The length of a transport packet.
const PACKET_LEN: usize = 188;
/// A datagram is late if its sequence number goes back by less than this; otherwise it begins a new sequence.
const LATE_MAX: u16 = 1_000;
/// RTCP on the same port, by the seven bits that are RTP's payload type (RFC 5761, 4).
const RTCP: std::ops::RangeInclusive<u8> = 72..=76;

/// The content of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unwrapped<'a> {
    /// The transport packets.
    pub payload: &'a [u8],
    /// The number of datagrams that are missing before this one.
    pub lost: u16,
}

/// Follows the sequence numbers of one sender.
#[derive(Debug, Default)]
pub struct Rtp {
    sender: Sender,
    /// The newest header, or what looked like one.
    last: Option<Header>,
}

/// What the datagrams so far have shown of their sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Sender {
    #[default]
    Unknown,
    Plain,
    Rtp,
}

/// The part of a header that the next one follows.
#[derive(Clone, Copy, Debug)]
struct Header {
    ssrc: u32,
    sequence: u16,
}

impl Rtp {
    /// Takes off the header, if there is one. Returns `None` for a late or doubled datagram, and for RTP without
    /// payload.
    pub fn unwrap<'a>(&mut self, datagram: &'a [u8]) -> Option<Unwrapped<'a>> {
        let plain = Some(Unwrapped { payload: datagram, lost: 0 });
        let Some((header, payload)) = Header::parse(datagram) else {
            if self.sender == Sender::Rtp && datagram.first() != Some(&SYNC_BYTE) {
                return None; // what else is sent to the port
            }
            // RTCP may come before RTP.
            if datagram.first().is_some_and(|first| first >> 6 != 2) {
                (self.sender, self.last) = (Sender::Plain, None);
            }
            return plain;
        };
        let last = self.last.replace(header).filter(|last| last.ssrc == header.ssrc);
        let ahead = last.map(|last| header.sequence.wrapping_sub(last.sequence));
        if self.sender != Sender::Rtp {
            let has_packets = self.sender == Sender::Unknown && payload.is_some_and(is_whole_packets);
            if !has_packets && ahead != Some(1) {
                return plain;
            }
            self.sender = Sender::Rtp;
        }
        let lost = match ahead {
            Some(ahead) if ahead == 0 || ahead > u16::MAX - LATE_MAX => {
                self.last = last;
                return None;
            }
            ahead => ahead.map_or(0, |ahead| ahead - 1),
        };
        let Some(payload) = payload else {
            self.last = last;
            return None;
        };
        Some(Unwrapped { payload, lost })
    }
}

impl Header {
    /// Reads the header of what may be RTP, and its payload; `None` in its place if it has none.
    fn parse(datagram: &[u8]) -> Option<(Header, Option<&[u8]>)> {
        let bytes = datagram.first_chunk::<HEADER_LEN>()?;
        if bytes[0] >> 6 != 2 || RTCP.contains(&(bytes[1] & 0x7f)) {
            return None;
        }
        let sequence = u16::from_be_bytes([bytes[2], bytes[3]]);
        let ssrc = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        Some((Header { ssrc, sequence }, payload(bytes, datagram).filter(|payload| !payload.is_empty())))
    }
}

fn is_whole_packets(payload: &[u8]) -> bool {
    let (packets, rest) = payload.as_chunks::<PACKET_LEN>();
    rest.is_empty() && packets.iter().all(|packet| packet[0] == SYNC_BYTE)
}

/// Returns a datagram without its header, CSRCs, extension and padding.
fn payload<'a>(header: &[u8; HEADER_LEN], datagram: &'a [u8]) -> Option<&'a [u8]> {
    let mut from = HEADER_LEN + 4 * usize::from(header[0] & 15);
    if header[0] & 0x10 != 0 {
        let extension = datagram.get(from..from + 4)?;
        from += 4 + 4 * usize::from(u16::from_be_bytes([extension[2], extension[3]]));
    }
    let padding = if header[0] & 0x20 != 0 { usize::from(*datagram.last()?) } else { 0 };
    datagram.get(from..datagram.len().checked_sub(padding)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(first: u8, sequence: u16, sender: u8, rest: &[u8]) -> Vec<u8> {
        let [high, low] = sequence.to_be_bytes();
        [&[first, 33, high, low, 0, 0, 0, 0, 0, 0, 0, sender], rest].concat()
    }

    #[test]
    fn headers_are_taken_off_and_gaps_counted() {
        let mut rtp = Rtp::default();
        let mut check = |datagram: &[u8], expect: Option<(&[u8], u16)>| {
            let got = rtp.unwrap(datagram).map(|unwrapped| (unwrapped.payload, unwrapped.lost));
            assert_eq!(got, expect, "{datagram:02x?}");
        };
        let filled = [&[0x47][..], &[0xff; 187]].concat();
        check(&packet(0x80, u16::MAX, 1, &filled), Some((&filled, 0)));
        check(&packet(0x80, 0, 1, b"G2"), Some((b"G2", 0)));
        check(&packet(0x80, 0, 1, b"G2"), None);
        check(&packet(0x80, 4, 1, b"G3"), Some((b"G3", 3)));
        check(&packet(0x80, 2, 1, b"late"), None);
        check(&packet(0x80, 900, 2, b"another"), Some((b"another", 0)));
        // Two CSRCs; an extension of one word; three bytes of padding.
        check(&packet(0x82, 901, 2, &[0, 0, 0, 1, 0, 0, 0, 2, 0x47]), Some((&[0x47], 0)));
        check(&packet(0x90, 902, 2, &[0, 0, 0, 1, 9, 9, 9, 9, 0x47]), Some((&[0x47], 0)));
        check(&packet(0xa0, 903, 2, &[0x47, 0, 0, 3]), Some((&[0x47], 0)));
        check(&packet(0xa0, 904, 2, &[200]), None);
        check(&packet(0x90, 905, 2, &[0, 0, 9]), None);
        check(&packet(0x80, 906, 2, &[]), None);
        check(&packet(0x80, 907, 2, b"G"), Some((b"G", 3)));
        // RTCP, and what a firewall is kept open with, are no media.
        check(&[0x81, 201, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 1], None);
        check(&[0, 0], None);
        check(&packet(0x80, 908, 2, b"H"), Some((b"H", 0)));
        // The sender begins anew without RTP.
        check(&[0x47, 1, 2], Some((&[0x47, 1, 2], 0)));
        check(&packet(0x80, 909, 2, b"I"), Some((&packet(0x80, 909, 2, b"I"), 0)));
    }

    #[test]
    fn rtp_that_splits_packets_is_believed_at_its_second_header() {
        let mut rtp = Rtp::default();
        let [first, second] = [7, 8].map(|sequence| packet(0x80, sequence, 1, b"within a packet"));
        assert_eq!(rtp.unwrap(&first).map(|unwrapped| unwrapped.payload), Some(&first[..]));
        assert_eq!(rtp.unwrap(&second).map(|unwrapped| unwrapped.payload), Some(&b"within a packet"[..]));
    }

    #[test]
    fn what_begins_like_rtp_within_a_packet_is_none() {
        // One in four datagrams of any bytes has the version of RTP.
        let mut rtp = Rtp::default();
        for n in 0..=u8::MAX {
            let datagram: Vec<u8> = (0..200).map(|i| (i as u8).wrapping_mul(n | 1).wrapping_add(n)).collect();
            assert_eq!(rtp.unwrap(&datagram), Some(Unwrapped { payload: &datagram, lost: 0 }), "{n}");
        }
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut rtp = Rtp::default();
            for datagram in &datagrams {
                let _ = rtp.unwrap(datagram);
            }
        }
    }
}
