//! The sockets of HTTP ingest, its requests, and who is told what.
//!
//! | status | when |
//! |---|---|
//! | 200 | taken; what had come before already, too; an empty request that would be let in; a DELETE, which deletes nothing |
//! | 400 | a body that breaks the rules of its container, or ends too early |
//! | 401, 403 | no key, or a wrong one; a name that can't be a stream's |
//! | 404, 405 | nothing is pushed to there, or so |
//! | 408, 413 | nothing came for too long; more than there may be |
//! | 409 | another push has the stream |
//! | 412 | media whose init segment hasn't come |
//! | 415 | neither MPEG-TS nor MP4, or no codec that is taken |
//! | 503 | this ingest is full, or shuts down |

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use damson_core::demux::bmff;
use damson_core::demux::cmaf_ingest::body::Body;
use damson_core::demux::cmaf_ingest::path::{Object, PathError, TargetKind};
use damson_core::demux::cmaf_ingest::{body, path};
use damson_core::model::{Rendition, StreamName};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::Answer;
use super::push::{Bounds, HttpPush, INIT_WAIT, OpenRequest};
use crate::ingest::publish_request::{Denied, PublishRequest, Refused};
use crate::ingest::publish_session::PublishSession;
use crate::ingest::registry::PublishRegistry;
use crate::net::accept::{Accepted, Connections, Overflow};
use crate::net::drain::Ended;
use crate::net::preface::Prefaced;
use crate::net::tls::is_h2;
use crate::net::{Listeners, drain};
use crate::observe;

/// What can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Below which path streams are: `/ingest`, or nothing.
    pub prefix: String,
    /// How long a push that comes in several requests outlasts the last of them.
    pub grace: Duration,
    /// How long a stream outlives its publisher: a push that pauses longer begins anew.
    pub linger: Duration,
    /// Within a request, nothing may come for so long.
    pub idle: Duration,
    /// How long a request's head may take.
    pub header: Duration,
    /// The longest `mdat` of a fragment, in bytes.
    pub segment_max: u64,
    /// Tracks of a stream.
    pub tracks_max: usize,
    /// Connections at a time.
    pub connections_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        // 10 s: as long as the longest segment. Encoders that send chunks pause for a frame or a fragment.
        Settings {
            prefix: "/ingest".to_owned(),
            grace: Duration::from_secs(10),
            linger: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            header: Duration::from_secs(10),
            segment_max: 64 << 20,
            tracks_max: 16,
            connections_max: 2_048,
        }
    }
}

/// The longest playlist or MPD, in bytes.
const MANIFEST_LEN_MAX: usize = 1 << 20;
/// Requests of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 64;
/// How long, and how much more of a refused request is read, for its sender to read the answer.
const FAREWELL: Duration = Duration::from_secs(2);
const FAREWELL_LEN: usize = 4 << 20;

struct Context {
    registry: PublishRegistry,
    settings: Settings,
    counters: observe::Ingest,
    /// Pushes that come in several requests.
    pushes: Mutex<BTreeMap<StreamName, Arc<HttpPush>>>,
    /// One more of them has begun.
    began: Notify,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// Accepts encoders until `shutdown`, and returns once all connections are closed.
pub async fn serve(
    listeners: Listeners,
    registry: PublishRegistry,
    settings: Settings,
    counters: observe::Ingest,
    shutdown: CancellationToken,
) {
    let mut connections = Connections::new(listeners, settings.connections_max, Overflow::Refuse("HTTP"));
    let (pushes, tasks, stop) = (Mutex::default(), TaskTracker::new(), shutdown.clone());
    let began = Notify::new();
    let context = Arc::new(Context { registry, settings, counters, pushes, began, tasks, shutdown: stop });
    let accept = connections.accept(|accepted| {
        let context = Arc::clone(&context);
        Some(async move {
            let remote = accepted.remote;
            if let Err(error) = connection(accepted, context).await {
                tracing::debug!(%remote, %error, "HTTP: a connection ended");
            }
        })
    });
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = accept => {}
    }
    connections.drain(Duration::MAX).await;
    context.tasks.close();
    context.tasks.wait().await;
}

