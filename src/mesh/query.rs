//! Queries to any node of the cluster, and their answers.
//!
//! ```text
//!   asking node: QueryClient                        asked node: QueryServer
//! connection of its own (ALPN damson-ask/1) ----> a limited number of answers at once
//!     a bidirectional stream a query:
//!       query, end                            ---->  Sink::answer
//!       <----  0 | the answer, end   or   1: not here   or   2: busy
//! ```
//!
//! A link isn't used for queries: an answer is megabytes of an archive, which are less urgent than live parts, and congestion
//! control sees two connections. A connection that isn't used ends after [`IDLE_TIMEOUT`](super::endpoint). The mesh doesn't
//! read queries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use damson_core::link::query::{QueryAnswer, QueryError};
use damson_core::model::{NodeId, Peer};
use parking_lot::Mutex;
use quinn::crypto::rustls::HandshakeData;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, VarInt};
use tokio::sync::Semaphore;
use tracing::debug;

use super::identity::SERVER_NAME;
use super::sink::Sink;
use super::tls::ALPN_QUERY;
use super::{code, identity};

/// The longest query, in bytes: a stream's name and a few numbers.
const QUERY_LEN_MAX: usize = 1 << 10;
/// The longest time from the start of a query's stream to its end.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest time of an answer. The asking node gives up sooner.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The most answers at once, each of which holds a segment in memory. Further queries are answered with busy.
const ANSWERS_MAX: usize = 32;
/// The most queries at once on one connection.
const STREAMS_MAX: u32 = 16;
/// The most connections for queries.
const CONNECTIONS_MAX: usize = 1_024;
/// The most connections that are kept for the next query.
const KEPT_MAX: usize = 64;

fn unreachable(error: impl std::fmt::Display) -> QueryError {
    QueryError::Unreachable(error.to_string())
}

/// Sends queries to other nodes.
#[derive(Debug)]
pub(crate) struct QueryClient {
    endpoint: Endpoint,
    config: ClientConfig,
    connections: Mutex<BTreeMap<NodeId, Connection>>,
}

impl QueryClient {
    pub(crate) fn new(endpoint: Endpoint, config: ClientConfig) -> Self {
        QueryClient { endpoint, config, connections: Mutex::default() }
    }

    /// Asks a node. The answer has at most `max` bytes; `progress` is called for each piece of it.
    pub(crate) async fn query(
        &self,
        whom: Peer,
        query: Bytes,
        max: usize,
        mut progress: impl FnMut() + Send,
    ) -> Result<Bytes, QueryError> {
        let conn = self.connection(whom).await?;
        let (mut send, mut recv) = conn.open_bi().await.map_err(unreachable)?;
        send.write_chunk(query).await.map_err(unreachable)?;
        let _ = send.finish();
        let mut answer = BytesMut::new();
        while let Some(chunk) = recv.read_chunk(64 << 10, true).await.map_err(unreachable)? {
            progress();
            if answer.len() + chunk.bytes.len() > max.saturating_add(1) {
                return Err(QueryError::Wrong(format!("longer than {max} bytes")));
            }
            answer.extend_from_slice(&chunk.bytes);
        }
        QueryAnswer::decode(&answer.freeze())
    }

    async fn connection(&self, whom: Peer) -> Result<Connection, QueryError> {
        let known = self.connections.lock().get(&whom.id).filter(|conn| conn.close_reason().is_none()).cloned();
        if let Some(conn) = known {
            return Ok(conn);
        }
        let dial = self.endpoint.connect_with(self.config.clone(), whom.addr, SERVER_NAME).map_err(unreachable)?;
        let conn = dial.await.map_err(unreachable)?;
        let (id, _) = identity::of_peer(&conn).map_err(QueryError::Wrong)?;
        if id != whom.id {
            conn.close(code::IDENTITY, b"another node was expected here");
            return Err(QueryError::Wrong(format!("node {id} is there, and another one was expected")));
        }
        let mut connections = self.connections.lock();
        connections.retain(|_, conn| conn.close_reason().is_none());
        if connections.len() < KEPT_MAX {
            connections.insert(whom.id, conn.clone());
        }
        Ok(conn)
    }
}

/// Tells whether a connection is for queries.
pub(crate) fn is_for(conn: &Connection) -> bool {
    let data = conn.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    data.is_some_and(|data| data.protocol.as_deref() == Some(ALPN_QUERY))
}

/// Answers the queries of other nodes.
#[derive(Clone)]
pub(crate) struct QueryServer {
    sink: Arc<dyn Sink>,
    connections: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

impl QueryServer {
    pub(crate) fn new(sink: Arc<dyn Sink>) -> Self {
        let (connections, answers) = (Semaphore::new(CONNECTIONS_MAX), Semaphore::new(ANSWERS_MAX));
        QueryServer { sink, connections: Arc::new(connections), answers: Arc::new(answers) }
    }

    /// Answers on this connection until it ends.
    pub(crate) fn serve(&self, conn: Connection) {
        let server = self.clone();
        let Ok(permit) = self.connections.clone().try_acquire_owned() else {
            return conn.close(code::FULL, b"too many connections for queries");
        };
        conn.set_max_concurrent_bi_streams(VarInt::from_u32(STREAMS_MAX));
        tokio::spawn(async move {
            let _permit = permit;
            while let Ok((send, recv)) = conn.accept_bi().await {
                let server = server.clone();
                tokio::spawn(async move {
                    if tokio::time::timeout(ANSWER_TIMEOUT, server.answer(send, recv)).await.is_err() {
                        debug!("gave up an answer that the asking node doesn't read");
                    }
                });
            }
        });
    }

    async fn answer(&self, mut send: SendStream, mut recv: RecvStream) {
        let query = tokio::time::timeout(QUERY_TIMEOUT, recv.read_to_end(QUERY_LEN_MAX)).await;
        // The query is too long, too late, or broken off. The asking node sees it by the end of the streams.
        let Ok(Ok(query)) = query else { return };
        let permit = self.answers.try_acquire();
        let answer = match permit {
            Ok(_) => self.sink.answer(query.into()).await,
            Err(_) => QueryAnswer::Busy,
        };
        if send.write_all_chunks(&mut answer.encode()).await.is_ok() {
            let _ = send.finish();
            let _ = send.stopped().await;
        }
    }
}
