//! The edge over HTTP/2, in the clear and over TLS, and its limits for clients.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use damson::edge::Limits;
use damson::net::Tls;
use damson_core::testing::synthetic::{FIRST_MSN, PARTS, VIDEO};
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream};
use hyper::{Request, Response};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::edge_server::{LEN, NOW, PLAYLIST, Server, body};

/// A flow control window that never delays anything.
const WIDE: u32 = 16 << 20;

async fn server(limits: Limits) -> Server {
    Server::with(limits, Tls::self_signed(["localhost".to_owned()]).expect("a name")).await
}

/// A connection, and the result of driving it.
struct Client {
    send: SendRequest<Bytes>,
    ended: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, window: u32) -> Self {
        let mut builder = Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(WIDE);
        let (send, connection) = builder.handshake(io).await.expect("HTTP/2");
        Client { send, ended: tokio::spawn(connection) }
    }

    /// Connects in the clear, by prior knowledge.
    async fn plain(server: &Server) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.port)).await.expect("the edge listens");
        Client::over(stream, WIDE).await
    }

    async fn ask(&self, path: &str) -> Response<RecvStream> {
        self.asked(path, "").await.expect("an answer")
    }

    async fn asked(&self, path: &str, priority: &str) -> Result<Response<RecvStream>, h2::Error> {
        let request = Request::get(format!("http://edge{path}")).header("priority", priority).body(()).expect("valid");
        let mut send = self.send.clone().ready().await?;
        send.send_request(request, true)?.0.await
    }
}

fn header<'a>(response: &'a Response<RecvStream>, name: &str) -> &'a str {
    response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
}

async fn whole(response: Response<RecvStream>) -> Vec<u8> {
    let (mut body, mut out) = (response.into_body(), Vec::new());
    while let Some(chunk) = body.data().await {
        let chunk = chunk.expect("data");
        body.flow_control().release_capacity(chunk.len()).expect("it was taken");
        out.extend_from_slice(&chunk);
    }
    out
}

/// Accepts any certificate, and keeps it.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

async fn secure(server: &Server, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(("127.0.0.1", server.https)).await.expect("the edge listens");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
}

#[tokio::test]
async fn both_versions_give_the_same_bytes_in_the_clear_and_over_tls() {
    let server = server(Limits::default()).await;
    let record = server.feed(3, LEN);
    let tls = secure(&server, &[b"h2", b"http/1.1"]).await;
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let segment: Vec<u8> = (0..PARTS).flat_map(|p| body(&record, VIDEO, FIRST_MSN, p)).collect();
    for client in [Client::plain(&server).await, Client::over(tls, WIDE).await] {
        let playlist = client.ask(PLAYLIST).await;
        assert_eq!((playlist.status().as_u16(), header(&playlist, "priority")), (200, "u=1"));
        assert!(whole(playlist).await.starts_with(b"#EXTM3U"));
        let init = client.ask("/cam1/video/init.0.mp4").await;
        assert_eq!((header(&init, "priority"), header(&init, "content-length")), ("u=2", "13"));
        let part = client.ask(&format!("/cam1/video/{FIRST_MSN}.1.m4s")).await;
        assert_eq!(header(&part, "priority"), "u=3");
        assert!(whole(part).await == body(&record, VIDEO, FIRST_MSN, 1));
        let answer = client.ask(&format!("/cam1/video/{FIRST_MSN}.m4s")).await;
        assert_eq!((header(&answer, "priority"), header(&answer, "content-length")), ("u=6", "100000"));
        assert!(whole(answer).await == segment);
        let nothing = client.ask("/nobody/index.m3u8").await;
        assert_eq!(nothing.status().as_u16(), 404);
    }
    // A TLS client that offers HTTP/1.1, or no protocol.
    for alpn in [&[&b"http/1.1"[..]][..], &[]] {
        let mut tls = secure(&server, alpn).await;
        let request = format!("GET /cam1/video/{FIRST_MSN}.m4s HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n");
        tls.write_all(request.as_bytes()).await.expect("the edge reads");
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).await.expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(&segment));
    }
}

