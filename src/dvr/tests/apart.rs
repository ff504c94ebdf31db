//! Nodes with archives, and nodes that fetch from them, without a mesh between.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use damson_core::link::query::{QueryAnswer, QueryError};
use damson_core::manifest::HttpError;
use damson_core::model::{Msn, NodeId, Peer, Record, TrackId};
use damson_core::swarm;
use damson_core::testing::playlist::ReadPlaylist;
use damson_core::testing::synthetic::{self, AUDIO, FIRST_MSN, PARTS, VIDEO};

use crate::clock;
use crate::dvr::archive_writer::ArchiveWriter;
use crate::dvr::fetcher::{Fetcher, QueryFuture, QueryNode};
use crate::dvr::settings::Settings;
use crate::edge::Store;
use crate::observe::Metrics;

#[derive(Debug, Default)]
struct Nodes {
    stores: Mutex<BTreeMap<NodeId, Arc<Store>>>,
    asked: AtomicUsize,
}

#[derive(Debug)]
struct Way(Arc<Nodes>);

impl QueryNode for Way {
    fn query(&self, whom: Peer, query: Bytes, max: usize, mut progress: Box<dyn FnMut() + Send>) -> QueryFuture<'_> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let store = self.0.stores.lock().expect("no panic").get(&whom.id).cloned();
        Box::pin(async move {
            let answer = store.ok_or(QueryError::Unreachable("dead".to_owned()))?.asked(query).await;
            progress();
            let QueryAnswer::Here(chunks) = answer else { return Err(QueryError::NotHere) };
            let answer = chunks.concat();
            assert!(answer.len() <= max);
            Ok(answer.into())
        })
    }
}

struct Cluster {
    nodes: Arc<Nodes>,
    record: Record,
    next: Msn,
}

impl Cluster {
    fn new() -> Cluster {
        Cluster { nodes: Arc::default(), record: synthetic::record("cam1"), next: FIRST_MSN }
    }

    /// Starts a node, with an archive if it has memory for one.
    fn node(&self, id: u64, memory: Option<u64>) -> Arc<Store> {
        let metrics = Arc::new(Metrics::default());
        let settings = |memory| Settings { depth: Duration::from_secs(600), memory, disk: None };
        let writer = memory.map(|m| ArchiveWriter::start(settings(m), Arc::clone(&metrics)).expect("no disk"));
        let fetcher = Fetcher::new(Box::new(Way(Arc::clone(&self.nodes))), Arc::clone(&metrics));
        let store = Store::with(metrics, writer, Some(Arc::clone(&fetcher)), None);
        tokio::spawn(fetcher.drive());
        self.nodes.stores.lock().expect("no panic").insert(NodeId(id), Arc::clone(&store));
        store
    }

    fn kill(&self, id: u64) {
        self.nodes.stores.lock().expect("no panic").remove(&NodeId(id));
    }

    /// Publishes the stream at a node, with as many segments as the swarm holds.
    fn join(&self, store: &Arc<Store>) {
        let peer = Peer { id: NodeId(99), addr: ([127, 0, 0, 1], 1).into() };
        let Record { stream, life, epoch, .. } = self.record.clone();
        store.announced(swarm::Entry { stream, life, epoch, refresh: 1, ingest: peer });
        self.tell();
        store.record(self.record.clone());
        (self.next.saturating_sub(18).max(FIRST_MSN)..self.next).for_each(|msn| self.segment(store, msn));
    }

    fn segment(&self, store: &Store, msn: Msn) {
        for (number, track) in (0..PARTS).flat_map(|n| [(n, VIDEO), (n, AUDIO)]) {
            let (header, body, trace) = synthetic::part(&self.record, track, msn, number, 1_000);
            store.part(&self.record.stream, header, body, trace, clock::now());
        }
    }

    fn run(&mut self, segments: u32) {
        let stores: Vec<_> = self.nodes.stores.lock().expect("no panic").values().cloned().collect();
        for _ in 0..segments {
            stores.iter().for_each(|store| self.segment(store, self.next));
            self.next += 1;
        }
    }

    /// Tells all nodes what all others keep, as the mesh does.
    fn tell(&self) {
        let stores = self.nodes.stores.lock().expect("no panic").clone();
        let kept = |(id, store): (&NodeId, &Arc<Store>)| {
            let node = Peer { id: *id, addr: ([127, 0, 0, 1], 1).into() };
            store.kept_here().into_iter().map(move |kept| swarm::Keeper { node, kept, stamp: 1 }).collect::<Vec<_>>()
        };
        let all: Vec<_> = stores.iter().flat_map(kept).collect();
        for (id, store) in &stores {
            store.kept(&self.record.stream, all.iter().filter(|k| k.node.id != *id).cloned().collect());
        }
    }

    async fn bytes(&self, store: &Store, track: TrackId, msn: Msn) -> Result<Bytes, HttpError> {
        let stream = store.get("cam1").expect("held");
        let segment = match stream.delisted(self.record.life, track, msn) {
            Some(segment) => segment,
            None => stream.archived(self.record.life, track, msn).await?,
        };
        Ok(segment.parts().flat_map(|part| part.body.to_vec()).collect())
    }

