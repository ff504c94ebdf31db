//! Packet synchronisation (2.4.3.2): finds the sync bytes in a stream of bytes, and finds them again after a damaged
//! part.

use super::diagnostic::Counters;

/// The length of a transport packet, in bytes.
pub(crate) const PACKET_LEN: usize = 188;
/// The distances of two sync bytes: plain packets; packets behind a time stamp of 4 bytes (M2TS); packets before 16
/// bytes of Reed-Solomon code.
const STRIDES: [usize; 3] = [PACKET_LEN, 192, 204];
const SYNC_BYTE: u8 = 0x47;
/// The number of sync bytes in a row that prove synchronisation.
const SYNCS: usize = 3;
/// If this many bytes follow a byte and show no synchronisation, no packet begins at that byte.
const SEARCHED: usize = (SYNCS - 1) * STRIDES[2];

#[derive(Debug, Default)]
pub(super) struct Sync {
    buffer: Vec<u8>,
    at: usize,
    stride: Option<usize>,
    /// The bytes between two packets that haven't come yet.
    between: usize,
    /// The newest datagram began within a packet.
    splits: bool,
}

impl Sync {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..std::mem::take(&mut self.at));
        self.buffer.extend_from_slice(bytes);
    }

    /// Notes that a datagram begins. Most senders fill datagrams with whole packets; unfinished bytes before such a datagram
    /// are what a cut one has left, and are dropped. If the datagram before began within a packet, the sender splits
    /// packets, and its datagrams are one stream of bytes.
    pub(super) fn datagram(&mut self, bytes: &[u8], stats: &mut Counters) {
        let left = self.buffer.len() - self.at;
        let within = left > 0 || self.between > 0;
        let (packets, rest) = bytes.as_chunks::<PACKET_LEN>();
        let whole = rest.is_empty() && !packets.is_empty() && packets.iter().all(|packet| packet[0] == SYNC_BYTE);
        let goes_on = std::mem::replace(&mut self.splits, within) && self.goes_on(bytes);
        if whole && !goes_on {
            stats.skipped += left as u64;
            stats.resyncs += u64::from(left > 0 && self.stride.is_some());
            self.buffer.clear();
            (self.at, self.stride, self.between, self.splits) = (0, Some(PACKET_LEN), 0, false);
        }
    }

    /// Notes that bytes are missing before the next ones.
    pub(super) fn lost(&mut self, stats: &mut Counters) {
        stats.skipped += (self.buffer.len() - self.at) as u64;
        self.buffer.clear();
        (self.at, self.stride, self.between) = (0, None, 0);
    }

    /// Returns whether each packet that begins in these bytes does so where it has to, if they follow those before.
    fn goes_on(&self, bytes: &[u8]) -> bool {
        let Some(stride) = self.stride else { return false };
        let begun = self.buffer.len() - self.at;
        let first = if self.between > 0 { self.between.checked_sub(begun) } else { stride.checked_sub(begun) };
        first.is_some_and(|first| bytes.iter().skip(first).step_by(stride).all(|&byte| byte == SYNC_BYTE))
    }

    /// Returns the next packet.
    pub(super) fn next(&mut self, stats: &mut Counters) -> Option<[u8; PACKET_LEN]> {
        loop {
            let skip = self.between.min(self.buffer.len() - self.at);
            self.at += skip;
            self.between -= skip;
            let rest = &self.buffer[self.at..];
            let Some(stride) = self.stride else {
                let (offset, stride) = search(rest);
                stats.skipped += offset as u64;
                self.at += offset;
                self.stride = stride;
                match stride {
                    Some(_) => continue,
                    None => return None,
                }
            };
            // If bytes were inserted into a packet, the next one begins elsewhere.
            if (0..SYNCS).any(|n| rest.get(n * stride).is_some_and(|&byte| byte != SYNC_BYTE)) {
                self.stride = None;
                stats.resyncs += 1;
                stats.skipped += 1;
                self.at += 1;
                continue;
            }
            let packet: [u8; PACKET_LEN] = rest.get(..PACKET_LEN)?.try_into().ok()?;
            self.at += PACKET_LEN;
            self.between = stride - PACKET_LEN;
            return Some(packet);
        }
    }
}

/// Returns the number of bytes to skip: up to the first packet, or as long as no packet can begin there. Returns the
/// stride, too, if it is found.
fn search(bytes: &[u8]) -> (usize, Option<usize>) {
    for at in 0..bytes.len() {
        let begins = |stride: &&usize| (0..SYNCS).all(|n| bytes.get(at + n * **stride) == Some(&SYNC_BYTE));
        if let Some(stride) = STRIDES.iter().find(begins) {
            return (at, Some(*stride));
        }
    }
    (bytes.len().saturating_sub(SEARCHED), None)
}
