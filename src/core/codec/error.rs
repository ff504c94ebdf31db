//! The errors of a codec's headers.

use h264_reader::rbsp::BitReaderError;

/// The reason why a header can't be used. Its publisher is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The header is longer than an init segment has room for.
    #[error("it has {len} bytes; the limit is {max}")]
    TooLong {
        /// The header's length, in bytes.
        len: usize,
        /// The longest allowed, in bytes.
        max: usize,
    },
    /// The header ends too early, or is invalid.
    #[error("can't be read: {0}")]
    Unreadable(String),
    /// Something that the header must have is missing.
    #[error("no {0}")]
    Missing(&'static str),
    /// A field has a value that the specification forbids, or that players don't support.
    #[error("{what} is {value}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// The field's value.
        value: u64,
    },
    /// The size doesn't fit in a sample entry.
    #[error("a picture size of {width}x{height} pixels is not supported")]
    PictureSize {
        /// In pixels.
        width: u64,
        /// In pixels.
        height: u64,
    },
}

impl HeaderError {
    pub(crate) fn invalid(what: &'static str, value: impl Into<u64>) -> HeaderError {
        HeaderError::Invalid { what, value: value.into() }
    }
}

impl From<BitReaderError> for HeaderError {
    fn from(error: BitReaderError) -> Self {
        HeaderError::Unreadable(format!("{error:?}"))
    }
}

impl From<mp4_atom::Error> for HeaderError {
    fn from(error: mp4_atom::Error) -> Self {
        HeaderError::Unreadable(error.to_string())
    }
}

/// Refuses a header of more than `max` bytes.
pub(crate) fn check_len(len: usize, max: usize) -> Result<(), HeaderError> {
    if len > max { Err(HeaderError::TooLong { len, max }) } else { Ok(()) }
}
