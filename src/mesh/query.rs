//! Questions to any node of the cluster, and their answers.
//!
//! ```text
//!   asking node                                     asked node
//!   connection of its own (ALPN damson-ask/1) ----> Answers: so many at once, each within a time
//!     a bidirectional stream a question:
//!       question, end                         ---->  Sink::asked
//!       <----  0 | the answer, end   or   1: not here   or   2: busy
//! ```
//!
//! A link isn't used for this even where there is one: an answer is megabytes of a past that nobody waits for as
//! urgently as for what is live, and congestion control sees two connections. A connection that isn't used ends
//! after [`IDLE_TIMEOUT`](super::endpoint). What a question says is nothing to the mesh.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::crypto::rustls::HandshakeData;
use quinn::{ClientConfig, Connection, Endpoint, VarInt};
use tokio::sync::Semaphore;
use tracing::debug;

use super::connector;
use super::identity::SERVER_NAME;
use super::mesh::Sink;
use super::tls::ALPN_ASK;
use crate::mesh::link::code;
use damson_core::model::NodeId;
use damson_core::model::Peer;

/// The longest question, in bytes: a stream's name and a few numbers.
const QUESTION_LEN_MAX: usize = 1 << 10;
/// How long a question may take to come, once its stream has begun.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take. Whoever asks gives up sooner.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The most answers under way, each of which holds a segment in memory. More are told that we're busy.
const ANSWERS_MAX: usize = 32;
/// The most questions at once on one connection.
const STREAMS_MAX: u32 = 16;
/// The most connections that ask.
const CONNECTIONS_MAX: usize = 1_024;
/// The most connections kept for the next question.
const KEPT_MAX: usize = 64;

const HERE: u8 = 0;
const NOT_HERE: u8 = 1;
const BUSY: u8 = 2;

/// What a node answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These bytes, in order.
    Here(Vec<Bytes>),
    /// It has no answer.
    NotHere,
    /// It has too much to do.
    Busy,
}

/// An answer to come.
pub type Asked<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskFault {
    /// The node has none.
    #[error("the node hasn't got it")]
    NotHere,
    /// The node has too much to do.
    #[error("the node is busy")]
    Busy,
    /// It can't be reached, or the answer broke off.
    #[error("the node can't be asked: {0}")]
    Unreachable(String),
    /// Somebody else is at its address, or what it says can't be read.
    #[error("the node's answer: {0}")]
    Wrong(String),
}

fn unreachable(error: impl std::fmt::Display) -> AskFault {
    AskFault::Unreachable(error.to_string())
}

/// Asks.
#[derive(Debug)]
pub(crate) struct Asker {
    endpoint: Endpoint,
    config: ClientConfig,
    connections: Mutex<BTreeMap<NodeId, Connection>>,
}

impl Asker {
    pub(crate) fn new(endpoint: Endpoint, config: ClientConfig) -> Self {
        Asker { endpoint, config, connections: Mutex::default() }
    }

    pub(crate) async fn ask(
        &self,
        whom: Peer,
        question: Bytes,
        max: usize,
        mut progress: impl FnMut() + Send,
    ) -> Result<Bytes, AskFault> {
        let conn = self.connection(whom).await?;
        let (mut send, mut recv) = conn.open_bi().await.map_err(unreachable)?;
        send.write_chunk(question).await.map_err(unreachable)?;
        let _ = send.finish();
        let mut answer = BytesMut::new();
        while let Some(chunk) = recv.read_chunk(64 << 10, true).await.map_err(unreachable)? {
            progress();
            if answer.len() + chunk.bytes.len() > max.saturating_add(1) {
                return Err(AskFault::Wrong(format!("longer than {max} bytes")));
            }
            answer.extend_from_slice(&chunk.bytes);
        }
        let answer = answer.freeze();
        match answer.first() {
            Some(&HERE) => Ok(answer.slice(1..)),
            Some(&NOT_HERE) => Err(AskFault::NotHere),
            Some(&BUSY) => Err(AskFault::Busy),
            other => Err(AskFault::Wrong(format!("begins with {other:?}"))),
        }
    }

    async fn connection(&self, whom: Peer) -> Result<Connection, AskFault> {
        let known = {
            let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
            connections.get(&whom.id).filter(|conn| conn.close_reason().is_none()).cloned()
        };
        if let Some(conn) = known {
            return Ok(conn);
        }
        let dial = self.endpoint.connect_with(self.config.clone(), whom.addr, SERVER_NAME).map_err(unreachable)?;
        let conn = dial.await.map_err(unreachable)?;
        let (id, _) = connector::subject(&conn).map_err(AskFault::Wrong)?;
        if id != whom.id {
            conn.close(code::IDENTITY, b"another node was expected here");
            return Err(AskFault::Wrong(format!("{id} is there, another node")));
        }
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|_, conn| conn.close_reason().is_none());
        if connections.len() < KEPT_MAX {
            connections.insert(whom.id, conn.clone());
        }
        Ok(conn)
    }
}

/// Whether a peer has connected to ask.
pub(crate) fn is_for(conn: &Connection) -> bool {
    let data = conn.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    data.is_some_and(|data| data.protocol.as_deref() == Some(ALPN_ASK))
}

/// Answers.
#[derive(Clone)]
pub(crate) struct Answers {
    sink: Arc<dyn Sink>,
    connections: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

impl Answers {
    pub(crate) fn new(sink: Arc<dyn Sink>) -> Self {
        let (connections, answers) = (Semaphore::new(CONNECTIONS_MAX), Semaphore::new(ANSWERS_MAX));
        Answers { sink, connections: Arc::new(connections), answers: Arc::new(answers) }
    }

    /// Answers on this connection until it ends.
    pub(crate) fn serve(&self, conn: Connection) {
        let answers = self.clone();
        let Ok(permit) = self.connections.clone().try_acquire_owned() else {
            return conn.close(code::FULL, b"too many who ask");
        };
        conn.set_max_concurrent_bi_streams(VarInt::from_u32(STREAMS_MAX));
        tokio::spawn(async move {
            let _permit = permit;
            while let Ok((send, recv)) = conn.accept_bi().await {
                let answers = answers.clone();
                tokio::spawn(async move {
                    if tokio::time::timeout(ANSWER_TIMEOUT, answers.answer(send, recv)).await.is_err() {
                        debug!("an answer that isn't taken is given up");
                    }
                });
            }
        });
    }

    async fn answer(&self, mut send: quinn::SendStream, mut recv: quinn::RecvStream) {
        let question = tokio::time::timeout(QUESTION_TIMEOUT, recv.read_to_end(QUESTION_LEN_MAX)).await;
        // Too long, too late, or broken off; dropping the streams says so.
        let Ok(Ok(question)) = question else { return };
        let permit = self.answers.try_acquire();
        let answer = match permit {
            Ok(_) => self.sink.asked(question.into()).await,
            Err(_) => Answer::Busy,
        };
        let mut chunks = match answer {
            Answer::Here(chunks) => std::iter::once(Bytes::from_static(&[HERE])).chain(chunks).collect(),
            Answer::NotHere => vec![Bytes::from_static(&[NOT_HERE])],
            Answer::Busy => vec![Bytes::from_static(&[BUSY])],
        };
        if send.write_all_chunks(&mut chunks).await.is_ok() {
            let _ = send.finish();
            let _ = send.stopped().await;
        }
    }
}
