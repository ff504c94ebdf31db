//! The smallest HTTP/1.1 client that does: GET on a connection that stays open, bodies with a length.
//!
//! It costs as little as it can, since it shares the machine with the server that it measures.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Result;

/// The longest head of an answer, in bytes.
const HEAD_LEN_MAX: usize = 64 << 10;

/// One connection.
pub(crate) struct Client {
    server: SocketAddr,
    stream: TcpStream,
    buf: BytesMut,
    /// Of the last answer.
    head: String,
}

impl Client {
    /// Connects to `server`.
    pub(crate) async fn connect(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Client { server, stream, buf: BytesMut::with_capacity(256 << 10), head: String::new() })
    }

    /// The request for `path`, to be sent as often as wanted.
    pub(crate) fn request(&self, path: &str) -> Bytes {
        Bytes::from(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.server))
    }

    /// Sends `request` and reads the answer; its body is counted and dropped. The status and the length.
    pub(crate) async fn discard(&mut self, request: &[u8]) -> Result<(u16, usize)> {
        let (status, length) = self.head(request).await?;
        let mut left = length.saturating_sub(self.buf.len());
        self.buf.clear();
        while left > 0 {
            let n = self.stream.read_buf(&mut self.buf).await?;
            if n == 0 {
                return Err("the server closed inside a body".into());
            }
            left = left.saturating_sub(n);
            self.buf.clear();
        }
        Ok((status, length))
    }

    /// The status and the whole body of `path`.
    pub(crate) async fn get(&mut self, path: &str) -> Result<(u16, Bytes)> {
        let request = self.request(path);
        let (status, length) = self.head(&request).await?;
        while self.buf.len() < length {
            self.fill().await?;
        }
        Ok((status, self.buf.split_to(length).freeze()))
    }

    /// A header of the last answer.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// The body of `path` as text; an error unless the status is 200.
    pub(crate) async fn text(&mut self, path: &str) -> Result<String> {
        let (status, body) = self.get(path).await?;
        let text = String::from_utf8_lossy(&body).into_owned();
        if status == 200 { Ok(text) } else { Err(format!("{path}: HTTP {status}: {text}").into()) }
    }

    /// Sends `request`, reads the head of the answer, and leaves what has come of the body in `buf`.
    async fn head(&mut self, request: &[u8]) -> Result<(u16, usize)> {
        self.stream.write_all(request).await?;
        let end = loop {
            if let Some(at) = self.buf.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.buf.len() > HEAD_LEN_MAX {
                return Err("the head of the answer has no end".into());
            }
            self.fill().await?;
        };
        self.head.clear();
        self.head.push_str(&String::from_utf8_lossy(&self.buf.split_to(end)));
        let status = self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no status line")?;
        let length = self.header("content-length").and_then(|value| value.parse().ok());
        Ok((status, length.ok_or_else(|| format!("an answer without a length:\n{}", self.head))?))
    }

    async fn fill(&mut self) -> Result<()> {
        self.buf.reserve(64 << 10);
        match self.stream.read_buf(&mut self.buf).await? {
            0 => Err("the server closed the connection".into()),
            _ => Ok(()),
        }
    }
}
