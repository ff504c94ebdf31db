//! Frames of sound out of PES packets. A PES packet holds several frames, and its time stamp is that of the first frame
//! that begins in it (2.4.3.7). The times of the others are counted in samples from that stamp, so that rounding errors
//! don't add up.

use std::collections::VecDeque;
use std::fmt::Debug;

use bytes::{Buf, Bytes, BytesMut};

use super::output::{MODULUS, Output};
use super::pes::Payload;

/// A sound track's decoder state, of any codec.
pub(super) trait SoundDecoder: Debug + Send {
    /// Drops the unfinished frame, since packets are missing. Returns whether there was one.
    fn damaged(&mut self) -> bool;

    /// Takes a PES packet's payload.
    fn frames(&mut self, pes: &Payload, out: &mut VecDeque<Output>) -> Result<(), &'static str>;
}

/// The state that a track carries from one PES packet to the next.
#[derive(Debug, Default)]
pub(super) struct Framing {
    /// The beginning of a frame that ends in the next PES packet.
    rest: BytesMut,
    /// The newest time stamp, and the samples since.
    anchor: Option<(u64, u64)>,
    /// Packets are missing; frames have no time until the next time stamp.
    waits: bool,
}

/// A PES packet's payload, behind the rest of the one before.
pub(super) struct Open {
    data: Bytes,
    /// The part of that rest that has not been taken out yet, in bytes.
    carried: usize,
    /// The time stamp, until a frame has taken it.
    stamp: Option<u64>,
}

impl Framing {
    /// Drops the unfinished frame, since packets are missing. The next frame begins with a PES packet. Returns whether
    /// there was an unfinished frame.
    pub(super) fn damaged(&mut self) -> bool {
        let had = !self.rest.is_empty();
        self.rest.clear();
        self.waits = true;
        had
    }

    /// Takes a PES packet's payload. The caller [closes](Self::close) it when its frames are taken out.
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

    /// Takes out a frame of `len` bytes. The payload must have as many.
    pub(super) fn frame(&mut self, open: &mut Open, len: usize) -> Bytes {
        self.stamp(open);
        open.carried = open.carried.saturating_sub(len);
        open.data.split_to(len)
    }

    /// Keeps the rest: a frame that ends in the next PES packet, and has this packet's time stamp.
    pub(super) fn close(&mut self, mut open: Open) {
        if !open.data.is_empty() {
            self.stamp(&mut open);
        }
        self.rest = BytesMut::from(open.data);
    }

    /// Gives the time stamp to the first frame that begins in the PES packet.
    fn stamp(&mut self, open: &mut Open) {
        if open.carried == 0
            && let Some(stamp) = open.stamp.take()
        {
            self.anchor = Some((stamp, 0));
        }
    }

    /// Returns the time of the frame that was taken out, from samples at `rate`; `None` before the first time stamp.
    pub(super) fn time(&self, rate: u32) -> Option<u64> {
        self.anchor.map(|(stamp, samples)| (stamp + samples * 90_000 / u64::from(rate.max(1))) % MODULUS)
    }

    /// Counts the samples of the frame that was taken out.
    pub(super) fn count(&mut self, samples: u64) {
        if let Some((_, counted)) = &mut self.anchor {
            *counted += samples;
        }
    }
}

impl Open {
    /// Returns the bytes that aren't taken out yet.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Skips bytes in which no frame begins.
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
