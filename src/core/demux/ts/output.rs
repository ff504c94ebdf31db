//! The demuxer's outputs, and its bounds.

use bytes::Bytes;

use super::diagnostic::TsDiagnostic;
use crate::model::time::Timescale;
use crate::model::{AccessUnit, Announced, CodecConfig, InputClock, InputTrack, TimedMessage};
use crate::packager::Input;

/// The clock of all times: 90 kHz, modulo 2^33 (2.4.3.7).
pub const CLOCK: InputClock = InputClock { scale: Timescale::MPEG, wrap_bits: 33 };

/// The modulus of time stamps.
pub(super) const MODULUS: u64 = 1 << 33;

/// The track of a program's pictures. Tracks of sound have the numbers from 1 on.
pub const VIDEO: InputTrack = InputTrack(0);

/// The first track of a program's sound.
pub const AUDIO: InputTrack = InputTrack(1);

/// The most tracks of sound in a program. A push has 16 tracks at most.
pub const AUDIO_TRACKS_MAX: usize = 8;

/// The most programs of a PAT that are read. A full transponder has about 20.
pub const PROGRAMS_MAX: usize = 64;

/// The most elementary streams of a PMT that are read.
pub const STREAMS_MAX: usize = 64;

/// An output of a [`Demuxer`](super::Demuxer).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// A program is published from here on: before its first [`Output::Input`], and again when its PMT has other tracks.
    Program {
        /// program_number.
        number: u16,
        /// The kinds of tracks that the PMT lists.
        announced: Announced,
    },
    /// An input for the packager. A track's language and headers come before its first unit, and its headers again when
    /// they change. Access units are whole. All times are on [`CLOCK`].
    Input(Input),
    /// A diagnostic for the log.
    Diagnostic(TsDiagnostic),
}

impl Output {
    pub(super) fn config(track: InputTrack, config: CodecConfig) -> Output {
        Output::Input(Input::Config { track, config })
    }

    pub(super) fn message(message: TimedMessage) -> Output {
        Output::Input(Input::Message(message))
    }

    /// Returns an access unit of sound, which is presented when it is decoded.
    pub(super) fn sound(track: InputTrack, dts: u64, data: Bytes) -> Output {
        Output::Input(Input::Unit(AccessUnit { track, dts, composition_offset: 0, keyframe: true, data }))
    }
}

/// The end of a stream, or a pause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The sender has ended the stream, and all its packets have come.
    Said,
    /// The sender is silent. An unfinished picture is whole if its last packet is stuffed (2.4.3.5), as 183 of 184 are.
    Silent,
}
