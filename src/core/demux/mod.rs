//! Encoders' bytes to codec headers, access units and messages, from every protocol and container.
//!
//! ```text
//!  RTMP           rtmp (amf0) --> flv ----------\
//!  SRT, UDP, RTP  srt, rtp ---> ts --------------+--> headers, access units, messages --> packager
//!  HTTP           cmaf_ingest --> bmff or ts ---/
//!  a file         flv or bmff --> file_loop ---/
//! ```
//!
//! Every demuxer takes its input in pieces of any length, and is drained after each. Inputs come from strangers: a bad input is an
//! error, or is skipped and reported, but never a panic; and the memory that it takes is bounded.

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
