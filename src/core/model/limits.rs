//! Limits that several modules share, and what relates them.

use std::time::Duration;

use super::record::Record;

/// The longest message: an ID3 tag with a small picture.
pub const MESSAGE_LEN_MAX: usize = 64 << 10;

/// How long a blocking reload, or a request for a hinted part, is held: min(3xTD, 8 s) (rfc8216bis 6.2.5.2
/// asks for an answer within 3xTD).
pub fn hold(record: &Record) -> Duration {
    record.hold_back().min(HOLD_MAX)
}

/// No request is held longer: hls.js gives a playlist request up after 10 s.
pub const HOLD_MAX: Duration = Duration::from_secs(8);
