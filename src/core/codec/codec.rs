//! All codecs as one type: what a sample entry, a playlist and the timeline need of a codec's headers.

use bytes::Bytes;

use super::aac::Aac;
use super::ac3::{Ac3, Eac3};
use super::av1::Av1;
use super::avc::Avc;
use super::error::HeaderError;
use super::hevc::Hevc;
use super::opus::Opus;
use super::picture::Picture;
use super::{ac3, opus, silence};
use crate::model::time::Timescale;
use crate::model::{AudioInfo, CodecConfig, SampleAspectRatio, TrackKind, VideoInfo};

/// The headers of a codec, parsed.
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

/// A header of a publisher that can't be used, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{header}: {error}")]
pub struct CodecError {
    /// The header.
    pub header: &'static str,
    /// The fault found in it.
    pub error: HeaderError,
}

impl Codec {
    /// Parses the headers of any codec that damson carries.
    pub fn parse(config: &CodecConfig) -> Result<Codec, CodecError> {
        let (header, codec) = match config {
            CodecConfig::Avc(record) => ("avcC", Avc::parse(record).map(Codec::Avc)),
            CodecConfig::Hevc(record) => ("hvcC", Hevc::parse(record).map(|hevc| Codec::Hevc(Box::new(hevc)))),
            CodecConfig::Av1(record) => ("av1C", Av1::parse(record).map(|av1| Codec::Av1(Box::new(av1)))),
            CodecConfig::Aac(config) => ("AudioSpecificConfig", Aac::parse(config).map(Codec::Aac)),
            CodecConfig::Opus(head) => ("OpusHead", Opus::parse(head).map(Codec::Opus)),
            CodecConfig::Ac3(config) => ("dac3", Ac3::parse(config).map(Codec::Ac3)),
            CodecConfig::Eac3(config) => ("dec3", Eac3::parse(config).map(Codec::Eac3)),
        };
        codec.map_err(|error| CodecError { header, error })
    }

    fn picture(&self) -> Option<&Picture> {
        match self {
            Codec::Avc(avc) => Some(&avc.picture),
            Codec::Hevc(hevc) => Some(&hevc.picture),
            Codec::Av1(av1) => Some(&av1.picture),
            _ => None,
        }
    }

    /// Returns whether this is a video codec.
    pub fn is_video(&self) -> bool {
        self.picture().is_some()
    }

    /// Returns the codecs string (RFC 6381).
    pub fn name(&self) -> String {
        match self {
            Codec::Avc(avc) => avc.codec(),
            Codec::Hevc(hevc) => hevc.codec(),
            Codec::Av1(av1) => av1.codec(),
            Codec::Aac(aac) => aac.codec(),
            // All browsers accept "opus"; not all accept "Opus", the name of the sample entry.
            Codec::Opus(_) => "opus".to_owned(),
            Codec::Ac3(_) => "ac-3".to_owned(),
            Codec::Eac3(_) => "ec-3".to_owned(),
        }
    }

    /// Returns the rate at which [`samples`](Codec::samples) are counted, in Hz; 0 for pictures.
    pub fn sample_rate(&self) -> u32 {
        match self {
            Codec::Avc(_) | Codec::Hevc(_) | Codec::Av1(_) => 0,
            Codec::Aac(aac) => aac.core_rate,
            Codec::Opus(_) => opus::RATE,
            Codec::Ac3(ac3) => ac3.sample_rate,
            Codec::Eac3(eac3) => eac3.sample_rate,
        }
    }

    /// Returns the timescale of a track with these headers: 90 kHz for pictures, the core's sample rate for sound.
    pub fn timescale(&self) -> Timescale {
        Timescale::new(self.sample_rate()).unwrap_or(Timescale::MPEG)
    }

    /// Returns how many samples an access unit has, or the usual number without a unit; `None` for pictures.
    pub fn samples(&self, unit: Option<&[u8]>) -> Option<u32> {
        match self {
            Codec::Avc(_) | Codec::Hevc(_) | Codec::Av1(_) => None,
            Codec::Aac(aac) => Some(aac.frame_len),
            Codec::Opus(_) => Some(unit.and_then(opus::samples).unwrap_or(opus::SAMPLES_USUAL)),
            Codec::Ac3(_) => Some(ac3::SAMPLES),
            Codec::Eac3(_) => Some(unit.and_then(ac3::samples).unwrap_or(ac3::SAMPLES)),
        }
    }

    /// Returns an access unit of silence; `None` for pictures, and for codecs that have no such unit of a few bytes.
    pub fn silence(&self, samples: u32) -> Option<Bytes> {
        match self {
            Codec::Aac(aac) => silence::aac(aac),
            Codec::Opus(opus) => Some(silence::opus(opus, samples)),
            _ => None,
        }
    }

    /// Returns the frame rate that the headers state, in frames a thousand seconds.
    pub fn frame_rate_milli(&self) -> Option<u32> {
        self.picture()?.frame_rate_milli
    }

    /// Returns the coded width and height of pictures, cropped, in pixels; 0 for sound.
    pub fn size(&self) -> (u16, u16) {
        self.picture().map_or((0, 0), |picture| (picture.width, picture.height))
    }

    /// Returns the shape of a pixel.
    pub fn sar(&self) -> SampleAspectRatio {
        self.picture().map_or(SampleAspectRatio::SQUARE, |picture| picture.sar)
    }

    /// Returns an access unit in the form that its track's samples have, and whether it is a random access point. `keyframe`
    /// is the input's own opinion, which counts for H.264. A unit that can't be read is returned unchanged.
    pub fn sample(&self, data: Bytes, keyframe: bool) -> (Bytes, bool) {
        let read = match self {
            Codec::Avc(_) => None,
            Codec::Hevc(_) => Hevc::is_sync(&data).map(|sync| (data.clone(), sync)),
            Codec::Av1(av1) => av1.sample(&data),
            _ => return (data, true),
        };
        read.unwrap_or((data, keyframe))
    }

    /// Returns what the record says about the track.
    pub fn kind(&self, frame_rate_milli: u32) -> TrackKind {
        if let Some(&Picture { width, height, transfer, sar, .. }) = self.picture() {
            return TrackKind::Video(VideoInfo { width, height, frame_rate_milli, transfer, sar });
        }
        let (sample_rate, channels) = match self {
            Codec::Avc(_) | Codec::Hevc(_) | Codec::Av1(_) => (0, 0),
            Codec::Aac(aac) => (aac.sample_rate, aac.channels),
            Codec::Opus(opus) => (opus::RATE, opus.dops.output_channel_count),
            Codec::Ac3(ac3) => (ac3.sample_rate, ac3.channels),
            Codec::Eac3(eac3) => (eac3.sample_rate, eac3.channels),
        };
        TrackKind::Audio(AudioInfo { sample_rate, channels })
    }
}
