//! Archives of nodes that keep different spans, and an archive that is written, read and bounded.

mod apart;
mod keeping;
