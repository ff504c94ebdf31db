//! The newest segments of one stream: [`Window`] lists them track by track ([`TrackWindow`]), out of [`Segment`]s of
//! [`Part`]s, and puts gaps in the place of parts that didn't come in time.

mod gap;
pub mod held_requests;
mod segment;
mod track;
mod window;

#[cfg(test)]
mod tests;

pub use segment::{Part, Segment};
pub use track::{Lookup, TrackWindow};
pub use window::{Input, Output, Window};
