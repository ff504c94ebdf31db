//! The desk: who may publish what, and one publication task a stream, which several pushes may feed.
//!
//! ```text
//! connection --claim--> authorize --> one push a rendition --> Claim --inputs, bounded--> publication task
//!                                                                                     packager --> Publisher
//! ```
//!
//! A claim is a tenure of a stream's rendition, or of the stream as such: it ends when it is dropped (the encoder went),
//! when another takes the rendition over, when its keyframes aren't the others', or when the node drains. A connection
//! that hangs can't hold a name: taking over doesn't wait for it.

use damson_core::packager;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use self::publication::{Control, Publication, Tenure};
use damson_core::model::time::Time;
use damson_core::model::{AccessUnit, Announced, Clocks, CodecConfig, Feed, InputClock, InputTrack, Message, Resume};
use damson_core::model::{Epoch, NodeId, PartHeader, Record, Rendition, StreamName};
use damson_core::packager::{Input, Notice, Output, Packager, Refusal};

mod meter;
mod publication;

/// A future that can be kept.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who wants to publish, and as what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishRequest {
    /// The stream.
    pub stream: StreamName,
    /// What it is a rendition of it as; `None` for the stream as such.
    pub rendition: Option<Rendition>,
    /// The application of the URL: `live`.
    pub app: String,
    /// What stood behind `?`: where keys will be.
    pub query: Option<String>,
    /// The encoder; `None` for a file of our own.
    pub remote: Option<SocketAddr>,
    /// `rtmp`, `file`.
    pub protocol: &'static str,
}

/// The one point that every publish passes.
pub trait Authorizer: Send + Sync + 'static {
    /// Lets a publish through, or says why not.
    fn authorize(&self, request: PublishRequest) -> BoxFuture<'_, Result<(), Denied>>;
}

/// Lets everybody publish.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn authorize(&self, _: PublishRequest) -> BoxFuture<'_, Result<(), Denied>> {
        Box::pin(async { Ok(()) })
    }
}

/// Why a publish isn't allowed, as the encoder is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Denied(pub String);

/// Where the publications' output goes. Nothing here may block.
pub trait Publisher: Send + Sync + 'static {
    /// A new or changed record; always before the first part that needs it.
    fn record(&self, record: Record);
    /// A complete part.
    fn part(&self, stream: &StreamName, header: PartHeader, body: Bytes);
    /// What the swarm holds of the stream, asked before each publisher's first frame.
    fn resume(&self, stream: &StreamName) -> BoxFuture<'_, Option<Resume>>;
    /// What the packager has to say, to be counted; it is logged here.
    fn notice(&self, _stream: &StreamName, _notice: &Notice) {}
    /// The stream's publication is over: its life has ended, or another ingest goes on with it.
    fn ended(&self, stream: &StreamName);
}

/// What cuts a stream's access units into parts: the packager, and in tests a recorder.
pub trait Packaging: Send {
    /// As the packager's.
    fn handle(&mut self, clocks: Clocks, input: Input);
    /// As the packager's.
    fn poll_output(&mut self) -> Option<Output>;
    /// As the packager's.
    fn poll_timeout(&self) -> Option<Time>;
}

impl Packaging for Packager {
    fn handle(&mut self, clocks: Clocks, input: Input) {
        Packager::handle(self, clocks, input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        Packager::poll_output(self)
    }

    fn poll_timeout(&self) -> Option<Time> {
        Packager::poll_timeout(self)
    }
}

/// Makes a stream's packager, to go on where the swarm is.
pub type NewPackaging = Box<dyn Fn(&StreamName, Option<Resume>) -> Box<dyn Packaging> + Send + Sync>;

/// Who may take a stream over from a publisher that is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Takeover {
    /// The same IP address alone: an encoder that returns before its old connection is known to be dead.
    #[default]
    SameAddress,
    /// Whoever is authorised.
    Any,
}

/// The desk's settings.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// This node, for the epochs it claims.
    pub node: NodeId,
    /// Who may take over.
    pub takeover: Takeover,
    /// What a push may send for long, in bits per second.
    pub bit_rate_max: u64,
    /// Pushes at a time, by all protocols together. Who takes a push over needs no place of its own.
    pub pushes_max: usize,
}

impl Settings {
    /// [`bit_rate_max`](Settings::bit_rate_max): above what encoders send, and below what parts can hold.
    pub const BIT_RATE_MAX: u64 = 100_000_000;
    /// [`pushes_max`](Settings::pushes_max): more than a machine packages.
    pub const PUSHES_MAX: usize = 1_024;
}

