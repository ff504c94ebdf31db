//! TLS of the mesh: version 1.3. Both sides show a certificate, and trust only the cluster's CA.
//!
//! A peer is known by its key, not by its host name: its address says nothing about which node it is. So
//! all certificates have the same SAN, and rustls' own verifiers do all the checking.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::fault::MeshError;
use super::identity::{Identity, SERVER_NAME};
use crate::clock;

/// The application protocol of links (RFC 7301).
pub(crate) const ALPN: &[u8] = b"damson/1";

/// The application protocol of connections for queries (see `query`). Nodes that are older than these refuse them.
pub(crate) const ALPN_QUERY: &[u8] = b"damson-ask/1";

fn ca(error: impl Display) -> MeshError {
    MeshError::Ca(error.to_string())
}

fn key(error: impl Display) -> MeshError {
    MeshError::Key(error.to_string())
}

/// Returns the configuration for connections that this node accepts: links, and queries.
pub(crate) fn server(identity: &Identity) -> Result<QuicServerConfig, MeshError> {
    let clients = WebPkiClientVerifier::builder_with_provider(roots(identity)?, provider());
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(key)?
        .with_client_cert_verifier(clients.build().map_err(ca)?)
        .with_single_cert(vec![identity.cert().clone()], identity.key())
        .map_err(key)?;
    server.alpn_protocols = vec![ALPN.to_vec(), ALPN_QUERY.to_vec()];
    // A link lives long and each handshake proves it anew: no session is resumed.
    server.send_tls13_tickets = 0;
    server.try_into().map_err(key)
}

/// Returns the configuration for connections that this node opens, with this application protocol.
pub(crate) fn client(identity: &Identity, alpn: &[u8]) -> Result<QuicClientConfig, MeshError> {
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(key)?
        .with_root_certificates(roots(identity)?)
        .with_client_auth_cert(vec![identity.cert().clone()], identity.key())
        .map_err(key)?;
    client.alpn_protocols = vec![alpn.to_vec()];
    client.resumption = rustls::client::Resumption::disabled();
    client.try_into().map_err(key)
}

fn roots(identity: &Identity) -> Result<Arc<RootCertStore>, MeshError> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.ca().clone()).map_err(ca)?;
    Ok(Arc::new(roots))
}

/// Returns ring, with AES-128-GCM first. For this it is as safe as AES-256 (RFC 8446's mandatory suite), and a third cheaper.
fn provider() -> Arc<CryptoProvider> {
    use ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
    Arc::new(CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256],
        ..ring::default_provider()
    })
}

/// Checks the node's own certificate. If it is another CA's, or out of date, this node says so at its start, instead of every
/// peer later.
pub(crate) fn check_own(identity: &Identity) -> Result<(), MeshError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(identity)?, provider()).build().map_err(ca)?;
    let name = ServerName::try_from(SERVER_NAME).map_err(ca)?;
    let now = UnixTime::since_unix_epoch(Duration::from_micros(clock::wall().as_micros()));
    verifier.verify_server_cert(identity.cert(), &[], &name, &[], now).map_err(MeshError::Own)?;
    Ok(())
}
