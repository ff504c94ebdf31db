//! The answer to one request.

use std::sync::Arc;

use bytes::Bytes;
use damson_core::cmaf;
use damson_core::manifest::directives::Directives;
use damson_core::manifest::route::Route;
use damson_core::manifest::{HttpError, dash, facts, hls, route};
use damson_core::model::limits::hold;
use damson_core::model::time::Time;
use damson_core::model::{Init, Msn, Record, Track};
use damson_core::window::held_requests::WaitFor;
use damson_core::window::{Lookup, Part, Segment, TrackWindow, Window};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};

use super::body::ResponseBody;
use super::context::Edge;
use super::documents::{Document, Which};
use super::follow::Follow;
use super::headers::{HeadInput, HeadSource, Lifetime, MediaHead, MediaHeads, Urgency};
use super::limits::Visitor;
use super::reply::{ReadyResponse, Reply};
use super::request_times::Timed;
use super::{chunks, headers};
use crate::clock;
use crate::edge::api::{json, metrics};
use crate::edge::streams::Stream;
use crate::edge::streams::archives::gone;
use crate::edge::streams::stream::{Requester, Step};
use crate::observe::metrics::RequestKind;

/// TARGETDURATION where no stream says one, for the lifetime of faults, in seconds.
const TARGET_UNKNOWN: u32 = 1;

/// The page may be kept for half of this, in seconds; it has an ETag.
const PAGE_TARGET: u32 = 120;

/// Answers a request; every fault becomes a response.
pub(crate) async fn respond<B>(edge: &Edge, visitor: &Visitor, request: Request<B>) -> ReadyResponse {
    let (kind, answer) = answer(edge, visitor, &request).await;
    let length = answer.response.body().length().unwrap_or(0);
    edge.metrics().request(kind, answer.response.status().as_u16(), length);
    answer
}

