//! Test support that the tests of all crates share; nothing in production uses it.

pub mod playlist;
pub mod synthetic;
#[cfg(test)]
pub(crate) mod ts_mux;
