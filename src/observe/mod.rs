//! Hop traces, metrics, tracing set-up.

pub mod logging;
pub mod metrics;

pub use metrics::Metrics;
