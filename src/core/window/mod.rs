//! What a node holds of a stream: the newest segments of each track, their gaps, and the requests that wait for more.

pub mod gap;
pub mod held_requests;
pub mod track;
pub mod window;

pub use track::{Part, Segment, TrackWindow};
pub use window::Window;
