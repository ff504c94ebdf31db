//! Four-character codes.

use std::fmt;

/// A box type, a brand, a handler, or a sample entry's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FourCc(pub [u8; 4]);

impl FourCc {
    /// Returns whether the code is printable, or has QuickTime's 0xa9. All known codes are.
    pub(super) fn is_plausible(self) -> bool {
        self.0.iter().all(|byte| matches!(byte, b' '..=b'~' | 0xa9))
    }
}

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{}", byte.escape_ascii()))
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{self}'")
    }
}