async fn answer<B>(edge: &Edge, visitor: &Visitor, request: &Request<B>) -> (RequestKind, ReadyResponse) {
    let head = match *request.method() {
        Method::GET => false,
        Method::HEAD => true,
        Method::OPTIONS => {
            let mut response = Response::new(ResponseBody::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            headers::cors(response.headers_mut());
            headers::preflight(response.headers_mut());
            return (RequestKind::Other, response.into());
        }
        Method::POST if edge.config().control.is_some() => {
            return (
                RequestKind::Api,
                order(edge, request).unwrap_or_else(|fault| faulted(&fault, Lifetime::Never, 0, false)).into(),
            );
        }
        _ => {
            let fault = HttpError::new(405, "request: only GET, HEAD and OPTIONS are answered");
            let mut response = faulted(&fault, Lifetime::Never, 0, false);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
            return (RequestKind::Other, response.into());
        }
    };
    log_cmcd(request);
    let path = match route::normalize(request.uri().path()) {
        Ok(path) => path,
        Err(fault) => return (RequestKind::Other, faulted(&fault, Lifetime::Fault, TARGET_UNKNOWN, head).into()),
    };
    let route = match Route::parse(&path, request.uri().query()) {
        Ok(route) => route,
        Err(fault) => return (RequestKind::Other, faulted(&fault, Lifetime::Fault, TARGET_UNKNOWN, head).into()),
    };
    let kind = kind(&route);
    match dispatch(edge, visitor, route, request.headers()).await {
        Ok(reply) => (kind, reply.finish(request.headers(), request.version(), head)),
        Err(fault) => {
            let target = route.stream().and_then(|name| edge.store().get(name));
            let target = target.and_then(|s| s.lock().window().record().map(|r| r.target_duration));
            let blocking = matches!(route, Route::Media { directives: Directives { msn: Some(_), .. }, .. });
            let lifetime = match (fault.status, blocking) {
                (503, _) => Lifetime::Never,
                (_, true) => Lifetime::BlockingFault,
                _ => Lifetime::Fault,
            };
            (kind, faulted(&fault, lifetime, target.unwrap_or(TARGET_UNKNOWN), head).into())
        }
    }
}

/// Has a node of the demo stopped or started.
fn order<B>(edge: &Edge, request: &Request<B>) -> Result<Response<ResponseBody>, HttpError> {
    let path = route::normalize(request.uri().path())?;
    let Route::DemoNode { node, run } = Route::parse(&path, request.uri().query())? else {
        return Err(HttpError::new(405, "request: nothing to POST is there"));
    };
    if !request.headers().contains_key(headers::X_DAMSON_DEMO) {
        return Err(HttpError::new(403, format!("request: without the header {}", headers::X_DAMSON_DEMO)));
    }
    let control = edge.config().control.as_ref().ok_or_else(|| HttpError::new(404, "request: this is no demo"))?;
    control.set(node, run)?;
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

fn kind(route: &Route<'_>) -> RequestKind {
    match route {
        Route::Multivariant { .. } => RequestKind::Multivariant,
        Route::Media { .. } => RequestKind::Playlist,
        Route::Mpd { .. } => RequestKind::Mpd,
        Route::Init { .. } => RequestKind::Init,
        Route::Segment { .. } => RequestKind::Segment,
        Route::Part { .. } => RequestKind::Part,
        Route::Streams
        | Route::Stream { .. }
        | Route::Trace { .. }
        | Route::TraceLive { .. }
        | Route::Swarm
        | Route::Edges
        | Route::Demo
        | Route::DemoNode { .. } => RequestKind::Api,
        _ => RequestKind::Other,
    }
}

/// Logs CTA-5004, which is no part of any key.
fn log_cmcd<B>(request: &Request<B>) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let query = request.uri().query().unwrap_or("").split('&').find_map(|p| p.strip_prefix("CMCD="));
    if let Some(cmcd) = query {
        tracing::debug!(path = request.uri().path(), cmcd, "CMCD");
    }
    for name in ["cmcd-request", "cmcd-object", "cmcd-status", "cmcd-session"] {
        if let Some(value) = request.headers().get(name).and_then(|v| v.to_str().ok()) {
            tracing::debug!(path = request.uri().path(), cmcd = value, "{name}");
        }
    }
}

async fn dispatch(edge: &Edge, visitor: &Visitor, route: Route<'_>, headers: &HeaderMap) -> Result<Reply, HttpError> {
    let asked = Requester { at: clock::now(), visitor };
    let stream = match route.stream() {
        Some(name) => Some(edge.store().find(name)?),
        None => None,
    };
    if let Some(stream) = &stream {
        match route {
            Route::Multivariant { .. } => {
                return document(edge, stream, asked, Which::Multivariant, dash::Timing::Number).await;
            }
            Route::Mpd { follows, .. } => {
                let which = if follows { Which::Update } else { Which::Manifest };
                return document(edge, stream, asked, which, edge.config().timing).await;
            }
            Route::Media { track, directives, .. } => return media(edge, stream, asked, track, directives).await,
            Route::Init { track, number, .. } => return init(edge, stream, asked, track, number).await,
            Route::Segment { track, msn, .. } => {
                let reply = segment(edge, stream, asked, track, msn).await?;
                return Ok(reply.by_file(edge.store().memory_files()));
            }
            Route::Part { track, msn, part, .. } => return one_part(edge, stream, asked, track, msn, part).await,
            _ => {}
        }
    }
    let text = |text: &'static str| Reply::new(text.to_owned(), "text/plain; charset=utf-8", Lifetime::Never, 0);
    Ok(match route {
        Route::Page(path) => {
            let page = damson_player::asset(path);
            let page = page.ok_or_else(|| HttpError::new(404, "request: the player page has no such file"))?;
            let (plain, gzip) = (Bytes::from_static(page.bytes), Bytes::from_static(page.gzip));
            let etag = HeaderValue::from_static(page.etag);
            let document = Document::compressed(plain, gzip, etag, page.content_type, PAGE_TARGET);
            Reply::document(Arc::new(document), false)
        }
        Route::Healthz => text("ok\n"),
        Route::Readyz if edge.host().is_ready() => text("ready\n"),
        Route::Readyz => return Err(HttpError::new(503, "edge: the mesh isn't joined yet")),
        Route::Time => Reply::new(clock::wall().iso8601(), "text/plain; charset=utf-8", Lifetime::Never, 0),
        Route::TraceLive { .. } => {
            return Err(HttpError::new(426, "request: this is a WebSocket: ask by HTTP/1.1, with Upgrade: websocket"));
        }
        Route::Metrics => {
            let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
            let (text, content_type) = metrics::metrics(edge, accepted);
            Reply::new(text, content_type, Lifetime::Never, 0)
        }
        other => Reply::new(json::json(edge, &other)?, "application/json", Lifetime::Never, 0),
    })
}

fn no_track(name: &str) -> HttpError {
    HttpError::new(404, format!("request: the stream has no track named {name}"))
}

/// A track, and what is held of it.
type HeldTrack<'a> = (&'a Record, &'a Track, &'a TrackWindow);

