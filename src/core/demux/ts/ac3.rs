//! AC-3 and E-AC-3 in PES packets (ETSI TS 101 154, 6.2; ATSC A/52, annexes A and G): frames to access units.
//!
//! A PES packet mostly holds whole frames, and its time stamp is that of the first frame that begins in it. An access
//! unit of E-AC-3 is six blocks of its first substream, with all frames that depend on them (TS 102 366, F.1).

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::framing::{Framing, SoundDecoder};
use super::output::Output;
use super::pes::Payload;
use crate::codec::ac3::{HEADER_LEN, Headers, SYNC, SyncFrame};
use crate::model::InputTrack;

/// The audio blocks of an access unit, and the samples of a block.
const BLOCKS: u32 = 6;
const BLOCK: u64 = 256;

/// One track's decoder state.
#[derive(Debug)]
pub(super) struct Ac3Frames {
    track: InputTrack,
    headers: Headers,
    framing: Framing,
    /// The unfinished access unit, when it begins, and its number of blocks.
    unit: BytesMut,
    begins: u64,
    blocks: u32,
}

impl Ac3Frames {
    pub(super) fn new(track: InputTrack) -> Self {
        let (headers, framing, unit) = (Headers::default(), Framing::default(), BytesMut::new());
        Ac3Frames { track, headers, framing, unit, begins: 0, blocks: 0 }
    }

    fn forget(&mut self) {
        self.unit.clear();
        self.blocks = 0;
    }

    fn frame(&mut self, frame: &SyncFrame, bytes: &Bytes) {
        let Some(time) = self.framing.time(frame.rate) else { return };
        if self.unit.is_empty() {
            if frame.dependent || frame.substream != 0 {
                return; // the frame that it continues is lost
            }
            self.begins = time;
        }
        if !frame.dependent && frame.substream == 0 {
            self.framing.count(u64::from(frame.blocks) * BLOCK);
            self.blocks += frame.blocks;
        }
        self.unit.extend_from_slice(bytes);
    }

    /// Outputs the access unit, which is complete.
    fn flush(&mut self, out: &mut VecDeque<Output>) -> Result<(), &'static str> {
        let (track, data) = (self.track, self.unit.split().freeze());
        self.blocks = 0;
        if data.is_empty() {
            return Ok(());
        }
        let config = self.headers.of(&data).map_err(|_| "the AC-3 frames of an access unit don't belong together")?;
        out.extend(config.map(|config| Output::config(track, config)));
        out.push_back(Output::sound(track, self.begins, data));
        Ok(())
    }
}

impl SoundDecoder for Ac3Frames {
    fn damaged(&mut self) -> bool {
        let had = self.framing.damaged() || !self.unit.is_empty();
        self.forget();
        had
    }

    fn frames(&mut self, pes: &Payload, out: &mut VecDeque<Output>) -> Result<(), &'static str> {
        let (mut open, mut fault) = (self.framing.open(pes), None);
        while open.bytes().len() >= HEADER_LEN {
            let Ok(frame) = SyncFrame::parse(open.bytes()) else {
                // Skip to the next possible frame.
                fault = Some("no AC-3 sync word where a frame should begin");
                self.forget();
                let bytes = open.bytes();
                let next = bytes[1..].windows(2).position(|pair| pair == SYNC).map_or(bytes.len(), |next| next + 1);
                open.skip(next);
                continue;
            };
            if open.bytes().len() < frame.len {
                break;
            }
            if !frame.dependent && frame.substream == 0 && self.blocks >= BLOCKS {
                fault = self.flush(out).err().or(fault);
            }
            let bytes = self.framing.frame(&mut open, frame.len);
            self.frame(&frame, &bytes);
            if !frame.enhanced {
                fault = self.flush(out).err().or(fault);
            }
        }
        // Dependent frames are in the PES packet of the frame that they belong to.
        if open.bytes().is_empty() && self.blocks >= BLOCKS {
            fault = self.flush(out).err().or(fault);
        }
        self.framing.close(open);
        fault.map_or(Ok(()), Err)
    }
}
