//! A push from its acceptance to its end.

use std::sync::Arc;

use damson_core::model::{Announced, InputClock, StreamName};
use damson_core::packager::Input;
use tokio::sync::{mpsc, oneshot};

use super::active::{Active, Place, PushInput};
use super::publish_request::Eviction;

/// The right to feed a stream, or a rendition of it. Dropping it detaches the publisher; the stream lingers.
///
/// It ends when it is dropped (the encoder went), when another takes the rendition over, when its keyframes aren't the
/// others', or when the node drains. A connection that hangs can't hold a name: taking over doesn't wait for it.
pub struct PublishSession {
    active: Arc<Active>,
    stream: StreamName,
    session: u64,
    inputs: mpsc::Sender<PushInput>,
    evicted: Option<oneshot::Receiver<Eviction>>,
}

/// The session is over: see [`PublishSession::evicted`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session is over")]
pub struct Gone;

impl PublishSession {
    pub(super) fn new(active: Arc<Active>, stream: StreamName, place: Place) -> Self {
        let Place { session, inputs, evicted } = place;
        PublishSession { active, stream, session, inputs, evicted: Some(evicted) }
    }

    /// The stream.
    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// Sends the publisher's first word: its clock, and what it announces. Waits while the queue is full.
    ///
    /// # Errors
    /// The session is over.
    pub async fn attach(&self, clock: InputClock, announced: Announced) -> Result<(), Gone> {
        self.feed(PushInput::Attach(clock, announced)).await
    }

    /// Sends what comes after that: languages, headers, frames, timed metadata. Waits while the queue is full.
    ///
    /// # Errors
    /// The session is over.
    pub async fn input(&self, input: Input) -> Result<(), Gone> {
        self.feed(PushInput::Media(input)).await
    }

    /// Returns when the session is ended from this side; the connection is to be closed with this reason.
    pub async fn evicted(&mut self) -> Eviction {
        let Some(evicted) = &mut self.evicted else {
            return std::future::pending().await;
        };
        let eviction = evicted.await.unwrap_or(Eviction::Draining);
        self.evicted = None;
        eviction
    }

    async fn feed(&self, input: PushInput) -> Result<(), Gone> {
        self.inputs.send(input).await.map_err(|_| Gone)
    }
}

impl Drop for PublishSession {
    fn drop(&mut self) {
        drop(self.active.release(&self.stream, self.session));
    }
}