/// Returns a track by name; `None` while the record isn't known.
fn find<'a>(window: &'a Window, name: &str) -> Result<Option<HeldTrack<'a>>, HttpError> {
    let Some(record) = window.record() else { return Ok(None) };
    let track = record.track_named(name).ok_or_else(|| no_track(name))?;
    let held = window.track(track.id).ok_or_else(|| no_track(name))?;
    Ok(Some((record, track, held)))
}

async fn document(
    edge: &Edge,
    stream: &Arc<Stream>,
    asked: Requester<'_>,
    which: Which,
    timing: dash::Timing,
) -> Result<Reply, HttpError> {
    let kind = if which == Which::Multivariant { RequestKind::Multivariant } else { RequestKind::Mpd };
    stream
        .resolve(asked, |state| {
            let started = state.window().is_started() && !state.is_catching_up();
            let Some(target) = state.window().record().map(|r| r.target_duration).filter(|_| started) else {
                return Ok(Step::appear(WaitFor::Started));
            };
            let timed = timed(edge, stream, kind, asked, state.published().1);
            let (listed, documents) = state.rendered();
            let window = listed.window;
            let ended = window.record().is_some_and(|record| facts::has_ended(window, record));
            let document = match which {
                Which::Update if ended => {
                    documents.get(which, dash::CONTENT_TYPE, target, || dash::update(listed, timing))
                }
                // Until then they are the same.
                Which::Update => {
                    documents.get(Which::Manifest, dash::CONTENT_TYPE, target, || dash::manifest(listed, timing))
                }
                Which::Manifest => documents.get(which, dash::CONTENT_TYPE, target, || dash::manifest(listed, timing)),
                _ => documents.get(which, hls::CONTENT_TYPE, target, || hls::multivariant(window)),
            };
            Ok(match document {
                Some(document) => Step::Answer(Reply::document(document, false).timed(timed)),
                None => Step::appear(WaitFor::Started),
            })
        })
        .await
}

async fn media(
    edge: &Edge,
    stream: &Arc<Stream>,
    asked: Requester<'_>,
    name: &str,
    directives: Directives,
) -> Result<Reply, HttpError> {
    stream
        .resolve(asked, |state| {
            let Some((record, track, held)) = find(state.window(), name)? else {
                return Ok(Step::appear(WaitFor::Record));
            };
            let (id, target) = (track.id, record.target_duration);
            if state.is_catching_up() {
                return Ok(Step::appear(WaitFor::Started));
            }
            if !held.is_started() {
                return Ok(Step::appear(WaitFor::Part(id, 0, 0)));
            }
            // hls.js (1.7) takes a playlist of parts alone for an empty one, and begins anew: the first one has a segment.
            if let Some((first, _)) = held.next().filter(|_| !held.has_segment() && record.ended.is_none()) {
                return Ok(Step::appear(WaitFor::Segment(id, first)));
            }
            if let Some(place) = blocked(record, held, directives)? {
                return Ok(Step::Wait(place, hold(record)));
            }
            let timed = timed(edge, stream, RequestKind::Playlist, asked, state.published().1);
            let (listed, documents) = state.rendered();
            Ok(match documents.media(listed, id, directives.skip, target) {
                Some(document) => Step::Answer(Reply::document(document, directives.msn.is_some()).timed(timed)),
                None => Step::appear(WaitFor::Part(id, 0, 0)),
            })
        })
        .await
}

