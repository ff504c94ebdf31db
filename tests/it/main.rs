//! The integration tests: one binary, one module a subject. Each test starts what it needs on free ports of
//! loopback, waits for events, and stops it again.

mod cluster;
mod dashboard;
mod dependencies;
mod docs;
mod edge_h2;
mod edge_http;
mod edge_rubbish;
mod edge_server;
mod edge_trace;
mod golden;
mod house;
mod media_ffmpeg;
mod rtmp_ingest;
mod scenarios;
mod tidy;
