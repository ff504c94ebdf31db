//! The settings of the DVR.

use std::path::PathBuf;
use std::time::Duration;

/// The settings of the DVR.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The duration of each stream that is listed, at least that of a live playlist.
    pub depth: Duration,
    /// Bytes of segments in memory. Without a folder, these are all that is kept.
    pub memory: u64,
    /// The folder, and the bytes that it may hold.
    pub disk: Option<(PathBuf, u64)>,
}

impl Settings {
    /// The default of `--dvr-memory`: 12 minutes of 3 Mb/s.
    pub const MEMORY: u64 = 256 << 20;
    /// The default of `--dvr-disk`: 8 hours of 3 Mb/s.
    pub const DISK: u64 = 10 << 30;

    /// Returns the most bytes of all segments together.
    pub fn bytes_max(&self) -> u64 {
        self.disk.as_ref().map_or(self.memory, |(_, bytes)| *bytes)
    }
}