/// A held request and a growing segment share one connection.
#[tokio::test]
async fn requests_are_held_beside_each_other() {
    let server = server(Limits::default()).await;
    let record = server.feed(3, LEN);
    let client = Client::plain(&server).await;
    let growing = client.ask(&format!("/cam1/video/{NOW}.m4s")).await;
    assert_eq!(header(&growing, "priority"), "u=4, i");
    server.holds(1).await;
    let (playlist, part) = (format!("{PLAYLIST}?_HLS_msn={NOW}&_HLS_part=3"), format!("/cam1/video/{NOW}.3.m4s"));
    let held = async { tokio::join!(client.ask(&playlist), client.ask(&part)) };
    let feed = async {
        server.holds(3).await;
        server.part(&record, VIDEO, NOW, 3);
    };
    let ((playlist, part), ()) = tokio::join!(held, feed);
    assert!(String::from_utf8_lossy(&whole(playlist).await).contains(&format!("URI=\"{NOW}.3.m4s\"")));
    assert!(whole(part).await == body(&record, VIDEO, NOW, 3));
    for part in 4..PARTS {
        server.part(&record, VIDEO, NOW, part);
    }
    let expect: Vec<_> = (0..PARTS).flat_map(|p| body(&record, VIDEO, NOW, p)).collect();
    let got = whole(growing).await;
    assert_eq!((got.len(), got == expect), (expect.len(), true));
}

/// A preface may come a byte at a time. A request that only begins like one is HTTP/1.
#[tokio::test]
async fn a_preface_is_known_however_it_comes() {
    let server = server(Limits::default()).await;
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await.expect("the edge listens");
    stream.set_nodelay(true).expect("a socket");
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        stream.write_all(&[*byte]).await.expect("the edge reads");
        tokio::task::yield_now().await;
    }
    // An empty SETTINGS frame (RFC 9113 6.5); the edge answers with its own.
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("the edge reads");
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.expect("a frame");
    assert_eq!(frame[3], 4, "SETTINGS");
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await.expect("the edge listens");
    stream.write_all(b"PRI * HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n").await.expect("the edge reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_who_comes_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let lay = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
        std::fs::write(&cert, made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        made.cert.der().clone()
    };
    let first = lay();
    let server = Server::with(Limits::default(), Tls::from_files(&cert, &key).expect("a pair")).await;
    let shown =
        |tls: &TlsStream<TcpStream>| tls.get_ref().1.peer_certificates().expect("shown")[0].clone().into_owned();
    let old = secure(&server, &[b"h2"]).await;
    assert_eq!(shown(&old), first);
    let second = lay();
    assert!(server.tls.reload().expect("a pair"));
    assert_eq!(shown(&secure(&server, &[b"h2"]).await), second);
    assert_eq!(Client::over(old, WIDE).await.ask("/healthz").await.status().as_u16(), 200, "who was there stays");
}

/// Held requests are answered, and GOAWAY without an error follows.
#[tokio::test]
async fn a_node_that_goes_down_says_goodbye() {
    let server = server(Limits::default()).await;
    server.feed(3, LEN);
    let client = Client::plain(&server).await;
    let held = async {
        let answer = client.ask(&format!("{PLAYLIST}?_HLS_msn={NOW}&_HLS_part=3")).await;
        assert_eq!(answer.status().as_u16(), 503);
        assert!(whole(answer).await.starts_with(b"edge: shutting down"));
    };
    let stop = async {
        server.holds(1).await;
        server.shutdown.cancel();
    };
    tokio::join!(held, stop);
    drop(client.send);
    let ended = client.ended.await.expect("no panic");
    assert!(ended.is_ok(), "{ended:?}");
    server.task.await.expect("no panic");
}

