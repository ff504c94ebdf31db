//! How much a node keeps of what has left its streams' windows.

use std::path::PathBuf;
use std::time::Duration;

/// What is kept for seeking back.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How much of each stream is listed; no less than a playlist lists without.
    pub depth: Duration,
    /// Bytes of segments in memory: without a folder, all that is kept.
    pub memory: u64,
    /// Where the rest lies, and how many bytes it may have there.
    pub disk: Option<(PathBuf, u64)>,
}

impl Settings {
    /// What `--dvr-memory` is if nothing is said: 12 minutes of 3 Mb/s.
    pub const MEMORY: u64 = 256 << 20;
    /// What `--dvr-disk` is if nothing is said: 8 hours of 3 Mb/s.
    pub const DISK: u64 = 10 << 30;

    /// Bytes of all segments kept.
    pub fn bytes_max(&self) -> u64 {
        self.disk.as_ref().map_or(self.memory, |(_, bytes)| *bytes)
    }
}
