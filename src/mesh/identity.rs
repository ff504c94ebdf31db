//! A cluster's CA and its nodes' identities.
//!
//! A node *is* its key: [`NodeId`] is the hash of its public key. Its certificate holds the name by which people
//! call it (CN), and shows that the cluster's CA knows it. All certificates carry the same SAN,
//! `SERVER_NAME`, since a peer is trusted for its CA and not for its host name.
//!
//! ```text
//! damson pki init DIR          DIR/ca.pem  DIR/ca.key
//! damson pki issue DIR NAME    ca.pem  node.pem  node.key
//! ```

use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs};

use damson_core::model::NodeId;
use pem::{EncodeConfig, LineEnding, Pem};
use quinn::Connection;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The name in every node's certificate that the TLS handshake checks.
pub(crate) const SERVER_NAME: &str = "damson";

const CA_CERT: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const NODE_CERT: &str = "node.pem";
const NODE_KEY: &str = "node.key";

/// The mode of a file that only its owner may read.
const OWNER: u32 = 0o600;
/// The mode of a file that everybody may read.
const EVERYBODY: u32 = 0o644;

/// The reason why a CA or an identity can't be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file exists. Neither a CA nor a key is ever overwritten.
    #[error("{}: exists already, and is never overwritten; choose another folder", .0.display())]
    Exists(PathBuf),
    /// A file isn't PEM, or its certificate or key can't be used.
    #[error("{}: {why}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The cause.
        why: String,
    },
    /// The name isn't valid in a certificate.
    #[error("{0:?} isn't a node's name: choose 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'")]
    Name(String),
    /// A key or certificate can't be made.
    #[error("can't make a key or certificate: {0}")]
    Generate(#[from] rcgen::Error),
}

/// A cluster's certificate authority.
pub struct Ca {
    cert: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Makes a CA with a new P-256 key.
    pub fn generate() -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "damson cluster CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let cert = params.self_signed(&key)?;
        Ok(Ca { cert: cert.der().clone(), issuer: Issuer::new(params, key) })
    }

    /// Reads `dir/ca.pem` and `dir/ca.key`.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let Pair { cert, key, .. } = Pair::read(dir, CA_CERT, CA_KEY)?;
        let issuer = Issuer::from_ca_cert_der(&cert, key).map_err(|why| unusable(&dir.join(CA_CERT), &why))?;
        Ok(Ca { cert, issuer })
    }

    /// Writes `dir/ca.pem` and `dir/ca.key`, which only its owner may read. Makes the folder if there is none.
    ///
    /// # Errors
    /// [`IdentityError::Exists`] if either file exists: nodes of a CA that is overwritten would be locked out.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        refuse_existing(dir, &[CA_CERT, CA_KEY])?;
        write_new(dir, CA_KEY, &self.issuer.key().serialize_pem(), OWNER)?;
        write_new(dir, CA_CERT, &pem(&self.cert), EVERYBODY)
    }

    /// Makes a key, and this CA's certificate for it.
    pub fn issue(&self, name: &str) -> Result<Identity, IdentityError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            return Err(IdentityError::Name(name.to_owned()));
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Both ends of a link are equal: the one that dials is the TLS client.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.issuer)?.der().clone();
        let id = NodeId::of_public_key(&key.subject_public_key_info());
        Ok(Identity { ca: self.cert.clone(), cert, key: Arc::new(key), name: name.to_owned(), id })
    }
}

/// A node's key, its certificate, and the CA that it trusts.
#[derive(Clone)]
pub struct Identity {
    ca: CertificateDer<'static>,
    cert: CertificateDer<'static>,
    key: Arc<KeyPair>,
    name: String,
    id: NodeId,
}

