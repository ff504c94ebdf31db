//! What an edge tells of itself: the JSON of `/api/v1`, and `/metrics`.
//!
//! - `json` writes the bodies of the routes; [`latency`] those that tell where the time of each part went.
//! - `live` tells the same as it happens, by WebSocket.
//! - `metrics` writes `/metrics`.

pub(crate) mod json;
pub mod latency;
pub(crate) mod live;
pub(crate) mod metrics;
