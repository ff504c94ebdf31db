//! CMAF (ISO 23000-19) boxes: init segments and chunks, one track each.
//!
//! ```text
//! init.{n}.mp4                              {msn}.{part}.m4s: one chunk
//! ├─ ftyp  cmf2; iso6 cmfc mp41             ├─ prft  wallclock of the first presented sample
//! └─ moov                                   ├─ emsg  v1: timed metadata, where there is any
//!    │                                      ├─ moof
//!    ├─ mvhd  timescale 1000, duration 0    │  ├─ mfhd  sequence_number
//!    ├─ trak                                │  └─ traf
//!    │  ├─ tkhd  track_ID 1, width, height  │     ├─ tfhd  default-base-is-moof, default flags
//!    │  └─ mdia                             │     ├─ tfdt  v1: decode time, 64 bits
//!    │     ├─ mdhd  timescale, language     │     └─ trun  v1: duration, size, signed composition
//!    │     ├─ hdlr  vide | soun             │              offset of each sample; flags of the first
//!    │     │                                └─ mdat  the samples, in trun's order
//!    │     └─ minf
//!    │        ├─ vmhd | smhd
//!    │        ├─ dinf / dref / url          in this file itself
//!    │        └─ stbl
//!    │           ├─ stsd                    avc1 | hvc1 | av01 | mp4a | Opus | ac-3 | ec-3
//!    │           └─ stts stsc stsz stco     empty: the samples are in the chunks
//!    └─ mvex / trex                         the defaults that tfhd overrides
//! ```
//!
//! There is no edit list: composition offsets are the encoder's, and presentation times therefore
//! begin a reordering delay after the first decode time.

mod chunk;
mod event;
mod init;
mod sample_entry;

pub use chunk::{ProducerReferenceTime, Sample, chunk, overhead, silence};
pub(crate) use event::EVENT_OVERHEAD;
pub use event::{EventMessage, events};
pub use init::init;
