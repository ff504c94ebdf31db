//! Hop traces, metrics, tracing set-up.

pub mod ingest;
pub mod logging;
pub mod metrics;
pub mod otlp;
pub mod prometheus_text;

pub use ingest::Ingest;
pub use metrics::Metrics;
pub use otlp::Exporter;
