//! Access units to parts: one [`Packager`] a published stream, at its ingest.
//!
//! ```text
//!  Unit --> publishers --> preroll ----> align --> presentation --> cutter -------> track (one each) --> cmaf --> Part
//!           headers,       gathers and   begins    record,          where           which units make      boxes
//!           timestamps     measures      together  periods          segments end    a part
//! ```
//!
//! A publisher's first units are *gathered* until all tracks are there and the GOPs are measured; what
//! was gathered is published then, and nothing of it is lost. Afterwards a part leaves with the unit that
//! would have crossed its end. The order of a presentation's tracks is frozen when it is first published: a track that
//! a push brings later is ignored, with a [`Diagnostic`], until the next one; that of a push which comes later is
//! appended.
//!
//! # Renditions
//!
//! Several pushes ([`PushId`](crate::model::PushId)s) make one presentation: a ladder of pictures, and sound in several
//! languages. They share one timeline, that of their timestamps. The first push with pictures leads: it is measured, and its
//! keyframes cut. Every other one has to show a keyframe of its own at the same time, else it is
//! [`Refused`](self::io::Output::Refused). One that comes later, or returns, joins at the start of a segment; one that
//! is gone numbers gaps, in step with the others. Sound without a language is taken from one push, and from another when
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
//!          Detached: all that came is published first
//! ```
//!
//! While a presentation isn't `Live` and nothing is gathered, gap segments are numbered in real time, and the
//! linger ends it. It is away only when all pushes are.
//!
//! # Owners
//!
//! Each state has one owner. Values go down, decisions and outputs come back, and `packager.rs` alone writes the queue.
//!
//! - `packager`: who publishes, and what of it is live; calls all others.
//! - `publishers`: the pushes, their codecs and timestamps. `preroll`, `align`: what is gathered, and begins together.
//! - `renditions`: pushes that wait for a segment, sound that waits to be heard.
//! - `metadata`: messages that wait for parts to carry them. `silence`: what is due while nothing comes.
//! - `presentation`: the record, with `periods`, `tracks` and the `cutter`; `opening` settles what it freezes.
//! - `cutter`: where segments end. `track`: a [`Plan`]'s parts, and their bytes.
//! - `timeline`, `date_time`: wrapped input timestamps to media time, media time to the wallclock.

mod align;
mod cutter;
mod date_time;
mod diagnostic;
pub mod io;
mod metadata;
mod opening;
#[expect(clippy::module_inception, reason = "the owner of all others, beside them")]
mod packager;
mod periods;
mod plan;
mod preroll;
mod presentation;
mod publishers;
mod renditions;
mod settings;
mod silence;
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
