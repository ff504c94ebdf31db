//! Bytes of encoders to codec headers, access units and messages, whatever they come in.
//!
//! ```text
//!  RTMP           rtmp (amf0) --> flv ----------\
//!  SRT, UDP, RTP  srt, rtp ---> ts --------------+--> headers, access units, messages --> packager
//!  HTTP           cmaf_ingest --> bmff or ts ---/
//!  a file         flv or bmff --> file_loop ---/
//! ```
//!
//! Every demuxer takes any pieces of its input, and is drained after each. What comes in is from strangers: it is an error, or is
//! left out and told of, but never a panic; and how much of it is in memory is bounded.

pub mod amf0;
pub mod bmff;
pub mod cmaf_ingest;
pub mod file_loop;
pub mod flv;
pub mod rtmp;
pub mod rtp;
pub mod srt;
pub mod target;
pub mod ts;
