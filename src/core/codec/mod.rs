//! The headers of codecs: what describes a track, and whether an access unit is a random access point.
//!
//! [`codec`] has all codecs of pictures and sound as one type; each codec's own file reads its headers. [`id3`] and [`scte35`]
//! are the timed metadata. `nal` brings access units of H.264 and H.265
//! into the form of samples. A parser takes bytes from outside: it returns what it read, or an error, and never panics.

pub mod aac;
pub mod ac3;
pub(crate) mod adts;
pub mod av1;
pub mod avc;
pub mod codec;
pub mod error;
pub mod hevc;
pub mod id3;
pub(crate) mod nal;
pub mod opus;
pub mod picture;
pub mod scte35;
mod silence;
