//! Why a codec's headers can't be used, for those that came after H.264 and AAC.

use h264_reader::rbsp::BitReaderError;

/// Why a header can't be used. Its publisher is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Longer than what an init segment has room for.
    #[error("the {header} has {len} bytes, more than {max}")]
    TooLong {
        /// Which.
        header: &'static str,
        /// Its length, in bytes.
        len: usize,
        /// The most that is taken, in bytes.
        max: usize,
    },
    /// It ends too early, or isn't what it should be.
    #[error("the {header} can't be read: {why}")]
    Unreadable {
        /// Which.
        header: &'static str,
        /// Where and why.
        why: String,
    },
    /// Something that it has to have.
    #[error("the {header} has no {what}")]
    Missing {
        /// Which.
        header: &'static str,
        /// What isn't there.
        what: &'static str,
    },
    /// A value that the field can't have, or that players don't take.
    #[error("the {header}: {what} is {value}")]
    Invalid {
        /// Which.
        header: &'static str,
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// Larger than a sample entry can say, or nothing.
    #[error("the {header}: a picture of {width}x{height} pixels")]
    PictureSize {
        /// Which.
        header: &'static str,
        /// In pixels.
        width: u64,
        /// In pixels.
        height: u64,
    },
}

impl HeaderError {
    /// What a bit reader says.
    pub(crate) fn bits(header: &'static str) -> impl Fn(BitReaderError) -> HeaderError {
        move |error| HeaderError::Unreadable { header, why: format!("{error:?}") }
    }

    /// What the box's reader says.
    pub(crate) fn atom(header: &'static str) -> impl Fn(mp4_atom::Error) -> HeaderError {
        move |error| HeaderError::Unreadable { header, why: error.to_string() }
    }
}

/// A picture's size, where a sample entry can say it.
pub(crate) fn size(header: &'static str, width: u64, height: u64) -> Result<(u16, u16), HeaderError> {
    match (u16::try_from(width), u16::try_from(height)) {
        (Ok(w), Ok(h)) if w > 0 && h > 0 => Ok((w, h)),
        _ => Err(HeaderError::PictureSize { header, width, height }),
    }
}

/// Frames in a thousand seconds, where a frame lasts `units` of `scale` a second.
pub(crate) fn rate_milli(scale: u32, units: u64) -> Option<u32> {
    let milli = (u64::from(scale) * 1_000).checked_div(units)?;
    u32::try_from(milli).ok().filter(|&milli| milli > 0)
}
