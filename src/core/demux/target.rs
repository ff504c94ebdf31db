//! The stream, and the rendition of it, that a publisher names by a path.

use std::fmt;

use crate::model::{Rendition, StreamName};

/// The default instance of an application (Flash Media Server), which some encoders send. It names no stream.
const INSTANCE: &str = "_definst_";
/// The longest part of a refused path that an error repeats, in characters.
const SAID_MAX: usize = 80;
/// The signs that may part a name from a key.
const KEY_SIGNS: [char; 5] = [',', ':', '=', '&', ';'];

/// The stream or rendition that a publisher asks to publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishTarget {
    /// The stream.
    pub stream: StreamName,
    /// The rendition of it; `None` for the stream itself.
    pub rendition: Option<Rendition>,
    /// The query behind `?`, such as `key=...`, for the authorisation.
    pub query: Option<String>,
}

impl PublishTarget {
    /// Reads a path: a stream, and a rendition of it if there is a second segment. Slashes at both ends and
    /// [`INSTANCE`] don't count.
    ///
    /// # Errors
    /// Returns the reason why the path names no stream, in words for the publisher.
    pub(super) fn parse(path: &str, query: Option<String>) -> Result<PublishTarget, String> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty() && *segment != INSTANCE);
        // Behind a sign that no name has there may be a key, which isn't told.
        let told = |text: &str| text.split(KEY_SIGNS).next().unwrap_or_default().chars().take(SAID_MAX).collect();
        let said: String = told(path.trim_matches('/'));
        let refused = |why: &dyn fmt::Display| format!("{said:?}: {why}");
        let stream = StreamName::parse(segments.next().unwrap_or_default()).map_err(|error| refused(&error))?;
        let rendition = segments.next().map(Rendition::parse).transpose().map_err(|error| refused(&error))?;
        match segments.next() {
            None => Ok(PublishTarget { stream, rendition, query }),
            Some(more) => {
                let more: String = told(more);
                Err(refused(&format_args!("the path has one segment too many: {more:?}")))
            }
        }
    }
}

/// Splits a path from its query. This comes before anything else that is read of it: a key may have a slash.
pub(super) fn split_query(text: &str) -> (&str, Option<String>) {
    text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_stream_and_a_rendition() {
        let check = |path: &str, stream: &str, rendition: Option<&str>| {
            let target = PublishTarget::parse(path, None).expect(path);
            assert_eq!((target.stream.as_str(), target.rendition.as_ref().map(Rendition::as_str)), (stream, rendition));
        };
        check("cam1", "cam1", None);
        check("/cam1/", "cam1", None);
        check("_definst_/cam1", "cam1", None);
        check("//cam1//720p/", "cam1", Some("720p"));
        let refused = |path: &str, why: &str| assert_eq!(PublishTarget::parse(path, None).expect_err(path), why);
        refused("/", "\"\": a stream name has 1 to 64 characters, this one has 0");
        refused("a/b/c", "\"a/b/c\": the path has one segment too many: \"c\"");
        refused("a/b/c,key=SECRET", "\"a/b/c\": the path has one segment too many: \"c\"");
        refused(
            "my cam",
            "\"my cam\": a stream name is made of A-Z, a-z, 0-9, '_' and '-'; this one has ' ' at byte 2",
        );
        for path in ["x".repeat(60_000), format!("a/b/{}", "x".repeat(60_000))] {
            let long = PublishTarget::parse(&path, None).expect_err("too long");
            assert!(long.len() < 250, "{long}");
        }
    }

    #[test]
    fn a_query_begins_at_the_first_question_mark() {
        assert_eq!(split_query("cam1?key=a/b?c"), ("cam1", Some("key=a/b?c".to_owned())));
        assert_eq!(split_query("cam1"), ("cam1", None));
    }
}
