//! Turns a window, and the index of its archive, into text: HLS playlists and MPDs; and parses the paths that ask for
//! them. Pure.
//!
//! - [`route`] parses the path and query of a request. [`directives`] has what a player may say in the query.
//! - [`listed`] has everything that is listed of a stream. [`facts`] has what both playlists and MPDs state.
//! - [`hls`] renders playlists from [`hls_lines`]. [`hls_history`] keeps the lines of an archive, and [`date_ranges`]
//!   writes splices.
//! - [`dash`] renders the MPD.
//! - [`http_error`] has the error of a request.

pub mod dash;
pub mod date_ranges;
pub mod directives;
pub mod facts;
pub mod hls;
pub mod hls_history;
pub mod hls_lines;
pub mod http_error;
pub mod listed;
pub mod route;

pub use http_error::HttpError;
