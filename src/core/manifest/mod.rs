//! A window and an index to text: HLS playlists, MPDs, and the routes to them.

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
