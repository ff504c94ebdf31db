//! What a node holds of its streams: ids, part headers, the record of a life, the window.
//!
//! Everything here was *numbered once*, at the ingest (DESIGN invariant 1): this module stores and
//! orders, and never renames, re-times or rewrites.
//!
//! - [`id`]: the names of things, as types.
//! - [`header`]: what travels in front of a part's body, and the trace it gathers on its way.
//! - [`record`]: the record of a life, which every member of a swarm holds.
//! - [`scheme`]: the kinds of timed metadata.
//! - [`latency`]: where the time of a part went, stage by stage.
//! - [`limits`]: times that several parts of the node agree on.
//! - [`window`]: the newest segments of one stream, in order, with their gaps.

pub mod access_unit;
pub(crate) mod crc32;
pub mod id;
pub mod input_clock;
pub mod latency;
pub mod limits;
pub mod part_header;
pub mod peer;
pub mod record;
pub mod resume;
pub mod scheme;
pub mod time;
pub mod wire;

pub use access_unit::{AccessUnit, Announced, CodecConfig, Feed, InputTrack, Message};
pub use limits::{MESSAGE_LEN_MAX, UNIT_LEN_MAX};
pub use peer::Peer;
pub use resume::Resume;
pub use time::{Clocks, InputClock};

pub use id::{Epoch, LifeId, Msn, NodeId, NodeName, PartId, Rendition, StreamName, SwarmId, TrackId};
pub use latency::{LatencyBreakdown, Stage};
pub use part_header::{Flags, Hop, PartHeader, Trace};
pub use record::{AudioInfo, Init, Period, Record, Track, TrackKind, TrackSet, VideoInfo};
pub use scheme::{Scheme, Schemes};