/// A client that takes no data of one stream is dropped, whatever else it requests meanwhile.
#[tokio::test]
async fn a_stream_that_stalls_ends_its_connection() {
    let server = server(Limits { stall: Duration::from_millis(200), ..Limits::default() }).await;
    server.feed(3, LEN);
    let stream = TcpStream::connect(("127.0.0.1", server.port)).await.expect("the edge listens");
    let client = Client::over(stream, 0).await;
    let stalled = client.ask(&format!("/cam1/video/{FIRST_MSN}.m4s")).await;
    let mut asked = 0;
    while client.asked("/nobody/index.m3u8", "").await.is_ok() {
        asked += 1;
    }
    assert!(asked > 0, "others were answered meanwhile");
    drop(stalled);
    server.is_alone().await;
}

#[tokio::test]
async fn who_asks_and_takes_back_is_dropped() {
    let server = server(Limits::default()).await;
    server.feed(3, LEN);
    let client = Client::plain(&server).await;
    let path = format!("http://edge{PLAYLIST}?_HLS_msn={NOW}&_HLS_part=3");
    let mut taken_back = 0;
    while let Ok(mut send) = client.send.clone().ready().await {
        let Ok((answer, mut stream)) = send.send_request(Request::get(&path).body(()).expect("valid"), true) else {
            break;
        };
        tokio::task::yield_now().await;
        stream.send_reset(Reason::CANCEL);
        drop(answer);
        taken_back += 1;
        assert!(taken_back < 100_000, "nobody minds");
    }
    server.is_alone().await;
    server.holds(0).await;
}

#[tokio::test]
async fn so_many_streams_at_a_time_and_no_more_held_of_an_address() {
    let server = server(Limits { held_of_address: 3, ..Limits::default() }).await;
    server.feed(3, LEN);
    let (one, other) = (Client::plain(&server).await, Client::plain(&server).await);
    let path = format!("{PLAYLIST}?_HLS_msn={NOW}&_HLS_part=3");
    let held = tokio::spawn(async move { tokio::join!(one.ask(&path), one.ask(&path), one.ask(&path)) });
    server.holds(3).await;
    let refused = other.ask(&format!("{PLAYLIST}?_HLS_msn={NOW}&_HLS_part=4")).await;
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (503, "1"));
    assert!(String::from_utf8_lossy(&whole(refused).await).contains("of this address"));
    assert_eq!(other.ask(PLAYLIST).await.status().as_u16(), 200, "what is there is there for all");
    held.abort();
    server.holds(0).await;
    assert_eq!(other.send.current_max_send_streams(), 100);
}

/// RFC 9218 lets a server ignore urgencies, and h2 does: streams take turns, a frame each. So a short answer never
/// waits for a long one, but of two long ones the urgent one doesn't come first.
#[tokio::test]
async fn streams_take_turns_whatever_their_urgency() {
    const LARGE: usize = 200_000;
    let server = server(Limits::default()).await;
    server.feed(0, LARGE);
    let client = Client::plain(&server).await;
    let path = |segment: u32| format!("/cam1/video/{}.m4s", FIRST_MSN + segment);
    let (idle, urgent) = (path(0), path(1));
    let (idle, urgent) = tokio::join!(client.asked(&idle, "u=7"), client.asked(&urgent, "u=0"));
    let (mut idle, mut urgent) = (idle.expect("an answer").into_body(), urgent.expect("an answer").into_body());
    let (mut of_idle, mut of_urgent) = (0, 0);
    while of_urgent < LARGE * usize::from(PARTS) {
        tokio::select! {
            Some(chunk) = idle.data() => of_idle += chunk.expect("data").len(),
            Some(chunk) = urgent.data() => of_urgent += chunk.expect("data").len(),
        }
    }
    assert!(of_idle > of_urgent / 2, "{of_idle} bytes of the one, {of_urgent} of the other");
}
