//! A transport stream on its way from an encoder's socket into its session: what UDP and SRT have in common.

use std::collections::BTreeMap;

use damson_core::demux::ts::{CLOCK, Counters, Demuxer, End, Output, TsDiagnostic};
use damson_core::model::time::Time;
use damson_core::model::{Announced, CodecConfig, InputTrack};
use damson_core::packager::Input;

use super::publish_session::{Gone, PublishSession};
use crate::{clock, observe};

/// How often losses are logged at most, in seconds.
const REPORT_SECS: u64 = 10;

/// A demuxer, and what is kept of its headers for a session that comes later.
#[derive(Debug)]
pub(super) struct TsInput {
    /// What it is called in the log.
    name: String,
    program: Option<u16>,
    demuxer: Demuxer,
    announced: Option<Announced>,
    configs: BTreeMap<InputTrack, CodecConfig>,
    languages: BTreeMap<InputTrack, String>,
    attached: bool,
    counters: observe::Ingest,
    /// Counted so far.
    counted: Counters,
    /// Logged so far, and when.
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

    /// Datagrams are missing before the next one.
    pub(super) fn lost(&mut self) {
        self.demuxer.lost();
    }

    /// The same of SRT, so many.
    pub(super) fn lost_datagrams(&mut self, count: u64) {
        self.counters.srt_lost.inc_by(count);
        self.lost();
    }

    /// Nothing more comes, or not for long; drain [`next`](Self::next) afterwards.
    pub(super) fn finish(&mut self, end: End) {
        self.demuxer.finish(end);
        self.count();
        self.log(clock::now());
    }

    /// Returns what came of it, for the session; an error where nothing of the program can be played.
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

    /// Has the next session begin with all headers.
    pub(super) fn detached(&mut self) {
        self.attached = false;
    }

    /// What comes next has nothing to do with what came.
    pub(super) fn restart(&mut self) {
        self.demuxer = Demuxer::new(self.program);
        (self.announced, self.attached) = (None, false);
        self.configs.clear();
        self.languages.clear();
        (self.counted, self.logged) = (Counters::default(), (Counters::default(), clock::now()));
    }

    /// Hands on what [`next`](Self::next) gave; all headers first, to a new session.
    pub(super) async fn feed(&mut self, session: &PublishSession, input: Input) -> Result<(), Gone> {
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
        let c = &self.counters;
        c.ts_packets.inc_by(now.packets - before.packets);
        if (Counters { packets: 0, ..now }) != (Counters { packets: 0, ..before }) {
            c.ts_lost.inc_by(now.lost - before.lost);
            c.ts_continuity_errors.inc_by(now.continuity_errors - before.continuity_errors);
            c.ts_resyncs.inc_by(now.resyncs - before.resyncs);
            c.ts_units_dropped.inc_by(now.damaged + now.undecodable - before.damaged - before.undecodable);
        }
        self.counted = now;
        let at = clock::now();
        if at.since(self.logged.1).as_secs() >= REPORT_SECS {
            self.log(at);
        }
    }

    /// Says what was lost since it was last said.
    fn log(&mut self, at: Time) {
        let (now, before) = (self.counted, std::mem::replace(&mut self.logged, (self.counted, at)).0);
        let lost = now.continuity_errors + now.damaged + now.resyncs + now.scrambled + now.transport_errors;
        if lost
            > before.continuity_errors + before.damaged + before.resyncs + before.scrambled + before.transport_errors
        {
            tracing::warn!(
                from = self.name,
                continuity_errors = now.continuity_errors - before.continuity_errors,
                packets_lost = now.lost - before.lost,
                units_damaged = now.damaged - before.damaged,
                pictures_left_out = now.undecodable - before.undecodable,
                resyncs = now.resyncs - before.resyncs,
                scrambled = now.scrambled - before.scrambled,
                "MPEG-TS: not all has come"
            );
        }
    }
}
