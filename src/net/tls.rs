//! Certificates for HTTPS and RTMPS: read from files, which may change while the node runs, or self-signed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The interval at which the files are read. Certificates are renewed days before they expire.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// HTTP/2 and HTTP/1.1 (RFC 9113 3.2, RFC 7301).
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Tells whether a client has chosen HTTP/2. A client that names no protocol means HTTP/1.1.
pub(crate) fn is_h2<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(ALPN[0])
}

/// The reason why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file holds no certificate, or no private key, in PEM.
    #[error("{}: no {what} in PEM: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The item that is missing.
        what: &'static str,
        /// The cause.
        source: pem::Error,
    },
    /// The certificate and the key don't match, or are of an unknown kind.
    #[error("{} and {}: {source}", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
    /// A self-signed certificate can't be made.
    #[error("can't make a certificate: {0}")]
    Made(#[from] rcgen::Error),
    /// TLS can't be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The files of a certificate chain and its key.
#[derive(Debug, Clone)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

/// The certificate that clients are shown, which may be replaced at any time.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

/// The server's side of TLS, for HTTPS and RTMPS.
pub struct Tls {
    config: Arc<ServerConfig>,
    shown: Arc<Shown>,
    files: Option<Files>,
    /// The hash of the files when they were last read, valid or not.
    seen: Mutex<blake3::Hash>,
    /// Held by the server that watches the files.
    watched: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({:?})", self.files)
    }
}

impl Tls {
    /// Reads a certificate chain, the server's own first, and its key, both in PEM.
    ///
    /// # Errors
    /// A file can't be read or isn't PEM, or the certificate and the key don't match.
    pub fn from_files(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files { cert: cert.to_owned(), key: key.to_owned() };
        let read = files.read()?;
        let pair = files.parse(&read)?;
        Tls::new(pair, Some(files), hash(&read))
    }

    /// Makes a self-signed certificate for these names and addresses.
    ///
    /// # Errors
    /// A name isn't valid in a certificate.
    pub fn self_signed(names: impl IntoIterator<Item = String>) -> Result<Self, TlsError> {
        let made = rcgen::generate_simple_self_signed(names.into_iter().collect::<Vec<_>>())?;
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let pair = CertifiedKey::from_der(vec![made.cert.der().clone()], key, &ring::default_provider())?;
        Tls::new(pair, None, blake3::hash(&[]))
    }

    fn new(pair: CertifiedKey, files: Option<Files>, seen: blake3::Hash) -> Result<Self, TlsError> {
        let shown = Arc::new(Shown(RwLock::new(Arc::new(pair))));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
        config.ticketer = ring::Ticketer::new()?;
        let (seen, watched) = (Mutex::new(seen), tokio::sync::Mutex::default());
        Ok(Tls { config: Arc::new(config), shown, files, seen, watched })
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Reads the files again. If they have changed, new connections are shown the new certificate. Returns whether they have.
    ///
    /// # Errors
    /// The new files can't be used, and the old certificate stays. Each change is told once.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Some(files) = &self.files else { return Ok(false) };
        let read = files.read()?;
        let now = hash(&read);
        if std::mem::replace(&mut *self.seen.lock(), now) == now {
            return Ok(false);
        }
        let pair = files.parse(&read)?;
        *self.shown.0.write() = Arc::new(pair);
        Ok(true)
    }

    /// Watches the files for ever. If several servers share the certificate, one of them does.
    pub(crate) async fn watch(self: Arc<Self>) {
        let _watched = self.watched.lock().await;
        let mut each = tokio::time::interval(LOOK_INTERVAL);
        let mut warned = String::new();
        loop {
            each.tick().await;
            let tls = Arc::clone(&self);
            // Reading files blocks: not on a thread of the runtime.
            let reload = tokio::task::spawn_blocking(move || tls.reload().map_err(|error| error.to_string()));
            let reloaded = reload.await.unwrap_or_else(|error| Err(error.to_string()));
            match reloaded {
                Ok(true) => {
                    tracing::info!("TLS: new connections get the new certificate");
                    warned.clear();
                }
                Ok(false) => {}
                // A file that can't be read fails each time: it is logged once.
                Err(error) if error == warned => {}
                Err(error) => {
                    tracing::warn!(%error, "TLS: can't use the new certificate; the old one stays");
                    warned = error;
                }
            }
        }
    }
}

impl Files {
    fn read(&self) -> Result<[Vec<u8>; 2], TlsError> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|source| TlsError::Read { path: path.clone(), source });
        Ok([read(&self.cert)?, read(&self.key)?])
    }

    fn parse(&self, [cert, key]: &[Vec<u8>; 2]) -> Result<CertifiedKey, TlsError> {
        let fault = |path: &PathBuf, what| {
            let path = path.clone();
            move |source| TlsError::Pem { path, what, source }
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
        let chain = chain.map_err(fault(&self.cert, "certificate"))?;
        if chain.is_empty() {
            return Err(fault(&self.cert, "certificate")(pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(fault(&self.key, "private key"))?;
        let pair = |source| TlsError::Pair { cert: self.cert.clone(), key: self.key.clone(), source };
        let expires = chain.first().and_then(expiry);
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(pair)?;
        tracing::info!(file = %self.cert.display(), expires, "TLS: read the certificate");
        Ok(certified)
    }
}

/// Returns the time at which a certificate expires.
fn expiry(cert: &CertificateDer<'_>) -> Option<String> {
    let (_, cert) = X509Certificate::from_der(cert).ok()?;
    Some(cert.validity().not_after.to_string())
}

fn hash(files: &[Vec<u8>; 2]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(&(file.len() as u64).to_le_bytes()).update(file);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tls: &Tls) -> CertificateDer<'static> {
        tls.shown.0.read().cert[0].clone()
    }

    #[test]
    fn a_bad_pair_leaves_the_old_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let made = || rcgen::generate_simple_self_signed(["edge.example".to_owned()]).expect("a name");
        let (first, second) = (made(), made());
        let lay = |c: &str, k: &str| {
            std::fs::write(&cert, c).expect("written");
            std::fs::write(&key, k).expect("written");
        };
        lay(&first.cert.pem(), &first.signing_key.serialize_pem());
        let tls = Tls::from_files(&cert, &key).expect("a pair");
        assert_eq!(&shown(&tls), first.cert.der());
        assert!(matches!(tls.reload(), Ok(false)));

        // The new certificate is there before its key.
        lay(&second.cert.pem(), &first.signing_key.serialize_pem());
        let error = tls.reload().expect_err("no pair").to_string();
        assert!(error.contains("cert.pem") && error.contains("key.pem"), "{error}");
        assert!(matches!(tls.reload(), Ok(false)), "told once");
        lay("rubbish", &second.signing_key.serialize_pem());
        assert!(tls.reload().expect_err("no certificate").to_string().contains("no certificate"));
        std::fs::remove_file(&key).expect("it is there");
        assert!(matches!(tls.reload(), Err(TlsError::Read { .. })));
        assert_eq!(&shown(&tls), first.cert.der());

        lay(&second.cert.pem(), &second.signing_key.serialize_pem());
        assert!(matches!(tls.reload(), Ok(true)));
        assert_eq!(&shown(&tls), second.cert.der());
    }
}
