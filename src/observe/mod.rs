//! Metrics, the log, and traces of a node.
//!
//! - [`metrics`] counts for `/metrics`, and [`ingest`] for its inputs; [`prometheus_text`] serves clients without OpenMetrics.
//! - [`logging`] starts the log, and [`otlp`] exports the hops of parts as spans.

pub mod ingest;
pub mod logging;
pub mod metrics;
pub mod otlp;
pub mod prometheus_text;

pub use ingest::Ingest;
pub use metrics::Metrics;
pub use otlp::Exporter;
