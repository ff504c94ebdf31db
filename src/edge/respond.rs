//! Answers one request.

use std::sync::Arc;

use bytes::Bytes;
use damson_core::cmaf;
use damson_core::manifest::directives::Directives;
use damson_core::manifest::route::{Route, StreamRoute};
use damson_core::manifest::{HttpError, facts, route};
use damson_core::model::limits::hold;
use damson_core::model::time::Time;
use damson_core::model::{Init, Msn, Record, Track};
use damson_core::window::held_requests::WaitFor;
use damson_core::window::{Lookup, Part, Segment, TrackWindow, Window};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use serde_json::Value;

use super::body::ResponseBody;
use super::context::Edge;
use super::documents::{Document, Which};
use super::follow::follow;
use super::headers::{HeadInput, Lifetime, MediaHead, MediaHeads, Urgency};
use super::limits::Visitor;
use super::reply::{ReadyResponse, Reply, response};
use super::request_times::Timed;
use super::{chunks, headers};
use crate::clock;
use crate::edge::api::{json, latency, metrics};
use crate::edge::streams::Stream;
use crate::edge::streams::archives::{gap, gone};
use crate::edge::streams::stream::{Requester, Step, StreamState};
use crate::observe::metrics::RequestKind;

/// TARGETDURATION where no stream has one, for the lifetime of errors, in seconds.
const TARGET_UNKNOWN: u32 = 1;

/// A cache may keep the page for half of this, in seconds; it has an ETag.
const PAGE_TARGET: u32 = 120;

const TEXT: &str = "text/plain; charset=utf-8";

/// Answers a request; every error becomes a response.
pub(crate) async fn respond<B>(edge: &Edge, visitor: &Visitor, request: Request<B>) -> ReadyResponse {
    let (kind, answer) = answer(edge, visitor, &request).await;
    let length = answer.response.body().length().unwrap_or(0);
    edge.metrics().request(kind, answer.response.status().as_u16(), length);
    answer
}

async fn answer<B>(edge: &Edge, visitor: &Visitor, request: &Request<B>) -> (RequestKind, ReadyResponse) {
    let is_head = match *request.method() {
        Method::GET => false,
        Method::HEAD => true,
        Method::OPTIONS => {
            let mut response = response(StatusCode::NO_CONTENT, HeaderMap::new(), ResponseBody::empty());
            headers::cors(response.headers_mut());
            headers::preflight(response.headers_mut());
            return (RequestKind::Other, response.into());
        }
        Method::POST if edge.config().control.is_some() => {
            return (RequestKind::Api, order(edge, request).unwrap_or_else(|error| refusal(&error)).into());
        }
        _ => {
            let mut response = refusal(&HttpError::new(405, "request: only GET, HEAD and OPTIONS are answered"));
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
            return (RequestKind::Other, response.into());
        }
    };
    log_cmcd(request);
    let path = route::normalize(request.uri().path());
    let route = path.as_ref().map_err(HttpError::clone).and_then(|path| Route::parse(path, request.uri().query()));
    let route = match route {
        Ok(route) => route,
        Err(error) => {
            return (RequestKind::Other, error_response(&error, Lifetime::Fault, TARGET_UNKNOWN, is_head).into());
        }
    };
    match reply(edge, visitor, route, request.headers()).await {
        Ok(reply) => (kind(&route), reply.finish(request.headers(), request.version(), is_head)),
        Err(error) => {
            let blocks = |directives: Directives| directives.msn.is_some();
            let lifetime = match route {
                _ if error.status == 503 => Lifetime::Never,
                Route::Stream(_, StreamRoute::Media { directives, .. }) if blocks(directives) => {
                    Lifetime::BlockingFault
                }
                _ => Lifetime::Fault,
            };
            let response = error_response(&error, lifetime, target_of(edge, &route), is_head);
            (kind(&route), response.into())
        }
    }
}