/// Returns where a blocking reload has to wait; `None` if today's playlist will do (rfc8216bis 6.2.5.2).
fn blocked(record: &Record, track: &TrackWindow, directives: Directives) -> Result<Option<WaitFor>, HttpError> {
    // "Delivery Directives ... MUST be ignored [once] the Playlist contains an EXT-X-ENDLIST tag".
    let (Some(msn), Some((next, next_part))) = (directives.msn, track.next()) else { return Ok(None) };
    if facts::is_ended(record, track) {
        return Ok(None);
    }
    // "greater than the Media Sequence Number of the last Media Segment in the current Playlist plus two"
    if msn > next.saturating_add(1) {
        return Err(HttpError::new(400, format!("request: _HLS_msn={msn} is more than two past the newest segment")));
    }
    let Some(part) = directives.part else {
        return Ok((msn >= next).then_some(WaitFor::Segment(track.id(), msn)));
    };
    // "exceeds the last Partial Segment in the current Playlist by the Advance Part Limit"
    let limit = advance_part_limit(record);
    let newest = if msn == next { u32::from(next_part) } else { 0 };
    if msn >= next && part >= newest.saturating_add(limit) {
        return Err(HttpError::new(400, format!("request: _HLS_part={part} is {limit} or more past the newest part")));
    }
    let place = |msn, part: u32| WaitFor::Part(track.id(), msn, u16::try_from(part).unwrap_or(u16::MAX));
    if msn >= next {
        return Ok((msn > next || part >= u32::from(next_part)).then(|| place(msn, part)));
    }
    // "a Part Index greater than that of the final Partial Segment of the Parent Segment [is] a request for
    // Part Index 0 of the following Parent Segment": Shaka asks so at each segment's end.
    let past_end = track.segment_under_way(msn).is_some_and(|s| part as usize >= s.parts().len());
    Ok((past_end && msn.saturating_add(1) == next && next_part == 0).then(|| place(next, 0)))
}

/// "three divided by the Part Target Duration if [it] is less than one second, or three otherwise".
fn advance_part_limit(record: &Record) -> u32 {
    let millis = u32::try_from(record.part_target.as_millis()).unwrap_or(u32::MAX).clamp(1, 1_000);
    3_000_u32.div_ceil(millis)
}

async fn init(
    edge: &Edge,
    stream: &Arc<Stream>,
    asked: Requester<'_>,
    name: &str,
    number: u16,
) -> Result<Reply, HttpError> {
    stream
        .resolve(asked, |state| {
            let (published_at, published) = state.published();
            let timed = timed(edge, stream, RequestKind::Init, asked, published);
            let Some((record, track, _)) = find(state.window(), name)? else {
                return Ok(Step::appear(WaitFor::Record));
            };
            let found = |i: &&Init| i.number == number;
            let bytes = track.inits.iter().find(found).map(|init| &init.bytes);
            let bytes = bytes.or_else(|| state.past().archive()?.init(track.id, number));
            let bytes = bytes.ok_or_else(|| HttpError::new(404, "request: no such init segment"))?;
            let content_type = content_type(track);
            let reply = Reply::new(bytes.clone(), content_type, Lifetime::Media, record.target_duration);
            let etag = headers::etag(blake3::hash(bytes).as_bytes());
            Ok(Step::Answer(reply.tagged(etag, Urgency::Init, published_at).timed(timed)))
        })
        .await
}

fn content_type(track: &Track) -> &'static str {
    if track.is_video() { "video/mp4" } else { "audio/mp4" }
}

fn gap() -> HttpError {
    HttpError::new(404, "stream: this part of it was lost; the playlist lists it as a gap")
}

/// What was to be expected after `last`, and doesn't come, since the segment or the life has ended there: nothing. Shaka
/// (5.2) and dash.js (5.2) ask ahead, and would take a 404 for a fault: they stop then, or begin anew.
fn never(record: &Record, track: &Track, last: Option<&Segment>) -> Result<Reply, HttpError> {
    let last = last.ok_or_else(gone)?;
    let end = last.decode_time().saturating_add(last.duration());
    Ok(Reply::new(cmaf::silence(end), content_type(track), Lifetime::Never, record.target_duration))
}

