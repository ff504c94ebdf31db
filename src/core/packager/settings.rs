//! The settings of a packager.

use std::time::Duration;

use crate::model::Record;

/// The settings of a packager.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The segment length aimed at if GOPs are measured: 2-10 s.
    pub segment_aim: Duration,
    /// The segment length without measuring: 2-10 s.
    pub segment: Option<Duration>,
    /// The length that parts reach: 0.1-1 s.
    pub part: Duration,
    /// [`Record::latency`]; less than three parts is three parts.
    pub latency: Duration,
    /// The time that a presentation outlasts its publisher.
    pub linger: Duration,
    /// The wait for a kind of track that isn't announced.
    pub track_wait: Duration,
    /// The wait for an announced kind of track. A keyframe of pictures that come without one is waited for longer.
    pub announced_wait: Duration,
    /// The longest measure of GOPs before the first publication.
    pub measure: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        // docs/architecture.md, Media and time. The waits are guesses.
        Settings {
            segment_aim: Duration::from_secs(2),
            segment: None,
            part: Duration::from_millis(200),
            latency: Duration::ZERO,
            linger: Duration::from_secs(30),
            track_wait: Duration::from_secs(1),
            announced_wait: Duration::from_secs(5),
            measure: Duration::from_secs(4),
        }
    }
}

impl Settings {
    /// Returns the settings with every value inside its range.
    pub fn clamped(mut self) -> Self {
        let (shortest, longest) = (Duration::from_secs(2), Duration::from_secs(10));
        self.segment_aim = self.segment_aim.clamp(shortest, longest);
        self.segment = self.segment.map(|segment| segment.clamp(shortest, longest));
        self.part = self.part.clamp(Duration::from_millis(100), Duration::from_secs(1));
        self.latency = self.latency.min(Record::LATENCY_MAX);
        self.linger = self.linger.min(Duration::from_secs(3_600));
        self.measure = self.measure.min(Duration::from_secs(10));
        self
    }
}
