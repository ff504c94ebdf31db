//! Sound that is played: whatever its codec, PES payloads become frames.

use std::collections::VecDeque;

use super::ac3::Ac3Frames;
use super::adts::Adts;
use super::opus::Packets;
use super::output::Output;
use super::pes::Payload;
use super::psi::StreamKind;
use crate::model::InputTrack;

#[derive(Debug)]
pub(super) enum Sound {
    Aac(Adts),
    Ac3(Ac3Frames),
    Opus(Packets),
}

impl Sound {
    /// The decoder of an elementary stream, or `None` where it is not sound that can be played.
    pub(super) fn of(kind: StreamKind, track: InputTrack) -> Option<Sound> {
        Some(match kind {
            StreamKind::Aac => Sound::Aac(Adts::new(track)),
            StreamKind::Ac3 => Sound::Ac3(Ac3Frames::new(track)),
            StreamKind::Opus(channels) => Sound::Opus(Packets::new(track, channels)),
            _ => return None,
        })
    }

    /// Something is missing; whether a frame was under way.
    pub(super) fn damaged(&mut self) -> bool {
        match self {
            Sound::Aac(aac) => aac.damaged(),
            Sound::Ac3(ac3) => ac3.damaged(),
            Sound::Opus(opus) => opus.damaged(),
        }
    }

    /// Takes a PES packet's payload.
    pub(super) fn frames(&mut self, pes: Payload, out: &mut VecDeque<Output>) -> Result<(), &'static str> {
        match self {
            Sound::Aac(aac) => aac.frames(&pes, out),
            Sound::Ac3(ac3) => ac3.frames(&pes, out),
            Sound::Opus(opus) => opus.frames(pes, out),
        }
    }
}
