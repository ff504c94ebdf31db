//! The smallest HTTP client: one request a connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::deadline::too_late;
use super::process::PATIENCE;

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(self) -> String {
        String::from_utf8(self.body).expect("text")
    }
}

/// A connection with a time limit on everything.
pub(crate) fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends bytes, and reads until the other end closes.
pub(crate) fn exchange(to: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = connect(to)?;
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Fetches a path; `None` if there is no server, or it has gone away meanwhile.
pub(crate) fn try_get(from: SocketAddr, path: &str) -> Option<Answer> {
    parse(&exchange(from, &request(from, path)).ok()?)
}

/// Fetches a path, whatever the status.
pub(crate) fn get(from: SocketAddr, path: &str) -> Answer {
    match exchange(from, &request(from, path)) {
        Ok(bytes) => parse(&bytes).unwrap_or_else(|| panic!("http://{from}{path}: no whole answer")),
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
            too_late(format!("http://{from}{path}: no answer within {PATIENCE:?}"))
        }
        Err(error) => panic!("http://{from}{path}: no answer: {error}"),
    }
}

fn request(from: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {from}\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Fetches what must be there.
pub(crate) fn fetch(from: SocketAddr, path: &str) -> Vec<u8> {
    let answer = get(from, path);
    assert_eq!(answer.status, 200, "http://{from}{path}: {}", String::from_utf8_lossy(&answer.body));
    answer.body
}

/// Fetches JSON.
pub(crate) fn json(from: SocketAddr, path: &str) -> serde_json::Value {
    serde_json::from_slice(&fetch(from, path)).expect("JSON")
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?.to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = &answer[end + 4..];
    let body = if head.contains("transfer-encoding: chunked") { dechunked(body)? } else { body.to_vec() };
    let whole =
        head.lines().find_map(|l| l.strip_prefix("content-length: ")).is_none_or(|n| n.parse() == Ok(body.len()));
    whole.then_some(Answer { status, body })
}

fn dechunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(line + 2..line + 2 + length)?);
        rest = rest.get(line + 2 + length + 2..)?;
    }
}
