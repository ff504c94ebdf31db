//! What can be set.

use std::time::Duration;

use crate::model::Record;

/// The settings of a packager.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// What segments aim at, where GOPs are measured: 2-10 s.
    pub segment_aim: Duration,
    /// The length of segments, without measuring: 2-10 s.
    pub segment: Option<Duration>,
    /// What parts reach: 0.1-1 s.
    pub part: Duration,
    /// [`Record::latency`]; less than three parts is three parts.
    pub latency: Duration,
    /// How long a presentation outlasts its publisher.
    pub linger: Duration,
    /// How long to wait for a kind of track of which nothing is said.
    pub track_wait: Duration,
    /// How long to wait for one that is announced.
    pub announced_wait: Duration,
    /// How long GOPs are measured before the first publication.
    pub measure: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        // DESIGN's media rules; the waits are guesses, below the measure that goes on meanwhile.
        Settings {
            segment_aim: Duration::from_secs(2),
            segment: None,
            part: Duration::from_millis(200),
            latency: Duration::ZERO,
            linger: Duration::from_secs(30),
            track_wait: Duration::from_secs(1),
            announced_wait: Duration::from_secs(3),
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
