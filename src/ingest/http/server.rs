//! The HTTP ingest server: its sockets, its requests, and their answers.
//!
//! | status | meaning |
//! |---|---|
//! | 200 | accepted now or before; an empty request that would be allowed; a DELETE, which deletes nothing |
//! | 400 | the body breaks the rules of its container, or ends too early |
//! | 401, 403 | the key is missing or wrong; the name can't be a stream's |
//! | 404, 405 | streams are pushed elsewhere, or with another method |
//! | 408, 413 | the encoder sent nothing for too long; the body is too large |
//! | 409 | another push has the stream |
//! | 412 | the init segment of the media hasn't come |
//! | 415 | the body is neither MPEG-TS nor MP4, or has no supported codec |
//! | 503 | this ingest is full, or is shutting down |

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use damson_core::demux::bmff;
use damson_core::demux::cmaf_ingest::body::Body;
use damson_core::demux::cmaf_ingest::path::{Object, TargetKind};
use damson_core::demux::cmaf_ingest::{body, path};
use damson_core::model::{Rendition, StreamName};
use futures_util::FutureExt as _;
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::Answer;
use super::push::{HttpPush, INIT_WAIT, OpenRequest};
pub use super::settings::Settings;
use crate::ingest::publish_request::{PublishRequest, Refused};
use crate::ingest::registry::PublishRegistry;
use crate::net::accept::{Accepted, Connections, Overflow};
use crate::net::drain::Ended;
use crate::net::preface::Prefaced;
use crate::net::tls::is_h2;
use crate::net::{Listeners, drain};
use crate::observe;

/// The longest playlist or MPD, in bytes.
const MANIFEST_LEN_MAX: usize = 1 << 20;
/// The most requests of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 64;
/// The longest time, and the most bytes, that a refused request is still read, so that its sender reads the answer.
const FAREWELL: Duration = Duration::from_secs(2);
const FAREWELL_LEN: usize = 4 << 20;

