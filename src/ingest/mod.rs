//! Encoders' sockets to parts: who may push, and what becomes of what is pushed.
//!
//! ```text
//!  rtmp, srt, udp, http, file_loop --PublishRequest--> registry --authorize--> keys, hook
//!         |                                               |
//!         |  bytes --damson_core::demux--> inputs         v
//!         +--> PublishSession ==queue, by way of active==> publication: the packager --record, parts--> PartSink
//! ```
//!
//! - [`rtmp`], [`srt`], [`udp`] and [`http`] are servers, one folder a protocol; [`file_loop`] plays a file instead. `ts` is
//!   what SRT and UDP have in common. All parsing is [`damson_core::demux`]'s.
//! - `registry` is where each of them asks for a session: who may publish what, one push a rendition, takeovers. [`keys`] and
//!   [`hook`] decide.
//! - `active` knows the pushes of this moment, and joins the two ends of a push: its `publish_session`, which the connection
//!   feeds and `bit_rate` measures, and the `publication` of its stream, a task that runs the packager.
//! - `publish_request` is what a publisher asks for; it has the traits that whoever decides, and whoever takes the parts,
//!   implements. So the ingest knows nothing of the mesh or the edge.

mod active;
mod authorizer;
mod bit_rate;
pub mod file_loop;
pub mod hook;
pub mod http;
pub mod keys;
mod publication;
mod publish_request;
mod publish_session;
mod registry;
pub mod rtmp;
mod settings;
pub mod srt;
mod ts;
pub mod udp;

pub use active::STREAMS_MAX;
pub use authorizer::{AllowAll, Authorizer, KeysThenHook};
pub use publication::{NewPackaging, Packaging};
pub use publish_request::{BoxFuture, Denied, Eviction, PartSink, PublishRequest, Refused};
pub use publish_session::{Gone, PublishSession};
pub use registry::PublishRegistry;
pub use settings::{Settings, Takeover};
