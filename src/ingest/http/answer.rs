//! The answers to requests: a status, and the reason in a line.

use bytes::Bytes;
use damson_core::demux::bmff::BmffError;
use damson_core::demux::cmaf_ingest::body;
use damson_core::demux::cmaf_ingest::path::PathError;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use crate::ingest::publish_request::{Eviction, Refused};

/// A status, and the reason for it.
pub(crate) struct Answer(pub(crate) StatusCode, pub(crate) String);

impl Answer {
    pub(crate) fn ok() -> Self {
        Answer(StatusCode::OK, "ok".to_owned())
    }

    pub(crate) fn new(status: StatusCode, why: impl ToString) -> Self {
        Answer(status, why.to_string())
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        let status = match refused {
            Refused::Denied(_) => StatusCode::FORBIDDEN,
            Refused::Busy(_) => StatusCode::CONFLICT,
            Refused::Renditions(_) | Refused::Full | Refused::Draining => StatusCode::SERVICE_UNAVAILABLE,
        };
        Answer::new(status, refused)
    }
}

impl From<Eviction> for Answer {
    fn from(over: Eviction) -> Self {
        match over {
            Eviction::Draining => Answer::new(StatusCode::SERVICE_UNAVAILABLE, over),
            _ => Answer::new(StatusCode::CONFLICT, over),
        }
    }
}

impl From<PathError> for Answer {
    fn from(error: PathError) -> Self {
        let status = match error {
            PathError::Elsewhere(_) => StatusCode::NOT_FOUND,
            // "permission problems, or incorrect path, it SHALL return an HTTP 403" (5.3, 4).
            PathError::Stream(_) => StatusCode::FORBIDDEN,
        };
        Answer::new(status, error)
    }
}

impl From<body::Refused> for Answer {
    fn from(refused: body::Refused) -> Self {
        let status = match &refused {
            // "due to missing or incorrect initialization fragment" (DASH-IF Live Media Ingest 1.2, 5.3, 5c).
            body::Refused::Bmff(BmffError::NoInit { .. } | BmffError::UnknownTrack { .. }) => {
                StatusCode::PRECONDITION_FAILED
            }
            body::Refused::Bmff(BmffError::TooLong { .. } | BmffError::Tracks | BmffError::Samples)
            | body::Refused::Tracks(_) => StatusCode::PAYLOAD_TOO_LARGE,
            body::Refused::Bmff(_) => StatusCode::BAD_REQUEST,
            body::Refused::Unknown | body::Refused::NoTrack(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        };
        Answer::new(status, refused)
    }
}

impl From<Answer> for Response<Full<Bytes>> {
    fn from(Answer(status, why): Answer) -> Self {
        let mut response = Response::new(Full::from(why + "\n"));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match status {
            StatusCode::UNAUTHORIZED => _ = headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NO_CONTENT => {
                headers.insert(ALLOW, HeaderValue::from_static("PUT, POST, DELETE, OPTIONS"));
            }
            StatusCode::SERVICE_UNAVAILABLE => _ = headers.insert(RETRY_AFTER, HeaderValue::from_static("5")),
            _ => {}
        }
        if status == StatusCode::NO_CONTENT {
            headers.remove(CONTENT_TYPE);
            *response.body_mut() = Full::default();
        }
        response
    }
}