struct Context {
    registry: PublishRegistry,
    settings: Settings,
    counters: observe::Ingest,
    /// The pushes of several requests.
    pushes: Mutex<BTreeMap<StreamName, Arc<HttpPush>>>,
    /// Wakes requests that wait for a push to begin.
    began: Notify,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// Accepts encoders until `shutdown`, and returns when all connections are closed.
pub async fn serve(
    listeners: Listeners,
    registry: PublishRegistry,
    settings: Settings,
    counters: observe::Ingest,
    shutdown: CancellationToken,
) {
    let mut connections = Connections::new(listeners, settings.connections_max, Overflow::Refuse("HTTP"));
    let context = Arc::new(Context {
        registry,
        settings,
        counters,
        pushes: Mutex::default(),
        began: Notify::new(),
        tasks: TaskTracker::new(),
        shutdown: shutdown.clone(),
    });
    let accept = connections.accept(|accepted| {
        let context = Arc::clone(&context);
        Some(async move {
            let remote = accepted.remote;
            match connection(accepted, context).await {
                // As with a space in the name of a stream.
                Err(error) if error.downcast_ref().is_some_and(hyper::Error::is_parse) => {
                    tracing::warn!(%remote, "HTTP: refused: the request can't be read: {error}");
                }
                Err(error) => tracing::debug!(%remote, %error, "HTTP: connection closed"),
                Ok(()) => {}
            }
        })
    });
    shutdown.run_until_cancelled(accept).await;
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
    let stop = context.shutdown.clone().cancelled_owned().map(Ok);
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
    // A task of its own, since ffmpeg closes its connection without waiting for an answer, and its media still counts.
    let answered = tasks.spawn(async move {
        let (parts, mut body) = request.into_parts();
        match Box::pin(answer(&context, remote, &parts, &mut body)).await {
            Ok(answer) => answer,
            Err(Answer(status, why)) => {
                context.counters.http_refused.inc();
                let (method, path) = (&parts.method, parts.uri.path());
                tracing::warn!(%remote, %method, path, status = status.as_u16(), "HTTP: refused: {why}");
                // An encoder that is still sending can't read the answer on a closed connection.
                context.tasks.spawn(farewell(body));
                Answer(status, why)
            }
        }
    });
    let broken = |_| Answer::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error of this ingest node; see its log");
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

/// Returns the next data of a body; `None` at its end.
async fn data(body: &mut Incoming, settings: &Settings) -> Result<Option<Bytes>, Answer> {
    loop {
        let frame = timeout(settings.idle, body.frame()).await.map_err(|_| {
            let why = format!("the encoder sent nothing for {} s", settings.idle.as_secs_f64());
            Answer::new(StatusCode::REQUEST_TIMEOUT, why)
        })?;
        let cut_off = |error| Answer::new(StatusCode::BAD_REQUEST, format!("the request was cut off: {error}"));
        let Some(frame) = frame.transpose().map_err(cut_off)? else { return Ok(None) };
        if let Ok(data) = frame.into_data()
            && data.has_remaining()
        {
            return Ok(Some(data));
        }
    }
}

async fn answer(
    context: &Arc<Context>,
    remote: SocketAddr,
    parts: &hyper::http::request::Parts,
    body: &mut Incoming,
) -> Result<Answer, Answer> {
    let target = path::parse(&context.settings.prefix, parts.uri.path())?;
    match parts.method {
        Method::PUT | Method::POST | Method::DELETE => {}
        Method::OPTIONS => return Ok(Answer(StatusCode::NO_CONTENT, String::new())),
        _ => {
            return Err(Answer::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "push with PUT or POST; players use another address",
            ));
        }
    }
    let rendition = match &target.kind {
        TargetKind::Whole(rendition) => rendition.clone(),
        TargetKind::Object(_) | TargetKind::Manifest => None,
    };
    let pusher = Pusher::new(target.stream, rendition, remote, parts);
    if parts.method == Method::DELETE {
        // Old segments leave the window by themselves (7.1.1 asks for 200).
        pusher.allowed(context).await?;
        return Ok(Answer::ok());
    }
    if parts.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Answer::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Content-Encoding is not supported; send the body as it is",
        ));
    }
    context.counters.http_requests.inc();
    let Some(first) = (if body.is_end_stream() { None } else { data(body, &context.settings).await? }) else {
        // The encoder asks whether a push would be allowed (6.2, 1).
        pusher.allowed(context).await?;
        return Ok(Answer::ok());
    };
    match target.kind {
        TargetKind::Manifest => {
            pusher.allowed(context).await?;
            read_manifest(first.len(), body, &context.settings).await
        }
        TargetKind::Whole(_) => {
            // Checked first, so that garbage takes no stream over.
            let first = beginning(first, body, &context.settings).await?;
            let open = pusher.begin(context).await?;
            take(context, &open.0, None, first, body).await
        }
        TargetKind::Object(object) => {
            // Muxers continue if subtitles and keys are refused.
            if matches!(object.extension(), "vtt" | "key" | "xml") {
                return Err(Answer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "only video and audio are supported"));
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

/// Reads the rest of a playlist or MPD, which isn't used.
async fn read_manifest(mut len: usize, body: &mut Incoming, settings: &Settings) -> Result<Answer, Answer> {
    while let Some(more) = data(body, settings).await? {
        len += more.len();
        if len > MANIFEST_LEN_MAX {
            let why = format!("the playlist exceeds {MANIFEST_LEN_MAX} bytes");
            return Err(Answer::new(StatusCode::PAYLOAD_TOO_LARGE, why));
        }
    }
    Ok(Answer::ok())
}

/// Returns a body's first bytes, which show its container.
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
    let read = async {
        let mut bytes = Some(first);
        while let Some(received) = bytes {
            let pushed = body.push(&received);
            take_events(push, &mut body).await?;
            pushed?;
            bytes = data(incoming, &context.settings).await?;
            if let Some(over) = push.over() {
                return Err(over.into());
            }
        }
        Ok(())
    };
    let read = read.await;
    // The media before a fault is complete.
    let finished = body.finish(read.is_ok());
    read.and(take_events(push, &mut body).await)?;
    finished?;
    Ok(Answer::ok())
}

/// Takes all events that a body has now.
async fn take_events(push: &HttpPush, body: &mut Body) -> Result<(), Answer> {
    while let Some(event) = push.poll(body)? {
        push.take(event).await?;
    }
    Ok(())
}

/// The sender of a request, with its key.
struct Pusher {
    request: PublishRequest,
    sender: (IpAddr, blake3::Hash),
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
        // It goes in front, since the first key counts.
        let key = bearer.map(|(_, key)| format!("key={}", key.trim()));
        let query: Vec<&str> = key.iter().map(String::as_str).chain([query]).filter(|part| !part.is_empty()).collect();
        let query = Some(query.join("&")).filter(|query| !query.is_empty());
        let sender = (remote.ip().to_canonical(), blake3::hash(query.as_deref().unwrap_or_default().as_bytes()));
        let request = PublishRequest { rendition, query, ..PublishRequest::new(stream, Some(remote), "http") };
        Pusher { request, sender }
    }

    /// Checks whether the sender may push, with the registry.
    async fn authorize(&self, context: &Context) -> Result<(), Answer> {
        let missing = self.request.key().is_none();
        let status = if missing { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
        let authorized = context.registry.authorize(self.request.clone()).await;
        authorized.map_err(|denied| Answer::new(status, Refused::Denied(denied)))
    }

    /// Checks whether the sender may push: an earlier request has proved it, or the registry decides.
    async fn allowed(&self, context: &Context) -> Result<(), Answer> {
        let push = context.pushes.lock().get(&self.request.stream).cloned();
        if push.is_some_and(|push| push.knows(&self.sender)) {
            return Ok(());
        }
        self.authorize(context).await
    }

    /// Begins a push of this request alone.
    async fn begin(&self, context: &Arc<Context>) -> Result<OpenRequest, Answer> {
        self.authorize(context).await?;
        self.push(context, true, |_| {})
    }

    /// Waits for a push to begin: a media segment without its init segment neither begins a push nor takes one over. The
    /// init segment may be on another connection.
    async fn push_begun(&self, context: &Context) -> Result<(), Answer> {
        let begun = async {
            loop {
                let mut began = pin!(context.began.notified());
                began.as_mut().enable();
                if context.pushes.lock().contains_key(&self.request.stream) {
                    return;
                }
                began.await;
            }
        };
        let none = |_| Answer::new(StatusCode::PRECONDITION_FAILED, "a media segment came without its init segment");
        timeout(INIT_WAIT, begun).await.map_err(none)
    }

    /// Joins the push of the stream, or begins it.
    async fn join(&self, context: &Arc<Context>) -> Result<OpenRequest, Answer> {
        self.allowed(context).await?;
        let stream = &self.request.stream;
        let mut pushes = context.pushes.lock();
        if let Some(open) = pushes.get(stream).and_then(HttpPush::open) {
            if !context.registry.may_take_over(open.0.remote(), self.request.remote) {
                return Err(Refused::Busy(stream.clone()).into());
            }
            if let Some(over) = open.0.over() {
                return Err(over.into());
            }
            open.0.learn(self.sender);
            return Ok(open);
        }
        let held = Arc::clone(context);
        let forget = move |push: &Arc<HttpPush>| {
            let mut pushes = held.pushes.lock();
            if pushes.get(push.stream()).is_some_and(|there| Arc::ptr_eq(there, push)) {
                pushes.remove(push.stream());
            }
        };
        let open = self.push(context, false, forget)?;
        open.0.learn(self.sender);
        pushes.insert(stream.clone(), Arc::clone(&open.0));
        drop(pushes);
        context.began.notify_waiters();
        Ok(open)
    }

    /// Begins a push, and calls `forget` when it has ended.
    fn push(
        &self,
        context: &Context,
        whole: bool,
        forget: impl Fn(&Arc<HttpPush>) + Send + Sync + 'static,
    ) -> Result<OpenRequest, Answer> {
        let session = context.registry.publish_authorized(self.request.clone())?;
        let (registry, counters) = (context.registry.clone(), context.counters.clone());
        let open = HttpPush::begin(self.request.clone(), registry, whole, &context.settings, counters);
        context.tasks.spawn(Arc::clone(&open.0).run(session, forget));
        Ok(open)
    }
}
