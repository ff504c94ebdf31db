//! The node's one UDP socket and QUIC endpoint.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use damson_core::model::part_header::BODY_LEN_MAX;
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::warn;

use super::congestion::LossTolerant;
use super::fault::MeshError;
use super::identity::Identity;
use super::tls;

/// The longest silence of a link. The overlay refills its view when a link is lost, while the repair of the tree (graft timers) doesn't
/// wait for it. The time counts from the first packet that is sent unanswered (RFC 9000, 10.1), so that a dead peer is noticed
/// after at most this and [`KEEP_ALIVE`], 2.9 s. With less, a node that stands still for a moment on a starved machine would lose
/// its links. Within this time, QUIC sends a lost packet several times.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_millis(2_000);

/// The interval of keep-alives on a silent link: one between two pings. With 600 ms, and pings from each end, eight idle nodes sent
/// 251 packets a second rather than 194.
const KEEP_ALIVE: Duration = Duration::from_millis(900);

/// The largest packet that is probed for (RFC 8899) and accepted: on loopback and over jumbo frames, a body then takes a quarter of
/// the packets. Not more: quinn hands the kernel up to ten packets at once, and the kernel refuses a batch above 64 KiB. With
/// 9,000 and with 65,000 such batches were lost, and quinn took the path's limit for 1,200.
const PACKET_LEN_MAX: u16 = 6_500;

/// The buffer that the socket asks for, in each direction: a burst of the largest body. Linux's default of 208 KiB loses
/// about 1 % on loopback.
const SOCKET_BUFFER_LEN: usize = 16 << 20;

/// The least buffer that loses no packets in bursts: a 100 KB part to each of ten children.
const SOCKET_BUFFER_LEN_ENOUGH: usize = 1 << 20;

/// The most bodies at once from one peer: the parts of a few tracks of ten streams, and their repairs.
pub(crate) const STREAMS_MAX: u32 = 256;

/// The most unread bytes of bodies on one link: two of the largest.
const LINK_WINDOW: u32 = 2 * BODY_LEN_MAX;

/// The most bytes on one link that aren't acknowledged: 8 MiB is 1 Gb/s over 64 ms.
const SEND_WINDOW: u64 = 8 << 20;

/// The round trip before any is measured (RFC 9002 6.2.2 says 333 ms): most nodes are near, and a lost dial is first repeated after
/// three of these.
const INITIAL_RTT: Duration = Duration::from_millis(50);

/// Returns the configuration of this node's connections for queries.
pub(crate) fn for_queries(identity: &Identity) -> Result<ClientConfig, MeshError> {
    let mut client = ClientConfig::new(Arc::new(tls::client(identity, tls::ALPN_QUERY)?));
    let mut transport = transport();
    // An unused connection ends by itself.
    transport.keep_alive_interval(None).max_concurrent_bidi_streams(VarInt::from_u32(0));
    transport.max_concurrent_uni_streams(VarInt::from_u32(0));
    client.transport_config(Arc::new(transport));
    Ok(client)
}

/// Opens the socket and the endpoint on it.
pub(crate) fn open(identity: &Identity, bind: SocketAddr) -> Result<Endpoint, MeshError> {
    tls::check_own(identity)?;
    let transport = Arc::new(transport());
    let mut server = ServerConfig::with_crypto(Arc::new(tls::server(identity)?));
    server.transport_config(transport.clone()).migration(false);
    let mut client = ClientConfig::new(Arc::new(tls::client(identity, tls::ALPN)?));
    client.transport_config(transport);

    let failed = |source| MeshError::Bind { addr: bind, source };
    let socket = socket(bind).map_err(failed)?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(PACKET_LEN_MAX).expect("it is above QUIC's least, 1,200");
    let mut endpoint = Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime)).map_err(failed)?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}

fn socket(bind: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(bind), Type::DGRAM, Some(Protocol::UDP))?;
    if bind.is_ipv6() && bind.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // The kernel grants what it can, and doesn't fail.
    socket.set_recv_buffer_size(SOCKET_BUFFER_LEN)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_LEN)?;
    let granted = socket.recv_buffer_size()?.min(socket.send_buffer_size()?);
    if granted < SOCKET_BUFFER_LEN_ENOUGH {
        warn!(
            granted,
            wanted = SOCKET_BUFFER_LEN,
            "the kernel gives the mesh's socket small buffers, which lose packets; \
             raise net.core.rmem_max and net.core.wmem_max"
        );
    }
    socket.set_nonblocking(true)?;
    socket.bind(&bind.into())?;
    Ok(socket.into())
}

/// Returns the transport's settings; the others are quinn's defaults. Tried on loopback, on a busy machine: fewer
/// acknowledgements, or a first window of 200 KB, change less than the noise.
pub(crate) fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(PACKET_LEN_MAX);
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("two seconds fit a VarInt");
    config
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .mtu_discovery_config(Some(mtu))
        .initial_rtt(INITIAL_RTT)
        // One control stream, opened by the dialler.
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_MAX))
        // A body waits for the link's window only, never for its own.
        .stream_receive_window(VarInt::from_u32(BODY_LEN_MAX + (1 << 16)))
        .receive_window(VarInt::from_u32(LINK_WINDOW))
        .send_window(SEND_WINDOW)
        // The body that began first ends first: two halves of two parts are useless to a player.
        .send_fairness(false)
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(LossTolerant::default()));
    config
}
