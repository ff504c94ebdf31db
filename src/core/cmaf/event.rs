//! Event message boxes (`emsg`; ISO 23009-1, 5.10.3.3).

use bytes::Bytes;

use crate::model::Scheme;

/// A message on a track's timeline: an event message box (23009-1, 5.10.3.3) of version 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// What it is.
    pub scheme: Scheme,
    /// The same of the same message in all tracks.
    pub id: u32,
    /// Presentation time in ticks of the track.
    pub time: u64,
    /// In ticks of the track, if known.
    pub duration: Option<u32>,
    /// What it says.
    pub data: Bytes,
}
