//! What the `damson` command does besides running nodes.

pub mod trace;
