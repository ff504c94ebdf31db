//! A request's path and query to what is asked for. Pure; never panics, and allocates only for
//! percent-encoded paths and for faults.

use std::borrow::Cow;

use super::directives::{Directives, FOLLOW, Skip};
use super::http_error::HttpError;
use crate::model::{Msn, StreamName};

/// The longest path and query that is looked at, in bytes. CMCD in a query makes them long.
pub const TARGET_LEN_MAX: usize = 8_192;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// The player page at `/`, or one of its files at `/player/...`, by the whole path.
    Page(&'a str),
    /// Multivariant playlist.
    Multivariant {
        /// Of which stream.
        stream: &'a str,
    },
    /// MPD.
    Mpd {
        /// Of which stream.
        stream: &'a str,
        /// Who asks has read it before: `?follow`.
        follows: bool,
    },
    /// Media playlist.
    Media {
        /// Of which stream.
        stream: &'a str,
        /// Of which track.
        track: &'a str,
        /// Blocking reload.
        directives: Directives,
    },
    /// Init segment.
    Init {
        /// Of which stream.
        stream: &'a str,
        /// Of which track.
        track: &'a str,
        /// Its number.
        number: u16,
    },
    /// Segment.
    Segment {
        /// Of which stream.
        stream: &'a str,
        /// Of which track.
        track: &'a str,
        /// Its media sequence number.
        msn: Msn,
    },
    /// Part.
    Part {
        /// Of which stream.
        stream: &'a str,
        /// Of which track.
        track: &'a str,
        /// Its segment.
        msn: Msn,
        /// Its number in it.
        part: u16,
    },
    /// `/api/v1/streams`.
    Streams,
    /// `/api/v1/streams/{stream}`.
    Stream {
        /// Which.
        stream: &'a str,
    },
    /// `/api/v1/streams/{stream}/trace?track=&msn=&part=`.
    Trace {
        /// Of which stream.
        stream: &'a str,
        /// Of which track; the first without it.
        track: Option<&'a str>,
        /// Of which segment; the newest part without it.
        msn: Option<Msn>,
        /// Of which part; the segment's newest without it.
        part: Option<u16>,
    },
    /// `/api/v1/streams/{stream}/trace/live?track=`: a WebSocket.
    TraceLive {
        /// Of which stream.
        stream: &'a str,
        /// Of which track; of all without it.
        track: Option<&'a str>,
    },
    /// `/api/v1/swarm`.
    Swarm,
    /// `/api/v1/edges`.
    Edges,
    /// `/api/v1/demo`.
    Demo,
    /// `/api/v1/demo/nodes/{node}/start` or `stop`, by POST.
    DemoNode {
        /// Which.
        node: &'a str,
        /// To start it.
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

/// Undoes percent-encoding, so that equal paths read equal (RFC 3986 6.2.2.2).
///
/// # Errors
/// A path that is too long, isn't UTF-8, or hides a `/` or a control character.
pub fn normalize(path: &str) -> Result<Cow<'_, str>, HttpError> {
    if path.len() > TARGET_LEN_MAX {
        return Err(HttpError::new(414, format!("request: the path is longer than {TARGET_LEN_MAX} bytes")));
    }
    if !path.contains('%') {
        return Ok(Cow::Borrowed(path));
    }
    let fault = |at: usize, what: &str| HttpError::new(400, format!("request: byte {at} of the path: {what}"));
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        if b != b'%' {
            out.push(b);
            at += 1;
            continue;
        }
        let digit =
            |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) else {
            return Err(fault(at, "'%' without two hexadecimal digits"));
        };
        let decoded = high << 4 | low;
        if decoded == b'/' || decoded.is_ascii_control() {
            return Err(fault(at, "an encoded '/' or control character"));
        }
        out.push(decoded);
        at += 3;
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| HttpError::new(400, "request: the path is not UTF-8"))
}

impl<'a> Route<'a> {
    /// Parses a path, as [`normalize`] gives it, and a query without its `?`.
    ///
    /// # Errors
    /// 400 for what can't be a request of ours, 404 for what isn't there, 414 for what is too long.
    pub fn parse(path: &'a str, query: Option<&'a str>) -> Result<Self, HttpError> {
        let query = query.unwrap_or("");
        if query.len() > TARGET_LEN_MAX {
            return Err(HttpError::new(414, format!("request: the query is longer than {TARGET_LEN_MAX} bytes")));
        }
        let whole = path;
        let Some(path) = whole.strip_prefix('/') else {
            return Err(HttpError::new(400, "request: the path doesn't start with '/'"));
        };
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        match first {
            "" if path.is_empty() => Ok(Route::Page(whole)),
            "player" => Ok(Route::Page(whole)),
            "api" => api(rest, query),
            "metrics" if path == first => Ok(Route::Metrics),
            "healthz" if path == first => Ok(Route::Healthz),
            "readyz" if path == first => Ok(Route::Readyz),
            "time" if path == first => Ok(Route::Time),
            "favicon.ico" | "robots.txt" => Err(unknown()),
            _ if rest.is_empty() => {
                Err(HttpError::new(404, "request: no such page; a stream is at /{stream}/index.m3u8"))
            }
            _ => media(name(first, "stream")?, rest, query),
        }
    }

    /// The stream asked for, if one is.
    pub fn stream(&self) -> Option<&'a str> {
        match *self {
            Route::Multivariant { stream }
            | Route::Mpd { stream, .. }
            | Route::Media { stream, .. }
            | Route::Init { stream, .. }
            | Route::Segment { stream, .. }
            | Route::Part { stream, .. }
            | Route::Stream { stream }
            | Route::Trace { stream, .. }
            | Route::TraceLive { stream, .. } => Some(stream),
            _ => None,
        }
    }
}

