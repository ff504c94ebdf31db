//! The bare epoll server: it waits, and then writes the same bytes to all who have asked. Nothing that keeps to HTTP can
//! do it for less, so it is what held requests are measured beside.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use damson::clock;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::Result;

/// It answers when nobody has asked anything for so long.
pub(super) const QUIET: Duration = Duration::from_secs(1);

/// The header whose value is the time of publication, in as many digits as this century needs.
pub(super) const PUBLISHED: &[u8] = b"x-published-at: ";
const DIGITS: usize = 16;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The file with the whole answer
    #[arg(long)]
    answer: PathBuf,
}

/// Serves until it is killed.
pub(super) fn run(options: &Options) -> Result<()> {
    const LISTENER: Token = Token(usize::MAX);
    let mut answer = std::fs::read(&options.answer)?;
    let stamp = answer.windows(PUBLISHED.len()).position(|window| window == PUBLISHED);
    let stamp = stamp.ok_or("the answer has no time of publication")? + PUBLISHED.len();
    let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    println!("bare {}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1_024);
    let mut players: Vec<Option<TcpStream>> = Vec::new();
    let (mut waiting, mut asked) = (Vec::new(), clock::now());
    let mut buf = [0; 4_096];
    loop {
        let timeout = if waiting.is_empty() { None } else { Some(QUIET.saturating_sub(clock::now().since(asked))) };
        poll.poll(&mut events, timeout)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    poll.registry().register(&mut stream, Token(players.len()), Interest::READABLE)?;
                    players.push(Some(stream));
                }
                continue;
            }
            let Token(number) = event.token();
            let Some(player) = &mut players[number] else { continue };
            match player.read(&mut buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Ok(n) if n > 0 => {
                    if buf[..n].ends_with(b"\r\n\r\n") {
                        waiting.push(number);
                        asked = clock::now();
                    }
                }
                _ => players[number] = None,
            }
        }
        if !waiting.is_empty() && clock::now().since(asked) >= QUIET {
            let now = format!("{:0DIGITS$}", clock::wall().as_micros());
            answer[stamp..stamp + DIGITS].copy_from_slice(now.as_bytes());
            for number in waiting.drain(..) {
                // A small answer fits into a socket's buffer.
                if let Some(player) = &mut players[number]
                    && player.write(&answer).ok() != Some(answer.len())
                {
                    players[number] = None;
                }
            }
        }
    }
}
