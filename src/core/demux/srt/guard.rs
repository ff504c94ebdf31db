//! Filters datagrams before they reach the SRT state machine (pure).
//!
//! `srt-protocol` 0.4 panics on some datagrams that the draft allows, and on some that it doesn't: a peer error or a
//! congestion warning; a handshake with another kind of extension (a packet filter, a congestion controller, a group),
//! or with an empty stream id; keying material of a wrong length. A receiver needs none of them.

use bytes::{BufMut, Bytes, BytesMut};

/// The length of a packet's header, in bytes.
const HEADER_LEN: usize = 16;
/// The length of a handshake's fixed part, behind the packet's header (draft, 3.2.1).
const HANDSHAKE_LEN: usize = 48;
/// The places of version, extension field and handshake type in the datagram.
const VERSION: std::ops::Range<usize> = HEADER_LEN..HEADER_LEN + 4;
const TYPE: std::ops::Range<usize> = HEADER_LEN + 20..HEADER_LEN + 24;
/// The place of the length of keys, which is in units of 8 bytes.
const KEY_FIELD: std::ops::Range<usize> = HEADER_LEN + 4..HEADER_LEN + 6;
const CONCLUSION: [u8; 4] = [0xff; 4];
const INDUCTION: [u8; 4] = [0, 0, 0, 1];

/// Extension types (table 5), and the longest of each in words.
const HANDSHAKE_REQUEST: u16 = 1;
const KEY_REQUEST: u16 = 3;
const STREAM_ID: u16 = 5;
const STREAM_ID_WORDS_MAX: usize = 128;

/// A datagram that the state machine can take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guarded {
    /// The datagram's bytes. In a handshake, the extensions that the state machine doesn't read are removed.
    pub bytes: Bytes,
    /// The datagram is a caller's induction.
    pub induction: bool,
}

/// Checks a datagram. Returns `None` if the caller must drop it.
pub fn guard(datagram: &[u8]) -> Option<Guarded> {
    let header = datagram.first_chunk::<HEADER_LEN>()?;
    let plain = |bytes: &[u8]| Some(Guarded { bytes: Bytes::copy_from_slice(bytes), induction: false });
    if header[0] & 0x80 == 0 {
        return plain(datagram);
    }
    let (kind, subtype) =
        (u16::from_be_bytes([header[0] & 0x7f, header[1]]), u16::from_be_bytes([header[2], header[3]]));
    match kind {
        0 => handshake(datagram),
        // Keep-alive, shutdown, the acknowledgement of an acknowledgement.
        1 | 5 | 6 => plain(&datagram[..datagram.len().min(HEADER_LEN + 4)]),
        // A request to drop: first and last of a range.
        7 => {
            let range = datagram.get(HEADER_LEN..)?.first_chunk::<8>()?;
            let [first, last] =
                [0, 4].map(|at| u32::from_be_bytes([range[at], range[at + 1], range[at + 2], range[at + 3]]));
            (last.wrapping_sub(first) & 0x7fff_ffff < 1 << 20).then(|| plain(&datagram[..HEADER_LEN + 8]))?
        }
        // A new key.
        0x7fff if subtype == KEY_REQUEST && is_keying_material(&datagram[HEADER_LEN..]) => plain(datagram),
        // Acknowledgements and loss reports are for senders.
        _ => None,
    }
}

/// Checks a handshake of version 4 or 5: an induction or a conclusion.
fn handshake(datagram: &[u8]) -> Option<Guarded> {
    let end = HEADER_LEN + HANDSHAKE_LEN;
    let fixed = datagram.get(..end)?;
    let mut bytes = BytesMut::from(fixed);
    if fixed[TYPE] == INDUCTION {
        return Some(Guarded { bytes: bytes.freeze(), induction: true });
    }
    if fixed[TYPE] != CONCLUSION || fixed[VERSION] != [0, 0, 0, 5] {
        return None;
    }
    let (mut rest, mut seen) = (&datagram[end..], 0u8);
    while let [kind @ .., _, _] = rest.first_chunk::<4>().map_or(&[][..], |block| &block[..]) {
        let kind = u16::from_be_bytes([kind[0], kind[1]]);
        let words = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        let (block, tail) = rest.split_at_checked(4 + words * 4)?;
        let content = &block[4..];
        let bit = match kind {
            HANDSHAKE_REQUEST if words == 3 => 1,
            KEY_REQUEST if is_keying_material(content) => 2,
            STREAM_ID if (1..=STREAM_ID_WORDS_MAX).contains(&words) => 4,
            HANDSHAKE_REQUEST | KEY_REQUEST | STREAM_ID => return None,
            _ => 0,
        };
        if bit & seen != 0 {
            return None;
        }
        seen |= bit;
        if bit == 2 {
            // A caller that leaves the key length to the listener has chosen a key length in its keying material.
            bytes[KEY_FIELD].copy_from_slice(&[0, content[15] / 2]);
        }
        if bit != 0 {
            bytes.put_slice(block);
        }
        rest = tail;
    }
    Some(Guarded { bytes: bytes.freeze(), induction: false })
}

