//! The settings of HTTP ingest.

use std::time::Duration;

/// The settings of HTTP ingest.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The path below which streams are pushed: `/ingest`, or nothing.
    pub prefix: String,
    /// The time for which a push of several requests outlasts the last of them.
    pub grace: Duration,
    /// The time for which a stream outlives its publisher: a push that pauses longer begins anew.
    pub linger: Duration,
    /// The longest silence within a request.
    pub idle: Duration,
    /// The longest time that a request's head may take.
    pub header: Duration,
    /// The longest `mdat` of a fragment, in bytes.
    pub segment_max: u64,
    /// The most tracks of a stream.
    pub tracks_max: usize,
    /// The most connections at a time.
    pub connections_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        // 10 s: as long as the longest segment. Encoders that send chunks pause for a frame or a fragment.
        Settings {
            prefix: "/ingest".to_owned(),
            grace: Duration::from_secs(10),
            linger: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            header: Duration::from_secs(10),
            segment_max: 64 << 20,
            tracks_max: 16,
            connections_max: 2_048,
        }
    }
}
