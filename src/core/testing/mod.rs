//! Test support that the tests of all crates share; nothing in production uses it.
//!
//! - [`synthetic`]: a made-up programme, and windows fed with it. [`playlist`]: a media playlist as a viewer reads it.
//! - `ts_mux`: a small multiplexer of MPEG-TS. `timing`: what real encoders sent, and when.

pub mod playlist;
pub mod synthetic;
#[cfg(test)]
pub(crate) mod timing;
#[cfg(test)]
pub(crate) mod ts_mux;