fn unknown() -> HttpError {
    HttpError::new(404, "request: no such path")
}

fn name<'a>(text: &'a str, what: &str) -> Result<&'a str, HttpError> {
    match StreamName::check(text) {
        Ok(()) => Ok(text),
        Err(e) => Err(HttpError::new(404, format!("request: no such {what}: {e}"))),
    }
}

fn media<'a>(stream: &'a str, rest: &'a str, query: &'a str) -> Result<Route<'a>, HttpError> {
    let Some((track, file)) = rest.split_once('/') else {
        return match rest {
            "index.m3u8" => Ok(Route::Multivariant { stream }),
            "manifest.mpd" => Ok(Route::Mpd { stream, follows: query.split('&').any(|word| word == FOLLOW) }),
            _ => Err(HttpError::new(404, "request: a stream has index.m3u8, manifest.mpd and a folder for each track")),
        };
    };
    let track = name(track, "track")?;
    if file == "playlist.m3u8" {
        return Ok(Route::Media { stream, track, directives: directives(query)? });
    }
    let mut dots = file.split('.');
    let route = match (dots.next(), dots.next(), dots.next(), dots.next()) {
        (Some("init"), Some(n), Some("mp4"), None) => number(n).map(|number| Route::Init { stream, track, number }),
        (Some(msn), Some("m4s"), None, None) => number(msn).map(|msn| Route::Segment { stream, track, msn }),
        (Some(msn), Some(part), Some("m4s"), None) => {
            number(msn).zip(number(part)).map(|(msn, part)| Route::Part { stream, track, msn, part })
        }
        _ => None,
    };
    route.ok_or_else(|| {
        HttpError::new(404, "request: a track has playlist.m3u8, init.{n}.mp4, {msn}.m4s and {msn}.{part}.m4s")
    })
}

fn api<'a>(rest: &'a str, query: &'a str) -> Result<Route<'a>, HttpError> {
    let mut at = rest.split('/');
    match (at.next(), at.next(), at.next(), at.next(), at.next()) {
        (Some("v1"), Some("streams"), Some(stream), Some("trace"), Some("live")) if at.next().is_none() => {
            Ok(Route::TraceLive {
                stream: name(stream, "stream")?,
                track: value(query, "track")?.map(|t| name(t, "track")).transpose()?,
            })
        }
        (Some("v1"), Some("streams"), None, ..) => Ok(Route::Streams),
        (Some("v1"), Some("swarm"), None, ..) => Ok(Route::Swarm),
        (Some("v1"), Some("edges"), None, ..) => Ok(Route::Edges),
        (Some("v1"), Some("demo"), None, ..) => Ok(Route::Demo),
        (Some("v1"), Some("demo"), Some("nodes"), Some(node), Some(what @ ("start" | "stop")))
            if at.next().is_none() =>
        {
            Ok(Route::DemoNode { node, run: what == "start" })
        }
        (Some("v1"), Some("streams"), Some(stream), None, _) => Ok(Route::Stream { stream: name(stream, "stream")? }),
        (Some("v1"), Some("streams"), Some(stream), Some("trace"), None) => Ok(Route::Trace {
            stream: name(stream, "stream")?,
            track: value(query, "track")?.map(|t| name(t, "track")).transpose()?,
            msn: integer(query, "msn")?,
            part: integer(query, "part")?,
        }),
        _ => Err(unknown()),
    }
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

fn integer<T: std::str::FromStr>(query: &str, key: &str) -> Result<Option<T>, HttpError> {
    let Some(text) = value(query, key)? else { return Ok(None) };
    let fault = || HttpError::new(400, format!("request: {key} is not a number, or too large a one"));
    number(text).map(Some).ok_or_else(fault)
}

/// Decimal digits without a sign or leading zeros: one object has one path.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
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
        check("/", Route::Page("/"));
        check("/player/app.js", Route::Page("/player/app.js"));
        check("/cam1/index.m3u8", Route::Multivariant { stream: "cam1" });
        check("/%63am1/index.m3u8?CMCD=sf%3Dh", Route::Multivariant { stream: "cam1" });
        check("/cam1/manifest.mpd?CMCD=follow", Route::Mpd { stream: "cam1", follows: false });
        check("/cam1/manifest.mpd?follow&CMCD=sf%3Dh", Route::Mpd { stream: "cam1", follows: true });
        let directives = Directives { msn: Some(7), part: Some(0), skip: Skip::Segments };
        check(
            "/cam1/video/playlist.m3u8?_HLS_msn=7&_HLS_part=0&_HLS_skip=YES",
            Route::Media { stream: "cam1", track: "video", directives },
        );
        check("/cam1/video/init.3.mp4", Route::Init { stream: "cam1", track: "video", number: 3 });
        check("/cam1/video/12.m4s", Route::Segment { stream: "cam1", track: "video", msn: 12 });
        check("/cam1/video/12.0.m4s", Route::Part { stream: "cam1", track: "video", msn: 12, part: 0 });
        check("/api/v1/streams", Route::Streams);
        check("/api/v1/streams/cam1", Route::Stream { stream: "cam1" });
        let (track, msn, part) = (Some("audio"), Some(5), Some(1));
        check("/api/v1/streams/cam1/trace?track=audio&msn=5&part=1", Route::Trace { stream: "cam1", track, msn, part });
        check("/api/v1/streams/cam1/trace/live?track=audio", Route::TraceLive { stream: "cam1", track });
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
