//! What the node writes to stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to stderr. `filter` is `tracing`'s (`info`, `damson=debug`); the environment's
/// `RUST_LOG` wins. A second call does nothing.
///
/// # Errors
/// A filter that can't be read.
pub fn start(filter: &str, format: Format) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(set) if !set.is_empty() => EnvFilter::try_new(set)?,
        _ => EnvFilter::try_new(filter)?,
    };
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    // An error says that somebody has started it before.
    let _ = match format {
        Format::Text => lines.try_init(),
        Format::Json => lines.json().try_init(),
    };
    Ok(())
}
