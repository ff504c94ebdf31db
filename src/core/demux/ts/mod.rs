//! MPEG transport streams (ISO 13818-1, H.222.0) to codec headers and access units (pure).
//!
//! ```text
//!  bytes --> sync --> packet --> psi      PAT, PMT: which PID is what of which program
//!            0x47     188 B  \-> pes --> access_units --> annexb   H.264, H.265: NAL units of a picture --> avcC, hvcC,
//!            each N B                |                             and the NAL units behind their lengths
//!                                    \-> adts     AAC, ADTS --> AudioSpecificConfig and raw_data_blocks
//!                                     \> ac3, opus   frames and packets, and their headers
//!                                     \> metadata    ID3 tags, and splices, which come in sections
//! ```
//!
//! The caller's contract: after each [`Demuxer::push`], [`Demuxer::datagram`], [`Demuxer::lost`] and [`Demuxer::finish`] it drains
//! [`Demuxer::poll_output`] until `None`.
//!
//! # What is lost
//!
//! A gap in a PID's continuity counters destroys the access unit that it falls in, and is counted. Sound goes on with the
//! next frame. Pictures go on with the next random access point, so that no viewer sees a picture whose references are
//! missing. A counter of 4 bits can't show that sixteen packets of one PID were lost in a row. A caller that knows it (by
//! RTP's sequence numbers, or from SRT) calls [`Demuxer::lost`].
//!
//! # What is published
//!
//! The demuxer outputs one program: that of [`Demuxer::new`], or the first of the PAT with a supported track. It outputs the
//! program's first video track, up to [`AUDIO_TRACKS_MAX`] audio tracks, and timed metadata. Every other stream
//! is reported once, as a [`TsDiagnostic::Refused`].

mod ac3;
mod access_units;
mod adts;
mod annexb;
mod demuxer;
mod diagnostic;
mod framing;
mod language;
mod metadata;
mod opus;
mod output;
mod packet;
mod pes;
mod psi;
mod sound;
pub(crate) mod sync;
mod table;

#[cfg(test)]
mod tests;

pub use demuxer::Demuxer;
pub use diagnostic::{Counters, TsDiagnostic};
pub use output::{AUDIO, AUDIO_TRACKS_MAX, CLOCK, End, Output, PROGRAMS_MAX, STREAMS_MAX, VIDEO};
pub use pes::PES_LEN_MAX;