async fn connection(accepted: Accepted, context: Arc<Context>) -> Ended {
    let Accepted { stream, remote, tls } = accepted;
    let within = context.settings.header;
    let Some(tls) = tls else {
        let (read, write) = stream.into_split();
        let mut read = Prefaced::new(read);
        let is_h2 = timeout(within, read.begins_as_h2()).await??;
        return converse(TokioIo::new(tokio::io::join(read, write)), is_h2, remote, context).await;
    };
    let stream = timeout(within, tls.acceptor().accept(stream)).await??;
    let is_h2 = is_h2(&stream);
    converse(TokioIo::new(stream), is_h2, remote, context).await
}

async fn converse(
    io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    is_h2: bool,
    remote: SocketAddr,
    context: Arc<Context>,
) -> Ended {
    let shutdown = context.shutdown.clone();
    let stop = async {
        shutdown.cancelled().await;
        Ok(())
    };
    let header = context.settings.header;
    let service = service_fn(move |request| {
        let context = Arc::clone(&context);
        async move { Ok::<_, Infallible>(Box::pin(respond(context, remote, request)).await) }
    });
    if is_h2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .keep_alive_interval(Duration::from_secs(20))
            .serve_connection(io, service);
        return drain::serve(pin!(connection), stop, FAREWELL).await;
    }
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(header).serve_connection(io, service);
    drain::serve(pin!(connection), stop, FAREWELL).await
}

async fn respond(context: Arc<Context>, remote: SocketAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let tasks = context.tasks.clone();
    // A task of its own: ffmpeg closes its connection without waiting for an answer, and what it has sent counts.
    let answered = tasks.spawn(async move {
        let (parts, mut body) = request.into_parts();
        match Box::pin(answer(&context, remote, &parts, &mut body)).await {
            Ok(answer) => answer,
            Err(Answer(status, why)) => {
                context.counters.http_refused.inc();
                let (method, path) = (&parts.method, parts.uri.path());
                tracing::warn!(%remote, %method, path, status = status.as_u16(), "HTTP: refused: {why}");
                // Who is answered while it still sends would find its connection broken.
                context.tasks.spawn(farewell(body));
                Answer(status, why)
            }
        }
    });
    let broken = |_| Answer::new(StatusCode::INTERNAL_SERVER_ERROR, "the ingest is at fault");
    answered.await.unwrap_or_else(broken).into()
}

async fn farewell(mut body: Incoming) {
    let read = async {
        let mut left = FAREWELL_LEN;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = rest;
        }
    };
    let _ = timeout(FAREWELL, read).await;
}

/// The next data of a body; `None` at its end.
async fn data(body: &mut Incoming, settings: &Settings) -> Result<Option<Bytes>, Answer> {
    loop {
        let idle = || {
            let why = format!("nothing has come for {} s", settings.idle.as_secs_f64());
            Answer::new(StatusCode::REQUEST_TIMEOUT, why)
        };
        match timeout(settings.idle, body.frame()).await.map_err(|_| idle())? {
            None => return Ok(None),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.has_remaining() => return Ok(Some(data)),
                _ => {}
            },
            Some(Err(error)) => {
                return Err(Answer::new(StatusCode::BAD_REQUEST, format!("the request was cut off: {error}")));
            }
        }
    }
}

async fn answer(
    context: &Arc<Context>,
    remote: SocketAddr,
    parts: &hyper::http::request::Parts,
    body: &mut Incoming,
) -> Result<Answer, Answer> {
    let target = path::parse(&context.settings.prefix, parts.uri.path()).map_err(|error| {
        let status = match error {
            PathError::Elsewhere(_) => StatusCode::NOT_FOUND,
            // "permission problems, or incorrect path, it SHALL return an HTTP 403" (5.3, 4).
            PathError::Stream(_) => StatusCode::FORBIDDEN,
        };
        Answer::new(status, error)
    })?;
    match parts.method {
        Method::PUT | Method::POST => {}
        Method::OPTIONS => return Ok(Answer(StatusCode::NO_CONTENT, String::new())),
        Method::DELETE => {}
        _ => return Err(Answer::new(StatusCode::METHOD_NOT_ALLOWED, "push with PUT or POST; players fetch elsewhere")),
    }
    let rendition = match &target.kind {
        TargetKind::Whole(rendition) => rendition.clone(),
        TargetKind::Object(_) | TargetKind::Manifest => None,
    };
    let pusher = Pusher::new(target.stream, rendition, remote, parts);
    if parts.method == Method::DELETE {
        // What is old goes by itself (7.1.1 asks for 200).
        pusher.allowed(context).await?;
        return Ok(Answer::ok());
    }
    if parts.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Answer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a body that is encoded: send it as it is"));
    }
    context.counters.http_requests.inc();
    let Some(first) = (if body.is_end_stream() { None } else { data(body, &context.settings).await? }) else {
        // An encoder looks whether it would be let in (6.2, 1).
        pusher.allowed(context).await?;
        return Ok(Answer::ok());
    };
    match target.kind {
        TargetKind::Manifest => {
            pusher.allowed(context).await?;
            read_manifest(first.len(), body, &context.settings).await
        }
        TargetKind::Whole(_) => {
            // Rubbish takes no stream over.
            let first = beginning(first, body, &context.settings).await?;
            let open = pusher.begin(context).await?;
            take(context, &open.0, None, first, body).await
        }
        TargetKind::Object(object) => {
            // Subtitles and keys are none of what is taken, and no reason for a muxer to give up.
            if matches!(object.extension(), "vtt" | "key" | "xml") {
                return Err(Answer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "pictures and sound are taken alone"));
            }
            let first = beginning(first, body, &context.settings).await?;
            if body::needs_init(&first) {
                pusher.push_begun(context).await?;
            }
            let open = pusher.join(context).await?;
            take(context, &open.0, Some(&object), first, body).await
        }
    }
}

