//! Decides who may publish what, and starts one publication task for each stream, which several pushes may share.
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
use super::publication::{NewPackaging, Publication, Shared};
use super::publish_request::{Denied, PartSink, PublishRequest, Refused};
use super::publish_session::PublishSession;
use super::settings::Settings;

/// The streams that are published at this node.
#[derive(Clone)]
pub struct PublishRegistry {
    authorizer: Arc<dyn Authorizer>,
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

impl PublishRegistry {
    /// Makes a registry that publishes to `sink` the output of packagers with these settings.
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

    /// Makes a registry with another kind of packager.
    pub fn with_packaging(
        settings: Settings,
        authorizer: impl Authorizer,
        sink: Arc<dyn PartSink>,
        packaging: NewPackaging,
    ) -> Self {
        let active = Arc::new(Active::new(&settings));
        let shared = Arc::new(Shared { settings, active, sink, packaging });
        PublishRegistry { authorizer: Arc::new(authorizer), shared, tasks: TaskTracker::new() }
    }

    /// Begins a push of a stream, or of a rendition of it. It evicts a publisher that it may take over.
    ///
    /// # Errors
    /// The push isn't allowed, the stream is busy, or the node is full or drains.
    pub async fn publish(&self, request: PublishRequest) -> Result<PublishSession, Refused> {
        self.authorize(request.clone()).await?;
        self.publish_authorized(request)
    }

    /// Asks whether a push is allowed, without beginning it: for protocols that push by many requests.
    ///
    /// # Errors
    /// The push isn't allowed.
    pub async fn authorize(&self, request: PublishRequest) -> Result<(), Denied> {
        self.authorizer.authorize(request).await
    }

    /// Does what [`publish`](Self::publish) does, for a push that [is allowed](Self::authorize).
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish), except [`Refused::Denied`].
    pub fn publish_authorized(&self, request: PublishRequest) -> Result<PublishSession, Refused> {
        let active = &self.shared.active;
        let place = active.begin(&request, |commands| {
            let publication = Publication::new(request.stream.clone(), commands, Arc::clone(&self.shared));
            self.tasks.spawn(publication.run());
        })?;
        let PublishRequest { stream, rendition, remote, protocol, .. } = request;
        let (rendition, remote) = (rendition.as_ref().map(display), remote.as_ref().map(display));
        tracing::info!(%stream, rendition, remote, protocol, "an encoder publishes");
        Ok(PublishSession::new(Arc::clone(active), stream, place))
    }

    /// Takes note that another ingest node has published `stream` with `epoch`. If that is higher than our epoch, our
    /// publication ends without an ENDLIST, since the presentation goes on there.
    pub fn superseded(&self, stream: &StreamName, epoch: Epoch) {
        self.shared.active.superseded(stream, epoch);
    }

    /// Returns whether a push of the stream would go on with a presentation that the swarm holds.
    pub(super) async fn resumes(&self, stream: &StreamName) -> bool {
        self.shared.sink.resume(stream).await.is_some_and(|resume| resume.record.ended.is_none())
    }

    /// Returns how far another ingest node has published a stream that hasn't ended, as the swarm holds it: the newest
    /// segment, and the sum of the tracks' ends. Two equal results show that the stream has stalled there.
    pub async fn elsewhere(&self, stream: &StreamName) -> Option<(u64, u64)> {
        let resume = self.shared.sink.resume(stream).await?;
        let other = resume.record.epoch.node != self.shared.settings.node && resume.record.ended.is_none();
        let ends = resume.ends.iter().fold(0u64, |sum, (_, end)| sum.wrapping_add(*end));
        other.then_some((u64::from(resume.newest_msn), ends))
    }

    /// Returns the streams that are published here.
    pub fn streams(&self) -> Vec<StreamName> {
        self.shared.active.streams()
    }

    /// Refuses new pushes, ends every stream for good, and returns when all received media is published.
    pub async fn drain(&self) {
        self.shared.active.drain();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Returns whether a push from `other` may take over one from `holder`.
    pub fn may_take_over(&self, holder: Option<SocketAddr>, other: Option<SocketAddr>) -> bool {
        self.shared.active.may_take_over(holder, other)
    }
}

#[cfg(test)]
mod tests;
