//! The addresses at which a node listens, as its operator reads them.

use std::fmt;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::config::NodeConfig;

/// The addresses of a node, besides that of the mesh.
#[derive(Default)]
pub(super) struct Listening {
    rtmp: Option<SocketAddr>,
    rtmps: Option<SocketAddr>,
    srt: Option<SocketAddr>,
    push: Option<SocketAddr>,
    push_tls: Option<SocketAddr>,
    /// The path of HTTP ingest.
    push_path: String,
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
}

impl Listening {
    /// Returns the addresses to which the sockets of `config` are bound.
    pub(super) fn of(config: &NodeConfig) -> Self {
        let addr = |listener: &TcpListener| listener.local_addr().ok();
        let inputs = &config.inputs;
        let push = inputs.http.as_ref();
        Listening {
            rtmp: config.rtmp.as_ref().and_then(addr),
            rtmps: inputs.rtmps.as_ref().and_then(|(listener, _)| addr(listener)),
            srt: inputs.srt.as_ref().and_then(|(socket, _)| socket.local_addr().ok()),
            push: push.and_then(|(listeners, _)| listeners.plain.as_ref().and_then(addr)),
            push_tls: push.and_then(|(listeners, _)| addr(&listeners.tls.as_ref()?.0)),
            push_path: push.map(|(_, settings)| format!("{}/STREAM", settings.prefix)).unwrap_or_default(),
            http: config.http.as_ref().and_then(addr),
            https: config.https.as_ref().and_then(|(listener, _)| addr(listener)),
        }
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [
            ("rtmp", "rtmp", self.rtmp, "/live/STREAM"),
            ("rtmps", "rtmps", self.rtmps, "/live/STREAM"),
            ("srt", "srt", self.srt, "?streamid=STREAM"),
            ("push", "http", self.push, &self.push_path),
            ("push", "https", self.push_tls, &self.push_path),
            ("http", "http", self.http, "/"),
            ("https", "https", self.https, "/"),
        ];
        for (what, scheme, addr, path) in lines {
            if let Some(addr) = addr {
                write!(f, "\n  {what:<5} {scheme}://{addr}{path}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_reads_where_to_push_and_to_watch() {
        let addr = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        let (rtmp, srt, push_tls, http) = (addr(1), addr(2), addr(3), addr(4));
        let push_path = "/push/STREAM".to_owned();
        let listening = Listening { rtmp, srt, push_tls, push_path, http, ..Listening::default() };
        let lines = "
  rtmp  rtmp://127.0.0.1:1/live/STREAM
  srt   srt://127.0.0.1:2?streamid=STREAM
  push  https://127.0.0.1:3/push/STREAM
  http  http://127.0.0.1:4/";
        assert_eq!(listening.to_string(), lines);
    }
}