    fn made(&self, track: TrackId, msn: Msn) -> Bytes {
        (0..PARTS).flat_map(|n| synthetic::part(&self.record, track, msn, n, 1_000).1.to_vec()).collect()
    }
}

fn text(store: &Store) -> String {
    let stream = store.get("cam1").expect("held");
    let mut state = stream.lock();
    let (listed, _) = state.rendered();
    synthetic::playlist(listed, VIDEO).expect("listed")
}

async fn same(a: &Store, b: &Store) {
    while text(a) != text(b) {
        tokio::task::yield_now().await;
    }
}

fn status<T>(answer: Result<T, HttpError>) -> u16 {
    answer.err().map_or(200, |fault| fault.status)
}

#[tokio::test]
async fn an_edge_without_an_archive_shows_what_others_keep() {
    let mut cluster = Cluster::new();
    let (archive, edge) = (cluster.node(1, Some(100 << 20)), cluster.node(2, None));
    cluster.join(&archive);
    cluster.join(&edge);
    cluster.run(5);
    cluster.tell();
    cluster.run(60);
    same(&archive, &edge).await;
    let late = cluster.node(3, None);
    cluster.join(&late);
    {
        let stream = late.get("cam1").expect("held");
        assert!(stream.lock().dvr().is_awaited(), "nobody is shown less than elsewhere");
    }
    same(&archive, &late).await;
    assert!(!late.get("cam1").expect("held").lock().dvr().is_awaited());
    for track in [VIDEO, AUDIO] {
        for msn in [FIRST_MSN, FIRST_MSN + 7] {
            let got = cluster.bytes(&late, track, msn).await.expect("kept");
            assert!(got == cluster.made(track, msn), "{msn}");
        }
    }
    // It is fetched once, and then read from memory; no node has the last one.
    let asked = cluster.nodes.asked.load(Ordering::Relaxed);
    cluster.bytes(&late, VIDEO, FIRST_MSN).await.expect("kept");
    assert_eq!(cluster.nodes.asked.load(Ordering::Relaxed), asked);
    assert_eq!(status(cluster.bytes(&late, VIDEO, FIRST_MSN - 1).await), 404);
    assert_eq!(status(cluster.bytes(&late, VIDEO, cluster.next + 5).await), 404);
    assert_eq!(cluster.nodes.asked.load(Ordering::Relaxed), asked, "nobody is asked for what can't be");
    // A hundred players seek to one segment.
    let viewers = (0..100).map(|_| cluster.bytes(&late, VIDEO, FIRST_MSN + 9));
    for got in futures(viewers).await {
        assert!(got.expect("kept") == cluster.made(VIDEO, FIRST_MSN + 9));
    }
    assert_eq!(cluster.nodes.asked.load(Ordering::Relaxed), asked + 1);
}

/// Answers all requests at once.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in all.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(cx) {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_memory_that_is_gone_comes_back_from_others() {
    let mut cluster = Cluster::new();
    let (one, two) = (cluster.node(1, Some(100 << 20)), cluster.node(2, Some(100 << 20)));
    cluster.join(&one);
    cluster.join(&two);
    cluster.run(70);
    same(&one, &two).await;
    cluster.kill(2);
    cluster.run(30);
    let two = cluster.node(2, Some(100 << 20));
    cluster.join(&two);
    same(&one, &two).await;
    for msn in [FIRST_MSN, FIRST_MSN + 75] {
        assert!(cluster.bytes(&two, VIDEO, msn).await.expect("kept") == cluster.made(VIDEO, msn));
    }
    let kept = &two.kept_here()[0];
    assert_eq!((kept.from, kept.listed_from), (cluster.next - 18, cluster.next - 18), "of what it keeps itself");
    // The node goes on with an archive of its own.
    cluster.run(10);
    same(&one, &two).await;
    assert!(cluster.bytes(&two, VIDEO, cluster.next - 28).await.is_ok());
}

#[tokio::test]
async fn another_archive_answers_or_nobody_does() {
    let mut cluster = Cluster::new();
    let (one, two) = (cluster.node(1, Some(100 << 20)), cluster.node(2, Some(100 << 20)));
    cluster.join(&one);
    cluster.join(&two);
    cluster.run(70);
    let edge = cluster.node(3, None);
    cluster.join(&edge);
    same(&one, &edge).await;
    cluster.kill(1);
    for msn in FIRST_MSN..FIRST_MSN + 8 {
        assert!(cluster.bytes(&edge, VIDEO, msn).await.expect("the other has it") == cluster.made(VIDEO, msn));
    }
    cluster.kill(2);
    assert_eq!(status(cluster.bytes(&edge, VIDEO, FIRST_MSN + 8).await), 503, "both are known, and dead");
    cluster.tell();
    assert_eq!(status(cluster.bytes(&edge, VIDEO, FIRST_MSN + 8).await), 503, "it may be back");
    assert_eq!(status(cluster.bytes(&edge, VIDEO, FIRST_MSN).await), 200, "it was fetched");
    assert!(ReadPlaylist::parse(&text(&edge)).first == FIRST_MSN);
}
