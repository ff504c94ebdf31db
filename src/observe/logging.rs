//! The log of the node, on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging to stderr. `filter` is in `tracing`'s syntax (`info`, `damson=debug`); `RUST_LOG` in the environment beats
/// it. A second call does nothing.
///
/// # Errors
/// The filter can't be read.
pub fn start(filter: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(set) if !set.is_empty() => EnvFilter::try_new(set)?,
        _ => EnvFilter::try_new(filter)?,
    };
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    // It fails if the log was started before.
    let _ = lines.try_init();
    Ok(())
}
