//! What the demuxer puts out, and its bounds.

use bytes::Bytes;

use super::diagnostic::TsDiagnostic;
use crate::model::time::Timescale;
use crate::model::{AccessUnit, Announced, CodecConfig, InputClock, InputTrack, TimedMessage};
use crate::packager::Input;

/// 90 kHz, modulo 2^33 (2.4.3.7).
pub const CLOCK: InputClock = InputClock { scale: Timescale::MPEG, wrap_bits: 33 };

/// A time stamp's modulus.
pub(super) const MODULUS: u64 = 1 << 33;

/// The track of a program's pictures; sound goes on from 1.
pub const VIDEO: InputTrack = InputTrack(0);

/// The first track of a program's sound.
pub const AUDIO: InputTrack = InputTrack(1);

/// Languages of a program. A push has 16 tracks at most.
pub const AUDIO_TRACKS_MAX: usize = 8;

/// Programs of a PAT that are looked at. A full transponder has about 20.
pub const PROGRAMS_MAX: usize = 64;

/// Elementary streams of a PMT that are looked at.
pub const STREAMS_MAX: usize = 64;

/// What a [`Demuxer`](super::Demuxer) puts out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// A program is played from here on, with these tracks: before its first [`Output::Config`], and again when its PMT
    /// has other tracks.
    Program {
        /// program_number.
        number: u16,
        /// Which kinds of tracks the PMT lists.
        announced: Announced,
    },
    /// A track's language and headers before its first unit, and the headers again when they change; whole access units;
    /// timed metadata. Times are on [`CLOCK`].
    Input(Input),
    /// Something for the log.
    Diagnostic(TsDiagnostic),
}

impl Output {
    pub(super) fn config(track: InputTrack, config: CodecConfig) -> Output {
        Output::Input(Input::Config { track, config })
    }

    pub(super) fn message(message: TimedMessage) -> Output {
        Output::Input(Input::Message(message))
    }

    /// An access unit of sound, which is presented when it is decoded.
    pub(super) fn sound(track: InputTrack, dts: u64, data: Bytes) -> Output {
        Output::Input(Input::Unit(AccessUnit { track, dts, composition_offset: 0, keyframe: true, data }))
    }
}

/// The way in which a stream ends, or pauses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The sender has said so, and all that it sent has come.
    Said,
    /// It is silent. A picture that was under way is whole if its last packet is stuffed (2.4.3.5), as 183 of 184 are.
    Silent,
}
