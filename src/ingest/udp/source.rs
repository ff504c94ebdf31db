//! Where a stream's datagrams come from, as a setting: `STREAM[/RENDITION]=udp://ADDRESS:PORT[?...]`.
//!
//! | parameter | what |
//! |---|---|
//! | `source` | the one sender that is taken; of a multicast group, joined source-specifically (RFC 4607) |
//! | `interface` | on which the group is joined: its name, or one of its addresses |
//! | `program` | program_number, where there are several [default: the first that can be played] |
//!
//! `rtp://` means the same: RTP is recognised. An encoder's own URL may stand as it is: a time to live is the sender's
//! matter and is taken without a word, as is ffmpeg's `pkt_size`.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use damson_core::model::{Rendition, StreamName};

/// One source of datagrams.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The stream it is published as.
    pub stream: StreamName,
    /// And the rendition of it.
    pub rendition: Option<Rendition>,
    /// The group, or an address of this node; and the port.
    pub addr: SocketAddr,
    /// The one sender.
    pub source: Option<IpAddr>,
    /// Where the group is joined.
    pub interface: Option<String>,
    /// program_number.
    pub program: Option<u16>,
}

/// Why a setting names no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no STREAM=udp://ADDRESS:PORT: {why}")]
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
    let (name, url) = text.split_once('=').ok_or("it has no '='")?;
    let (stream, rendition) = match name.split_once('/') {
        Some((stream, rendition)) => (stream, Some(Rendition::parse(rendition).map_err(|e| e.to_string())?)),
        None => (name, None),
    };
    let stream = StreamName::parse(stream).map_err(|e| e.to_string())?;
    let rest = url.strip_prefix("udp://").or_else(|| url.strip_prefix("rtp://"));
    let rest = rest.ok_or("it begins with neither udp:// nor rtp://")?;
    let (addr, query) = rest.split_once('?').unwrap_or((rest, ""));
    // VLC's way to say that it listens.
    let addr = addr.strip_prefix('@').unwrap_or(addr).trim_end_matches('/');
    let addr: SocketAddr =
        addr.parse().map_err(|_| format!("{addr:?} is no ADDRESS:PORT (any address of this node: 0.0.0.0)"))?;
    let mut out = Source { stream, rendition, addr, source: None, interface: None, program: None };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "source" | "sources" => {
                let source: IpAddr = value.parse().map_err(|_| format!("source={value:?} is no address"))?;
                if source.is_ipv4() != addr.is_ipv4() {
                    return Err("the source and the address are of different families".to_owned());
                }
                out.source = Some(source);
            }
            "interface" | "localaddr" if value.is_empty() => return Err("the interface has no name".to_owned()),
            "interface" | "localaddr" => out.interface = Some(value.to_owned()),
            "program" => {
                let program = value.parse().ok().filter(|&program| program > 0);
                out.program = Some(program.ok_or(format!("program={value:?} is none of 1 to 65535"))?);
            }
            "ttl" | "pkt_size" => {}
            _ => return Err(format!("there is no {key:?}; there are source, interface and program")),
        }
    }
    if out.interface.is_some() && !addr.ip().is_multicast() {
        return Err(format!("{} is no multicast group, and needs no interface", addr.ip()));
    }
    if out.source.is_some() && addr.ip().is_multicast() && addr.is_ipv6() {
        return Err("source-specific groups are IPv4's here".to_owned());
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
            assert_eq!(error, format!("{text:?} is no STREAM=udp://ADDRESS:PORT: {why}"));
        };
        check("cam1", "it has no '='");
        check("api=udp://0.0.0.0:1", "\"api\" is a path of the edge itself and can't name a stream");
        check("cam1=http://0.0.0.0:1", "it begins with neither udp:// nor rtp://");
        check("cam1=udp://host:1", "\"host:1\" is no ADDRESS:PORT (any address of this node: 0.0.0.0)");
        check("cam1=udp://0.0.0.0:1?interface=eth0", "0.0.0.0 is no multicast group, and needs no interface");
        check("cam1=udp://239.0.0.1:1?source=::1", "the source and the address are of different families");
        check("cam1=udp://239.0.0.1:1?prog=1", "there is no \"prog\"; there are source, interface and program");
        check("cam1=udp://239.0.0.1:1?program=0", "program=\"0\" is none of 1 to 65535");
    }
}
