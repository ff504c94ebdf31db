//! The peers of a hop: a message there and the same message back, over plain quinn and over plain TCP.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use damson::clock;
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use rustls::pki_types::PrivatePkcs8KeyDer;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Result;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// The longest message, in bytes.
const MESSAGE_LEN_MAX: usize = 16 << 20;
/// As damson's own: without it loopback loses packets.
const SOCKET_BUFFER_LEN: usize = 16 << 20;

/// Plain quinn: a unidirectional stream a message, there and back; quinn's own transport settings.
pub(super) struct Quinn {
    connection: Connection,
    // An endpoint that is dropped takes its connections along.
    _client: Endpoint,
    _server: Endpoint,
}

impl Quinn {
    pub(super) async fn start() -> Result<Self> {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let cert = key.cert.der().clone();
        let secret = PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
        let server_config = ServerConfig::with_single_cert(vec![cert.clone()], secret.into())?;
        let server = Endpoint::new(EndpointConfig::default(), Some(server_config), socket()?, Arc::new(TokioRuntime))?;
        let mut client = Endpoint::new(EndpointConfig::default(), None, socket()?, Arc::new(TokioRuntime))?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(cert)?;
        client.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots))?);

        let accepting = server.clone();
        tokio::spawn(async move {
            let connection = accepting.accept().await.ok_or("closed")?.await?;
            loop {
                let message = connection.accept_uni().await?.read_to_end(MESSAGE_LEN_MAX).await?;
                let mut back = connection.open_uni().await?;
                back.write_chunk(message.into()).await?;
                back.finish()?;
            }
            #[expect(unreachable_code, reason = "names the error's type")]
            Result::Ok(())
        });
        let connection = client.connect(server.local_addr()?, "localhost")?.await?;
        Ok(Quinn { connection, _client: client, _server: server })
    }

    pub(super) async fn round_trip(&mut self, message: Bytes) -> Result<Duration> {
        let (began, length) = (clock::now(), message.len());
        let mut there = self.connection.open_uni().await?;
        there.write_chunk(message).await?;
        there.finish()?;
        let back = self.connection.accept_uni().await?.read_to_end(MESSAGE_LEN_MAX).await?;
        assert_eq!(back.len(), length, "the echo is whole");
        Ok(clock::now().since(began))
    }
}

fn socket() -> Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // Capped by the kernel's limit, as damson's is.
    socket.set_recv_buffer_size(SOCKET_BUFFER_LEN)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_LEN)?;
    socket.bind(&LOOPBACK.into())?;
    Ok(socket.into())
}

/// Plain TCP: a length of 4 bytes and the message, there and back; no TLS.
pub(super) struct Tcp(TcpStream);

impl Tcp {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(LOOPBACK).await?;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        let (mut server, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        tokio::spawn(async move {
            loop {
                let message = receive(&mut server).await?;
                send(&mut server, &message).await?;
            }
            #[expect(unreachable_code, reason = "names the error's type")]
            Result::Ok(())
        });
        Ok(Tcp(client))
    }

    pub(super) async fn round_trip(&mut self, message: Bytes) -> Result<Duration> {
        let began = clock::now();
        send(&mut self.0, &message).await?;
        let back = receive(&mut self.0).await?;
        assert_eq!(back.len(), message.len(), "the echo is whole");
        Ok(clock::now().since(began))
    }
}

async fn send(stream: &mut TcpStream, message: &[u8]) -> Result<()> {
    stream.write_u32(u32::try_from(message.len())?).await?;
    stream.write_all(message).await?;
    Ok(())
}

async fn receive(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let length = stream.read_u32().await? as usize;
    if length > MESSAGE_LEN_MAX {
        return Err("the message is too long".into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