impl Identity {
    /// Reads `dir/ca.pem`, `dir/node.pem` and `dir/node.key`.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let ca = read(&dir.join(CA_CERT), CertificateDer::from_pem_slice)?;
        let Pair { cert, key, id, name } = Pair::read(dir, NODE_CERT, NODE_KEY)?;
        Ok(Identity { ca, cert, key: Arc::new(key), name, id })
    }

    /// Writes `dir/ca.pem`, `dir/node.pem` and `dir/node.key`, which only its owner may read. Makes the folder if there is none.
    /// The CA's certificate may be there already.
    ///
    /// # Errors
    /// [`IdentityError::Exists`] if the node's files exist, or another CA's certificate does.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let ca_is_there = read(&dir.join(CA_CERT), CertificateDer::from_pem_slice).is_ok_and(|ca| ca == self.ca);
        let made: &[&str] = if ca_is_there { &[NODE_CERT, NODE_KEY] } else { &[CA_CERT, NODE_CERT, NODE_KEY] };
        refuse_existing(dir, made)?;
        write_new(dir, NODE_KEY, &self.key.serialize_pem(), OWNER)?;
        write_new(dir, NODE_CERT, &pem(&self.cert), EVERYBODY)?;
        if ca_is_there { Ok(()) } else { write_new(dir, CA_CERT, &pem(&self.ca), EVERYBODY) }
    }

    /// Returns the id by which peers know the node.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Returns the node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns this identity with the trusted CA of another.
    #[cfg(test)]
    pub(crate) fn trusting(&self, other: &Identity) -> Identity {
        Identity { ca: other.ca.clone(), ..self.clone() }
    }

    pub(crate) fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    pub(crate) fn cert(&self) -> &CertificateDer<'static> {
        &self.cert
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}

/// Returns the node at the other end of a connection, and its name.
pub(crate) fn of_peer(conn: &Connection) -> Result<(NodeId, String), String> {
    let identity = conn.peer_identity().ok_or("shows none")?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| "is of an unknown kind")?;
    subject(chain.first().ok_or("shows none")?)
}

/// Returns the node that a certificate names: the hash of its key, and its common name.
fn subject(cert: &CertificateDer<'_>) -> Result<(NodeId, String), String> {
    let (_, cert) = X509Certificate::from_der(cert).map_err(|e| format!("not a certificate: {e}"))?;
    let name = cert.subject().iter_common_name().next().and_then(|cn| cn.as_str().ok());
    let name = name.ok_or("the certificate has no common name")?;
    Ok((NodeId::of_public_key(cert.public_key().raw), name.to_owned()))
}

/// A certificate and its key, and the node that they name.
struct Pair {
    cert: CertificateDer<'static>,
    key: KeyPair,
    id: NodeId,
    name: String,
}

impl Pair {
    fn read(dir: &Path, cert_file: &str, key_file: &str) -> Result<Self, IdentityError> {
        let path = dir.join(cert_file);
        let cert = read(&path, CertificateDer::from_pem_slice)?;
        let key = read(&dir.join(key_file), |text| {
            let der = PrivateKeyDer::from_pem_slice(text).map_err(|why| why.to_string())?;
            KeyPair::try_from(&der).map_err(|why| why.to_string())
        })?;
        let (id, name) = subject(&cert).map_err(|why| unusable(&path, &why))?;
        if id != NodeId::of_public_key(&key.subject_public_key_info()) {
            return Err(unusable(&path, &format!("its key isn't the one in {key_file}")));
        }
        Ok(Pair { cert, key, id, name })
    }
}

fn unusable(path: &Path, why: &dyn Display) -> IdentityError {
    IdentityError::Unusable { path: path.to_owned(), why: why.to_string() }
}

fn read<T, E: Display>(path: &Path, parse: impl FnOnce(&[u8]) -> Result<T, E>) -> Result<T, IdentityError> {
    let text = fs::read(path).map_err(|source| IdentityError::Io { path: path.to_owned(), source })?;
    parse(&text).map_err(|why| unusable(path, &why))
}

fn pem(cert: &CertificateDer<'_>) -> String {
    pem::encode_config(&Pem::new("CERTIFICATE", &**cert), EncodeConfig::new().set_line_ending(LineEnding::LF))
}

fn refuse_existing(dir: &Path, files: &[&str]) -> Result<(), IdentityError> {
    match files.iter().map(|file| dir.join(file)).find(|path| path.exists()) {
        Some(path) => Err(IdentityError::Exists(path)),
        None => Ok(()),
    }
}

