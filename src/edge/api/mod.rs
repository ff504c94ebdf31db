//! The JSON of `/api/v1`, and `/metrics`.
//!
//! - `json` writes the bodies of the routes, [`latency`] those that have the latency of each part.
//! - `live` sends the same as it happens, by WebSocket.
//! - `metrics` writes `/metrics`.

pub(crate) mod json;
pub mod latency;
pub(crate) mod live;
pub(crate) mod metrics;
