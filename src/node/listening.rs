//! The addresses of a node, as its user is told.

use std::fmt;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::config::NodeConfig;

/// The addresses of a node, beside its mesh endpoint's.
pub(super) struct Listening {
    pub(super) rtmp: Option<SocketAddr>,
    pub(super) rtmps: Option<SocketAddr>,
    srt: Option<SocketAddr>,
    /// Of HTTP ingest: scheme, address, path.
    pushes: Vec<(&'static str, SocketAddr, String)>,
    pub(super) http: Option<SocketAddr>,
    pub(super) https: Option<SocketAddr>,
}

impl Listening {
    /// Returns where the sockets of `config` are bound.
    pub(super) fn of(config: &NodeConfig) -> Self {
        let addr = |listener: &TcpListener| listener.local_addr().ok();
        let inputs = &config.inputs;
        let mut pushes = Vec::new();
        if let Some((listeners, settings)) = &inputs.http {
            let http = listeners.plain.as_ref().map(|listener| ("http", listener));
            let https = listeners.tls.as_ref().map(|(listener, _)| ("https", listener));
            for (scheme, listener) in http.into_iter().chain(https) {
                pushes.extend(addr(listener).map(|addr| (scheme, addr, format!("{}/STREAM", settings.prefix))));
            }
        }
        Listening {
            rtmp: config.rtmp.as_ref().and_then(addr),
            rtmps: inputs.rtmps.as_ref().and_then(|(listener, _)| addr(listener)),
            srt: inputs.srt.as_ref().and_then(|(socket, _)| socket.local_addr().ok()),
            pushes,
            http: config.http.as_ref().and_then(addr),
            https: config.https.as_ref().and_then(|(listener, _)| addr(listener)),
        }
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |what: &str, scheme: &str, addr: Option<SocketAddr>, rest: &str| match addr {
            Some(addr) => write!(f, "\n  {what:<5} {scheme}://{addr}{rest}"),
            None => Ok(()),
        };
        line("rtmp", "rtmp", self.rtmp, "/live/STREAM")?;
        line("rtmps", "rtmps", self.rtmps, "/live/STREAM")?;
        line("srt", "srt", self.srt, "?streamid=STREAM")?;
        for (scheme, addr, path) in &self.pushes {
            line("push", scheme, Some(*addr), path)?;
        }
        line("http", "http", self.http, "/")?;
        line("https", "https", self.https, "/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_reads_where_to_push_and_to_watch() {
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let pushes = vec![("https", addr(3), "/push/STREAM".to_owned())];
        let (rtmp, srt, http) = (Some(addr(1)), Some(addr(2)), Some(addr(4)));
        let listening = Listening { rtmp, rtmps: None, srt, pushes, http, https: None };
        let lines = "
  rtmp  rtmp://127.0.0.1:1/live/STREAM
  srt   srt://127.0.0.1:2?streamid=STREAM
  push  https://127.0.0.1:3/push/STREAM
  http  http://127.0.0.1:4/";
        assert_eq!(listening.to_string(), lines);
    }
}
