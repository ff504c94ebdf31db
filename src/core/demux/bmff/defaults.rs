//! `trex` (ISO 14496-12, 8.8.3): the defaults of a fragmented file.

use super::boxes::Cursor;
use super::error::BmffError;

/// `trex` (8.8.3): what a fragment doesn't say of its samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Defaults {
    pub duration: u32,
    pub size: u32,
    pub flags: u32,
}

impl Defaults {
    /// Of which track, and its defaults.
    pub(super) fn read(mut trex: Cursor<'_>) -> Result<(u32, Defaults), BmffError> {
        trex.full()?;
        let id = trex.u32()?;
        trex.u32()?;
        Ok((id, Defaults { duration: trex.u32()?, size: trex.u32()?, flags: trex.u32()? }))
    }
}
