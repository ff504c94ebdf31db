//! The socket of a player's connection: it detects HTTP/2 by the first bytes, sends whole segments from files, and
//! fails when the player takes no data.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::deadline::Deadline;
use crate::clock;
use crate::edge::sendfile::{FileSlot, MemoryFile, sys};
use crate::net::preface::Prefaced;

/// A player's socket.
#[derive(Debug)]
pub(crate) struct PlayerSocket {
    stream: Prefaced<TcpStream>,
    slot: FileSlot,
    stall: Stall,
}

impl PlayerSocket {
    /// Makes one of `stream`, which fails after taking no byte for `longest`.
    pub(crate) fn new(stream: TcpStream, slot: FileSlot, longest: Duration) -> Self {
        let stall = Stall { longest, deadline: Deadline::default() };
        PlayerSocket { stream: Prefaced::new(stream), slot, stall }
    }

    /// Returns true if the client begins with the preface of HTTP/2. The bytes are read again later.
    pub(crate) async fn begins_as_h2(&mut self) -> io::Result<bool> {
        self.stream.begins_as_h2().await
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, file: &MemoryFile, at: u64, len: usize) -> Poll<io::Result<usize>> {
        let stream = self.stream.get_ref();
        let sent = loop {
            if stream.poll_write_ready(cx)?.is_pending() {
                break Poll::Pending;
            }
            let send = || sys::send(stream, file.file(), at, len);
            match stream.try_io(Interest::WRITABLE, send) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                sent => break Poll::Ready(sent),
            }
        };
        self.stall.watch(cx, sent)
    }
}

impl AsyncRead for PlayerSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PlayerSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(self.stream.get_mut()).poll_write(cx, buf);
        self.stall.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let slices = match this.slot.get() {
            None => slices,
            Some(file) => {
                if let Some((at, len)) = file.run(slices) {
                    return this.poll_send(cx, &file, at, len);
                }
                // The head is written first, and alone.
                let copied = slices.iter().take_while(|slice| file.find(slice).is_none()).count();
                &slices[..copied]
            }
        };
        let written = Pin::new(this.stream.get_mut()).poll_write_vectored(cx, slices);
        this.stall.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_shutdown(cx)
    }
}

/// Ends a connection whose socket has no room for too long.
#[derive(Debug)]
struct Stall {
    longest: Duration,
    deadline: Deadline,
}

impl Stall {
    fn watch(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.deadline.due = None;
            return written;
        }
        let longest = self.longest;
        self.deadline.due.get_or_insert_with(|| clock::timers() + longest);
        ready!(self.deadline.poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no data")))
    }
}
