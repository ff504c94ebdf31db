//! Takes pushes from encoders and packages them into parts.
//!
//! ```text
//!  rtmp, srt, udp, http, file_loop --PublishRequest--> registry --authorize--> keys, hook
//!         |                                               |
//!         |  bytes --damson_core::demux--> inputs         v
//!         +--> PublishSession ==queue, by way of active==> publication: the packager --record, parts--> PartSink
//! ```
//!
//! - [`rtmp`], [`srt`], [`udp`] and [`http`] are servers, one folder for each protocol; [`file_loop`] plays a file instead.
//!   SRT and UDP share `ts`. [`damson_core::demux`] does all parsing.
//! - `registry` gives each server a session: it asks [`keys`] and [`hook`] whether the push is allowed, and starts the
//!   stream's publication.
//! - `active` knows the pushes of this moment, allows one push for each rendition, and joins the two ends of a push: its
//!   `publish_session`, to which the connection writes, and the `publication` of its stream, a task that runs the packager
//!   and checks the `bit_rate`.
//! - `authorizer` and `publish_request` have the traits that the node implements: [`Authorizer`] and [`PartSink`]. So
//!   the ingest knows nothing of the mesh or the edge.

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

pub use authorizer::{Authorizer, KeysThenHook};
pub use publication::{NewPackaging, Packaging};
pub use publish_request::{BoxFuture, Denied, Eviction, PartSink, PublishRequest, Refused};
pub use publish_session::PublishSession;
pub use registry::PublishRegistry;
pub use settings::{Settings, Takeover};
