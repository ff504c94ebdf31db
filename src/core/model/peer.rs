//! A node and its address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, BytesMut};

use super::id::NodeId;
use super::wire::{Fault, Reader, WireError};

/// A node that can be dialled.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Peer {
    /// The node's identity, which the handshake proves.
    pub id: NodeId,
    /// The address of its mesh endpoint.
    pub addr: SocketAddr,
}

impl Peer {
    /// The shortest peer on the wire, in bytes (IPv4).
    pub const WIRE_LEN_MIN: usize = 8 + 1 + 4 + 2;

    /// Returns whether the address can be dialled. A node that listens on all addresses may announce an unspecified one.
    pub fn can_be_dialled(&self) -> bool {
        !self.addr.ip().is_unspecified() && self.addr.port() != 0
    }

    /// Appends the peer.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.id.0);
        match self.addr.ip() {
            IpAddr::V4(ip) => {
                out.put_u8(4);
                out.put_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.put_u8(6);
                out.put_slice(&ip.octets());
            }
        }
        out.put_u16(self.addr.port());
    }

    /// Reads a peer; an unknown address family is refused.
    pub fn decode(r: &mut Reader) -> Result<Self, WireError> {
        let id = NodeId(r.u64("peer id")?);
        let ip = match r.u8("address family")? {
            4 => IpAddr::V4(Ipv4Addr::from(r.array::<4>("address")?)),
            6 => IpAddr::V6(Ipv6Addr::from(r.array::<16>("address")?)),
            _ => return Err(r.fault("address family", Fault::Invalid)),
        };
        Ok(Peer { id, addr: SocketAddr::new(ip, r.u16("port")?) })
    }
}