/// Reads the rest of a playlist or MPD, of which nothing is used.
async fn read_manifest(mut len: usize, body: &mut Incoming, settings: &Settings) -> Result<Answer, Answer> {
    while let Some(more) = data(body, settings).await? {
        len += more.len();
        if len > MANIFEST_LEN_MAX {
            let why = format!("a playlist of more than {MANIFEST_LEN_MAX} bytes");
            return Err(Answer::new(StatusCode::PAYLOAD_TOO_LARGE, why));
        }
    }
    Ok(Answer::ok())
}

/// A body's first bytes, by which its container is known.
async fn beginning(first: Bytes, body: &mut Incoming, settings: &Settings) -> Result<Bytes, Answer> {
    let (mut all, mut ended) = (BytesMut::from(&first[..]), false);
    loop {
        match body::begins(&all, ended) {
            Some(true) => return Ok(all.freeze()),
            Some(false) => return Err(body::Refused::Unknown.into()),
            None => match data(body, settings).await? {
                Some(more) => all.extend_from_slice(&more),
                None => ended = true,
            },
        }
    }
}

/// Takes a request's media.
async fn take(
    context: &Context,
    push: &HttpPush,
    object: Option<&Object>,
    first: Bytes,
    incoming: &mut Incoming,
) -> Result<Answer, Answer> {
    let limits = bmff::Limits { mdat: context.settings.segment_max, ..bmff::Limits::default() };
    let mut body = push.body(object, &first, limits).await;
    let mut bytes = Some(first);
    while let Some(data) = bytes {
        let pushed = body.push(&data);
        if let Err(refused) = taken(push, &mut body).await.and(pushed.map_err(Answer::from)) {
            // What came before is whole.
            let _ = finish(push, &mut body, false).await;
            return Err(refused);
        }
        bytes = match self::data(incoming, &context.settings).await {
            Ok(data) => data,
            Err(answer) => {
                let _ = finish(push, &mut body, false).await;
                return Err(answer);
            }
        };
        if let Some(over) = push.over() {
            return Err(over.into());
        }
    }
    finish(push, &mut body, true).await?;
    Ok(Answer::ok())
}

/// Has all taken that has come of a body.
async fn taken(push: &HttpPush, body: &mut Body) -> Result<(), Answer> {
    while let Some(came) = push.poll(body)? {
        push.take(came).await?;
    }
    Ok(())
}

async fn finish(push: &HttpPush, body: &mut Body, whole: bool) -> Result<(), Answer> {
    let finished = body.finish(whole);
    taken(push, body).await?;
    Ok(finished?)
}

/// Who pushes, and with which key.
struct Pusher {
    request: PublishRequest,
    sender: (IpAddr, blake3::Hash),
    has_key: bool,
}

