//! Access units to parts: one [`Packager`] a published stream, at its ingest.
//!
//! ```text
//!  Unit --> publishers --> preroll ----> align --> presentation --> cutter -------> track (one each) --> cmaf --> Part
//!           headers,       collects and  begins    record,          where           which units make      boxes
//!           timestamps     measures      together  periods          segments end    a part
//! ```
//!
//! A publisher's first units wait in the preroll until all tracks have come and the GOPs are measured; then they are
//! published, and none is lost. Afterwards a part is made when a unit comes that would have crossed its end.
//!
//! A presentation's tracks keep their order; one that comes later is appended. A track that comes after the others of its push
//! waits for the start of a segment, and joins there without a discontinuity. If sound alone was there, pictures begin a
//! segment with their first keyframe, and lead.
//!
//! # Renditions
//!
//! Several pushes ([`PushId`](crate::model::PushId)s) make one presentation: a ladder of pictures, and sound in several
//! languages. They share one timeline, that of their timestamps. The first push with pictures leads: it is measured, and its
//! keyframes cut. Every other one has to show a keyframe of its own at the same time, else it is
//! [`Refused`](self::io::Output::Refused). A push that comes later, or returns, joins at the start of a segment; the
//! tracks of a push that is gone number gaps. Sound without a language is taken from one push, and from another when
//! that stops.
//!
//! # Phases
//!
//! ```text
//!          Attached                 tracks there, GOPs measured
//!   Away -----------> Gathering ------------------------------> Live
//!    ^                 |   ^                                     | |
//!    |    Detached     |   |  silence, jump, headers changed     | |
//!    +-----------------+   +-------------------------------------+ |
//!    +-------------------------------------------------------------+
//!          Detached: all units are published first
//! ```
//!
//! While a presentation isn't `Live`, gap segments are numbered in real time, and the linger ends it. Units in the preroll
//! may wait for a keyframe meanwhile. The phase is `Away` only when all pushes are gone.
//!
//! # Owners
//!
//! Each state has one owner. Callers pass values; owners return decisions and outputs; `packager.rs` alone writes the queue.
//!
//! - `packager`: the phase of the stream; it calls all others.
//! - `publishers`: the pushes, their codecs and timestamps. `preroll`, `align`: units that wait, and begin together.
//! - `renditions`: pushes and tracks that wait for a segment, and sound that isn't published.
//! - `stamps`: lone timestamps that are off.
//! - `audio_fill`: when sound has stopped, and silence takes its place.
//! - `metadata`: messages that wait for parts to carry them. `silence`: the events that are due while nothing comes.
//! - `presentation`: the record, with `periods`, `tracks` and the `cutter`; `opening` decides what it freezes.
//! - `cutter`: the ends of segments, with `keyframes`, their distances. `track`: a [`Plan`]'s parts, and their bytes.
//! - `timeline`, `date_time`: wrapped input timestamps to media time, media time to the wallclock.

mod align;
mod audio_fill;
mod cutter;
mod date_time;
mod diagnostic;
pub mod io;
mod keyframes;
mod metadata;
mod opening;
mod packager;
mod periods;
mod plan;
mod preroll;
mod presentation;
mod publishers;
mod renditions;
mod settings;
mod silence;
mod stamps;
mod start_numbers;
mod step;
pub(crate) mod timeline;
mod track;
mod track_names;
mod tracks;
mod unit;

#[cfg(test)]
pub(crate) mod tests;

pub use diagnostic::{Diagnostic, Refusal, Unusable};
pub use io::{Input, Output};
pub use packager::Packager;
pub use plan::{PART_SHARE_MIN, Plan};
pub use settings::Settings;
