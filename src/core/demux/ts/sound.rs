//! Sound that is played: PES payloads to frames, of any codec.

use std::collections::VecDeque;
use std::fmt::Debug;

use super::ac3::Ac3Frames;
use super::adts::Adts;
use super::opus::Packets;
use super::output::Output;
use super::pes::Payload;
use super::psi::StreamKind;
use crate::model::InputTrack;

/// A sound track's decoder state, of any codec.
pub(super) trait SoundDecoder: Debug + Send {
    /// Drops the unfinished frame, since packets are missing. Returns whether there was one.
    fn damaged(&mut self) -> bool;

    /// Takes a PES packet's payload.
    fn frames(&mut self, pes: &Payload, out: &mut VecDeque<Output>) -> Result<(), &'static str>;
}

/// Returns the decoder of an elementary stream, or `None` where it is not sound that can be played.
pub(super) fn decoder(kind: StreamKind, track: InputTrack) -> Option<Box<dyn SoundDecoder>> {
    Some(match kind {
        StreamKind::Aac => Box::new(Adts::new(track)),
        StreamKind::Ac3 => Box::new(Ac3Frames::new(track)),
        StreamKind::Opus(channels) => Box::new(Packets::new(track, channels)),
        _ => return None,
    })
}