/// Returns the TARGETDURATION of the stream that a route names, in seconds.
fn target_of(edge: &Edge, route: &Route<'_>) -> u32 {
    let Route::Stream(name, _) = route else { return TARGET_UNKNOWN };
    let target = |stream: Arc<Stream>| Some(stream.lock().window().record()?.target_duration);
    edge.store().get(name).and_then(target).unwrap_or(TARGET_UNKNOWN)
}

/// Stops or starts a node of the demo.
fn order<B>(edge: &Edge, request: &Request<B>) -> Result<Response<ResponseBody>, HttpError> {
    let path = route::normalize(request.uri().path())?;
    let Route::DemoNode { node, run } = Route::parse(&path, request.uri().query())? else {
        return Err(HttpError::new(405, "request: this path doesn't take POST"));
    };
    if !request.headers().contains_key(headers::X_DAMSON_DEMO) {
        return Err(HttpError::new(403, format!("request: the header {} is missing", headers::X_DAMSON_DEMO)));
    }
    json::control(edge)?.set(node, run)?;
    let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from_static("0"))]);
    Ok(response(StatusCode::ACCEPTED, headers, ResponseBody::empty()))
}

fn kind(route: &Route<'_>) -> RequestKind {
    match route {
        Route::Stream(_, route) => match route {
            StreamRoute::Multivariant => RequestKind::Multivariant,
            StreamRoute::Media { .. } => RequestKind::Playlist,
            StreamRoute::Mpd { .. } => RequestKind::Mpd,
            StreamRoute::Init { .. } => RequestKind::Init,
            StreamRoute::Segment { .. } => RequestKind::Segment,
            StreamRoute::Part { .. } => RequestKind::Part,
            StreamRoute::Description | StreamRoute::Trace { .. } | StreamRoute::TraceLive { .. } => RequestKind::Api,
        },
        Route::Streams | Route::Swarm | Route::Edges | Route::Demo | Route::DemoNode { .. } => RequestKind::Api,
        _ => RequestKind::Other,
    }
}

/// Logs CMCD (CTA-5004), which no cache key includes.
fn log_cmcd<B>(request: &Request<B>) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let query = request.uri().query().unwrap_or("").split('&').find_map(|p| p.strip_prefix("CMCD="));
    let names = ["cmcd-request", "cmcd-object", "cmcd-status", "cmcd-session"];
    let headers = names.iter().filter_map(|name| request.headers().get(*name)?.to_str().ok());
    for cmcd in query.into_iter().chain(headers) {
        tracing::debug!(path = request.uri().path(), cmcd, "CMCD");
    }
}

async fn reply(edge: &Edge, visitor: &Visitor, route: Route<'_>, headers: &HeaderMap) -> Result<Reply, HttpError> {
    let requester = Requester { at: clock::now(), visitor: Some(visitor) };
    let text = |text: &str| Ok(Reply::new(text.to_owned(), TEXT, Lifetime::Never, 0));
    match route {
        Route::Stream(name, route) => {
            let stream = edge.store().find(name)?;
            StreamRequest { edge, stream: &stream, requester }.reply(route).await
        }
        Route::Page(path) => {
            let page = damson_player::asset(path);
            let page = page.ok_or_else(|| HttpError::new(404, "request: the player page has no such file"))?;
            let (plain, gzip) = (Bytes::from_static(page.bytes), Bytes::from_static(page.gzip));
            let etag = HeaderValue::from_static(page.etag);
            let document = Document::new(plain, gzip.into(), etag, page.content_type, PAGE_TARGET);
            Ok(Reply::document(Arc::new(document), false))
        }
        Route::Healthz => text("ok\n"),
        Route::Readyz if edge.host().is_ready() => text("ready\n"),
        Route::Readyz => Err(HttpError::new(503, "edge: this node hasn't joined the mesh yet")),
        Route::Time => text(&clock::wall().iso8601()),
        Route::Metrics => {
            let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
            let (text, content_type) = metrics::metrics(edge, accepted);
            Ok(Reply::new(text, content_type, Lifetime::Never, 0))
        }
        Route::Streams | Route::Swarm | Route::Edges | Route::Demo | Route::DemoNode { .. } => {
            Ok(json_reply(&json::json(edge, &route)?))
        }
    }
}