/// Streams at one node at a time, those included that wait for their publishers' return.
pub const STREAMS_MAX: usize = 4_096;
/// Inputs that wait for a stream's publication task: about a second of video and audio.
const QUEUE_LEN: usize = 64;

/// Why a claim is refused. Its text is for the encoder: other publishers' addresses are logged, not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not authorised.
    #[error("not allowed: {0}")]
    Denied(#[from] Denied),
    /// Somebody else publishes it.
    #[error("stream {0} is busy: another address pushes it (takeover = \"any\" would let this one take over)")]
    Busy(StreamName),
    /// [`Feed::COUNT_MAX`] renditions already.
    #[error("stream {0} has its {max} renditions", max = Feed::COUNT_MAX)]
    Renditions(StreamName),
    /// [`Settings::pushes_max`] pushes, or [`STREAMS_MAX`] streams already.
    #[error("this ingest has all the pushes that it takes (--pushers)")]
    Full,
    /// The node is about to stop.
    #[error("this ingest is shutting down")]
    Draining,
}

/// Why a tenure was ended from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// Another connection publishes the stream now.
    TakenOver,
    /// Another ingest has claimed a higher epoch.
    Superseded,
    /// The rendition doesn't fit those that others push.
    Refused(Refusal),
    /// It has sent more than this for long, in bits per second.
    BitRate(u64),
    /// The node is about to stop.
    Draining,
}

impl fmt::Display for Eviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Eviction::TakenOver => "another connection has taken the stream over",
            Eviction::Superseded => "the stream is published at another ingest now",
            Eviction::Refused(why) => return why.fmt(f),
            Eviction::BitRate(limit) => {
                let limit = *limit as f64 / 1e6;
                return write!(
                    f,
                    "it sends more than {limit} Mb/s: set the encoder to less, or --bit-rate-max to more"
                );
            }
            Eviction::Draining => "this ingest is shutting down",
        })
    }
}

/// See the module.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    settings: Settings,
    authorizer: Box<dyn Authorizer>,
    publisher: Arc<dyn Publisher>,
    packaging: NewPackaging,
    board: Mutex<Board>,
    tasks: TaskTracker,
}

/// Who publishes what at this moment.
#[derive(Default)]
struct Board {
    draining: bool,
    streams: BTreeMap<StreamName, Entry>,
    tenures: u64,
}

struct Entry {
    control: mpsc::UnboundedSender<Control>,
    /// By rendition.
    holders: BTreeMap<Option<Rendition>, Holder>,
}

impl Entry {
    /// A place for one more push.
    fn free_feed(&self) -> Option<Feed> {
        let taken = |feed: Feed| self.holders.values().any(|holder| holder.feed == feed);
        (0..Feed::COUNT_MAX).map(Feed).find(|&feed| !taken(feed))
    }
}

/// The tenure that a rendition's newest claim is.
struct Holder {
    tenure: u64,
    feed: Feed,
    remote: Option<SocketAddr>,
    evict: oneshot::Sender<Eviction>,
}

impl Desk {
    /// A desk that publishes to `publisher` what packagers with these settings make.
    pub fn new(
        settings: Settings,
        media: packager::Settings,
        authorizer: impl Authorizer,
        publisher: Arc<dyn Publisher>,
    ) -> Self {
        let packaging: NewPackaging =
            Box::new(move |stream, resume| Box::new(Packager::new(stream.clone(), media, resume)));
        Self::with_packaging(settings, authorizer, publisher, packaging)
    }

