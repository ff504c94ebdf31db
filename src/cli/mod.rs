//! The subcommands of `damson` that don't run nodes.

pub mod trace;
