//! A codec's headers, parsed: what a sample entry, a playlist and the timeline need of them.

use bytes::Bytes;

use super::CodecConfig;
use super::aac::{Aac, AacError};
use super::avc::{Avc, AvcError};
use crate::live::{AudioInfo, TrackKind, VideoInfo};
use crate::units::Timescale;

/// Headers that were understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Codec {
    /// H.264.
    Avc(Avc),
    /// AAC.
    Aac(Aac),
}

/// Headers that weren't.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// H.264's.
    #[error(transparent)]
    Avc(#[from] AvcError),
    /// AAC's.
    #[error(transparent)]
    Aac(#[from] AacError),
}

impl Codec {
    /// Parses headers of either codec.
    pub fn parse(config: &CodecConfig) -> Result<Codec, CodecError> {
        Ok(match config {
            CodecConfig::Avc(record) => Codec::Avc(Avc::parse(record)?),
            CodecConfig::Aac(config) => Codec::Aac(Aac::parse(config)?),
        })
    }

    /// Whether it is a video codec.
    pub fn is_video(&self) -> bool {
        matches!(self, Codec::Avc(_))
    }

    /// The headers' own bytes. Compared byte by byte: repeated headers are no change (SRS #4695).
    pub fn bytes(&self) -> &Bytes {
        match self {
            Codec::Avc(avc) => &avc.record,
            Codec::Aac(aac) => &aac.config,
        }
    }

    /// RFC 6381 codecs string.
    pub fn name(&self) -> String {
        match self {
            Codec::Avc(avc) => avc.codec(),
            Codec::Aac(aac) => aac.codec(),
        }
    }

    /// The timescale of a track that begins with these headers: 90 kHz, or the core's sample rate.
    pub fn timescale(&self) -> Timescale {
        match self {
            Codec::Avc(_) => Timescale::MPEG,
            Codec::Aac(aac) => Timescale::new(aac.core_rate).unwrap_or(Timescale::MPEG),
        }
    }

    /// What the record says of the track.
    pub fn kind(&self, frame_rate_milli: u32) -> TrackKind {
        match self {
            Codec::Avc(avc) => TrackKind::Video(VideoInfo { width: avc.width, height: avc.height, frame_rate_milli }),
            Codec::Aac(aac) => TrackKind::Audio(AudioInfo { sample_rate: aac.sample_rate, channels: aac.channels }),
        }
    }
}
