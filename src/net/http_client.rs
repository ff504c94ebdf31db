//! The HTTP/1.1 client, for `damson trace`, for `on_publish`, and for the export of traces.
//!
//! It opens a connection for each request, since all its users ask seldom. HTTPS trusts the certificates that the system does.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::header::{CONNECTION, CONTENT_TYPE, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::{Deserialize as _, Deserializer};
use url::Url;

/// The longest time of a request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest body of an answer, in bytes: a trace of many hops is 1 MB.
const BODY_MAX: usize = 16 << 20;

/// Reads an `http://` or `https://` URL. `http://` may be left out.
///
/// # Errors
/// The text says what is wrong with the URL.
pub fn parse_url(text: &str) -> Result<Url, String> {
    let fault = |what: &str| format!("{text:?} isn't a URL to send requests to: {what}");
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&with_scheme).map_err(|error| fault(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(fault("it is neither http:// nor https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fault("it must have a host, and no user"));
    }
    Ok(url)
}

/// Reads a URL of a settings file.
///
/// # Errors
/// Those of [`parse_url`].
pub fn deserialize_url<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Url>, D::Error> {
    parse_url(&String::deserialize(d)?).map(Some).map_err(serde::de::Error::custom)
}

/// The certificates that are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The certificates that the system trusts.
    System,
    /// Any certificate: a demo makes its own.
    Anyone,
}

/// The reason why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpClientError {
    /// The server can't be reached, doesn't speak HTTP, or has closed the connection.
    #[error("{}", root(&**.0))]
    Broken(#[source] Box<dyn Error + Send + Sync>),
    /// The URL can't be used in a request.
    #[error(transparent)]
    Url(#[from] hyper::http::Error),
    /// TLS can't be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The answer took too long.
    #[error("no answer in {TIMEOUT:?}")]
    Late,
    /// The answer is too long.
    #[error("the answer is longer than {BODY_MAX} bytes")]
    Long,
}

/// Returns the first cause of an error: the errors above it only say that a connection failed.
fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    std::iter::successors(Some(error), |&error| error.source()).last().unwrap_or(error)
}

/// Sends requests, each over a connection of its own.
#[derive(Debug, Clone)]
pub struct HttpClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl HttpClient {
    /// Returns a client that trusts these certificates.
    ///
    /// # Errors
    /// The build has no cipher.
    pub fn new(trust: Trust) -> Result<Self, HttpClientError> {
        let provider = Arc::new(ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let mut config = match trust {
            Trust::System => {
                let mut roots = RootCertStore::empty();
                // A root certificate that can't be read isn't trusted.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Trust::Anyone => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(TrustAnyone(provider)))
                .with_no_client_auth(),
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // A server may route by ALPN, which the connector's own builder would leave empty.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let connector = HttpsConnector::from((tcp, config));
        Ok(HttpClient(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)))
    }

    /// Sends a GET request.
    ///
    /// # Errors
    /// There is no answer. An answer with any status isn't an error.
    pub async fn get(&self, url: &Url) -> Result<Response<Bytes>, HttpClientError> {
        self.ask(Method::GET, url, Bytes::new()).await
    }

    /// Sends a POST request with a JSON body.
    ///
    /// # Errors
    /// There is no answer. An answer with any status isn't an error.
    pub async fn post_json(&self, url: &Url, json: Bytes) -> Result<Response<Bytes>, HttpClientError> {
        self.ask(Method::POST, url, json).await
    }

    async fn ask(&self, method: Method, url: &Url, body: Bytes) -> Result<Response<Bytes>, HttpClientError> {
        let request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(USER_AGENT, concat!("damson/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let asked = async {
            let answer = self.0.request(request).await.map_err(|error| HttpClientError::Broken(error.into()))?;
            let (head, body) = answer.into_parts();
            match Limited::new(body, BODY_MAX).collect().await {
                Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
                Err(error) if error.is::<LengthLimitError>() => Err(HttpClientError::Long),
                Err(error) => Err(HttpClientError::Broken(error)),
            }
        };
        tokio::time::timeout(TIMEOUT, Box::pin(asked)).await.map_err(|_| HttpClientError::Late)?
    }
}

/// Trusts any certificate, if the server has its key.
#[derive(Debug)]
struct TrustAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnyone {
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn urls_are_read_as_people_write_them() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(parse_url(text).ok().as_ref().map(Url::as_str), expect, "{text}");
        };
        check("http://127.0.0.1:8080/cam1", Some("http://127.0.0.1:8080/cam1"));
        check("localhost:8080", Some("http://localhost:8080/"));
        check("https://edge.example/a?b=c", Some("https://edge.example/a?b=c"));
        check("http://[::1]:9/", Some("http://[::1]:9/"));
        check("ftp://x/", None);
        check("http://user@host/", None);
        check("http://", None);
        check("", None);
    }

    /// Returns what the client reads of a server that takes one connection, reads a request's head, and sends this answer.
    async fn says(answer: impl AsRef<[u8]>) -> Result<Response<Bytes>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = parse_url(&listener.local_addr().expect("bound").to_string()).expect("a URL");
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut head).await.expect("a request") > 0);
            }
            let head = String::from_utf8(head).expect("ASCII").to_ascii_lowercase();
            assert!(head.starts_with("get / http/1.1\r\n") && head.contains("connection: close\r\n"), "{head}");
            let _ = stream.write_all(answer.as_ref()).await;
        };
        let client = HttpClient::new(Trust::System).expect("ciphers");
        let (said, ()) = tokio::join!(client.get(&url), serve);
        said.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn an_answer_of_any_status_is_no_error() {
        let answer = says("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno").await.expect("an answer");
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (404, &b"no"[..]));
        let answer = says("HTTP/1.1 200 OK\r\n\r\nuntil the end").await.expect("an answer");
        assert_eq!(&answer.body()[..], b"until the end");
    }

    #[tokio::test]
    async fn an_error_says_what_is_wrong() {
        let long = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; BODY_MAX + 1]].concat();
        assert_eq!(says(long).await.expect_err("too long"), "the answer is longer than 16777216 bytes");
        let error = says("SSH-2.0-x\r\n").await.expect_err("no HTTP");
        assert!(error.contains("HTTP"), "{error}");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = parse_url(&listener.local_addr().expect("bound").to_string()).expect("a URL");
        drop(listener);
        let error = HttpClient::new(Trust::System).expect("ciphers").get(&url).await.expect_err("nobody is there");
        assert!(error.to_string().starts_with("Connection refused"), "{error}");
    }
}