impl Pusher {
    fn new(
        stream: StreamName,
        rendition: Option<Rendition>,
        remote: SocketAddr,
        parts: &hyper::http::request::Parts,
    ) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        let bearer = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer =
            bearer.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        // In front, since the first key counts.
        let key = bearer.map(|(_, key)| format!("key={}", key.trim()));
        let query: Vec<&str> = key.iter().map(String::as_str).chain([query]).filter(|part| !part.is_empty()).collect();
        let query = Some(query.join("&")).filter(|query| !query.is_empty());
        let has_key = query.iter().flat_map(|query| query.split('&')).any(|pair| pair.starts_with("key="));
        let sender = (remote.ip().to_canonical(), blake3::hash(query.as_deref().unwrap_or_default().as_bytes()));
        let (app, protocol) = ("live".to_owned(), "http");
        let request = PublishRequest { stream, rendition, app, query, remote: Some(remote), protocol };
        Pusher { request, sender, has_key }
    }

    fn denied(&self, denied: Denied) -> Answer {
        let status = if self.has_key { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED };
        Answer::new(status, Refused::Denied(denied))
    }

    /// Whether it may push: known from a request before, or asked for anew.
    async fn allowed(&self, context: &Context) -> Result<(), Answer> {
        let known = context.push(&self.request.stream).is_some_and(|push| push.knows(&self.sender));
        if known {
            return Ok(());
        }
        context.registry.authorize(self.request.clone()).await.map_err(|denied| self.denied(denied))
    }

    /// A push that is all in this request.
    async fn begin(&self, context: &Arc<Context>) -> Result<OpenRequest, Answer> {
        context.registry.authorize(self.request.clone()).await.map_err(|denied| self.denied(denied))?;
        let (push, session) = self.push(context, true)?;
        let open = push.open().ok_or_else(|| Answer::new(StatusCode::CONFLICT, "the push has ended"))?;
        context.tasks.spawn(push.run(session, |_| {}));
        Ok(open)
    }

    /// Waits for a push to begin: a media segment without its init segment begins none, and takes none over. That may
    /// be on its way by another connection.
    async fn push_begun(&self, context: &Context) -> Result<(), Answer> {
        let begun = async {
            loop {
                let mut began = pin!(context.began.notified());
                began.as_mut().enable();
                if context.push(&self.request.stream).is_some() {
                    return;
                }
                began.await;
            }
        };
        let none = |_| Answer::new(StatusCode::PRECONDITION_FAILED, "a media segment, and no init segment has come");
        timeout(INIT_WAIT, begun).await.map_err(none)
    }

    /// One of the requests of a push, the first of them or another.
    async fn join(&self, context: &Arc<Context>) -> Result<OpenRequest, Answer> {
        self.allowed(context).await?;
        let mut pushes = context.pushes();
        let there = pushes.get(&self.request.stream).and_then(HttpPush::open);
        if let Some(open) = there {
            if !context.registry.may_take_over(open.0.remote(), self.request.remote) {
                return Err(Refused::Busy(self.request.stream.clone()).into());
            }
            if let Some(over) = open.0.over() {
                return Err(over.into());
            }
            open.0.learn(self.sender);
            return Ok(open);
        }
        let (push, session) = self.push(context, false)?;
        push.learn(self.sender);
        let open = push.open().ok_or_else(|| Answer::new(StatusCode::CONFLICT, "the push has ended"))?;
        pushes.insert(self.request.stream.clone(), Arc::clone(&push));
        drop(pushes);
        context.began.notify_waiters();
        let held = Arc::clone(context);
        let forget = move |push: &Arc<HttpPush>| {
            let (mut pushes, stream) = (held.pushes(), push.stream());
            if pushes.get(stream).is_some_and(|there| Arc::ptr_eq(there, push)) {
                pushes.remove(stream);
            }
        };
        context.tasks.spawn(push.run(session, forget));
        Ok(open)
    }

    fn push(&self, context: &Context, whole: bool) -> Result<(Arc<HttpPush>, PublishSession), Answer> {
        let session = context.registry.publish_authorized(self.request.clone())?;
        let Settings { grace, linger, tracks_max, .. } = context.settings;
        let bounds = Bounds { grace, linger, tracks_max };
        let (registry, counters) = (context.registry.clone(), context.counters.clone());
        Ok((HttpPush::new(self.request.clone(), registry, whole, bounds, counters), session))
    }
}

impl Context {
    fn pushes(&self) -> MutexGuard<'_, BTreeMap<StreamName, Arc<HttpPush>>> {
        self.pushes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, stream: &StreamName) -> Option<Arc<HttpPush>> {
        self.pushes().get(stream).cloned()
    }
}