async fn one_part(
    edge: &Edge,
    stream: &Arc<Stream>,
    asked: Requester<'_>,
    name: &str,
    msn: Msn,
    number: u16,
) -> Result<Reply, HttpError> {
    stream
        .resolve(asked, |state| {
            let (window, heads) = state.headed();
            let Some((record, track, held)) = find(window, name)? else { return Ok(Step::appear(WaitFor::Record)) };
            match held.part(msn, number) {
                Lookup::Ready(part) => Ok(Step::Answer(whole_part(edge, stream, heads, (record, track), part, asked))),
                Lookup::Gap => Err(gap()),
                Lookup::Unknown => {
                    // The hinted part, where the segment has ended with the one before.
                    let under_way = held.segment_under_way(msn);
                    if under_way.is_some_and(|s| s.parts().len() == usize::from(number)) {
                        return never(record, track, under_way).map(Step::Answer);
                    }
                    let segment = stream.delisted(record.life, track.id, msn).ok_or_else(gone)?;
                    let part = segment.parts().nth(usize::from(number)).ok_or_else(gone)?;
                    Ok(Step::Answer(whole_part(edge, stream, heads, (record, track), part, asked)))
                }
                Lookup::Expected if record.ended.is_some_and(|last| msn > last) => {
                    never(record, track, held.listed().next_back()).map(Step::Answer)
                }
                Lookup::Expected => match held.next() {
                    None => Ok(Step::appear(WaitFor::Part(track.id, msn, number))),
                    // The hinted part, and the one after it, whichever segment that is in.
                    Some((next, part))
                        if (msn == next && number <= part.saturating_add(1))
                            || (msn == next.saturating_add(1) && number == 0) =>
                    {
                        Ok(Step::Wait(WaitFor::Part(track.id, msn, number), hold(record)))
                    }
                    Some(_) => Err(gone()),
                },
            }
        })
        .await
}

async fn segment(
    edge: &Edge,
    stream: &Arc<Stream>,
    asked: Requester<'_>,
    name: &str,
    msn: Msn,
) -> Result<Reply, HttpError> {
    let mut past = None;
    let here = stream
        .resolve(asked, |state| {
            let (window, heads) = state.headed();
            let Some((record, track, held)) = find(window, name)? else { return Ok(Step::appear(WaitFor::Record)) };
            match held.segment(msn) {
                Lookup::Ready(segment) => whole(edge, stream, heads, (record, track), segment, asked).map(Step::Answer),
                Lookup::Gap => Err(gap()),
                Lookup::Unknown => {
                    let Some(segment) = stream.delisted(record.life, track.id, msn) else {
                        past = Some((record.life, track.id));
                        return Err(gone());
                    };
                    whole(edge, stream, heads, (record, track), &segment, asked).map(Step::Answer)
                }
                Lookup::Expected if record.ended.is_some_and(|last| msn > last) => {
                    never(record, track, held.listed().next_back()).map(Step::Answer)
                }
                Lookup::Expected => match held.segment_under_way(msn) {
                    Some(segment) if segment.has_loss() => Err(gap()),
                    Some(segment) => {
                        let first = segment.first().ok_or_else(gone)?;
                        Ok(Step::Answer(following(edge, stream, (record, track), first, asked)))
                    }
                    None if held.is_started() => Ok(Step::Wait(WaitFor::Part(track.id, msn, 0), hold(record))),
                    None => Ok(Step::appear(WaitFor::Part(track.id, msn, 0))),
                },
            }
        })
        .await;
    let Some((life, id)) = past else { return here };
    let segment = stream.archived(life, id, msn).await?;
    let mut state = stream.lock();
    let (window, heads) = state.headed();
    let (record, track, _) = find(window, name)?.filter(|(record, ..)| record.life == life).ok_or_else(gone)?;
    whole(edge, stream, heads, (record, track), &segment, asked)
}

