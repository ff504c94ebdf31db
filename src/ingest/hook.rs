//! The `on_publish` hook: an HTTP server of the operator decides who may push. It is asked at each attempt.
//!
//! ```text
//! POST URL     {"stream":"cam1","rendition":null,"app":"live","protocol":"srt","address":"192.0.2.1:40000","key":"...","query":"key=..."}
//! 2xx          the push is allowed
//! other        the push is refused; the encoder is told the first line of the answer
//! ```
//!
//! Where publish keys are set, too, they are asked first, and both have to agree. No answer in time is a refusal. For a push
//! of many HTTP requests the hook is asked once for each key and address, and again after the push has ended. It isn't asked
//! for files that the settings name.

use std::time::Duration;

use damson_core::demux::rtmp::session::APP;
use serde_json::json;
use tokio::time::timeout;
use url::Url;

use super::publish_request::{Denied, PublishRequest};
use crate::net::http_client::HttpClient;

/// The longest reason that the encoder is told, in characters.
const REASON_LEN_MAX: usize = 200;

/// The hook's server.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The client that asks.
    pub client: HttpClient,
    /// The URL that is asked.
    pub url: Url,
    /// The longest that an answer may take.
    pub timeout: Duration,
}

impl Hook {
    pub(super) async fn ask(&self, request: &PublishRequest) -> Result<(), Denied> {
        let body = json!({
            "stream": request.stream.as_str(),
            "rendition": request.rendition.as_ref().map(|rendition| rendition.as_str()),
            "app": APP,
            "protocol": request.protocol,
            "address": request.remote.map(|remote| remote.to_string()),
            "key": request.key(),
            "query": request.query,
        });
        // The hook's URL is the operator's; the encoder isn't told.
        match timeout(self.timeout, self.client.post_json(&self.url, body.to_string().into())).await {
            Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
            Ok(Ok(answer)) => Err(Denied(reason(answer.status().as_u16(), answer.body()))),
            Ok(Err(error)) => {
                tracing::error!(url = %self.url, %error, "on_publish can't be reached; all pushes are refused");
                Err(Denied("on_publish can't be reached".to_owned()))
            }
            Err(_) => {
                tracing::error!(url = %self.url, timeout = ?self.timeout, "on_publish timed out; all pushes are refused");
                Err(Denied("on_publish timed out".to_owned()))
            }
        }
    }
}

/// Returns the first line of a refusal.
fn reason(status: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().next().unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).take(REASON_LEN_MAX).collect();
    let line = line.trim();
    if line.is_empty() { format!("on_publish answered {status}") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_its_first_line() {
        let check = |body: &[u8], expect: &str| assert_eq!(reason(403, body), expect);
        check(b"no such customer\nstack trace", "no such customer");
        check(b"", "on_publish answered 403");
        check(b"\x1b[31mred\x07\r\n", "[31mred");
        check(&[b'x'; 999], &"x".repeat(REASON_LEN_MAX));
    }
}
