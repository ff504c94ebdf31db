//! A source of datagrams, as a setting: `STREAM[/RENDITION]=udp://ADDRESS:PORT[?...]`.
//!
//! | parameter | meaning |
//! |---|---|
//! | `source` | the only sender that is received; a multicast group is joined source-specifically (RFC 4607) |
//! | `interface` | the interface on which the group is joined: its name, or one of its addresses |
//! | `program` | program_number, where there are several [default: the first that can be played] |
//!
//! `rtp://` means the same, since RTP is recognised. An encoder's own URL works unchanged: `ttl`, and ffmpeg's `pkt_size`,
//! concern the sender alone and are ignored.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use damson_core::model::{Rendition, StreamName};

/// One source of datagrams.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The stream.
    pub stream: StreamName,
    /// The rendition that the source adds to the stream; `None` for the stream itself.
    pub rendition: Option<Rendition>,
    /// The multicast group, or an address of this node; and the port.
    pub addr: SocketAddr,
    /// The only sender that is received.
    pub source: Option<IpAddr>,
    /// The interface on which the group is joined.
    pub interface: Option<String>,
    /// The program_number.
    pub program: Option<u16>,
}

/// The reason why a setting isn't a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} isn't STREAM=udp://ADDRESS:PORT: {why}")]
pub struct SourceError {
    text: String,
    why: String,
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        parse(text).map_err(|why| SourceError { text: text.to_owned(), why })
    }
}

fn parse(text: &str) -> Result<Source, String> {
    let (name, url) = text.split_once('=').ok_or("'=' is missing")?;
    let (stream, rendition) = match name.split_once('/') {
        Some((stream, rendition)) => (stream, Some(Rendition::parse(rendition).map_err(|e| e.to_string())?)),
        None => (name, None),
    };
    let stream = StreamName::parse(stream).map_err(|e| e.to_string())?;
    let rest = url.strip_prefix("udp://").or_else(|| url.strip_prefix("rtp://"));
    let rest = rest.ok_or("the URL must begin with udp:// or rtp://")?;
    let (addr, query) = rest.split_once('?').unwrap_or((rest, ""));
    // VLC marks an address on which it listens with '@'.
    let addr = addr.strip_prefix('@').unwrap_or(addr).trim_end_matches('/');
    let addr: SocketAddr = addr
        .parse()
        .map_err(|_| format!("{addr:?} isn't ADDRESS:PORT; 0.0.0.0 stands for any address of this node"))?;
    let mut out = Source { stream, rendition, addr, source: None, interface: None, program: None };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "source" | "sources" => {
                let source: IpAddr = value.parse().map_err(|_| format!("source={value:?} isn't an address"))?;
                if source.is_ipv4() != addr.is_ipv4() {
                    return Err("the source and the address must both be IPv4, or both IPv6".to_owned());
                }
                out.source = Some(source);
            }
            "interface" | "localaddr" if value.is_empty() => {
                return Err("the interface needs a name or an address".to_owned());
            }
            "interface" | "localaddr" => out.interface = Some(value.to_owned()),
            "program" => {
                let program = value.parse().ok().filter(|&program| program > 0);
                out.program = Some(program.ok_or(format!("program={value:?} isn't 1 to 65535"))?);
            }
            "ttl" | "pkt_size" => {}
            _ => return Err(format!("unknown parameter {key:?}; use source, interface or program")),
        }
    }
    if out.interface.is_some() && !addr.ip().is_multicast() {
        return Err(format!("{} isn't a multicast group; leave the interface out", addr.ip()));
    }
    if out.source.is_some() && addr.ip().is_multicast() && addr.is_ipv6() {
        return Err("a source-specific group must be IPv4".to_owned());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read() {
        let source: Source = "cam1/720p=udp://@232.1.2.3:5000?source=10.0.0.9&interface=eth1&program=2&ttl=4"
            .parse()
            .expect("all of it");
        assert_eq!(source.stream.as_str(), "cam1");
        assert_eq!(source.rendition.as_ref().map(Rendition::as_str), Some("720p"));
        assert_eq!(source.addr, "232.1.2.3:5000".parse().expect("an address"));
        assert_eq!(source.source, Some([10, 0, 0, 9].into()));
        assert_eq!((source.interface.as_deref(), source.program), (Some("eth1"), Some(2)));
        let plain: Source = "cam1=rtp://[::]:5000".parse().expect("plain");
        assert_eq!((plain.addr, plain.source, plain.program), ("[::]:5000".parse().expect("an address"), None, None));
    }

    #[test]
    fn faults_are_named() {
        let check = |text: &str, why: &str| {
            let error = text.parse::<Source>().expect_err(text).to_string();
            assert_eq!(error, format!("{text:?} isn't STREAM=udp://ADDRESS:PORT: {why}"));
        };
        check("cam1", "'=' is missing");
        check("api=udp://0.0.0.0:1", "\"api\" is a path of the edge itself and can't name a stream");
        check("cam1=http://0.0.0.0:1", "the URL must begin with udp:// or rtp://");
        check("cam1=udp://host:1", "\"host:1\" isn't ADDRESS:PORT; 0.0.0.0 stands for any address of this node");
        check("cam1=udp://0.0.0.0:1?interface=eth0", "0.0.0.0 isn't a multicast group; leave the interface out");
        check("cam1=udp://239.0.0.1:1?source=::1", "the source and the address must both be IPv4, or both IPv6");
        check("cam1=udp://239.0.0.1:1?prog=1", "unknown parameter \"prog\"; use source, interface or program");
        check("cam1=udp://239.0.0.1:1?program=0", "program=\"0\" isn't 1 to 65535");
    }
}
