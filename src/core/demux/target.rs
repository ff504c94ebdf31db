//! The stream, and the rendition of it, that a publisher names by a path.

use crate::model::{Rendition, StreamName};

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
    /// Reads a path's segments: a stream, and a rendition of it if there is a second segment.
    ///
    /// # Errors
    /// The reason why they name no stream, in words for the publisher.
    pub(super) fn parse<'a>(
        mut segments: impl Iterator<Item = &'a str>,
        query: Option<String>,
    ) -> Result<PublishTarget, String> {
        let stream = StreamName::parse(segments.next().unwrap_or_default()).map_err(|error| error.to_string())?;
        let rendition = segments.next().map(Rendition::parse).transpose().map_err(|error| error.to_string())?;
        match segments.next() {
            None => Ok(PublishTarget { stream, rendition, query }),
            Some(more) => Err(format!("the path has one segment too many: {more:?}")),
        }
    }
}

/// Splits a path into the path itself and its query.
pub(super) fn split_query(text: &str) -> (&str, Option<String>) {
    text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query.to_owned())))
}