/// Returns whether this is a keying material message (draft, 3.2.2) with AES-CTR, a salt of 16 bytes, and one or two
/// wrapped keys.
fn is_keying_material(content: &[u8]) -> bool {
    let Some(header) = content.first_chunk::<16>() else { return false };
    let keys = usize::try_from((header[3] & 3).count_ones()).unwrap_or(0);
    let key_len = usize::from(header[15]) * 4;
    // Version 1, packet type 2, the sign "HAI"; no authentication; MPEG-TS over SRT.
    header[..3] == [0x12, 0x20, 0x29]
        && keys > 0
        && header[8..12] == [2, 0, 2, 0]
        && header[14] == 4
        && matches!(key_len, 16 | 24 | 32)
        && content.len() == 16 + 16 + 8 + keys * key_len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(kind: [u8; 4], extensions: &[&[u8]]) -> Vec<u8> {
        let mut out = vec![0; HEADER_LEN + HANDSHAKE_LEN];
        out[0] = 0x80;
        out[VERSION].copy_from_slice(&[0, 0, 0, 5]);
        out[TYPE].copy_from_slice(&kind);
        extensions.iter().for_each(|extension| out.extend(*extension));
        out
    }

    const HS: &[u8] = &[0, 1, 0, 3, 0, 1, 5, 0, 0, 0, 0, 0xbf, 0, 120, 0, 0];
    const SID: &[u8] = &[0, 5, 0, 1, b'1', b'm', b'a', b'c'];
    const CONGESTION: &[u8] = &[0, 6, 0, 1, b'e', b'v', b'i', b'l'];

    fn km(key_len: u8) -> Vec<u8> {
        let content_len = 16 + 16 + 8 + usize::from(key_len);
        let mut out = vec![0, 3, 0, u8::try_from(content_len / 4).expect("short")];
        out.extend([0x12, 0x20, 0x29, 1, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0, 4, key_len / 4]);
        out.resize(4 + content_len, 7);
        out
    }

    #[test]
    fn a_callers_handshake_passes_without_what_nobody_reads() {
        let begins = handshake(INDUCTION, &[]);
        assert!(guard(&begins).is_some_and(|guarded| guarded.induction && guarded.bytes == begins));
        let concludes = guard(&handshake(CONCLUSION, &[HS, CONGESTION, SID, &km(16)])).expect("allowed");
        let mut expect = handshake(CONCLUSION, &[HS, SID, &km(16)]);
        expect[KEY_FIELD].copy_from_slice(&[0, 2]);
        assert_eq!(concludes.bytes, expect);
        assert!(!concludes.induction);
    }

    proptest::proptest! {
        #[test]
        fn what_passes_can_be_read(
            kind in 0..4usize,
            changes in proptest::collection::vec((0..300usize, proptest::prelude::any::<u8>()), 0..12),
            cut in 0..400usize,
        ) {
            let mut bytes = match kind {
                0 => handshake(CONCLUSION, &[HS, SID, &km(16)]),
                1 => handshake(INDUCTION, &[]),
                2 => [&[0xff, 0xff, 0, 3][..], &[0; 12], &km(32)[4..]].concat(),
                _ => [&[0x80, 7, 0, 0][..], &[0; 20]].concat(),
            };
            for (at, byte) in changes {
                if let Some(old) = bytes.get_mut(at) {
                    *old = byte;
                }
            }
            bytes.truncate(cut.max(1));
            if let Some(guarded) = guard(&bytes) {
                for is_ipv6 in [false, true] {
                    let _ = srt_protocol::packet::Packet::parse(&mut guarded.bytes.clone(), is_ipv6);
                }
            }
        }
    }

    #[test]
    fn what_would_be_fatal_is_dropped() {
        for bytes in [
            &handshake(CONCLUSION, &[&[0, 5, 0, 0]])[..],
            &handshake(CONCLUSION, &[HS, HS]),
            &handshake(CONCLUSION, &[&[0, 5, 0, 9, 1]]),
            &handshake(CONCLUSION, &[&km(20)]),
            &handshake([0, 0, 0, 9], &[]),
            &[0x80; 15],
            &[&[0x80, 4, 0, 0][..], &[0; 12]].concat(),
            &[&[0x80, 8, 0, 0][..], &[0; 12]].concat(),
            &[&[0xff, 0xff, 0, 0][..], &[0; 12]].concat(),
            &[&[0x80, 7, 0, 0][..], &[0; 12], &[0, 0, 0, 9, 0, 0, 0, 1]].concat(),
        ] {
            assert_eq!(guard(bytes), None, "{bytes:02x?}");
        }
    }
}