/// Times a request for what was listed then, where requests are timed and it is its turn.
fn timed(edge: &Edge, stream: &Stream, kind: RequestKind, asked: Requester<'_>, listed: Time) -> Option<Timed> {
    if edge.config().traced { stream.times().begin(kind, asked.at, listed) } else { None }
}

/// A track, and the record that it is in.
type RecordedTrack<'a> = (&'a Record, &'a Track);

fn whole_part(
    edge: &Edge,
    stream: &Arc<Stream>,
    heads: &mut MediaHeads,
    of: RecordedTrack<'_>,
    part: &Part,
    asked: Requester<'_>,
) -> Reply {
    let id = part.header.id;
    let body = chunks::of_part(part);
    let head = heads.get((of.1.id, id.msn, Some(id.part)), source(of, part), || {
        let etag = headers::etag(&hash(part));
        head(edge, of, part, u64::from(part.header.duration), (Some(etag), Urgency::Part))
    });
    let timed = timed(edge, stream, RequestKind::Part, asked, part.listed);
    Reply::media(body.into(), head, part.listed.since(asked.at)).timed(timed)
}

fn whole(
    edge: &Edge,
    stream: &Arc<Stream>,
    heads: &mut MediaHeads,
    of: RecordedTrack<'_>,
    segment: &Segment,
    asked: Requester<'_>,
) -> Result<Reply, HttpError> {
    let last = segment.parts().last().ok_or_else(gone)?;
    let head = heads.get((of.1.id, segment.msn, None), source(of, last), || {
        let mut hasher = blake3::Hasher::new();
        for part in segment.parts() {
            hasher.update(&hash(part));
        }
        let urgency = if of.1.is_video() { Urgency::Pictures } else { Urgency::Sound };
        head(edge, of, last, segment.duration(), (Some(headers::etag(hasher.finalize().as_bytes())), urgency))
    });
    let body = ResponseBody::chain(chunks::of_segment(segment.parts()));
    let timed = timed(edge, stream, RequestKind::Segment, asked, last.listed);
    Ok(Reply::media(body, head, last.listed.since(asked.at)).timed(timed))
}

/// Returns the hash of what is sent for a part. All silences have the same hash in their headers, and each another decode time.
fn hash(part: &Part) -> [u8; 32] {
    if part.is_gap() { *blake3::hash(&chunks::of_part(part)).as_bytes() } else { part.header.hash }
}

fn following(edge: &Edge, stream: &Arc<Stream>, of: RecordedTrack<'_>, first: &Part, asked: Requester<'_>) -> Reply {
    let (record, track) = of;
    let sent = edge.metrics().sent(RequestKind::Segment);
    let follow = Follow::new(Arc::clone(stream), record.life, track.id, first.header.id.msn, sent);
    let ticks = track.timescale.ticks(record.segment_duration);
    let head = head(edge, of, first, ticks, (None, Urgency::Growing));
    let timed = timed(edge, stream, RequestKind::Segment, asked, first.listed).map(Timed::growing);
    Reply::media(ResponseBody::Follow(follow), Arc::new(head), first.listed.since(asked.at)).timed(timed)
}

fn source((record, _): RecordedTrack<'_>, part: &Part) -> HeadSource {
    (part.header.hash, record.ended.is_some())
}

fn head(
    edge: &Edge,
    (record, track): RecordedTrack<'_>,
    part: &Part,
    ticks: u64,
    (etag, urgency): (Option<HeaderValue>, Urgency),
) -> MediaHead {
    let (duration, traced) = (track.timescale.duration(ticks), edge.config().traced);
    let way = HeadInput { part, record, track, edge: edge.name(), duration, urgency, traced };
    way.head(content_type(track), etag, &|node| edge.node_name(node))
}

fn faulted(fault: &HttpError, lifetime: Lifetime, target: u32, head: bool) -> Response<ResponseBody> {
    let reply = Reply::new(format!("{}\n", fault.text), "text/plain; charset=utf-8", lifetime, target);
    let mut response = reply.finish(&HeaderMap::new(), Version::HTTP_11, head).response;
    *response.status_mut() = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if fault.status == 426 {
        // RFC 9110 15.5.22.
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    if fault.status == 503 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
