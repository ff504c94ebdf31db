//! A push from its acceptance to its end.

use std::sync::Arc;

use damson_core::model::{Announced, InputClock, StreamName};
use damson_core::packager::Input;

use super::active::{Active, Place, PushInput};
use super::publish_request::Eviction;

/// The right to push a stream, or a rendition of it. Dropping it detaches the publisher; the stream lingers.
///
/// It ends when it is dropped (the encoder left), when another connection takes the push over, when its keyframes don't
/// align with the other renditions', or when the node drains. A takeover doesn't wait for the connection, so a connection
/// that hangs can't hold a stream's name.
pub struct PublishSession {
    active: Arc<Active>,
    stream: StreamName,
    place: Place,
    over: Option<Eviction>,
}

impl PublishSession {
    pub(super) fn new(active: Arc<Active>, stream: StreamName, place: Place) -> Self {
        PublishSession { active, stream, place, over: None }
    }

    /// Returns the stream's name.
    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// Sends the clock of the push and the tracks that it announces, before anything else. Waits while the queue is full.
    ///
    /// # Errors
    /// This node has ended the session.
    pub async fn attach(&mut self, clock: InputClock, announced: Announced) -> Result<(), Eviction> {
        self.send(PushInput::Attach(clock, announced)).await
    }

    /// Sends media: languages, headers, frames, timed metadata. Waits while the queue is full.
    ///
    /// # Errors
    /// This node has ended the session.
    pub async fn input(&mut self, input: Input) -> Result<(), Eviction> {
        self.send(PushInput::Media(input)).await
    }

    /// Waits until this node ends the session, and returns why; the caller closes the connection with this reason.
    pub async fn evicted(&mut self) -> Eviction {
        if let Some(over) = self.over {
            return over;
        }
        let eviction = (&mut self.place.evicted).await.unwrap_or(Eviction::Draining);
        self.over = Some(eviction);
        eviction
    }

    async fn send(&mut self, input: PushInput) -> Result<(), Eviction> {
        match self.place.inputs.send(input).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.evicted().await),
        }
    }
}

impl Drop for PublishSession {
    fn drop(&mut self) {
        drop(self.active.release(&self.stream, self.place.session));
    }
}

/// Waits for the eviction of a session; for ever without one.
pub(super) async fn eviction_of(session: Option<&mut PublishSession>) -> Eviction {
    match session {
        Some(session) => session.evicted().await,
        None => std::future::pending().await,
    }
}
