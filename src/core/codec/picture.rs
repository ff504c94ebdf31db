//! The facts that the headers of all video codecs state.

use super::error::HeaderError;
use crate::model::SampleAspectRatio;

/// The facts of a video codec's pictures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Picture {
    /// In pixels, cropped.
    pub width: u16,
    /// In pixels, cropped.
    pub height: u16,
    /// Frames in a thousand seconds, if the headers state it: a hint, since encoders get it wrong.
    pub frame_rate_milli: Option<u32>,
    /// TransferCharacteristics (ISO 23091-2): 16 is PQ, 18 is HLG; 2 if the headers don't state it.
    pub transfer: u8,
    /// The shape of a pixel.
    pub sar: SampleAspectRatio,
}

impl Picture {
    /// Returns a picture of which the headers state nothing but the size. Refuses one that a sample entry can't say.
    pub(super) fn new(width: u64, height: u64) -> Result<Picture, HeaderError> {
        match (u16::try_from(width), u16::try_from(height)) {
            (Ok(width), Ok(height)) if width > 0 && height > 0 => {
                Ok(Picture { width, height, frame_rate_milli: None, transfer: 2, sar: SampleAspectRatio::SQUARE })
            }
            _ => Err(HeaderError::PictureSize { width, height }),
        }
    }
}

/// Returns the frames in a thousand seconds, if a frame lasts `units` of `scale` a second.
pub(super) fn rate_milli(scale: u32, units: u64) -> Option<u32> {
    let milli = (u64::from(scale) * 1_000).checked_div(units)?;
    u32::try_from(milli).ok().filter(|&milli| milli > 0)
}
