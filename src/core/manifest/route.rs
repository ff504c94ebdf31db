//! Parses a request's path and query into a route. It never panics, and allocates little: for percent-encoded paths, for
//! the API and for errors.

use std::borrow::Cow;
use std::str::FromStr;

use super::directives::{Directives, FOLLOW, Skip};
use super::http_error::HttpError;
use crate::model::{Msn, StreamName};

/// The longest path and query that an edge parses, in bytes. CMCD makes queries long.
pub const TARGET_LEN_MAX: usize = 8_192;

/// The resource that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// The player page at `/`, or one of its files at `/player/...`, by the whole path.
    Page(&'a str),
    /// A resource of the stream of this name.
    Stream(&'a str, StreamRoute<'a>),
    /// `/api/v1/streams`.
    Streams,
    /// `/api/v1/swarm`.
    Swarm,
    /// `/api/v1/edges`.
    Edges,
    /// `/api/v1/demo`.
    Demo,
    /// `/api/v1/demo/nodes/{node}/start` or `stop`, by POST.
    DemoNode {
        /// The node's name.
        node: &'a str,
        /// True for `start`.
        run: bool,
    },
    /// `/metrics`.
    Metrics,
    /// `/healthz`.
    Healthz,
    /// `/readyz`.
    Readyz,
    /// `/time`.
    Time,
}

/// A resource of a stream. Tracks are given by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRoute<'a> {
    /// The multivariant playlist.
    Multivariant,
    /// The MPD.
    Mpd {
        /// The player has read the MPD before: `?follow`.
        follows: bool,
    },
    /// A media playlist.
    Media {
        /// The track.
        track: &'a str,
        /// Delivery directives.
        directives: Directives,
    },
    /// An init segment.
    Init {
        /// The track.
        track: &'a str,
        /// Its number.
        number: u16,
    },
    /// A segment.
    Segment {
        /// The track.
        track: &'a str,
        /// Its media sequence number.
        msn: Msn,
    },
    /// A part.
    Part {
        /// The track.
        track: &'a str,
        /// The MSN of its segment.
        msn: Msn,
        /// Its number in the segment.
        part: u16,
    },
    /// `/api/v1/streams/{stream}`.
    Description,
    /// `/api/v1/streams/{stream}/trace?track=&msn=&part=`.
    Trace {
        /// The track; the first one by default.
        track: Option<&'a str>,
        /// The segment; by default the newest one.
        msn: Option<Msn>,
        /// The part; by default the newest one of the segment.
        part: Option<u16>,
    },
    /// `/api/v1/streams/{stream}/trace/live?track=`: a WebSocket.
    TraceLive {
        /// The track; all tracks by default.
        track: Option<&'a str>,
    },
}

/// Undoes percent-encoding, so that equal paths read equal (RFC 3986 6.2.2.2).
///
/// # Errors
/// A path that is too long, isn't UTF-8, or hides a `/` or a control character.
pub fn normalize(path: &str) -> Result<Cow<'_, str>, HttpError> {
    if path.len() > TARGET_LEN_MAX {
        return Err(HttpError::new(414, format!("request: the path is longer than {TARGET_LEN_MAX} bytes")));
    }
    let mut pieces = path.split('%');
    let plain = pieces.next().unwrap_or_default();
    if plain.len() == path.len() {
        return Ok(Cow::Borrowed(path));
    }
    let mut out = plain.as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(decoded) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            return Err(HttpError::new(400, "request: '%' without two hexadecimal digits in the path"));
        };
        if decoded == b'/' || decoded.is_ascii_control() {
            return Err(HttpError::new(400, "request: an encoded '/' or control character in the path"));
        }
        out.push(decoded);
        out.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| HttpError::new(400, "request: the path is not UTF-8"))
}

impl<'a> Route<'a> {
    /// Parses a path, as [`normalize`] returns it, and a query without its `?`.
    ///
    /// # Errors
    /// 400 for a malformed request, 404 for a path that doesn't exist, 414 for a query that is too long.
    pub fn parse(path: &'a str, query: Option<&'a str>) -> Result<Self, HttpError> {
        let query = query.unwrap_or("");
        if query.len() > TARGET_LEN_MAX {
            return Err(HttpError::new(414, format!("request: the query is longer than {TARGET_LEN_MAX} bytes")));
        }
        let Some(inside) = path.strip_prefix('/') else {
            return Err(HttpError::new(400, "request: the path doesn't start with '/'"));
        };
        match inside.split_once('/').unwrap_or((inside, "")) {
            ("", "") if inside.is_empty() => Ok(Route::Page(path)),
            ("player", _) => Ok(Route::Page(path)),
            ("api", rest) => api(rest, query),
            ("metrics", "") => Ok(Route::Metrics),
            ("healthz", "") => Ok(Route::Healthz),
            ("readyz", "") => Ok(Route::Readyz),
            ("time", "") => Ok(Route::Time),
            ("favicon.ico" | "robots.txt", "") => Err(unknown()),
            (_, "") => Err(HttpError::new(404, "request: no such page; a stream is at /{stream}/index.m3u8")),
            (stream, rest) => Ok(Route::Stream(name(stream, "stream")?, media(rest, query)?)),
        }
    }
}

