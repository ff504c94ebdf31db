//! CMAF boxes (ISO 14496-12, 23000-19): init segments and chunks.

pub mod cmaf;
pub mod event;
pub mod sample_entry;

pub use event::Event;