fn write_new(dir: &Path, file: &str, text: &str, mode: u32) -> Result<(), IdentityError> {
    let path = dir.join(file);
    let written = fs::create_dir_all(dir)
        .and_then(|()| fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path))
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    match written {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(IdentityError::Exists(path)),
        Err(source) => Err(IdentityError::Io { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_survive_their_files() {
        let dir = tempfile::tempdir().expect("a folder");
        let ca = Ca::generate().expect("a CA");
        ca.save(dir.path()).expect("saved");
        let again = Ca::load(dir.path()).expect("loaded");
        assert_eq!(again.cert, ca.cert);
        let node = again.issue("edge-1").expect("an identity");
        let folder = dir.path().join("edge-1");
        node.save(&folder).expect("saved");
        let read = Identity::load(&folder).expect("loaded");
        assert_eq!((read.id(), read.name()), (node.id(), "edge-1"));
        assert_eq!((&read.ca, &read.cert, read.key()), (&ca.cert, &node.cert, node.key()));
    }

    #[test]
    fn keys_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let ca = Ca::generate().expect("a CA");
        ca.save(dir.path()).expect("saved");
        ca.issue("a").and_then(|node| node.save(dir.path())).expect("saved");
        for (file, mode) in [(CA_KEY, 0o600), (NODE_KEY, 0o600), (CA_CERT, 0o644), (NODE_CERT, 0o644)] {
            let got = fs::metadata(dir.path().join(file)).expect(file).permissions().mode() & 0o777;
            assert_eq!(got & !mode, 0, "{file}: {got:o}");
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().expect("a folder");
        let ca = Ca::generate().expect("a CA");
        ca.save(dir.path()).expect("saved");
        let error = Ca::generate().expect("another").save(dir.path()).expect_err("a CA is there");
        assert!(error.to_string().contains("ca.pem: exists already"), "{error}");
        let node = ca.issue("a").expect("an identity");
        node.save(dir.path()).expect("beside its own CA");
        assert!(matches!(node.save(dir.path()), Err(IdentityError::Exists(_))));
    }

    #[test]
    fn errors_name_the_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let check = |expect: &str| {
            let error = Identity::load(dir.path()).expect_err(expect).to_string();
            assert!(error.contains(expect), "{error:?} should say {expect:?}");
        };
        check("ca.pem: No such file");
        let ca = Ca::generate().expect("a CA");
        ca.issue("a").and_then(|node| node.save(dir.path())).expect("saved");
        fs::remove_file(dir.path().join(NODE_KEY)).expect("removed");
        ca.issue("b").and_then(|node| node.save(&dir.path().join("b"))).expect("saved");
        fs::copy(dir.path().join("b/node.key"), dir.path().join(NODE_KEY)).expect("copied");
        check("node.pem: its key isn't the one in node.key");
        fs::write(dir.path().join(NODE_CERT), "rubbish").expect("written");
        check("node.pem: ");
    }

    #[test]
    fn a_key_beside_the_cas_certificate_stays_there() {
        let (dir, node) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let made = Ca::generate().expect("a CA");
        let both = format!("{}# the cluster's\n{}", made.issuer.key().serialize_pem(), pem(&made.cert));
        fs::write(dir.path().join(CA_CERT), both).expect("written");
        fs::write(dir.path().join(CA_KEY), made.issuer.key().serialize_pem()).expect("written");
        let ca = Ca::load(dir.path()).expect("loaded");
        ca.issue("a").and_then(|identity| identity.save(node.path())).expect("saved");
        let copied = fs::read_to_string(node.path().join(CA_CERT)).expect("written");
        assert!(copied.starts_with("-----BEGIN CERTIFICATE-----") && !copied.contains("PRIVATE"), "{copied}");
        assert_eq!(Identity::load(node.path()).expect("loaded").ca, made.cert);
    }

    #[test]
    fn names_are_plain() {
        let ca = Ca::generate().expect("a CA");
        for name in ["", "a b", "é", &"x".repeat(65)] {
            assert!(matches!(ca.issue(name), Err(IdentityError::Name(_))), "{name:?}");
        }
    }
}
