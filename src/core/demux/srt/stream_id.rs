//! The stream id (SRT access control guidelines): plain, as a path, or `#!::` with keys; or as MediaMTX has it.
//!
//! ```text
//! cam1   live/cam1   cam1/720p   live/cam1/720p   cam1?key=SECRET
//! #!::r=cam1,m=publish   #!::r=live/cam1/720p,m=publish,key=SECRET
//! publish:cam1   publish:live/cam1/720p:USER:SECRET
//! ```
//!
//! The guidelines make `request` the default mode. Here a caller can only publish, so the default is `publish`.

use percent_encoding::percent_decode_str;

use crate::demux::target::{PublishTarget, split_query};

/// The application that a path may begin with, as in RTMP.
const APP: &str = "live/";
/// The prefix of the form with keys.
const STANDARD: &str = "#!::";
/// The prefixes of MediaMTX's form, for publishers and for players.
const COLONS: (&str, &str) = ("publish:", "read:");

/// The reason why a stream id is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamIdError {
    /// The caller doesn't want to publish.
    #[error("m={0} is not supported: an SRT caller can only publish (m=publish); players use HTTP")]
    Mode(String),
    /// The stream id names no stream.
    #[error("the stream id names no stream (streamid=cam1, or streamid=#!::r=cam1,m=publish); --srt-default sets one")]
    Missing,
    /// The stream's name is not valid; the text has it as it arrived, and says why.
    #[error("the stream id {0}")]
    Name(String),
}

/// Reads a stream id. Decodes percent escapes, since some callers send the id as it is in their URL.
pub fn parse(text: &str) -> Result<PublishTarget, StreamIdError> {
    let text = &percent_decode_str(text).decode_utf8_lossy()[..];
    let Some(keys) = text.strip_prefix(STANDARD) else {
        if text.starts_with(COLONS.1) {
            return Err(StreamIdError::Mode("read".to_owned()));
        }
        let fields = text.strip_prefix(COLONS.0);
        let (path, query) = split_query(fields.unwrap_or(text));
        return match fields.and_then(|fields| fields.split_once(':')) {
            // A user's name isn't used. A secret may have a question mark, as a query may have a colon.
            Some((path, user)) if !path.contains('?') => {
                target(path, user.split_once(':').map(|(_, key)| format!("key={key}")))
            }
            _ => target(path, query),
        };
    };
    let (mut resource, mut query) = ("", None);
    for pair in keys.split(',') {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("r", value) => resource = value,
            ("m", "publish") => {}
            ("m", mode) => return Err(StreamIdError::Mode(mode.to_owned())),
            ("key", value) => query = Some(format!("key={value}")),
            // User, host, session and type aren't used.
            _ => {}
        }
    }
    let (path, own) = split_query(resource);
    target(path, query.or(own))
}

fn target(path: &str, query: Option<String>) -> Result<PublishTarget, StreamIdError> {
    let path = path.trim_matches('/');
    let path = path.strip_prefix(APP).unwrap_or(path);
    if path.is_empty() {
        return Err(StreamIdError::Missing);
    }
    PublishTarget::parse(path, query).map_err(StreamIdError::Name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Rendition;

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
        check("publish:cam1:me:a?b", "cam1", None, Some("key=a?b"));
        check("publish:cam1:me", "cam1", None, None);
        // A slash in a query names no rendition.
        check("live/cam2?key=a/b", "cam2", None, Some("key=a/b"));
        check("#!::r=cam2?key=a/b,m=publish", "cam2", None, Some("key=a/b"));
        check("cam1/", "cam1", None, None);
        check("live/_definst_/cam1", "cam1", None, None);
    }

    #[test]
    fn what_is_refused_is_told_why() {
        let check = |text: &str, why: &str| {
            assert_eq!(parse(text).expect_err(text).to_string(), why);
        };
        let missing = "the stream id names no stream (streamid=cam1, or streamid=#!::r=cam1,m=publish); \
                       --srt-default sets one";
        check("", missing);
        check("#!::m=publish", missing);
        check(
            "#!::r=cam1,m=request",
            "m=request is not supported: an SRT caller can only publish (m=publish); players use HTTP",
        );
        check(
            "#!::m=bidirectional",
            "m=bidirectional is not supported: an SRT caller can only publish (m=publish); players use HTTP",
        );
        check("read:cam1", "m=read is not supported: an SRT caller can only publish (m=publish); players use HTTP");
        let characters = "a stream name is made of A-Z, a-z, 0-9, '_' and '-'; this one has";
        check("my%20cam?key=x", &format!("the stream id \"my cam\": {characters} ' ' at byte 2"));
        check("cam1,key=secret", &format!("the stream id \"cam1\": {characters} ',' at byte 4"));
        check("a/b/c", "the stream id \"a/b/c\": the path has one segment too many: \"c\"");
        check("api", "the stream id \"api\": \"api\" is a path of the edge itself and can't name a stream");
        check(
            "cam1/video",
            "the stream id \"cam1/video\": rendition: \"video\" is what the tracks of a push without a rendition are called",
        );
    }
}
