//! Peers that misbehave, made of plain quinn.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use damson_core::link::frame::{Frame, FrameDecoder, Hello, VERSION};
use damson_core::model::NodeId;
use damson_core::model::time::Time;
use damson_core::plumtree::BodyEvent;
use damson_core::swarm::Input;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};

use super::fake::{Habits, Node, within};
use super::{body, issue, joining, loopback, pair};
use crate::mesh::control::{read_chunk, read_hello, write_hello};
use crate::mesh::identity::{Ca, Identity, SERVER_NAME};
use crate::mesh::{code, tls};

/// A peer that has said hello, and reads nothing by itself.
struct Stranger {
    conn: Connection,
    control: (SendStream, RecvStream),
    id: NodeId,
    _endpoint: Endpoint,
}

async fn connect(identity: &Identity, to: &Node, transport: TransportConfig) -> Result<Stranger, ConnectionError> {
    let client = tls::client(identity, tls::ALPN).expect("a good identity");
    let mut client = ClientConfig::new(Arc::new(client));
    client.transport_config(Arc::new(transport));
    let endpoint = Endpoint::client(loopback()).expect("a port");
    let conn = endpoint.connect_with(client, to.mesh.local_addr(), SERVER_NAME).expect("an address").await?;
    let (mut send, mut recv) = conn.open_bi().await?;
    let listen = endpoint.local_addr().expect("bound");
    let hello = Hello { version: VERSION, node: identity.id(), listen, stamp: 1 };
    let _ = write_hello(&mut send, hello).await;
    match read_hello(&mut recv, &mut FrameDecoder::default()).await {
        Ok(hello) => assert_eq!(hello.node, to.mesh.node_id()),
        Err(_) => return Err(conn.closed().await),
    }
    Ok(Stranger { conn, control: (send, recv), id: identity.id(), _endpoint: endpoint })
}

#[tokio::test]
async fn a_node_of_another_ca_is_refused() {
    let ca = Ca::generate().expect("a CA");
    let other = Ca::generate().expect("another CA");
    let (mut a, mut b) = pair(&ca, Habits::default(), Habits::default()).await;

    // Each refuses the other.
    let mut stranger = Node::start(issue(&other, "x"), loopback(), joining(&[&a]));
    stranger.hear(|input| matches!(input, Input::DialFailed { .. }).then_some(())).await;
    // A peer that trusts every node, but has no certificate of this CA: the identity of one CA with the trust of another.
    let posing = issue(&other, "y").trusting(&issue(&ca, "z"));
    let refused = connect(&posing, &a, TransportConfig::default()).await;
    assert!(matches!(refused.map(|_| ()), Err(ConnectionError::ConnectionClosed(_))), "closed by the handshake");

    let seen = within(a.mesh.snapshot()).await.expect("alive");
    assert_eq!(seen.links.len(), 1);
    assert!(seen.refused >= 1, "{seen:?}");
    a.publish(1, &body(1_000));
    b.part().await;
    a.part().await;
}

#[tokio::test]
async fn garbage_datagrams_disturb_nothing() {
    let ca = Ca::generate().expect("a CA");
    let (a, mut b) = pair(&ca, Habits::default(), Habits::default()).await;
    let socket = tokio::net::UdpSocket::bind(loopback()).await.expect("a port");
    for i in 0..500u32 {
        let mut garbage = i.to_be_bytes().repeat(1 + i as usize % 300);
        // Long and short headers, of version 1 and of none.
        garbage[0] = u8::try_from(i % 256).expect("below 256");
        socket.send_to(&garbage, a.mesh.local_addr()).await.expect("sent");
        if i % 50 == 0 {
            a.publish(i, &body(10_000));
            b.part().await;
        }
    }
    let seen = within(a.mesh.snapshot()).await.expect("alive");
    assert_eq!((seen.links.len(), seen.links[0].counters["bodies_sent"].as_u64() >= Some(9)), (1, true), "{seen:?}");
}

#[tokio::test]
async fn a_peer_that_reads_nothing_delays_nobody() {
    let ca = Ca::generate().expect("a CA");
    let brief = Habits { expiry: Duration::from_millis(300), ..Habits::default() };
    let (mut a, mut b) = pair(&ca, brief, Habits::default()).await;
    let mut narrow = TransportConfig::default();
    narrow.receive_window(VarInt::from_u32(64 << 10)).stream_receive_window(VarInt::from_u32(64 << 10));
    let wedged = connect(&issue(&ca, "w"), &a, narrow).await.expect("a good certificate");
    assert_eq!(a.up().await, wedged.id);
    let body = body(1 << 20);
    for msn in 0..64 {
        a.publish(msn, &body);
        // The other peer has every part before the next one is made.
        assert!(b.part().await.body == body, "part {msn}");
    }
    let stopped =
        a.hear(
            |input| if let Input::Body { peer, event: BodyEvent::Stopped(_), .. } = input { Some(*peer) } else { None },
        );
    assert_eq!(stopped.await, wedged.id, "it alone loses bodies");
    let seen = within(a.mesh.snapshot()).await.expect("alive");
    let good = seen.links.iter().find(|link| link.name == "b").expect("linked");
    assert!(good.counters["bodies_dropped"] == 0 && good.counters["bodies_stopped"] == 0, "{good:?}");
}

