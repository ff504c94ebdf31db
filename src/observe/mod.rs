//! Hop traces, metrics, tracing set-up.
