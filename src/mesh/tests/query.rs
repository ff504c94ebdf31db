//! Queries between nodes, with a link and without.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use damson_core::link::query::{QueryAnswer, QueryError};
use damson_core::model::time::Time;
use damson_core::model::{NodeId, PartHeader, Peer, Record, StreamName, Trace};
use damson_core::swarm::{self, Entry};

use super::fake::within;
use super::{body, issue, loopback};
use crate::mesh::identity::Ca;
use crate::mesh::mesh::{Mesh, MeshConfig};
use crate::mesh::sink::{AnswerFuture, Sink};

/// Answers with as many bytes as the query asks for, up to a limit.
struct Counts;

impl Sink for Counts {
    fn record(&self, _: Record) {}
    fn part(&self, _: &StreamName, _: PartHeader, _: Bytes, _: Trace, _: Time) {}
    fn announced(&self, _: Entry) {}
    fn expired(&self, _: &StreamName) {}
    fn answer(&self, query: Bytes) -> AnswerFuture<'_> {
        Box::pin(async move {
            let n: Option<usize> = std::str::from_utf8(&query).ok().and_then(|n| n.parse().ok());
            n.map_or(QueryAnswer::NotHere, |n| QueryAnswer::Here(vec![body(n / 2), body(n - n / 2)]))
        })
    }
}

fn node(ca: &Ca, name: &str) -> Mesh {
    let hub = swarm::Config::gossip(Vec::new());
    let config =
        MeshConfig { identity: issue(ca, name), bind: loopback(), advertise: None, hub, seed: 1, traced: true };
    let (mesh, driver) = Mesh::open(config).expect("a free port");
    driver.start(Arc::new(Counts));
    mesh
}

fn at(mesh: &Mesh) -> Peer {
    Peer { id: mesh.node_id(), addr: mesh.local_addr() }
}

#[tokio::test]
async fn any_node_can_be_asked() {
    let ca = Ca::generate().expect("a CA");
    let (a, b) = (node(&ca, "a"), node(&ca, "b"));
    for n in [0, 1, 2_000_000] {
        let pieces = AtomicUsize::new(0);
        let progress = || {
            pieces.fetch_add(1, Ordering::Relaxed);
        };
        let answer = within(a.query(at(&b), n.to_string().into(), 2_000_000, progress)).await.expect("an answer");
        assert!(answer == [body(n / 2), body(n - n / 2)].concat(), "{n}");
        assert!(pieces.into_inner() > n / 100_000);
    }
    let ask = async |whom, query: &'static str| within(a.query(whom, query.into(), 1_000, || {})).await;
    assert!(matches!(ask(at(&b), "what?").await, Err(QueryError::NotHere)));
    assert!(matches!(ask(at(&b), "1001").await, Err(QueryError::Wrong(_))), "longer than it may be");
    let long = Bytes::from(vec![b'1'; 2_000]);
    assert!(matches!(
        within(a.query(at(&b), long, 10, || {})).await,
        Err(QueryError::Wrong(_) | QueryError::Unreachable(_))
    ));
    assert!(ask(at(&b), "10").await.is_ok(), "it goes on");
    // The node that is asked doesn't take the connection for a link.
    assert_eq!(within(b.snapshot()).await.expect("alive").links.len(), 0);
}

#[tokio::test]
async fn who_is_not_there_is_told() {
    let ca = Ca::generate().expect("a CA");
    let (a, b) = (node(&ca, "a"), node(&ca, "b"));
    let other = Peer { id: NodeId(7), ..at(&b) };
    assert!(matches!(within(a.query(other, "1".into(), 10, || {})).await, Err(QueryError::Wrong(_))), "another node");
    let strangers = Ca::generate().expect("another CA");
    let stranger = node(&strangers, "a");
    assert!(matches!(within(stranger.query(at(&b), "1".into(), 10, || {})).await, Err(QueryError::Unreachable(_))));
    let before = at(&b);
    assert!(within(a.query(before, "1".into(), 10, || {})).await.is_ok());
    b.shutdown().await;
    assert!(matches!(within(a.query(before, "1".into(), 10, || {})).await, Err(QueryError::Unreachable(_))));
    assert!(
        matches!(within(b.query(at(&a), "1".into(), 10, || {})).await, Err(QueryError::Unreachable(_))),
        "shut down"
    );
}
