//! The values that all modules name: ids, times, headers and records. It imports no other module.
//!
//! The ingest node numbers each part once (docs/architecture.md, Invariants): no node renames, re-times or rewrites it later.
//!
//! - [`access_unit`]: the output of every demuxer. [`input_clock`]: the clock of its timestamps.
//! - [`id`]: identifiers as types.
//! - [`part_header`]: what travels in front of a part's body, and the trace of its hops.
//! - [`record`]: the record of a presentation, which every member of a swarm holds. [`resume`]: what a new ingest node takes over.
//! - [`latency`]: the latency of a part, stage by stage.
//! - [`limits`]: times and sizes that several modules agree on.
//! - [`peer`]: a node and its address. [`scheme`]: the kinds of timed metadata.
//! - [`time`]: moments, wallclocks and timescales. [`wire`]: the reader and writer of what nodes send.

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

pub use access_unit::{AccessUnit, Announced, CodecConfig, InputTrack, PushId, TimedMessage};
pub use id::{Epoch, LifeId, Msn, NodeId, NodeName, PartId, Rendition, StreamName, SwarmId, TrackId};
pub use latency::{LatencyBreakdown, Stage};
pub use limits::{MESSAGE_LEN_MAX, UNIT_LEN_MAX};
pub use part_header::{Flags, Hop, PartHeader, Trace};
pub use peer::Peer;
pub use record::{AudioInfo, Init, Period, Record, SampleAspectRatio, Track, TrackKind, TrackSet, VideoInfo};
pub use resume::Resume;
pub use scheme::{Scheme, Schemes};
pub use time::{Clocks, InputClock};
