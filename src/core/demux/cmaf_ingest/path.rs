//! The path of a request, which names the stream and one of its objects (pure).
//!
//! ```text
//!  PREFIX/{stream}                        a whole stream in one request: MPEG-TS, or MP4
//!  PREFIX/{stream}/{rendition}            the same as a rendition
//!  PREFIX/{stream}/Streams(video.cmfv)    a CMAF track (DASH-IF Live Media Ingest 1.2, 6.2)
//!  PREFIX/{stream}/init-stream0.m4s       segments, as DASH and HLS muxers name them (the same, 7.1.2)
//!                 /chunk-stream0-00001.m4s
//!                 /out.m3u8  /out.mpd
//! ```

use std::fmt;

use percent_encoding::percent_decode_str;

use crate::model::{Rendition, StreamName};

/// The stream, and the rendition of it, that a request pushes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestTarget {
    /// The stream that the path names.
    pub stream: StreamName,
    /// The part of the stream that the request brings.
    pub kind: TargetKind,
}

/// The part of a stream that a request brings: all of it, one object of it, or a manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetKind {
    /// One request is the whole push.
    Whole(Option<Rendition>),
    /// One object of a push.
    Object(Object),
    /// A playlist or an MPD, which adds nothing to the media.
    Manifest,
}

/// An object of a push: a track, or a segment of one or several.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Object {
    /// The folder, with its `/`.
    pub folder: String,
    /// `video.cmfv` of `Streams(video.cmfv)`, else the file's name.
    pub name: String,
}

/// The reason why a path is refused, in words for the encoder.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathError {
    /// The path isn't below the prefix.
    #[error("no stream is pushed here; push to {0}/STREAM")]
    Elsewhere(String),
    /// The stream's name breaks the rules of names.
    #[error("{0}")]
    Stream(String),
}

/// Words in an object's name that don't belong to its track's name.
const WORDS: [&str; 10] = ["init", "header", "chunk", "seg", "segment", "media", "data", "frag", "part", "cmaf"];

/// Reads a path, without its query.
pub fn parse(prefix: &str, path: &str) -> Result<RequestTarget, PathError> {
    let path = percent_decode_str(path).decode_utf8_lossy();
    let elsewhere = || PathError::Elsewhere(prefix.to_owned());
    let rest = path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')).ok_or_else(elsewhere)?;
    let (stream, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let rest = rest.trim_matches('/');
    if stream.is_empty() {
        return Err(elsewhere());
    }
    let stream = StreamName::parse(stream).map_err(|error| PathError::Stream(error.to_string()))?;
    if rest.is_empty() {
        return Ok(RequestTarget { stream, kind: TargetKind::Whole(None) });
    }
    let lower = rest.to_ascii_lowercase();
    if [".m3u8", ".mpd", ".m3u", ".ism", ".isml"].iter().any(|end| lower.ends_with(end)) {
        return Ok(RequestTarget { stream, kind: TargetKind::Manifest });
    }
    // "the Streams(stream_name) keyword shall be used to signal the name of the cmaf track" (6.2, clause 9).
    if let Some((folder, name)) =
        rest.split_once("Streams(").and_then(|(folder, rest)| Some((folder, rest.split_once(')')?.0)))
    {
        let object = Object { folder: folder.to_owned(), name: name.to_owned() };
        return Ok(RequestTarget { stream, kind: TargetKind::Object(object) });
    }
    if !rest.contains(['/', '.', '(']) {
        let rendition = Rendition::parse(rest).map_err(|error| PathError::Stream(error.to_string()))?;
        return Ok(RequestTarget { stream, kind: TargetKind::Whole(Some(rendition)) });
    }
    let (folder, name) = rest.rfind('/').map_or(("", rest), |at| rest.split_at(at + 1));
    let object = Object { folder: folder.to_owned(), name: name.to_owned() };
    Ok(RequestTarget { stream, kind: TargetKind::Object(object) })
}

impl Object {
    /// Returns the part of the name that all objects of its track share: `stream0` of `chunk-stream0-00001.m4s`.
    ///
    /// `numbered` tells that the object is a segment, whose number or time ends its name.
    pub fn track(&self, numbered: bool) -> String {
        let stem = self.name.rsplit_once('.').map_or(&*self.name, |(stem, _)| stem);
        let mut words: Vec<&str> =
            stem.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
        if numbered && let Some(last) = words.pop() {
            words.push(last.trim_end_matches(|c: char| c.is_ascii_digit()));
        }
        words.retain(|word| !word.is_empty() && !WORDS.contains(&word.to_ascii_lowercase().as_str()));
        format!("{}{}", self.folder, words.join("-"))
    }

    /// Returns the extension of its file name, without the dot; empty where there is none.
    pub fn extension(&self) -> &str {
        self.name.rsplit_once('.').map_or("", |(_, extension)| extension)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.folder, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_streams_and_objects() {
        let check = |path: &str, expect: &str| {
            let target = parse("/ingest", path).expect(path);
            assert_eq!(target.stream.as_str(), "cam1");
            let kind = match target.kind {
                TargetKind::Whole(rendition) => format!("whole {rendition:?}"),
                TargetKind::Object(object) => format!("{}|{}", object.folder, object.name),
                TargetKind::Manifest => "manifest".to_owned(),
            };
            assert_eq!(kind, expect, "{path}");
        };
        check("/ingest/cam1", "whole None");
        check("/ingest/cam1/", "whole None");
        check("/ingest/cam1/720p", "whole Some(Rendition(\"720p\"))");
        check("/ingest/cam1/Streams(video.cmfv)", "|video.cmfv");
        check("/ingest/cam1/live.isml/Streams%28audio-en.cmfa%29/Segments(1)", "live.isml/|audio-en.cmfa");
        check("/ingest/cam1/a/out_0/init.mp4", "a/out_0/|init.mp4");
        check("/ingest/cam1/out.m3u8", "manifest");
        check("/ingest/cam1/a/out.MPD", "manifest");
        let refused =
            |path: &str, expect: &str| assert_eq!(parse("/ingest", path).expect_err(path).to_string(), expect);
        refused("/", "no stream is pushed here; push to /ingest/STREAM");
        refused("/ingest", "no stream is pushed here; push to /ingest/STREAM");
        refused("/ingestion/cam1", "no stream is pushed here; push to /ingest/STREAM");
        refused("/ingest/a b", &StreamName::parse("a b").expect_err("a space").to_string());
        refused(
            "/ingest/cam1/video",
            "rendition: \"video\" is what the tracks of a push without a rendition are called",
        );
    }

    #[test]
    fn a_tracks_objects_are_told_by_their_names() {
        let check = |name: &str, numbered: bool, expect: &str| {
            assert_eq!(
                Object { folder: "a/".to_owned(), name: name.to_owned() }.track(numbered),
                format!("a/{expect}")
            );
        };
        check("init-stream0.m4s", false, "stream0");
        check("chunk-stream0-00001.m4s", true, "stream0");
        check("video-1080.cmfv", false, "video-1080");
        check("video-1080-init.cmfv", false, "video-1080");
        check("video-1080-1700000000.cmfv", true, "video-1080");
        check("out12.m4s", true, "out");
        check("init.mp4", false, "");
    }
}
