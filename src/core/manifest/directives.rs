//! What a player may say of the document that it asks for, in the query.

use crate::model::Msn;

/// What refreshed MPDs are asked for by: relative to the MPD, as all that it names.
pub const FOLLOW: &str = "follow";

/// Delivery directives of a media playlist request (rfc8216bis 6.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Directives {
    /// `_HLS_msn`.
    pub msn: Option<Msn>,
    /// `_HLS_part`.
    pub part: Option<u32>,
    /// `_HLS_skip`.
    pub skip: Skip,
}

/// What a playlist may leave out, since the player has it (rfc8216bis 6.3.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Skip {
    /// Nothing.
    #[default]
    Nothing,
    /// `YES`: old segments.
    Segments,
    /// `v2`: old date ranges, too.
    DateRanges,
}
