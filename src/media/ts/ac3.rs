//! AC-3 and E-AC-3 in PES packets (ETSI TS 101 154, 6.2; ATSC A/52, annexes A and G): frames to access units.
//!
//! A PES packet holds whole frames, mostly, and its time stamp is that of the first one which begins in it. An access unit
//! of E-AC-3 is six blocks of its first substream, with all that goes on with them (TS 102 366, F.1).

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::pes::Payload;
use super::{MODULUS, Output};
use crate::media::ac3::{Frame, HEADER_LEN, Headers, SYNC};
use crate::media::{AccessUnit, InputTrack};

/// Audio blocks of an access unit, and samples of each.
const BLOCKS: u32 = 6;
const BLOCK: u64 = 256;

/// One track's decoder state.
#[derive(Debug)]
pub(super) struct Ac3 {
    track: InputTrack,
    headers: Headers,
    /// A frame whose end is in the next PES packet.
    rest: BytesMut,
    /// The newest stamp, and the samples since.
    anchor: Option<(u64, u64)>,
    /// The access unit under way, when it begins, and how many blocks it has.
    unit: BytesMut,
    begins: u64,
    blocks: u32,
    /// Something is missing, and the next stamp counts.
    waits: bool,
}

impl Ac3 {
    pub(super) fn new(track: InputTrack) -> Self {
        let (rest, unit) = (BytesMut::new(), BytesMut::new());
        Ac3 { track, headers: Headers::default(), rest, anchor: None, unit, begins: 0, blocks: 0, waits: false }
    }

    /// Something is missing: what had begun is lost. Says whether anything had.
    pub(super) fn damaged(&mut self) -> bool {
        let had = !self.rest.is_empty() || !self.unit.is_empty();
        self.rest.clear();
        self.unit.clear();
        self.blocks = 0;
        self.waits = true;
        had
    }

    /// Takes a PES packet's payload.
    pub(super) fn frames(&mut self, pes: Payload, out: &mut VecDeque<Output>) -> Result<(), &'static str> {
        let carried = self.rest.len();
        let mut data = std::mem::take(&mut self.rest);
        data.extend_from_slice(&pes.data);
        let mut data = data.freeze();
        let mut stamp = pes.times.map(|(pts, _)| pts);
        if std::mem::take(&mut self.waits) && stamp.is_none() {
            self.anchor = None;
        }
        let (mut at, mut fault) = (0, None);
        while data.len() >= HEADER_LEN {
            let frame = match Frame::parse(&data) {
                Ok(frame) => frame,
                Err(_) => {
                    // Up to what may be the next frame.
                    fault = Some("no AC-3 frame where one should begin");
                    self.unit.clear();
                    self.blocks = 0;
                    let next = data[1..].windows(2).position(|pair| pair == SYNC).map_or(data.len(), |next| next + 1);
                    data.advance(next);
                    at += next;
                    continue;
                }
            };
            if data.len() < frame.len {
                break;
            }
            if !frame.dependent && frame.substream == 0 && self.blocks >= BLOCKS {
                fault = self.flush(out).err().or(fault);
            }
            // The first that begins in this PES packet has its stamp.
            if at >= carried
                && let Some(stamp) = stamp.take()
            {
                self.anchor = Some((stamp, 0));
            }
            at += frame.len;
            self.frame(&frame, &data.split_to(frame.len));
            if !frame.enhanced {
                fault = self.flush(out).err().or(fault);
            }
        }
        if let Some(stamp) = stamp.filter(|_| at >= carried && !data.is_empty()) {
            self.anchor = Some((stamp, 0));
        }
        // What goes on with a frame is in its own PES packet.
        if data.is_empty() && self.blocks >= BLOCKS {
            fault = self.flush(out).err().or(fault);
        }
        self.rest = BytesMut::from(data);
        fault.map_or(Ok(()), Err)
    }

    fn frame(&mut self, frame: &Frame, bytes: &Bytes) {
        let Some((stamp, samples)) = &mut self.anchor else { return };
        if self.unit.is_empty() {
            if frame.dependent || frame.substream != 0 {
                return; // what it goes on with is lost
            }
            self.begins = (*stamp + *samples * 90_000 / u64::from(frame.rate.max(1))) % MODULUS;
        }
        if !frame.dependent && frame.substream == 0 {
            *samples += u64::from(frame.blocks) * BLOCK;
            self.blocks += frame.blocks;
        }
        self.unit.extend_from_slice(bytes);
    }

    /// The access unit under way is whole.
    fn flush(&mut self, out: &mut VecDeque<Output>) -> Result<(), &'static str> {
        let (track, data) = (self.track, self.unit.split().freeze());
        self.blocks = 0;
        if data.is_empty() {
            return Ok(());
        }
        let config = self.headers.of(&data).map_err(|_| "AC-3 frames that don't belong together")?;
        out.extend(config.map(|config| Output::Config { track, config }));
        let unit = AccessUnit { track, dts: self.begins, composition_offset: 0, keyframe: true, data };
        out.push_back(Output::Unit(unit));
        Ok(())
    }
}