#[tokio::test]
async fn rubbish_ends_its_link_and_no_other() {
    let ca = Ca::generate().expect("a CA");
    let (mut a, mut b) = pair(&ca, Habits::default(), Habits::default()).await;
    let mut check = async |name: &str, why: &str, uni: bool, rubbish: &'static [u8]| {
        let mut stranger =
            connect(&issue(&ca, name), &a, TransportConfig::default()).await.expect("a good certificate");
        assert_eq!(a.up().await, stranger.id);
        if uni {
            let mut stream = stranger.conn.open_uni().await.expect("a stream");
            stream.write_all(rubbish).await.expect("sent");
            stream.finish().expect("open");
        } else {
            stranger.control.0.write_all(rubbish).await.expect("sent");
        }
        match within(stranger.conn.closed()).await {
            ConnectionError::ApplicationClosed(close) => {
                assert_eq!(close.error_code, code::PROTOCOL);
                let said = String::from_utf8_lossy(&close.reason).into_owned();
                assert!(said.contains(why), "{said:?} should say {why:?}");
            }
            e => panic!("{name}: {e}"),
        }
        a.hear(|input| matches!(input, Input::LinkDown { .. }).then_some(())).await;
    };
    check("long", "byte 0 of the frame: frame length: above the limit", false, b"\x04\xff\xff\xff\xff").await;
    check("short", "ping sent: the frame ends here", false, b"\x02\0\0\0\x01\0").await;
    check("head", "head of a body: byte 1 of the frame: head length", true, b"\x01\xff\xff").await;
    check("cut", "ended a body's stream at byte 3", true, b"\x01\0\x09").await;
    a.publish(1, &body(1_000));
    b.part().await;
}

#[tokio::test]
async fn streams_of_a_later_version_are_skipped() {
    let ca = Ca::generate().expect("a CA");
    let mut a = Node::start(issue(&ca, "a"), loopback(), Habits::default());
    let stranger = connect(&issue(&ca, "s"), &a, TransportConfig::default()).await.expect("a good certificate");
    assert_eq!(a.up().await, stranger.id);
    let mut stream = stranger.conn.open_uni().await.expect("a stream");
    stream.write_chunk(Bytes::from_static(b"\x09news")).await.expect("sent");
    assert_eq!(within(stream.stopped()).await.expect("the link lives"), Some(code::STREAM_UNKNOWN));
    assert_eq!(within(a.mesh.snapshot()).await.expect("alive").links.len(), 1);
}

#[tokio::test]
async fn one_exchange_tells_both_ends_the_time() {
    let ca = Ca::generate().expect("a CA");
    let mut a = Node::start(issue(&ca, "a"), loopback(), Habits::default());
    let mut stranger = connect(&issue(&ca, "s"), &a, TransportConfig::default()).await.expect("a good certificate");
    assert_eq!(a.up().await, stranger.id);
    let begun = Time::from_millis(7);
    let mut bytes = BytesMut::new();
    Frame::Ping { sent: begun }.encode(&mut bytes);
    stranger.control.0.write_all(&bytes).await.expect("sent");
    // The node sends its ping with its pong, and none by itself before.
    let mut decoder = FrameDecoder::default();
    let mut next = async || loop {
        if let Some(frame) = decoder.next_frame().expect("well formed") {
            return frame;
        }
        decoder.push(&within(read_chunk(&mut stranger.control.1)).await.expect("alive").expect("open"));
    };
    let Frame::Pong { echo, sent, .. } = next().await else { panic!("a pong first") };
    assert_eq!(echo, begun);
    assert_eq!(next().await, Frame::Ping { sent });
    // Our pong is an hour off. With our next ping, the core gets an estimate.
    let ours = sent + Duration::from_secs(3_600);
    let mut bytes = BytesMut::new();
    Frame::Pong { echo: sent, received: ours, sent: ours }.encode(&mut bytes);
    Frame::Ping { sent: ours }.encode(&mut bytes);
    stranger.control.0.write_all(&bytes).await.expect("sent");
    for _ in 0..2 {
        a.hear(|input| matches!(input, Input::LinkEstimate { .. }).then_some(())).await;
    }
    let seen = within(a.mesh.snapshot()).await.expect("alive");
    let offset = seen.links.first().and_then(|link| link.offset_us).expect("measured");
    assert!(offset > 3_590_000_000, "{offset} us");
}