fn unknown() -> HttpError {
    HttpError::new(404, "request: no such path")
}

fn name<'a>(text: &'a str, what: &str) -> Result<&'a str, HttpError> {
    let checked = StreamName::check(text);
    checked.map(|()| text).map_err(|e| HttpError::new(404, format!("request: no such {what}: {e}")))
}

fn media<'a>(rest: &'a str, query: &'a str) -> Result<StreamRoute<'a>, HttpError> {
    let Some((track, file)) = rest.split_once('/') else {
        return match rest {
            "index.m3u8" => Ok(StreamRoute::Multivariant),
            "manifest.mpd" => Ok(StreamRoute::Mpd { follows: query.split('&').any(|word| word == FOLLOW) }),
            _ => Err(HttpError::new(404, "request: a stream has index.m3u8, manifest.mpd and a folder for each track")),
        };
    };
    let track = name(track, "track")?;
    if file == "playlist.m3u8" {
        return Ok(StreamRoute::Media { track, directives: directives(query)? });
    }
    let mut dots = file.split('.');
    let route = match (dots.next(), dots.next(), dots.next(), dots.next()) {
        (Some("init"), Some(n), Some("mp4"), None) => number(n).map(|number| StreamRoute::Init { track, number }),
        (Some(msn), Some("m4s"), None, None) => number(msn).map(|msn| StreamRoute::Segment { track, msn }),
        (Some(msn), Some(part), Some("m4s"), None) => {
            number(msn).zip(number(part)).map(|(msn, part)| StreamRoute::Part { track, msn, part })
        }
        _ => None,
    };
    route.ok_or_else(|| {
        HttpError::new(404, "request: a track has playlist.m3u8, init.{n}.mp4, {msn}.m4s and {msn}.{part}.m4s")
    })
}

/// Parses what is behind `/api/`; one piece more than the longest path has is enough to reject longer ones.
fn api<'a>(rest: &'a str, query: &'a str) -> Result<Route<'a>, HttpError> {
    let track = || value(query, "track")?.map(|track| name(track, "track")).transpose();
    let (stream, route) = match rest.splitn(6, '/').collect::<Vec<_>>()[..] {
        ["v1", "streams"] => return Ok(Route::Streams),
        ["v1", "swarm"] => return Ok(Route::Swarm),
        ["v1", "edges"] => return Ok(Route::Edges),
        ["v1", "demo"] => return Ok(Route::Demo),
        ["v1", "demo", "nodes", node, what @ ("start" | "stop")] => {
            return Ok(Route::DemoNode { node, run: what == "start" });
        }
        ["v1", "streams", stream] => (stream, StreamRoute::Description),
        ["v1", "streams", stream, "trace"] => {
            let (msn, part) = (integer(query, "msn")?, integer(query, "part")?);
            (stream, StreamRoute::Trace { track: track()?, msn, part })
        }
        ["v1", "streams", stream, "trace", "live"] => (stream, StreamRoute::TraceLive { track: track()? }),
        _ => return Err(unknown()),
    };
    Ok(Route::Stream(name(stream, "stream")?, route))
}

/// rfc8216bis 6.2.5: directives; others that start with `_HLS_` are reserved, and ignored here.
fn directives(query: &str) -> Result<Directives, HttpError> {
    if !query.contains("_HLS_") {
        return Ok(Directives::default());
    }
    let (msn, part) = (integer(query, "_HLS_msn")?, integer(query, "_HLS_part")?);
    // "_HLS_part ... the client MUST also specify the _HLS_msn"
    if part.is_some() && msn.is_none() {
        return Err(HttpError::new(400, "request: _HLS_part without _HLS_msn"));
    }
    let skip = match value(query, "_HLS_skip")? {
        Some("YES") => Skip::Segments,
        Some("v2") => Skip::DateRanges,
        _ => Skip::Nothing,
    };
    Ok(Directives { msn, part, skip })
}

/// The value of the only parameter `key`.
fn value<'a>(query: &'a str, key: &str) -> Result<Option<&'a str>, HttpError> {
    let mut values = query.split('&').filter_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    let first = values.next();
    if values.next().is_some() {
        return Err(HttpError::new(400, format!("request: {key} is given twice")));
    }
    Ok(first)
}

fn integer<T: FromStr>(query: &str, key: &str) -> Result<Option<T>, HttpError> {
    let Some(text) = value(query, key)? else { return Ok(None) };
    let fault = || HttpError::new(400, format!("request: {key} is not a number, or too large a one"));
    number(text).map(Some).ok_or_else(fault)
}

