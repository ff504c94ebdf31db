//! Access units to CMAF: timeline, segmenter, boxes. One [`Packager`] a published stream, at its ingest.
//!
//! Nothing downstream numbers, times or cuts anything again.
//!
//! ```text
//!  Unit --> timeline --> segmenter --> lane (one a track) --> cmaf --> Part
//!            unwrap,      where         which units make       boxes
//!            jumps        segments end  a part
//! ```
//!
//! The caller's contract is the crate's: after every [`Packager::handle`] it drains
//! [`Packager::poll_output`] until `None`, then calls again with the next input, or with
//! [`Input::Timeout`] when [`Packager::poll_timeout`] has passed.
//!
//! A publisher's first units are *gathered* until all tracks are there and the GOPs are measured; what
//! was gathered is published then, and nothing of it is lost. Afterwards a part leaves with the unit that
//! would have crossed its end. The order of a life's tracks is frozen when it is first published: a track that
//! a push brings later is ignored, with a [`Notice`], until the next life; that of a push which comes later is
//! appended.
//!
//! # Renditions
//!
//! Several pushes ([`Feed`]s) make one life: a ladder of pictures, and sound in several languages. They share one
//! timeline, that of their timestamps. The first push with pictures leads: it is measured, and its keyframes cut. Every
//! other one has to show a keyframe of its own at the same time, else it is [`Refused`](Output::Refused). One that comes
//! later, or returns, joins at the start of a segment; one that is gone numbers gaps, in step with the others. Sound
//! without a language is taken from one push, and from another when that stops.
//!
//! - [`avc`], [`hevc`], [`av1`], [`aac`], [`opus`], [`ac3`], [`codec`]: the codecs' own headers.
//! - [`message`], [`id3`], [`scte35`]: timed metadata.
//! - [`ts`], [`bmff`]: MPEG transport streams and ISO BMFF files to access units.
//! - [`timeline`]: wrapped input timestamps to media time, media time to the wallclock.
//! - [`Plan`]: what a life freezes: segment length, TARGETDURATION, PART-TARGET.
//! - `segmenter` and `lane`: the cutting rules.
//! - [`cmaf`]: the boxes.
//! - [`packager`]: lives, epochs, periods, silence, and the record; `join`: one of several pushes comes and goes.

mod cutter;
pub mod diagnostic;
pub mod io;
pub mod metadata;
pub mod packager;
mod periods;
mod plan;
mod preroll;
mod presentation;
mod publishers;
mod renditions;
mod start_numbers;
pub mod timeline;
mod track;
mod track_names;

#[cfg(test)]
pub(crate) mod tests;

pub use io::{Input, Output};

pub use track::UNIT_LEN_MAX;

pub use diagnostic::{Notice, Refusal, Unusable};
pub use packager::{Packager, Settings};
pub use plan::{PART_SHARE_MIN, Plan};

use bytes::Bytes;

use crate::model::time::{Time, Timescale, UnixTime};
use crate::model::{Epoch, Msn, PartHeader, Record, Rendition, TrackId};
