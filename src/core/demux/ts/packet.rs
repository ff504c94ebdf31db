//! A transport packet (2.4.3.2) and its continuity counter (2.4.3.3).

use super::diagnostic::Counters;
use super::sync::PACKET_LEN;

/// A transport packet.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    pub(super) pid: u16,
    /// payload_unit_start_indicator: a PES packet or a section begins in it.
    pub(super) start: bool,
    /// transport_error_indicator: the packet's bytes can't be trusted, its header included.
    pub(super) error: bool,
    pub(super) scrambled: bool,
    pub(super) counter: u8,
    /// discontinuity_indicator: the counter and the clock may jump.
    pub(super) discontinuity: bool,
    /// The packet has stuffing, as the last packet of a PES packet does (2.4.3.5).
    pub(super) stuffed: bool,
    /// The payload; empty where there is none.
    pub(super) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a packet. Returns `None` if its lengths contradict each other.
    pub(super) fn parse(bytes: &'a [u8; PACKET_LEN]) -> Option<Self> {
        let adaptation = bytes[3] >> 4 & 3;
        let mut packet = Packet {
            pid: u16::from_be_bytes([bytes[1] & 0x1f, bytes[2]]),
            start: bytes[1] & 0x40 != 0,
            error: bytes[1] & 0x80 != 0,
            scrambled: bytes[3] & 0xc0 != 0,
            counter: bytes[3] & 0xf,
            discontinuity: false,
            stuffed: false,
            payload: &[],
        };
        let mut payload = 4;
        if adaptation & 2 != 0 {
            let len = usize::from(bytes[4]);
            let field = bytes.get(5..5 + len)?;
            if let Some(&flags) = field.first() {
                packet.discontinuity = flags & 0x80 != 0;
                packet.stuffed = used(flags, field) < len;
            } else {
                packet.stuffed = true; // the length's own byte
            }
            payload = 5 + len;
        }
        if adaptation & 1 != 0 {
            packet.payload = &bytes[payload..];
        }
        Some(packet)
    }
}

/// Returns the length of an adaptation field (2.4.3.4) without stuffing.
fn used(flags: u8, field: &[u8]) -> usize {
    let mut at = 1;
    // PCR, OPCR, splice_countdown.
    for (flag, len) in [(0x10, 6), (0x08, 6), (0x04, 1)] {
        at += if flags & flag != 0 { len } else { 0 };
    }
    // transport_private_data and adaptation_field_extension begin with their lengths.
    for flag in [0x02, 0x01] {
        if flags & flag != 0 {
            at += 1 + field.get(at).map_or(0, |&len| usize::from(len));
        }
    }
    at
}

/// The verdict of the continuity counter on a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// The packet follows the one before.
    Next,
    /// The packet repeats the one before: "duplicate packets may be sent as two, and only two" (2.4.3.3).
    Duplicate,
    /// Packets are missing between the two.
    Gap,
}

/// The continuity counter of a PID.
#[derive(Debug, Default)]
pub(super) struct Continuity {
    last: Option<u8>,
    payload: Vec<u8>,
    jumps: bool,
}

impl Continuity {
    /// Compares a packet with the one before, and counts what is missing unless the discontinuity_indicator announced it.
    pub(super) fn check(&mut self, packet: &Packet<'_>, stats: &mut Counters) -> Found {
        self.jumps |= packet.discontinuity;
        if packet.payload.is_empty() {
            return Found::Next; // the counter doesn't count such a packet
        }
        let announced = std::mem::take(&mut self.jumps);
        let last = self.last.replace(packet.counter);
        let expected = last.map_or(packet.counter, |last| (last + 1) & 15);
        if packet.counter != expected && last == Some(packet.counter) && packet.payload == self.payload {
            stats.duplicates += 1;
            return Found::Duplicate;
        }
        self.payload.clear();
        self.payload.extend_from_slice(packet.payload);
        let lost = packet.counter.wrapping_sub(expected) & 15;
        if lost == 0 {
            return Found::Next;
        }
        if !announced {
            stats.continuity_errors += 1;
            stats.lost += u64::from(lost);
        }
        Found::Gap
    }
}