fn json_reply(value: &Value) -> Reply {
    Reply::new(value.to_string(), "application/json", Lifetime::Never, 0)
}

/// A track, and what the window holds of it.
type HeldTrack<'a> = (&'a Record, &'a Track, &'a TrackWindow);

/// Returns a track by name; `None` until the record is known.
fn find<'a>(window: &'a Window, name: &str) -> Result<Option<HeldTrack<'a>>, HttpError> {
    let Some(record) = window.record() else { return Ok(None) };
    let found = record.track_named(name).and_then(|track| Some((track, window.track(track.id)?)));
    let no_track = || HttpError::new(404, format!("request: the stream has no track named {name}"));
    let (track, held) = found.ok_or_else(no_track)?;
    Ok(Some((record, track, held)))
}

/// Returns what a blocking reload has to wait for; `None` if the current playlist satisfies it (rfc8216bis 6.2.5.2).
fn blocked(record: &Record, track: &TrackWindow, directives: Directives) -> Result<Option<WaitFor>, HttpError> {
    // "Delivery Directives ... MUST be ignored [once] the Playlist contains an EXT-X-ENDLIST tag".
    let (Some(msn), Some((next, next_part))) = (directives.msn, track.next()) else { return Ok(None) };
    if facts::track_has_ended(record, track) {
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
    // "a Part Index greater than that of the final Partial Segment of the Parent Segment [is] a request for Part Index
    // 0 of the following Parent Segment": Shaka asks for that at each segment's end.
    let past_end = track.segment_under_way(msn).is_some_and(|s| part as usize >= s.parts().len());
    Ok((past_end && msn.saturating_add(1) == next && next_part == 0).then(|| place(next, 0)))
}

/// "three divided by the Part Target Duration if [it] is less than one second, or three otherwise".
fn advance_part_limit(record: &Record) -> u32 {
    let millis = u32::try_from(record.part_target.as_millis()).unwrap_or(u32::MAX).clamp(1, 1_000);
    3_000_u32.div_ceil(millis)
}

fn content_type(track: &Track) -> &'static str {
    if track.is_video() { "video/mp4" } else { "audio/mp4" }
}

/// Answers a request for the part or segment after `last`, where the segment or the life has ended: with a chunk of no
/// samples. Shaka (5.2) and dash.js (5.2) ask ahead. They take a 404 for an error, and stop or begin anew.
fn never(record: &Record, track: &Track, last: Option<&Segment>) -> Result<Reply, HttpError> {
    let last = last.ok_or_else(gone)?;
    let end = last.decode_time().saturating_add(last.duration());
    Ok(Reply::new(cmaf::silence(end), content_type(track), Lifetime::Never, record.target_duration))
}

/// A track, and the record that it is in.
type RecordedTrack<'a> = (&'a Record, &'a Track);

/// A request for a resource of a stream.
struct StreamRequest<'a> {
    edge: &'a Edge,
    stream: &'a Arc<Stream>,
    requester: Requester<'a>,
}

