//! What is known of a node from outside: metrics, the log, and traces.
//!
//! - [`metrics`] counts for `/metrics`, [`ingest`] what the ingest does; [`prometheus_text`] is for who asks for no OpenMetrics.
//! - [`logging`] sets the log up, and [`otlp`] exports the hops of parts as spans.

pub mod ingest;
pub mod logging;
pub mod metrics;
pub mod otlp;
pub mod prometheus_text;

pub use ingest::Ingest;
pub use metrics::Metrics;
pub use otlp::Exporter;
