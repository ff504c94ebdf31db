//! Who may publish what, and one publication task a stream, which several pushes may feed.
//!
//! ```text
//! connection --request--> authorize --> one push a rendition --> PublishSession --inputs, bounded--> publication task
//!                                                                                          packager --> PartSink
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use damson_core::model::{Epoch, StreamName};
use damson_core::packager as media;
use damson_core::packager::Packager;
use tokio_util::task::TaskTracker;
use tracing::field::display;

use super::active::Active;
use super::authorizer::Authorizer;
use super::publication::{NewPackaging, Publication};
use super::publish_request::{Denied, PartSink, PublishRequest, Refused};
use super::publish_session::PublishSession;
use super::settings::Settings;

/// The streams that are published at this node.
#[derive(Clone)]
pub struct PublishRegistry {
    settings: Settings,
    authorizer: Arc<dyn Authorizer>,
    sink: Arc<dyn PartSink>,
    packaging: NewPackaging,
    active: Arc<Active>,
    tasks: TaskTracker,
}

impl PublishRegistry {
    /// Makes a registry that publishes to `sink` what packagers with these settings make.
    pub fn new(
        settings: Settings,
        media: media::Settings,
        authorizer: impl Authorizer,
        sink: Arc<dyn PartSink>,
    ) -> Self {
        let packaging: NewPackaging =
            Arc::new(move |stream, resume| Box::new(Packager::new(stream.clone(), media, resume)));
        Self::with_packaging(settings, authorizer, sink, packaging)
    }

    /// Makes one with another kind of packager.
    pub fn with_packaging(
        settings: Settings,
        authorizer: impl Authorizer,
        sink: Arc<dyn PartSink>,
        packaging: NewPackaging,
    ) -> Self {
        let (authorizer, active, tasks) = (Arc::new(authorizer), Arc::new(Active::new(&settings)), TaskTracker::new());
        PublishRegistry { settings, authorizer, sink, packaging, active, tasks }
    }

    /// Begins a push of a stream, or of a rendition of it. A publisher that is still there is evicted, if this one may
    /// take over.
    ///
    /// # Errors
    /// It isn't allowed, or there is no place for it.
    pub async fn publish(&self, request: PublishRequest) -> Result<PublishSession, Refused> {
        self.authorize(request.clone()).await?;
        self.publish_authorized(request)
    }

    /// Asks whether a push is allowed, and begins none: for inputs whose pushes are many requests.
    ///
    /// # Errors
    /// It isn't.
    pub async fn authorize(&self, request: PublishRequest) -> Result<(), Denied> {
        self.authorizer.authorize(request).await
    }

    /// Does what [`publish`](Self::publish) does, for a push that [is allowed](Self::authorize).
    ///
    /// # Errors
    /// All but [`Refused::Denied`].
    pub fn publish_authorized(&self, request: PublishRequest) -> Result<PublishSession, Refused> {
        let place = self.active.begin(&request, |control| {
            let (active, sink, packaging) = (self.active.clone(), self.sink.clone(), self.packaging.clone());
            let stream = request.stream.clone();
            self.tasks.spawn(Publication::new(stream, control, active, sink, packaging, self.settings).run());
        })?;
        let PublishRequest { stream, rendition, remote, protocol, .. } = request;
        let (rendition, remote) = (rendition.as_ref().map(display), remote.as_ref().map(display));
        tracing::info!(%stream, rendition, remote, protocol, "publishes");
        Ok(PublishSession::new(Arc::clone(&self.active), stream, place))
    }

    /// Another ingest has published `stream` with `epoch`: if that is higher than ours, ours is over, without
    /// an ENDLIST, for the life goes on there.
    pub fn superseded(&self, stream: &StreamName, epoch: Epoch) {
        self.active.superseded(stream, epoch);
    }

    /// Returns how far another ingest is with a stream whose life hasn't ended, as the swarm holds it: newest segment, and
    /// the ends of all tracks. Two of the same say that it doesn't go on.
    pub async fn elsewhere(&self, stream: &StreamName) -> Option<(u64, u64)> {
        let resume = self.sink.resume(stream).await?;
        let other = resume.record.epoch.node != self.settings.node && resume.record.ended.is_none();
        let ends = resume.ends.iter().fold(0u64, |sum, (_, end)| sum.wrapping_add(*end));
        other.then_some((u64::from(resume.newest_msn), ends))
    }

    /// Returns the streams that are published here.
    pub fn streams(&self) -> Vec<StreamName> {
        self.active.streams()
    }

    /// Ends every stream for good and returns once all that was received is published. New pushes are refused.
    pub async fn drain(&self) {
        self.active.drain();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Tells whether a push from `other` may do what one from `holder` does.
    pub fn may_take_over(&self, holder: Option<SocketAddr>, other: Option<SocketAddr>) -> bool {
        self.active.may_take_over(holder, other)
    }
}

#[cfg(test)]
mod tests;
