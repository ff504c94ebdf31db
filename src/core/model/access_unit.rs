//! The data that encoders push, whatever the protocol: tracks, codec headers, coded frames.

use std::time::Duration;

use bytes::Bytes;

use super::scheme::Scheme;

/// A message for a moment of the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimedMessage {
    /// Any track of its push.
    pub track: InputTrack,
    /// The kind of the message.
    pub scheme: Scheme,
    /// The presentation time that it is meant for, in ticks of the input clock, wrapped as the input wraps it; `None`: now.
    pub pts: Option<u64>,
    /// How long it lasts, if the publisher states it.
    pub duration: Option<Duration>,
    /// The message itself, of at most [`MESSAGE_LEN_MAX`](super::limits::MESSAGE_LEN_MAX) bytes.
    pub data: Bytes,
}

/// The tracks that a publisher has announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Announced {
    /// Video will come (`Some(true)`), won't (`Some(false)`), or nothing is said.
    pub video: Option<bool>,
    /// Audio will come, won't, or nothing is said.
    pub audio: Option<bool>,
}

/// One coded frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessUnit {
    /// Its track.
    pub track: InputTrack,
    /// Decode timestamp in ticks of the input clock, wrapped as the input wraps it.
    pub dts: u64,
    /// Presentation minus decode time, in ticks of the input clock.
    pub composition_offset: i32,
    /// A random access point, as the input says; for H.265 and AV1 the unit itself decides.
    pub keyframe: bool,
    /// H.264, H.265: NAL units, each behind a 4-byte (or the record's) length. AV1: a temporal unit's OBUs (5.2). AAC: one
    /// raw_data_block. Opus: a packet. AC-3, E-AC-3: a syncframe, with those of its dependent substreams.
    pub data: Bytes,
}

/// A codec's own headers, as the input carries them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CodecConfig {
    /// AVCDecoderConfigurationRecord (ISO 14496-15, 5.3.3.1).
    Avc(Bytes),
    /// HEVCDecoderConfigurationRecord (ISO 14496-15, 8.3.2.1).
    Hevc(Bytes),
    /// AV1CodecConfigurationRecord (AV1-ISOBMFF, 2.3.3).
    Av1(Bytes),
    /// AudioSpecificConfig (ISO 14496-3, 1.6.2.1).
    Aac(Bytes),
    /// Identification header, `OpusHead` (RFC 7845, 5.1).
    Opus(Bytes),
    /// The content of a `dac3` (ETSI TS 102 366, F.4): what [`ac3::Headers`](crate::codec::ac3::Headers) makes.
    Ac3(Bytes),
    /// The content of a `dec3` (F.6), which the same type makes.
    Eac3(Bytes),
}

impl CodecConfig {
    /// Returns the headers' bytes.
    pub fn as_bytes(&self) -> &Bytes {
        match self {
            CodecConfig::Avc(bytes) | CodecConfig::Hevc(bytes) | CodecConfig::Av1(bytes) | CodecConfig::Aac(bytes) => {
                bytes
            }
            CodecConfig::Opus(bytes) | CodecConfig::Ac3(bytes) | CodecConfig::Eac3(bytes) => bytes,
        }
    }
}

/// A publisher's track, by the order in which it is seen: FLV video 0, FLV audio 1; multitrack inputs go on from 2.
/// The upper four bits are its [`PushId`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InputTrack(pub u8);

impl InputTrack {
    /// Returns the track of this number, below 16, of a push.
    pub const fn of(push: PushId, track: InputTrack) -> InputTrack {
        InputTrack(push.0 << 4 | track.0 & 15)
    }

    /// Returns the push of the track.
    pub const fn push(self) -> PushId {
        PushId(self.0 >> 4)
    }
}

/// One of the pushes that make a stream at a time, below [`PushId::COUNT_MAX`]: a rendition's connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PushId(pub u8);

impl PushId {
    /// Most pushes of a stream at a time.
    pub const COUNT_MAX: u8 = 16;
}
