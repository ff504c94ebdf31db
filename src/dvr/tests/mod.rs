//! tests.

mod apart;
mod keeping;
