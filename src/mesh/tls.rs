//! TLS of the links: version 1.3, both sides show a certificate, and only the cluster's CA is trusted.
//!
//! Peers are told apart by key, not by host name: a node's address says nothing about who it is. So
//! every certificate has the one SAN, and rustls' own verifiers do all the checking.

use std::fmt::Display;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::identity::{Identity, SERVER_NAME};
use crate::clock;

/// Application protocol of the links (RFC 7301).
pub(crate) const ALPN: &[u8] = b"damson/1";

/// That of connections for queries (see `query`). A node that is older than they are refuses them.
pub(crate) const ALPN_QUERY: &[u8] = b"damson-ask/1";

/// The reason why an identity can't be used for TLS.
#[derive(Debug, thiserror::Error)]
pub enum MeshTlsError {
    /// The CA's certificate is no trust anchor.
    #[error("the cluster's CA certificate can't be used: {0}")]
    Ca(String),
    /// The node's own certificate wouldn't be taken by its peers.
    #[error("this node's own certificate would be refused by its peers: {0}")]
    Own(rustls::Error),
    /// The certificate and key don't work.
    #[error("this node's certificate or key can't be used: {0}")]
    Key(String),
}

fn ca(error: impl Display) -> MeshTlsError {
    MeshTlsError::Ca(error.to_string())
}

fn key(error: impl Display) -> MeshTlsError {
    MeshTlsError::Key(error.to_string())
}

/// Returns both sides' configurations for `identity`.
pub(crate) fn configs(identity: &Identity) -> Result<(Arc<QuicServerConfig>, Arc<QuicClientConfig>), MeshTlsError> {
    let provider = Arc::new(provider());
    let servers = WebPkiServerVerifier::builder_with_provider(roots(identity)?, provider);
    check_own(&*servers.build().map_err(ca)?, &identity.chain())?;
    configs_unchecked(identity)
}

/// Returns the same for an identity that the peers may refuse.
pub(crate) fn configs_unchecked(
    identity: &Identity,
) -> Result<(Arc<QuicServerConfig>, Arc<QuicClientConfig>), MeshTlsError> {
    let provider = Arc::new(provider());
    let roots = roots(identity)?;
    let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone());
    let servers = servers.build().map_err(ca)?;
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let clients = clients.build().map_err(ca)?;

    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(key)?
        .with_client_cert_verifier(clients)
        .with_single_cert(identity.chain(), identity.key())
        .map_err(key)?;
    server.alpn_protocols = vec![ALPN.to_vec(), ALPN_QUERY.to_vec()];
    // A link lives long and is proven anew each time: nothing is resumed.
    server.send_tls13_tickets = 0;

    let server = QuicServerConfig::try_from(server).map_err(key)?;
    Ok((Arc::new(server), client(identity, servers, ALPN)?))
}

/// Returns the configuration for connections that ask.
pub(crate) fn for_queries(identity: &Identity) -> Result<Arc<QuicClientConfig>, MeshTlsError> {
    let servers = WebPkiServerVerifier::builder_with_provider(roots(identity)?, Arc::new(provider()));
    client(identity, servers.build().map_err(ca)?, ALPN_QUERY)
}

fn client(
    identity: &Identity,
    servers: Arc<WebPkiServerVerifier>,
    alpn: &[u8],
) -> Result<Arc<QuicClientConfig>, MeshTlsError> {
    let mut client = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(key)?
        .with_webpki_verifier(servers)
        .with_client_auth_cert(identity.chain(), identity.key())
        .map_err(key)?;
    client.alpn_protocols = vec![alpn.to_vec()];
    client.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(QuicClientConfig::try_from(client).map_err(key)?))
}

fn roots(identity: &Identity) -> Result<Arc<RootCertStore>, MeshTlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.ca().clone()).map_err(ca)?;
    Ok(Arc::new(roots))
}

/// Returns ring, with AES-128-GCM first: as safe for this as AES-256 (RFC 8446's mandatory suite), and a third cheaper.
fn provider() -> CryptoProvider {
    use ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
    CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256],
        ..ring::default_provider()
    }
}

/// Checks the node's own certificate: one of another CA, or out of date, is better told at the start than by every peer.
fn check_own(verifier: &dyn ServerCertVerifier, chain: &[CertificateDer<'static>]) -> Result<(), MeshTlsError> {
    let name = ServerName::try_from(SERVER_NAME).map_err(ca)?;
    let Some((own, rest)) = chain.split_first() else { return Ok(()) };
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_micros(clock::wall().as_micros()));
    verifier.verify_server_cert(own, rest, &name, &[], now).map(|_| ()).map_err(MeshTlsError::Own)
}
