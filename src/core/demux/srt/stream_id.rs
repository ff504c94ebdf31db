//! The stream id (SRT access control guidelines): plain, as a path, or `#!::` with keys; or as MediaMTX has it.
//!
//! ```text
//! cam1   live/cam1   cam1/720p   live/cam1/720p   cam1?key=SECRET
//! #!::r=cam1,m=publish   #!::r=live/cam1/720p,m=publish,key=SECRET
//! publish:cam1   publish:live/cam1/720p:USER:SECRET
//! ```
//!
//! The guidelines make `request` the mode that isn't said. Here a caller can only publish, and so one who says nothing
//! does.

use crate::model::{Rendition, StreamName};

/// The application that a path may begin with, as over RTMP.
const APP: &str = "live";
/// What the form with keys begins with.
const STANDARD: &str = "#!::";
/// What MediaMTX's form begins with, and what it has for players.
const COLONS: (&str, &str) = ("publish:", "read:");

/// What a caller wants to publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The stream.
    pub stream: StreamName,
    /// The rendition of it.
    pub rendition: Option<Rendition>,
    /// `key=...`, in whichever form.
    pub query: Option<String>,
}

/// Why a stream id is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamIdError {
    /// There is none, or it names nothing.
    #[error("the stream id names no stream (streamid=cam1, or streamid=#!::r=cam1,m=publish)")]
    Missing,
    /// Whoever wants to watch.
    #[error("m={0}: this ingest takes m=publish only; players fetch over HTTP")]
    Mode(String),
    /// A name that can't be.
    #[error("the stream id: {0}")]
    Name(String),
    /// More segments than a path has.
    #[error("the stream id {0:?} is no [live/]STREAM[/RENDITION]")]
    Path(String),
}

/// Reads a stream id. What an URL's escapes stand for is read, too: not every caller takes them out of its URL.
pub fn parse(text: &str) -> Result<Target, StreamIdError> {
    let text = &unescaped(text)[..];
    let Some(keys) = text.strip_prefix(STANDARD) else {
        if text.starts_with(COLONS.1) {
            return Err(StreamIdError::Mode("read".to_owned()));
        }
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query.to_owned())));
        let Some(fields) = path.strip_prefix(COLONS.0) else { return target(path, query) };
        // A user's name is nothing that anything here goes by.
        let mut fields = fields.splitn(3, ':');
        let (path, key) = (fields.next().unwrap_or_default(), fields.nth(1));
        return target(path, query.or(key.map(|key| format!("key={key}"))));
    };
    let (mut resource, mut query) = ("", None);
    for pair in keys.split(',') {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("r", value) => resource = value,
            ("m", "publish") => {}
            ("m", mode) => return Err(StreamIdError::Mode(mode.to_owned())),
            ("key", value) => query = Some(format!("key={value}")),
            // User, host, session, type: nothing here goes by them.
            _ => {}
        }
    }
    let (resource, own) = resource.split_once('?').map_or((resource, None), |(path, query)| (path, Some(query)));
    target(resource, query.or(own.map(str::to_owned)))
}

/// `%XX` as the byte that it stands for (RFC 3986, 2.1); what isn't one stays.
fn unescaped(text: &str) -> String {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.first_chunk::<2>().filter(|digits| byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let escaped = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(escaped) => {
                out.push(escaped);
                rest = &tail[2..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn target(path: &str, query: Option<String>) -> Result<Target, StreamIdError> {
    let path = path.trim_matches('/');
    let mut segments: Vec<&str> = path.split('/').collect();
    if segments.len() > 1 && segments[0] == APP {
        segments.remove(0);
    }
    let name = |error: &dyn std::fmt::Display| StreamIdError::Name(error.to_string());
    let (stream, rendition) = match segments[..] {
        [""] => return Err(StreamIdError::Missing),
        [stream] => (stream, None),
        [stream, rendition] => (stream, Some(Rendition::parse(rendition).map_err(|error| name(&error))?)),
        _ => return Err(StreamIdError::Path(path.to_owned())),
    };
    let stream = StreamName::parse(stream).map_err(|error| name(&error))?;
    Ok(Target { stream, rendition, query })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let check = |text: &str, stream: &str, rendition: Option<&str>, query: Option<&str>| {
            let target = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let got =
                (target.stream.as_str(), target.rendition.as_ref().map(Rendition::as_str), target.query.as_deref());
            assert_eq!(got, (stream, rendition, query), "{text}");
        };
        check("cam1", "cam1", None, None);
        check("/live/cam1", "cam1", None, None);
        check("live", "live", None, None);
        check("cam1/720p", "cam1", Some("720p"), None);
        check("live/cam1/720p?key=x", "cam1", Some("720p"), Some("key=x"));
        check("#!::r=cam1,m=publish", "cam1", None, None);
        check("#!::u=me,r=live/cam1/audio_de,key=a=b", "cam1", Some("audio_de"), Some("key=a=b"));
        check("#!::r=cam1?key=x,m=publish", "cam1", None, Some("key=x"));
        check("%23!::r%3dcam1,m=publish", "cam1", None, None);
        check("cam1?key=%", "cam1", None, Some("key=%"));
        check("publish:cam1", "cam1", None, None);
        check("publish:cam1?key=a:b", "cam1", None, Some("key=a:b"));
        check("publish:live/cam1/720p:me:a:b", "cam1", Some("720p"), Some("key=a:b"));
    }

    #[test]
    fn what_is_refused_is_told_why() {
        let check = |text: &str, why: &str| {
            assert_eq!(parse(text).expect_err(text).to_string(), why);
        };
        let missing = "the stream id names no stream (streamid=cam1, or streamid=#!::r=cam1,m=publish)";
        check("", missing);
        check("#!::m=publish", missing);
        check("#!::r=cam1,m=request", "m=request: this ingest takes m=publish only; players fetch over HTTP");
        check("#!::m=bidirectional", "m=bidirectional: this ingest takes m=publish only; players fetch over HTTP");
        check("read:cam1", "m=read: this ingest takes m=publish only; players fetch over HTTP");
        check("a/b/c", "the stream id \"a/b/c\" is no [live/]STREAM[/RENDITION]");
        check("api", "the stream id: \"api\" is a path of the edge itself and can't name a stream");
        check(
            "cam1/video",
            "the stream id: rendition: \"video\" is what the tracks of a push without a rendition are called",
        );
    }
}
