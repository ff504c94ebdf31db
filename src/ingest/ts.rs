//! MPEG-TS from an encoder's socket to its session, for UDP and SRT.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use damson_core::demux::ts::{CLOCK, Counters, Demuxer, End, Output, TsDiagnostic};
use damson_core::model::time::Time;
use damson_core::model::{Announced, CodecConfig, InputTrack};
use damson_core::packager::Input;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::publish_request::Eviction;
use super::publish_session::PublishSession;
use crate::{clock, observe};

/// The shortest time between two reports of losses in the log, in seconds.
const REPORT_SECS: u64 = 10;
/// The receive buffer that a socket asks for, in bytes: a second at 64 Mb/s, for when this process is busy. The kernel
/// grants up to `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 8 << 20;
/// The most datagrams between the task of a socket and that of a stream: 0.3 s at 64 Mb/s.
pub(super) const QUEUE_LEN: usize = 2_048;

/// Binds a socket for datagrams. Other sockets of this machine may receive the same multicast group.
///
/// # Errors
/// The address can't be bound.
pub fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(addr.ip().is_multicast())?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    // A socket that is bound to the group receives no other datagrams of that port.
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

/// A demuxer, and the headers that it has output, for a session that begins later.
#[derive(Debug)]
pub(super) struct TsInput {
    /// The source's URL, for the log.
    name: String,
    program: Option<u16>,
    demuxer: Demuxer,
    announced: Option<Announced>,
    configs: BTreeMap<InputTrack, CodecConfig>,
    languages: BTreeMap<InputTrack, String>,
    attached: bool,
    counters: observe::Ingest,
    /// The demuxer's counters, as they were last added to `counters`.
    counted: Counters,
    /// The counters as they were last logged, and the time of that.
    logged: (Counters, Time),
}

impl TsInput {
    pub(super) fn new(name: String, program: Option<u16>, counters: observe::Ingest) -> Self {
        TsInput {
            name,
            program,
            demuxer: Demuxer::new(program),
            announced: None,
            configs: BTreeMap::new(),
            languages: BTreeMap::new(),
            attached: false,
            counters,
            counted: Counters::default(),
            logged: (Counters::default(), clock::now()),
        }
    }

    /// Takes a datagram; drain [`next`](Self::next) afterwards.
    pub(super) fn datagram(&mut self, bytes: &[u8]) {
        self.demuxer.datagram(bytes);
        self.count();
    }

    /// Takes note that datagrams are missing before the next one.
    pub(super) fn lost(&mut self) {
        self.demuxer.lost();
    }

    /// Ends the input, for good or for a while; drain [`next`](Self::next) afterwards.
    pub(super) fn finish(&mut self, end: End) {
        self.demuxer.finish(end);
        self.count();
        self.log(clock::now());
    }

    /// Returns the next input for the session, or an error if no track of the program can be played.
    pub(super) fn next(&mut self) -> Option<Result<Input, TsDiagnostic>> {
        loop {
            match self.demuxer.poll_output()? {
                Output::Program { announced, .. } => self.announced = Some(announced),
                Output::Input(input) => {
                    if let Input::Language { track, language } = &input {
                        self.languages.insert(*track, language.clone());
                    }
                    if let Input::Config { track, config } = &input {
                        self.configs.insert(*track, config.clone());
                    }
                    return Some(Ok(input));
                }
                Output::Diagnostic(event @ TsDiagnostic::Nothing { .. }) => {
                    tracing::warn!(from = self.name, "MPEG-TS: {event}");
                    return Some(Err(event));
                }
                Output::Diagnostic(event @ TsDiagnostic::Programs { played: Some(_), .. }) => {
                    tracing::info!(from = self.name, "MPEG-TS: {event}");
                }
                Output::Diagnostic(event) => tracing::warn!(from = self.name, "MPEG-TS: {event}"),
            }
        }
    }

    /// Makes the next session begin with all headers.
    pub(super) fn detached(&mut self) {
        self.attached = false;
    }

    /// Forgets everything: the next datagram begins another transport stream.
    pub(super) fn restart(&mut self) {
        *self = TsInput::new(std::mem::take(&mut self.name), self.program, self.counters.clone());
    }

    /// Sends an input that [`next`](Self::next) returned; a new session gets all headers first.
    pub(super) async fn send(&mut self, session: &mut PublishSession, input: Input) -> Result<(), Eviction> {
        if !self.attached {
            session.attach(CLOCK, self.announced.unwrap_or_default()).await?;
            for (&track, language) in &self.languages {
                session.input(Input::Language { track, language: language.clone() }).await?;
            }
            for (&track, config) in &self.configs {
                session.input(Input::Config { track, config: config.clone() }).await?;
            }
            self.attached = true;
            if !matches!(input, Input::Unit(_) | Input::Message(_)) {
                return Ok(());
            }
        }
        session.input(input).await
    }

    fn count(&mut self) {
        let (now, before) = (self.demuxer.stats(), self.counted);
        let since = |of: fn(&Counters) -> u64| of(&now) - of(&before);
        self.counters.ts_packets.inc_by(since(|c| c.packets));
        self.counters.ts_lost.inc_by(since(|c| c.lost));
        self.counters.ts_continuity_errors.inc_by(since(|c| c.continuity_errors));
        self.counters.ts_resyncs.inc_by(since(|c| c.resyncs));
        self.counters.ts_units_dropped.inc_by(since(|c| c.damaged + c.undecodable));
        self.counted = now;
        let at = clock::now();
        if at.since(self.logged.1).as_secs() >= REPORT_SECS {
            self.log(at);
        }
    }

    /// Logs what was lost since the last report.
    fn log(&mut self, at: Time) {
        let (before, _) = std::mem::replace(&mut self.logged, (self.counted, at));
        let since = |of: fn(&Counters) -> u64| of(&self.counted) - of(&before);
        if since(|c| c.continuity_errors + c.damaged + c.resyncs + c.scrambled + c.transport_errors) > 0 {
            tracing::warn!(
                from = self.name,
                continuity_errors = since(|c| c.continuity_errors),
                packets_lost = since(|c| c.lost),
                units_damaged = since(|c| c.damaged),
                pictures_dropped = since(|c| c.undecodable),
                resyncs = since(|c| c.resyncs),
                scrambled = since(|c| c.scrambled),
                "MPEG-TS: packets lost or damaged"
            );
        }
    }
}
