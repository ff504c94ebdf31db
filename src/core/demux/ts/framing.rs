//! Frames of sound out of PES packets. A PES packet holds several, and its time stamp is that of the first one which begins in it
//! (2.4.3.7). The others follow by their length, each counted from that stamp, so that nothing adds up.

use bytes::{Buf, Bytes, BytesMut};

use super::output::MODULUS;
use super::pes::Payload;

/// What one track carries from one PES packet to the next.
#[derive(Debug, Default)]
pub(super) struct Framing {
    /// A frame whose end is in the next PES packet.
    rest: BytesMut,
    /// The newest stamp, and the samples since.
    anchor: Option<(u64, u64)>,
    /// Something is missing, and the next stamp counts.
    waits: bool,
}

/// A PES packet's payload behind what the one before has left.
pub(super) struct Open {
    data: Bytes,
    /// Of it, what was left.
    carried: usize,
    /// Until a frame has it.
    stamp: Option<u64>,
}

impl Framing {
    /// Something is missing: a frame that had begun is lost, and the next one begins with a PES packet. Says whether one
    /// had.
    pub(super) fn damaged(&mut self) -> bool {
        let had = !self.rest.is_empty();
        self.rest.clear();
        self.waits = true;
        had
    }

    /// Takes a PES packet's payload. It is [closed](Self::close) when its frames are taken out.
    pub(super) fn open(&mut self, pes: &Payload) -> Open {
        let mut data = std::mem::take(&mut self.rest);
        let carried = data.len();
        data.extend_from_slice(&pes.data);
        let stamp = pes.times.map(|(pts, _)| pts);
        if std::mem::take(&mut self.waits) && stamp.is_none() {
            self.anchor = None;
        }
        Open { data: data.freeze(), carried, stamp }
    }

    /// Takes out a frame of `len` bytes, which are there.
    pub(super) fn frame(&mut self, open: &mut Open, len: usize) -> Bytes {
        self.stamp(open);
        open.carried = open.carried.saturating_sub(len);
        open.data.split_to(len)
    }

    /// What is left begins a frame that ends in the next PES packet, and has this one's stamp.
    pub(super) fn close(&mut self, mut open: Open) {
        if !open.data.is_empty() {
            self.stamp(&mut open);
        }
        self.rest = BytesMut::from(open.data);
    }

    /// The first that begins in a PES packet has its stamp.
    fn stamp(&mut self, open: &mut Open) {
        if open.carried == 0
            && let Some(stamp) = open.stamp.take()
        {
            self.anchor = Some((stamp, 0));
        }
    }

    /// The time of the frame that was taken out, of samples at `rate`. `None` before the first stamp.
    pub(super) fn time(&self, rate: u32) -> Option<u64> {
        self.anchor.map(|(stamp, samples)| (stamp + samples * 90_000 / u64::from(rate.max(1))) % MODULUS)
    }

    /// It has so many samples.
    pub(super) fn count(&mut self, samples: u64) {
        if let Some((_, counted)) = &mut self.anchor {
            *counted += samples;
        }
    }
}

impl Open {
    /// What isn't taken out yet.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Leaves bytes out in which no frame begins.
    pub(super) fn skip(&mut self, len: usize) {
        self.carried = self.carried.saturating_sub(len);
        self.data.advance(len);
    }
}

/// Reads a number as a sum of bytes that ends with the first one below 255: sizes in Opus control headers and SEI messages.
pub(super) fn sum_of_255s(rest: &mut &[u8]) -> Option<usize> {
    let mut sum = 0;
    loop {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        sum += usize::from(byte);
        if byte != 255 {
            return Some(sum);
        }
    }
}
