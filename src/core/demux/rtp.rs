//! RTP (RFC 3550, 5.1) around MPEG-TS (RFC 2250). Nothing announces RTP, so it is recognised by its first bytes.

/// The length of the fixed header, in bytes.
const HEADER_LEN: usize = 12;
/// The first byte of a transport packet. No RTP header begins with it: its version would be 1.
const SYNC_BYTE: u8 = 0x47;
/// A datagram is late if its sequence number goes back by less than this; otherwise it begins a new sequence.
const LATE_MAX: u16 = 1_000;

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
    /// The SSRC and sequence number of the newest datagram.
    last: Option<(u32, u16)>,
}

impl Rtp {
    /// Takes off the header, if there is one. Returns `None` for a late or doubled datagram, and for RTP without
    /// payload.
    pub fn unwrap<'a>(&mut self, datagram: &'a [u8]) -> Option<Unwrapped<'a>> {
        let plain = Some(Unwrapped { payload: datagram, lost: 0 });
        let Some(header) = datagram.first_chunk::<HEADER_LEN>() else { return plain };
        if header[0] == SYNC_BYTE || header[0] >> 6 != 2 {
            return plain;
        }
        let mut from = HEADER_LEN + 4 * usize::from(header[0] & 15);
        if header[0] & 0x10 != 0 {
            let extension = datagram.get(from..from + 4)?;
            from += 4 + 4 * usize::from(u16::from_be_bytes([extension[2], extension[3]]));
        }
        let padding = if header[0] & 0x20 != 0 { usize::from(*datagram.last()?) } else { 0 };
        let payload = datagram.get(from..datagram.len().checked_sub(padding)?).filter(|payload| !payload.is_empty())?;
        let sequence = u16::from_be_bytes([header[2], header[3]]);
        let sender = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        let lost = match self.last.filter(|(last, _)| *last == sender) {
            Some((_, last)) => match sequence.wrapping_sub(last) {
                0 => return None,
                ahead if ahead > u16::MAX - LATE_MAX => return None,
                ahead => ahead - 1,
            },
            None => 0,
        };
        self.last = Some((sender, sequence));
        Some(Unwrapped { payload, lost })
    }
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
        check(&[0x47, 1, 2], Some((&[0x47, 1, 2], 0)));
        check(&packet(0x80, u16::MAX, 1, b"G1"), Some((b"G1", 0)));
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
