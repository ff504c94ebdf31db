//! A transport stream on its way from an encoder's socket into its claim: what UDP and SRT have in common.

use std::collections::BTreeMap;

use super::desk::{Claim, Gone};
use crate::clock;
use crate::observe;
use damson_core::demux::ts::{CLOCK, Counters, Demuxer, End, Output, TsDiagnostic};
use damson_core::model::time::Time;
use damson_core::model::{AccessUnit, Announced, CodecConfig, InputTrack, Message};

/// How often losses are logged at most, in seconds.
const REPORT_SECS: u64 = 10;

/// A demuxer, and what is kept of its headers for a claim that comes later.
#[derive(Debug)]
pub(super) struct Feed {
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

/// What is for the claim.
#[derive(Debug)]
pub(super) enum Media {
    /// A track's language; kept here, too.
    Language(InputTrack, String),
    /// A track's headers; kept here, too.
    Config(InputTrack, CodecConfig),
    /// A frame.
    Unit(AccessUnit),
    /// Timed metadata.
    Message(Message),
    /// Nothing of the program can be played.
    Nothing(TsDiagnostic),
}

impl Feed {
    pub(super) fn new(name: String, program: Option<u16>, counters: observe::Ingest) -> Self {
        Feed {
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

    /// What came of it.
    pub(super) fn next(&mut self) -> Option<Media> {
        loop {
            match self.demuxer.poll_output()? {
                Output::Program { announced, .. } => self.announced = Some(announced),
                Output::Language { track, language } => {
                    self.languages.insert(track, language.clone());
                    return Some(Media::Language(track, language));
                }
                Output::Config { track, config } => {
                    self.configs.insert(track, config.clone());
                    return Some(Media::Config(track, config));
                }
                Output::Unit(unit) => return Some(Media::Unit(unit)),
                Output::Message(message) => return Some(Media::Message(message)),
                Output::Diagnostic(event @ TsDiagnostic::Nothing { .. }) => {
                    tracing::warn!(from = self.name, "MPEG-TS: {event}");
                    return Some(Media::Nothing(event));
                }
                Output::Diagnostic(event @ TsDiagnostic::Programs { played: Some(_), .. }) => {
                    tracing::info!(from = self.name, "MPEG-TS: {event}");
                }
                Output::Diagnostic(event) => tracing::warn!(from = self.name, "MPEG-TS: {event}"),
            }
        }
    }

    /// The next claim begins with all headers.
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

    /// Hands on what [`next`](Self::next) gave.
    pub(super) async fn feed(&mut self, claim: &Claim, media: Media) -> Result<(), Gone> {
        if !self.attached {
            claim.attach(CLOCK, self.announced.unwrap_or_default()).await?;
            for (&track, language) in &self.languages {
                claim.language(track, language.clone()).await?;
            }
            for (&track, config) in &self.configs {
                claim.config(track, config.clone()).await?;
            }
            self.attached = true;
            return match media {
                Media::Unit(unit) => claim.unit(unit).await,
                Media::Message(message) => claim.message(message).await,
                Media::Language(..) | Media::Config(..) | Media::Nothing(_) => Ok(()),
            };
        }
        match media {
            Media::Unit(unit) => claim.unit(unit).await,
            Media::Message(message) => claim.message(message).await,
            Media::Language(track, language) => claim.language(track, language).await,
            Media::Config(track, config) => claim.config(track, config).await,
            Media::Nothing(_) => Ok(()),
        }
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
