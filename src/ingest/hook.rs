//! `on_publish`: somebody else decides who may push, asked over HTTP at each attempt.
//!
//! ```text
//! POST URL     {"stream":"cam1","rendition":null,"app":"live","protocol":"srt","address":"192.0.2.1:40000","key":"...","query":"key=..."}
//! 2xx          it may push
//! else         it may not, and is told the answer's first line
//! ```
//!
//! Where there are publish keys, too, both have to agree; the keys are asked first. No answer in time is a refusal. A push
//! of many HTTP requests is asked for once a key and an address, and again after it has ended; films that our own settings
//! name are not asked for.

use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;
use url::Url;

use super::publish_request::{Denied, PublishRequest};
use crate::net::http_client::HttpClient;

/// What of an answer is told, in characters.
const WORD_LEN_MAX: usize = 200;

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct Hook {
    /// How.
    pub client: HttpClient,
    /// Where.
    pub url: Url,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// The body of the request.
#[derive(Serialize)]
struct HookRequest<'a> {
    stream: &'a str,
    rendition: Option<&'a str>,
    app: &'a str,
    protocol: &'a str,
    address: Option<String>,
    key: Option<&'a str>,
    query: Option<&'a str>,
}

impl Hook {
    pub(super) async fn ask(&self, request: &PublishRequest) -> Result<(), Denied> {
        let query = request.query.as_deref();
        let asked = HookRequest {
            stream: request.stream.as_str(),
            rendition: request.rendition.as_ref().map(|rendition| rendition.as_str()),
            app: &request.app,
            protocol: request.protocol,
            address: request.remote.map(|remote| remote.to_string()),
            key: query.into_iter().flat_map(|query| query.split('&')).find_map(|pair| pair.strip_prefix("key=")),
            query,
        };
        let json = serde_json::to_vec(&asked).unwrap_or_default();
        match timeout(self.timeout, self.client.post_json(&self.url, json.into())).await {
            Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
            Ok(Ok(answer)) => Err(Denied(said(answer.status().as_u16(), answer.body()))),
            Ok(Err(error)) => {
                // Its address is the operator's, and none of the encoder's.
                tracing::error!(url = %self.url, %error, "on_publish: no answer, so nobody may push");
                Err(Denied("who decides can't be asked".to_owned()))
            }
            Err(_) => {
                tracing::error!(url = %self.url, timeout = ?self.timeout, "on_publish: no answer, so nobody may push");
                Err(Denied("who decides doesn't answer".to_owned()))
            }
        }
    }
}

/// The first line of a refusal.
fn said(status: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line: String =
        text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(WORD_LEN_MAX).collect();
    let line = line.trim();
    if line.is_empty() { format!("on_publish says {status}") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_its_first_line() {
        let check = |body: &[u8], expect: &str| assert_eq!(said(403, body), expect);
        check(b"no such customer\nstack trace", "no such customer");
        check(b"", "on_publish says 403");
        check(b"\x1b[31mred\x07\r\n", "[31mred");
        check(&[b'x'; 999], &"x".repeat(WORD_LEN_MAX));
    }
}
