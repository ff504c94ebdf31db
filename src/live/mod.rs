//! What a node holds of its streams: ids, part headers, the record of a life, the window.
//!
//! Everything here was *numbered once*, at the ingest (DESIGN invariant 1): this module stores and
//! orders, and never renames, re-times or rewrites.
//!
//! - [`id`]: the names of things, as types.
//! - [`header`]: what travels in front of a part's body, and the trace it gathers on its way.
//! - [`record`]: the record of a life, which every member of a swarm holds.
//! - [`message`]: the kinds of timed metadata.
//! - [`account`]: where the time of a part went, stage by stage.
//! - [`window`]: the newest segments of one stream, in order, with their gaps.
//! - [`cache`]: what has left the window and must stay fetchable, bounded in bytes.

pub mod account;
pub mod cache;
pub mod header;
pub mod id;
pub mod message;
pub mod record;
pub mod window;

pub use account::{Account, Stage};
pub use header::{Flags, Hop, PartHeader, Trace};
pub use id::{Epoch, LifeId, Msn, NodeId, NodeName, PartId, Rendition, StreamName, SwarmId, TrackId};
pub use message::{Scheme, Schemes};
pub use record::{AudioInfo, Init, Period, Record, Track, TrackKind, TrackSet, VideoInfo};
pub use window::{Part, Segment, TrackWindow, Window};
