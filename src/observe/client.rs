//! A small HTTP/1.1 client, by HTTP or HTTPS: for `damson trace`, and for traces that are exported.
//!
//! One request a connection, as both ask seldom. Whom to believe by HTTPS is the system's to say.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a request may take in all.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest body that is taken, in bytes: a trace of many hops is 1 MB.
const BODY_MAX: usize = 16 << 20;

/// Where to ask: an `http://` or `https://` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    is_https: bool,
    /// As the `Host` header has it.
    authority: String,
    host: String,
    port: u16,
    /// With the query, if there is one.
    path: String,
}

impl Url {
    /// The path and the query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The same server at another path.
    pub fn at(&self, path: impl Into<String>) -> Url {
        Url { path: path.into(), ..self.clone() }
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = |what: &str| format!("{text:?} is no URL that can be asked: {what}");
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = with_scheme.parse().map_err(|e: hyper::http::uri::InvalidUri| fault(&e.to_string()))?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(fault("it is neither http:// nor https://")),
        };
        let authority = uri.authority().ok_or_else(|| fault("it has no host"))?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(fault("it needs a host, and no user"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Url { is_https, authority: authority.to_string(), host, port, path })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.is_https { "https" } else { "http" }, self.authority, self.path)
    }
}

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Whose certificates are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Those that the system takes.
    System,
    /// Any: a demo makes its own.
    Anyone,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server can't be reached, or the connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It isn't HTTP that is spoken there.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The host's name can't be in a certificate, or in a request.
    #[error("{0:?} is no name of a host")]
    Host(String),
    /// TLS can't be had at all.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// It took too long.
    #[error("no answer in {TIMEOUT:?}")]
    Late,
    /// The answer is too long.
    #[error("the answer is longer than {BODY_MAX} bytes")]
    Long,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// Asks.
#[derive(Clone)]
pub struct Client {
    tls: TlsConnector,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// A client that takes these certificates.
    ///
    /// # Errors
    /// No cipher at all, which is a fault of the build.
    pub fn new(trust: Trust) -> Result<Self, ClientError> {
        let provider = Arc::new(ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let mut config = match trust {
            Trust::System => {
                let mut roots = RootCertStore::empty();
                // What can't be read isn't believed; a server that needed it is refused, by name.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Trust::Anyone => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Credulous(provider)))
                .with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Client { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// GET.
    ///
    /// # Errors
    /// No answer; an answer of any status is none.
    pub async fn get(&self, url: &Url) -> Result<Answer, ClientError> {
        self.ask(url, Method::GET, None).await
    }

    /// POST of a JSON body.
    ///
    /// # Errors
    /// No answer; an answer of any status is none.
    pub async fn post_json(&self, url: &Url, json: Bytes) -> Result<Answer, ClientError> {
        self.ask(url, Method::POST, Some(json)).await
    }

    async fn ask(&self, url: &Url, method: Method, body: Option<Bytes>) -> Result<Answer, ClientError> {
        let asked = async {
            let stream = TcpStream::connect((url.host.as_str(), url.port)).await?;
            stream.set_nodelay(true)?;
            if !url.is_https {
                return exchange(stream, url, method, body).await;
            }
            let name = ServerName::try_from(url.host.clone()).map_err(|_| ClientError::Host(url.host.clone()))?;
            exchange(self.tls.connect(name, stream).await?, url, method, body).await
        };
        tokio::time::timeout(TIMEOUT, Box::pin(asked)).await.map_err(|_| ClientError::Late)?
    }
}

async fn exchange(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &Url,
    method: Method,
    body: Option<Bytes>,
) -> Result<Answer, ClientError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    let host = || ClientError::Host(url.authority.clone());
    let mut request = Request::new(Whole(body));
    *request.method_mut() = method;
    *request.uri_mut() = url.path.parse().map_err(|_| host())?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(&url.authority).map_err(|_| host())?);
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("damson/", env!("CARGO_PKG_VERSION"))));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let talk = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut all = BytesMut::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Ok(data) = frame?.into_data() else { continue };
            if all.len() + data.remaining() > BODY_MAX {
                return Err(ClientError::Long);
            }
            all.extend_from_slice(&data);
        }
        Ok(Answer { status, body: all.freeze() })
    };
    let mut connection = std::pin::pin!(connection);
    let mut talk = std::pin::pin!(talk);
    tokio::select! {
        answer = talk.as_mut() => answer,
        ended = connection.as_mut() => {
            // It may have ended with the answer.
            ended?;
            talk.await
        }
    }
}

/// A request's body.
struct Whole(Option<Bytes>);

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// Takes any certificate, though only from who has its key.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_people_write_them() {
        let check = |text: &str, expect: Option<(&str, u16, &str)>| {
            let url = text.parse::<Url>().ok();
            assert_eq!(url.as_ref().map(|u| (u.host.as_str(), u.port, u.path())), expect, "{text}");
        };
        check("http://127.0.0.1:8080/cam1", Some(("127.0.0.1", 8080, "/cam1")));
        check("localhost:8080", Some(("localhost", 8080, "/")));
        check("https://edge.example/a?b=c", Some(("edge.example", 443, "/a?b=c")));
        check("http://[::1]:9/", Some(("::1", 9, "/")));
        check("ftp://x/", None);
        check("http://user@host/", None);
        check("http://", None);
        check("", None);
    }
}