impl StreamRequest<'_> {
    async fn reply(&self, route: StreamRoute<'_>) -> Result<Reply, HttpError> {
        match route {
            StreamRoute::Multivariant => self.document(Which::Multivariant).await,
            StreamRoute::Mpd { follows } => self.document(Which::Mpd { follows }).await,
            StreamRoute::Media { track, directives } => self.media(track, directives).await,
            StreamRoute::Init { track, number } => self.init(track, number).await,
            StreamRoute::Segment { track, msn } => {
                let reply = self.segment(track, msn).await?;
                Ok(reply.by_file(self.edge.store().memory_files()))
            }
            StreamRoute::Part { track, msn, part } => self.part(track, msn, part).await,
            StreamRoute::Description => Ok(json_reply(&json::stream(self.edge, self.stream))),
            StreamRoute::Trace { track, msn, part } => {
                Ok(json_reply(&latency::json(self.edge, self.stream, track, msn, part)?))
            }
            StreamRoute::TraceLive { .. } => {
                Err(HttpError::new(426, "request: this is a WebSocket; open it over HTTP/1.1, with Upgrade: websocket"))
            }
        }
    }

    async fn document(&self, which: Which) -> Result<Reply, HttpError> {
        let kind = if which == Which::Multivariant { RequestKind::Multivariant } else { RequestKind::Mpd };
        let ask = |state: &mut StreamState| {
            if !state.window().is_started() || state.dvr().is_awaited() {
                return Ok(Step::appear(WaitFor::Started));
            }
            let ended = facts::presentation_has_ended(state.window());
            // Until then both MPDs are the same, and rendered once.
            let which = if ended || which == Which::Multivariant { which } else { Which::Mpd { follows: false } };
            Ok(self.rendered(state, which, kind, false).unwrap_or(Step::appear(WaitFor::Started)))
        };
        self.stream.resolve(self.requester, ask).await
    }

    async fn media(&self, name: &str, directives: Directives) -> Result<Reply, HttpError> {
        let ask = |state: &mut StreamState| {
            let Some((record, track, held)) = find(state.window(), name)? else {
                return Ok(Step::appear(WaitFor::Record));
            };
            let id = track.id;
            if state.dvr().is_awaited() {
                return Ok(Step::appear(WaitFor::Started));
            }
            if !held.is_started() {
                return Ok(Step::appear(WaitFor::Part(id, 0, 0)));
            }
            // hls.js (1.7) takes a playlist without a whole segment for an empty one, and begins anew.
            if let Some((first, _)) = held.next().filter(|_| !held.has_segment() && record.ended.is_none()) {
                return Ok(Step::appear(WaitFor::Segment(id, first)));
            }
            if let Some(place) = blocked(record, held, directives)? {
                return Ok(Step::Wait(place, hold(record)));
            }
            let which = Which::Media(id, directives.skip);
            let rendered = self.rendered(state, which, RequestKind::Playlist, directives.msn.is_some());
            Ok(rendered.unwrap_or(Step::appear(WaitFor::Part(id, 0, 0))))
        };
        self.stream.resolve(self.requester, ask).await
    }

    /// Answers with a document; returns `None` before there is anything to render.
    fn rendered(
        &self,
        state: &mut StreamState,
        which: Which,
        kind: RequestKind,
        blocking: bool,
    ) -> Option<Step<Reply>> {
        let timed = self.timed(kind, state.published().1);
        let (listed, documents) = state.rendered();
        let document = documents.get(listed, which, self.edge.config().timing)?;
        Some(Step::Answer(Reply::document(document, blocking).timed(timed)))
    }

    async fn init(&self, name: &str, number: u16) -> Result<Reply, HttpError> {
        let ask = |state: &mut StreamState| {
            let (published_at, published) = state.published();
            let timed = self.timed(RequestKind::Init, published);
            let Some((record, track, _)) = find(state.window(), name)? else {
                return Ok(Step::appear(WaitFor::Record));
            };
            let found = |i: &&Init| i.number == number;
            let bytes = track.inits.iter().find(found).map(|init| &init.bytes);
            let bytes = bytes.or_else(|| state.dvr().archive()?.init(track.id, number));
            let bytes = bytes.ok_or_else(|| HttpError::new(404, "request: no such init segment"))?;
            let reply = Reply::new(bytes.clone(), content_type(track), Lifetime::Media, record.target_duration);
            let etag = headers::etag(blake3::hash(bytes).as_bytes());
            Ok(Step::Answer(reply.tagged(etag, Urgency::INIT, published_at).timed(timed)))
        };
        self.stream.resolve(self.requester, ask).await
    }

    async fn part(&self, name: &str, msn: Msn, number: u16) -> Result<Reply, HttpError> {
        let ask = |state: &mut StreamState| {
            let (window, heads) = state.headed();
            let Some((record, track, held)) = find(window, name)? else { return Ok(Step::appear(WaitFor::Record)) };
            match held.part(msn, number) {
                Lookup::Ready(part) => Ok(Step::Answer(self.whole_part(heads, (record, track), part))),
                Lookup::Gap => Err(gap()),
                Lookup::Unknown => {
                    // The part after the last one of a segment that has ended: the playlist hinted at it.
                    let under_way = held.segment_under_way(msn);
                    if under_way.is_some_and(|s| s.parts().len() == usize::from(number)) {
                        return never(record, track, under_way).map(Step::Answer);
                    }
                    let segment = self.stream.delisted(record.life, track.id, msn).ok_or_else(gone)?;
                    let part = segment.parts().nth(usize::from(number)).ok_or_else(gone)?;
                    Ok(Step::Answer(self.whole_part(heads, (record, track), part)))
                }
                Lookup::Expected if record.ended.is_some_and(|last| msn > last) => {
                    never(record, track, held.listed().next_back()).map(Step::Answer)
                }
                Lookup::Expected => match held.next() {
                    None => Ok(Step::appear(WaitFor::Part(track.id, msn, number))),
                    // The hinted part, and the one after it, whichever segment it is in.
                    Some((next, part))
                        if (msn == next && number <= part.saturating_add(1))
                            || (msn == next.saturating_add(1) && number == 0) =>
                    {
                        Ok(Step::Wait(WaitFor::Part(track.id, msn, number), hold(record)))
                    }
                    Some(_) => Err(gone()),
                },
            }
        };
        self.stream.resolve(self.requester, ask).await
    }

    async fn segment(&self, name: &str, msn: Msn) -> Result<Reply, HttpError> {
        let mut archived = None;
        let ask = |state: &mut StreamState| {
            let (window, heads) = state.headed();
            let Some((record, track, held)) = find(window, name)? else { return Ok(Step::appear(WaitFor::Record)) };
            match held.segment(msn) {
                Lookup::Ready(segment) => self.whole(heads, (record, track), segment).map(Step::Answer),
                Lookup::Gap => Err(gap()),
                Lookup::Unknown => {
                    let Some(segment) = self.stream.delisted(record.life, track.id, msn) else {
                        archived = Some((record.life, track.id));
                        return Err(gone());
                    };
                    self.whole(heads, (record, track), &segment).map(Step::Answer)
                }
                Lookup::Expected if record.ended.is_some_and(|last| msn > last) => {
                    never(record, track, held.listed().next_back()).map(Step::Answer)
                }
                Lookup::Expected => match held.segment_under_way(msn) {
                    Some(segment) if segment.has_loss() => Err(gap()),
                    Some(segment) => {
                        let first = segment.first().ok_or_else(gone)?;
                        Ok(Step::Answer(self.following((record, track), first)))
                    }
                    None if held.is_started() => Ok(Step::Wait(WaitFor::Part(track.id, msn, 0), hold(record))),
                    None => Ok(Step::appear(WaitFor::Part(track.id, msn, 0))),
                },
            }
        };
        let in_memory = self.stream.resolve(self.requester, ask).await;
        let Some((life, id)) = archived else { return in_memory };
        let segment = self.stream.archived(life, id, msn).await?;
        let mut state = self.stream.lock();
        let (window, heads) = state.headed();
        let (record, track, _) = find(window, name)?.filter(|(record, ..)| record.life == life).ok_or_else(gone)?;
        self.whole(heads, (record, track), &segment)
    }

    /// Times a request for what was listed at `listed`, if timing is on and the request is chosen.
    fn timed(&self, kind: RequestKind, listed: Time) -> Option<Timed> {
        if !self.edge.config().traced {
            return None;
        }
        self.stream.times().begin(kind, self.requester.at, listed)
    }

    fn whole_part(&self, heads: &mut MediaHeads, of: RecordedTrack<'_>, part: &Part) -> Reply {
        let id = part.header.id;
        let source = (part.header.hash, of.0.ended.is_some());
        let head = heads.get((of.1.id, id.msn, Some(id.part)), source, || {
            let etag = headers::etag(&hash(part));
            self.head(of, part, u64::from(part.header.duration), (Some(etag), Urgency::PART))
        });
        let timed = self.timed(RequestKind::Part, part.listed);
        Reply::media(ResponseBody::chain([chunks::of_part(part)]), head, part.listed.since(self.requester.at))
            .timed(timed)
    }

    fn whole(&self, heads: &mut MediaHeads, of: RecordedTrack<'_>, segment: &Segment) -> Result<Reply, HttpError> {
        let last = segment.parts().last().ok_or_else(gone)?;
        let source = (last.header.hash, of.0.ended.is_some());
        let head = heads.get((of.1.id, segment.msn, None), source, || {
            let mut hasher = blake3::Hasher::new();
            for part in segment.parts() {
                hasher.update(&hash(part));
            }
            let etag = headers::etag(hasher.finalize().as_bytes());
            let urgency = if of.1.is_video() { Urgency::PICTURES } else { Urgency::SOUND };
            self.head(of, last, segment.duration(), (Some(etag), urgency))
        });
        let body = ResponseBody::chain(chunks::of_segment(segment.parts()));
        let timed = self.timed(RequestKind::Segment, last.listed);
        Ok(Reply::media(body, head, last.listed.since(self.requester.at)).timed(timed))
    }

    fn following(&self, of: RecordedTrack<'_>, first: &Part) -> Reply {
        let (record, track) = of;
        let sent = self.edge.metrics().sent(RequestKind::Segment);
        let body = follow(Arc::clone(self.stream), (record.life, track.id, first.header.id.msn), sent);
        let ticks = track.timescale.ticks(record.segment_duration);
        let head = self.head(of, first, ticks, (None, Urgency::GROWING));
        let timed = self.timed(RequestKind::Segment, first.listed).map(Timed::growing);
        let held = first.listed.since(self.requester.at);
        Reply::media(ResponseBody::Follow(body), Arc::new(head), held).timed(timed)
    }

    fn head(
        &self,
        (record, track): RecordedTrack<'_>,
        part: &Part,
        ticks: u64,
        (etag, urgency): (Option<HeaderValue>, Urgency),
    ) -> MediaHead {
        let (edge, traced) = (self.edge.name(), self.edge.config().traced);
        let input = HeadInput { part, record, track, edge, duration: track.timescale.duration(ticks), urgency, traced };
        input.head(content_type(track), etag, &|node| self.edge.node_name(node))
    }
}

/// Returns the hash of the bytes that are sent for a part. The headers of all silences have the same hash, but each has
/// another decode time.
fn hash(part: &Part) -> [u8; 32] {
    if part.is_gap() { *blake3::hash(&chunks::of_part(part)).as_bytes() } else { part.header.hash }
}

/// Makes the response to a request that asks for no resource; no cache keeps it.
pub(crate) fn refusal(error: &HttpError) -> Response<ResponseBody> {
    error_response(error, Lifetime::Never, 0, false)
}

fn error_response(error: &HttpError, lifetime: Lifetime, target: u32, is_head: bool) -> Response<ResponseBody> {
    let reply = Reply::new(format!("{}\n", error.text), TEXT, lifetime, target);
    let mut response = reply.finish(&HeaderMap::new(), Version::HTTP_11, is_head).response;
    *response.status_mut() = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if error.status == 426 {
        // RFC 9110 15.5.22 and RFC 6455 4.4.
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    if error.status == 503 {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