/// Decimal digits without a sign or leading zeros: one object has one path.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let canonical = text.len() == 1 || !text.starts_with('0');
    if digits && canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_routed() {
        let check = |target: &str, expect: Route<'_>| {
            let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
            let path = normalize(path).expect(target);
            assert_eq!(Route::parse(&path, query), Ok(expect), "{target}");
        };
        let of_cam1 = |route| Route::Stream("cam1", route);
        check("/", Route::Page("/"));
        check("/player/app.js", Route::Page("/player/app.js"));
        check("/cam1/index.m3u8", of_cam1(StreamRoute::Multivariant));
        check("/%63am1/index.m3u8?CMCD=sf%3Dh", of_cam1(StreamRoute::Multivariant));
        check("/cam1/manifest.mpd?CMCD=follow", of_cam1(StreamRoute::Mpd { follows: false }));
        check("/cam1/manifest.mpd?follow&CMCD=sf%3Dh", of_cam1(StreamRoute::Mpd { follows: true }));
        let directives = Directives { msn: Some(7), part: Some(0), skip: Skip::Segments };
        check(
            "/cam1/video/playlist.m3u8?_HLS_msn=7&_HLS_part=0&_HLS_skip=YES",
            of_cam1(StreamRoute::Media { track: "video", directives }),
        );
        check("/cam1/video/init.3.mp4", of_cam1(StreamRoute::Init { track: "video", number: 3 }));
        check("/cam1/video/12.m4s", of_cam1(StreamRoute::Segment { track: "video", msn: 12 }));
        check("/cam1/video/12.0.m4s", of_cam1(StreamRoute::Part { track: "video", msn: 12, part: 0 }));
        check("/api/v1/streams", Route::Streams);
        check("/api/v1/streams/cam1", of_cam1(StreamRoute::Description));
        let (track, msn, part) = (Some("audio"), Some(5), Some(1));
        check("/api/v1/streams/cam1/trace?track=audio&msn=5&part=1", of_cam1(StreamRoute::Trace { track, msn, part }));
        check("/api/v1/streams/cam1/trace/live?track=audio", of_cam1(StreamRoute::TraceLive { track }));
        check("/time", Route::Time);
    }

    #[test]
    fn absurd_requests_are_told_what_is_wrong() {
        let check = |target: &str, status: u16| {
            let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
            let fault = match normalize(path) {
                Ok(path) => Route::parse(&path, query).expect_err(target),
                Err(fault) => fault,
            };
            assert_eq!(fault.status, status, "{target}: {fault}");
            assert!(fault.text.starts_with("request: "), "{target}: {fault}");
        };
        check("", 400);
        check("*", 400);
        check("/../etc/passwd", 404);
        check("/%2e%2e/video/1.m4s", 404);
        check("/cam1/..%2f..%2fetc/1.m4s", 400);
        check("/cam1/video/%00.m4s", 400);
        check("/cam1/video/%zz.m4s", 400);
        check("/cam1/video/%ff.m4s", 400);
        check("/cam1/video/%", 400);
        check("/cam1/video/+1.m4s", 404);
        check("/cam1/video/007.m4s", 404);
        check("/cam1/video/4294967296.m4s", 404);
        check("/cam1/video/1.65536.m4s", 404);
        check("/cam1/video/1.2.3.m4s", 404);
        check("/cam1/video/.m4s", 404);
        check("/cam1/video/a/b", 404);
        check("/cam1//playlist.m3u8", 404);
        check("//", 404);
        check("/api/v2/streams", 404);
        check("/cam1/video/playlist.m3u8?_HLS_part=1", 400);
        check("/cam1/video/playlist.m3u8?_HLS_msn=-1", 400);
        check("/cam1/video/playlist.m3u8?_HLS_msn=", 400);
        check("/cam1/video/playlist.m3u8?_HLS_msn=4294967296", 400);
        check("/cam1/video/playlist.m3u8?_HLS_msn=1&_HLS_msn=2", 400);
        check("/cam1/video/playlist.m3u8?_HLS_skip=YES&_HLS_skip=v2", 400);
        check(&format!("/{}/index.m3u8", "x".repeat(65)), 404);
        check(&format!("/{}", "x".repeat(TARGET_LEN_MAX)), 414);
    }

    proptest! {
        #[test]
        fn no_target_panics(
            path in "(/|%|[0-9a-f.]|cam1|api|v1|init|m4s|\\PC){0,40}",
            query in "(_HLS_msn|_HLS_part|=|&|[0-9]|\\PC){0,20}",
        ) {
            if let Ok(path) = normalize(&path) {
                let _ = Route::parse(&path, Some(&query));
            }
        }
    }
}
