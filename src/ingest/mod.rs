//! Encoders' sockets to access units.
//!
//! - [`amf0`], [`flv`]: FLV tag bodies to codec headers and access units (pure).
//! - [`rtmp`]: handshake, chunks, messages and session as a state machine (pure), and its server.
//! - [`udp`]: MPEG-TS in datagrams, unicast and multicast, plain or in RTP.
//! - [`srt`]: MPEG-TS over SRT.
//! - `ts`: what these two have in common.
//! - [`http`]: whole streams, CMAF tracks and segments by PUT and POST.
//! - `file_loop`: an .mp4 file looped in real time.
//! - `keys`: publish keys. `hook`: somebody else is asked.
//! - `registry`: who may publish what: the one async `authorize` point, one push a rendition, takeovers.
//!   `active`: the pushes of this moment. `publish_session`: one of them, for its connection.
//!   `publication`: the task of a stream, which runs the packager.
//!
//! An encoder's way in: its connection parses bytes to [`media::Input`](damson_core::packager::Input)s, asks the registry for a
//! session, and hands the inputs to it; they come out in the stream's publication.

mod active;
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
pub use publication::{NewPackaging, Packaging};
pub use publish_request::{AllowAll, Authorizer, BoxFuture, Denied, Eviction, PartSink, PublishRequest, Refused};
pub use publish_session::{Gone, PublishSession};
pub use registry::PublishRegistry;
pub use settings::{Settings, Takeover};
