//! Hop traces, metrics, tracing set-up.

pub mod client;
pub mod logging;
pub mod metrics;
pub mod otlp;

pub use metrics::Metrics;
pub use otlp::Exporter;