    /// The same with another kind of packager.
    pub fn with_packaging(
        settings: Settings,
        authorizer: impl Authorizer,
        publisher: Arc<dyn Publisher>,
        packaging: NewPackaging,
    ) -> Self {
        Desk(Arc::new(Inner {
            settings,
            authorizer: Box::new(authorizer),
            publisher,
            packaging,
            board: Mutex::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Claims a stream, or a rendition of it. A publisher that is still there is evicted, if this one may take over.
    pub async fn claim(&self, request: PublishRequest) -> Result<Claim, Refused> {
        self.authorize(request.clone()).await?;
        self.claim_authorized(request)
    }

    /// Asks whether a push is allowed, and claims nothing: for inputs whose pushes are many requests.
    ///
    /// # Errors
    /// It isn't.
    pub async fn authorize(&self, request: PublishRequest) -> Result<(), Denied> {
        self.0.authorizer.authorize(request).await
    }

    /// [`claim`](Self::claim) for a push that [is allowed](Self::authorize).
    ///
    /// # Errors
    /// All but [`Refused::Denied`].
    pub fn claim_authorized(&self, request: PublishRequest) -> Result<Claim, Refused> {
        let PublishRequest { stream, rendition, remote, protocol, .. } = request;
        let mut board = self.board();
        if board.draining {
            return Err(Refused::Draining);
        }
        let pushes: usize = board.streams.values().map(|entry| entry.holders.len()).sum();
        let full = pushes >= self.0.settings.pushes_max;
        let entry = board.streams.get(&stream);
        if entry.is_none() && board.streams.len() == STREAMS_MAX {
            tracing::warn!(%stream, ?remote, max = STREAMS_MAX, "refused: too many streams");
            return Err(Refused::Full);
        }
        let name = rendition.as_ref().map(tracing::field::display);
        let feed = match entry.and_then(|entry| entry.holders.get(&rendition)) {
            Some(holder) if !self.may_take_over(holder.remote, remote) => {
                tracing::info!(%stream, rendition = name, ?remote, holder = ?holder.remote, "refused: the stream is busy");
                return Err(Refused::Busy(stream));
            }
            Some(holder) => {
                tracing::info!(%stream, rendition = name, ?remote, from = ?holder.remote, "takes the stream over");
                holder.feed
            }
            // The address rule is the stream's: nobody else adds renditions to it.
            None if entry.is_some_and(|entry| !self.may_join(entry, remote)) => {
                tracing::info!(%stream, rendition = name, ?remote, "refused: another address pushes the stream");
                return Err(Refused::Busy(stream));
            }
            None if full => {
                tracing::warn!(%stream, rendition = name, ?remote, max = pushes, "refused: too many pushes");
                return Err(Refused::Full);
            }
            None => match entry.map_or(Some(Feed(0)), Entry::free_feed) {
                Some(feed) => feed,
                None => return Err(Refused::Renditions(stream)),
            },
        };
        board.tenures += 1;
        let tenure = board.tenures;
        let entry = board.streams.entry(stream.clone()).or_insert_with(|| {
            let (control, receiver) = mpsc::unbounded_channel();
            self.0.tasks.spawn(Publication::new(self.clone(), stream.clone(), receiver).run());
            Entry { control, holders: BTreeMap::new() }
        });
        let (evict, evicted) = oneshot::channel();
        let (inputs, receiver) = mpsc::channel(QUEUE_LEN);
        if let Some(old) = entry.holders.insert(rendition.clone(), Holder { tenure, feed, remote, evict }) {
            // Its connection may be gone already.
            let _ = old.evict.send(Eviction::TakenOver);
        }
        // The task outlives its entry on the board, on which we hold the lock.
        let _ = entry.control.send(Control::Tenure(feed, Tenure::new(rendition.clone(), tenure, receiver)));
        drop(board);
        let remote = remote.map(tracing::field::display);
        let name = rendition.as_ref().map(tracing::field::display);
        tracing::info!(%stream, rendition = name, remote, protocol, "publishes");
        Ok(Claim { desk: self.clone(), stream, rendition, tenure, inputs, evicted: Some(evicted) })
    }

    /// Another ingest has published `stream` with `epoch`: if that is higher than ours, ours is over, without
    /// an ENDLIST, for the life goes on there.
    pub fn superseded(&self, stream: &StreamName, epoch: Epoch) {
        if let Some(entry) = self.board().streams.get(stream) {
            let _ = entry.control.send(Control::Superseded(epoch));
        }
    }

    /// How far another ingest is with a stream whose life hasn't ended, as the swarm holds it: newest segment, and the
    /// ends of all tracks. Two of the same say that it doesn't go on.
    pub async fn elsewhere(&self, stream: &StreamName) -> Option<(u64, u64)> {
        let resume = self.0.publisher.resume(stream).await?;
        let other = resume.record.epoch.node != self.0.settings.node && resume.record.ended.is_none();
        let ends = resume.ends.iter().fold(0u64, |sum, (_, end)| sum.wrapping_add(*end));
        other.then_some((u64::from(resume.newest_msn), ends))
    }

    /// The streams that are published here.
    pub fn streams(&self) -> Vec<StreamName> {
        self.board().streams.keys().cloned().collect()
    }

    /// Ends every stream for good and returns once all that was received is published. New claims are refused.
    pub async fn drain(&self) {
        {
            let mut board = self.board();
            board.draining = true;
            for entry in board.streams.values_mut() {
                for holder in std::mem::take(&mut entry.holders).into_values() {
                    let _ = holder.evict.send(Eviction::Draining);
                }
                let _ = entry.control.send(Control::End);
            }
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Whether a push from `other` may do what one from `holder` does.
    pub fn may_take_over(&self, holder: Option<SocketAddr>, other: Option<SocketAddr>) -> bool {
        let ip = |remote: Option<SocketAddr>| remote.map(|remote| canonical(remote.ip()));
        self.0.settings.takeover == Takeover::Any || ip(holder) == ip(other)
    }

    /// Whether a push from `remote` may add a rendition to what others push: as it may take over.
    fn may_join(&self, entry: &Entry, remote: Option<SocketAddr>) -> bool {
        entry.holders.values().all(|holder| self.may_take_over(holder.remote, remote))
    }

    /// The board stays usable after a panic elsewhere: each change of it is whole.
    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream's holders are told and forgotten.
    fn evict(&self, stream: &StreamName, eviction: Eviction) {
        let mut board = self.board();
        let holders = board.streams.get_mut(stream).map(|entry| std::mem::take(&mut entry.holders));
        for holder in holders.into_iter().flat_map(BTreeMap::into_values) {
            let _ = holder.evict.send(eviction);
        }
    }

    /// The same of one of them, unless another has come in its place.
    fn evict_tenure(&self, stream: &StreamName, tenure: u64, eviction: Eviction) {
        let mut board = self.board();
        let Some(entry) = board.streams.get_mut(stream) else { return };
        let own = |(_, holder): &(&Option<Rendition>, &Holder)| holder.tenure == tenure;
        let Some(rendition) = entry.holders.iter().find(own).map(|(rendition, _)| rendition.clone()) else { return };
        if let Some(holder) = entry.holders.remove(&rendition) {
            let _ = holder.evict.send(eviction);
        }
    }

    /// Takes a stream without anything left to do off the board; false if a claim has come meanwhile.
    fn forget(&self, stream: &StreamName, control: &mpsc::UnboundedReceiver<Control>) -> bool {
        let mut board = self.board();
        let idle = control.is_empty();
        if idle {
            board.streams.remove(stream);
        }
        idle
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("settings", &self.0.settings).field("streams", &self.streams()).finish()
    }
}

/// An IPv4 address is the same one when a dual-stack socket shows it as IPv6.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// A tenure: the right to feed a stream, or a rendition of it. Dropping it detaches the publisher; the stream lingers.
#[derive(Debug)]
pub struct Claim {
    desk: Desk,
    stream: StreamName,
    rendition: Option<Rendition>,
    tenure: u64,
    inputs: mpsc::Sender<Fed>,
    evicted: Option<oneshot::Receiver<Eviction>>,
}

/// What a claim feeds its publication.
#[derive(Debug)]
enum Fed {
    Attach(InputClock, Announced),
    Input(Input),
}

/// The tenure is over: see [`Claim::evicted`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenure is over")]
pub struct Gone;

impl Claim {
    /// The stream.
    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// What it is a rendition of the stream as.
    pub fn rendition(&self) -> Option<&Rendition> {
        self.rendition.as_ref()
    }

    /// The publisher's first word: its clock, and what it announces. Waits while the queue is full.
    pub async fn attach(&self, clock: InputClock, announced: Announced) -> Result<(), Gone> {
        self.feed(Fed::Attach(clock, announced)).await
    }

    /// What comes of it, after that. Waits while the queue is full.
    pub async fn input(&self, input: Input) -> Result<(), Gone> {
        self.feed(Fed::Input(input)).await
    }

    /// A track's language (BCP 47), before its headers. Waits while the queue is full.
    pub async fn language(&self, track: InputTrack, language: String) -> Result<(), Gone> {
        self.input(Input::Language { track, language }).await
    }

    /// A track's headers. Waits while the queue is full.
    pub async fn config(&self, track: InputTrack, config: CodecConfig) -> Result<(), Gone> {
        self.input(Input::Config { track, config }).await
    }

    /// A frame. Waits while the queue is full.
    pub async fn unit(&self, unit: AccessUnit) -> Result<(), Gone> {
        self.input(Input::Unit(unit)).await
    }

    /// Timed metadata. Waits while the queue is full.
    pub async fn message(&self, message: Message) -> Result<(), Gone> {
        self.input(Input::Message(message)).await
    }

    /// Returns when the tenure is ended from this side; the connection is to be closed with this reason.
    pub async fn evicted(&mut self) -> Eviction {
        let Some(evicted) = &mut self.evicted else {
            return std::future::pending().await;
        };
        let eviction = evicted.await.unwrap_or(Eviction::Draining);
        self.evicted = None;
        eviction
    }

    async fn feed(&self, fed: Fed) -> Result<(), Gone> {
        self.inputs.send(fed).await.map_err(|_| Gone)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut board = self.desk.board();
        if let Some(entry) = board.streams.get_mut(&self.stream)
            && entry.holders.get(&self.rendition).is_some_and(|holder| holder.tenure == self.tenure)
        {
            entry.holders.remove(&self.rendition);
        }
    }
}

#[cfg(test)]
mod tests;
