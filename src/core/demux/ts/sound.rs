//! Sound that is played: PES payloads to frames, of any codec.

use super::ac3::Ac3Frames;
use super::adts::Adts;
use super::framing::SoundDecoder;
use super::opus::Packets;
use super::psi::StreamKind;
use crate::model::InputTrack;

/// Returns the decoder of an elementary stream, or `None` where it is not sound that can be played.
pub(super) fn decoder(kind: StreamKind, track: InputTrack) -> Option<Box<dyn SoundDecoder>> {
    Some(match kind {
        StreamKind::Aac => Box::new(Adts::new(track)),
        StreamKind::Ac3 => Box::new(Ac3Frames::new(track)),
        StreamKind::Opus(channels) => Box::new(Packets::new(track, channels)),
        _ => return None,
    })
}
