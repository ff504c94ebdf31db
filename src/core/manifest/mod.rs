//! A window, and the index of what has left it, to text: HLS playlists, MPDs, and the routes to them (pure).
//!
//! - [`route`]: a request's path and query to what is asked for. [`directives`]: what a player may say in the query.
//! - [`listed`]: what is listed of a stream. [`facts`]: what playlists and MPDs say alike of it.
//! - [`hls`]: playlists, of [`hls_lines`]; [`hls_history`] keeps those of an archive. [`date_ranges`]: their splices.
//! - [`dash`]: the MPD.
//! - [`http_error`]: why a request isn't answered.

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
