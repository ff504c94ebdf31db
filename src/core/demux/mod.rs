//! Bytes of encoders to access units: RTMP and FLV, MPEG-TS, ISO BMFF, and what SRT, RTP and HTTP ingest wrap around them.

pub mod amf0;
pub mod bmff;
pub mod cmaf_ingest;
pub mod file_loop;
pub mod flv;
pub mod rtmp;
pub mod rtp;
pub mod srt;
pub mod ts;
