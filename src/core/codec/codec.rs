//! A codec's headers, parsed: what a sample entry, a playlist and the timeline need of them.

use bytes::Bytes;

use super::aac::{Aac, AacError};
use super::ac3::{Ac3, Eac3};
use super::av1::Av1;
use super::avc::{Avc, AvcError};
use super::error::HeaderError;
use super::hevc::Hevc;
use super::opus::Opus;
use super::{ac3, opus};
use crate::model::time::Timescale;
use crate::model::{AudioInfo, CodecConfig, TrackKind, VideoInfo};

/// Headers that were understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Codec {
    /// H.264.
    Avc(Avc),
    /// H.265.
    Hevc(Box<Hevc>),
    /// AV1.
    Av1(Box<Av1>),
    /// AAC.
    Aac(Aac),
    /// Opus.
    Opus(Opus),
    /// AC-3.
    Ac3(Ac3),
    /// E-AC-3.
    Eac3(Eac3),
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
    /// Any other's.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

impl Codec {
    /// Parses headers of any codec that is carried.
    pub fn parse(config: &CodecConfig) -> Result<Codec, CodecError> {
        Ok(match config {
            CodecConfig::Avc(record) => Codec::Avc(Avc::parse(record)?),
            CodecConfig::Hevc(record) => Codec::Hevc(Box::new(Hevc::parse(record)?)),
            CodecConfig::Av1(record) => Codec::Av1(Box::new(Av1::parse(record)?)),
            CodecConfig::Aac(config) => Codec::Aac(Aac::parse(config)?),
            CodecConfig::Opus(head) => Codec::Opus(Opus::parse(head)?),
            CodecConfig::Ac3(config) => Codec::Ac3(Ac3::parse(config)?),
            CodecConfig::Eac3(config) => Codec::Eac3(Eac3::parse(config)?),
        })
    }

    /// Whether it is a video codec.
    pub fn is_video(&self) -> bool {
        matches!(self, Codec::Avc(_) | Codec::Hevc(_) | Codec::Av1(_))
    }

    /// RFC 6381 codecs string.
    pub fn name(&self) -> String {
        match self {
            Codec::Avc(avc) => avc.codec(),
            Codec::Hevc(hevc) => hevc.codec(),
            Codec::Av1(av1) => av1.codec(),
            Codec::Aac(aac) => aac.codec(),
            // In small letters browsers take it; the sample entry's own "Opus" not all of them.
            Codec::Opus(_) => "opus".to_owned(),
            Codec::Ac3(_) => "ac-3".to_owned(),
            Codec::Eac3(_) => "ec-3".to_owned(),
        }
    }

    /// Of sound, what [`samples`](Codec::samples) are counted in, a second; else 0.
    pub fn sample_rate(&self) -> u32 {
        match self {
            Codec::Avc(_) | Codec::Hevc(_) | Codec::Av1(_) => 0,
            Codec::Aac(aac) => aac.core_rate,
            Codec::Opus(_) => opus::RATE,
            Codec::Ac3(ac3) => ac3.sample_rate,
            Codec::Eac3(eac3) => eac3.sample_rate,
        }
    }

    /// The timescale of a track that begins with these headers: 90 kHz, or the core's sample rate.
    pub fn timescale(&self) -> Timescale {
        Timescale::new(self.sample_rate()).unwrap_or(Timescale::MPEG)
    }

    /// How many samples a unit of sound has; as many as usual where it isn't there. `None` for pictures.
    pub fn samples(&self, unit: Option<&[u8]>) -> Option<u32> {
        match self {
            Codec::Avc(_) | Codec::Hevc(_) | Codec::Av1(_) => None,
            Codec::Aac(aac) => Some(aac.frame_len),
            Codec::Opus(_) => Some(unit.and_then(opus::samples).unwrap_or(opus::SAMPLES_USUAL)),
            Codec::Ac3(_) => Some(ac3::SAMPLES),
            Codec::Eac3(_) => Some(unit.and_then(ac3::samples).unwrap_or(ac3::SAMPLES)),
        }
    }

    /// What the headers say of the frame rate, in frames a thousand seconds.
    pub fn frame_rate_milli(&self) -> Option<u32> {
        match self {
            Codec::Avc(avc) => avc.frame_rate_milli,
            Codec::Hevc(hevc) => hevc.frame_rate_milli,
            Codec::Av1(av1) => av1.frame_rate_milli,
            _ => None,
        }
    }

    /// TransferCharacteristics (ISO 23091-2) of pictures; 2 where nothing is said.
    fn transfer(&self) -> u8 {
        match self {
            Codec::Avc(avc) => avc.transfer,
            Codec::Hevc(hevc) => hevc.transfer,
            Codec::Av1(av1) => av1.colour.description[1],
            _ => 2,
        }
    }

    /// A picture's width and height, in pixels; 0 for sound.
    pub fn size(&self) -> (u16, u16) {
        match self {
            Codec::Avc(avc) => (avc.width, avc.height),
            Codec::Hevc(hevc) => (hevc.width, hevc.height),
            Codec::Av1(av1) => (av1.width, av1.height),
            _ => (0, 0),
        }
    }

    /// An access unit as its track's samples are, and whether it is a random access point, which `keyframe` says where
    /// the unit itself isn't looked at. What isn't understood is left as it is.
    pub fn sample(&self, data: Bytes, keyframe: bool) -> (Bytes, bool) {
        let read = match self {
            Codec::Avc(_) => None,
            Codec::Hevc(hevc) => hevc.sample(&data),
            Codec::Av1(av1) => av1.sample(&data),
            _ => return (data, true),
        };
        read.unwrap_or((data, keyframe))
    }

    /// What the record says of the track.
    pub fn kind(&self, frame_rate_milli: u32) -> TrackKind {
        let (width, height) = self.size();
        let (sample_rate, channels) = match self {
            Codec::Avc(_) | Codec::Hevc(_) | Codec::Av1(_) => {
                return TrackKind::Video(VideoInfo { width, height, frame_rate_milli, transfer: self.transfer() });
            }
            Codec::Aac(aac) => (aac.sample_rate, aac.channels),
            Codec::Opus(opus) => (opus::RATE, opus.dops.output_channel_count),
            Codec::Ac3(ac3) => (ac3.sample_rate, ac3.channels),
            Codec::Eac3(eac3) => (eac3.sample_rate, eac3.channels),
        };
        TrackKind::Audio(AudioInfo { sample_rate, channels })
    }
}
