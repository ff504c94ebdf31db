//! Tells HTTP/2 from HTTP/1.1 by a connection's first bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

/// The first bytes of a client that knows that the server speaks HTTP/2 (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length of a usual request's head.
const FIRST_LEN: usize = 1 << 10;

/// A connection, or its read half. The first bytes can be looked at, and are read again afterwards.
#[derive(Debug)]
pub(crate) struct Prefaced<S> {
    stream: S,
    /// The bytes that were looked at, and aren't read yet.
    first: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Prefaced<S> {
    pub(crate) fn new(stream: S) -> Self {
        Prefaced { stream, first: Vec::new() }
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }

    pub(crate) fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Tells whether the client begins with the preface of HTTP/2.
    pub(crate) async fn begins_as_h2(&mut self) -> io::Result<bool> {
        self.first.reserve(FIRST_LEN);
        loop {
            let n = self.first.len().min(PREFACE.len());
            if self.first[..n] != PREFACE[..n] {
                return Ok(false);
            }
            // A client that goes away within the preface speaks neither.
            if n == PREFACE.len() || self.stream.read_buf(&mut self.first).await? == 0 {
                return Ok(n == PREFACE.len());
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefaced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let n = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..n]);
        self.first.drain(..n);
        if self.first.is_empty() {
            self.first = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Sends these bytes one by one. Returns whether they begin HTTP/2; all of them can be read afterwards.
    async fn begins(bytes: &[u8]) -> bool {
        let (mut client, server) = tokio::io::duplex(64);
        let mut prefaced = Prefaced::new(server);
        let send = async {
            for byte in bytes {
                client.write_all(&[*byte]).await.expect("there is room");
                tokio::task::yield_now().await;
            }
            drop(client);
        };
        let (is_h2, ()) = tokio::join!(prefaced.begins_as_h2(), send);
        let mut read = Vec::new();
        prefaced.read_to_end(&mut read).await.expect("it is there");
        assert_eq!(read, bytes);
        is_h2.expect("the connection holds")
    }

    #[tokio::test]
    async fn only_the_whole_preface_begins_http_2() {
        assert!(begins(PREFACE).await);
        assert!(begins(&[PREFACE, b"SETTINGS"].concat()).await);
        assert!(!begins(b"PRI * HTTP/1.1\r\n\r\n").await);
        assert!(!begins(b"PUT /a HTTP/1.1\r\n\r\n").await);
        assert!(!begins(&PREFACE[..20]).await, "it goes away within the preface");
        assert!(!begins(b"").await);
    }
}
