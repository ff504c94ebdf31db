//! Silence for sound that stops while pictures go on: players stand still where one of the tracks has nothing to play.

use std::time::Duration;

use super::cutter::Cutter;
use super::diagnostic::Diagnostic;
use super::io::Output;
use super::track::TrackMuxer;
use super::unit::InputUnit;
use crate::model::input_clock::span;
use crate::model::time::UnixTime;
use crate::model::{InputClock, InputTrack};

/// Sound has stopped if it lags by this much more than it usually does. Below the cutter's patience, and about what players
/// hold in their buffers. A guess.
const WAIT: Duration = Duration::from_millis(500);
/// How far silence stays behind the newest unit once sound has stopped, so that sound that returns is in time.
const KEEP: Duration = Duration::from_millis(100);
/// The longest usual lag: longer than the cutter waits for.
const LAG_MAX: Duration = Duration::from_secs(4);
/// The usual lag shrinks by this share of its excess with each unit.
const LAG_SHARE: u32 = 64;

/// Watches how far tracks of sound stay behind, by their places.
#[derive(Debug, Default)]
pub(super) struct AudioFill {
    tracks: Vec<Lag>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lag {
    /// How far the track's units usually are behind the newest unit of all when they come.
    usual: Duration,
    /// Where its newest unit begins that its encoder has sent.
    heard: Duration,
    /// Silence is being filled in.
    silent: bool,
}

impl AudioFill {
    /// Begins a period that starts at `start` with these units, in the order in which they came. `inputs` are those of the
    /// tracks.
    pub(super) fn begin(
        &mut self,
        inputs: &[Option<InputTrack>],
        units: &[InputUnit],
        clock: InputClock,
        start: Duration,
    ) {
        let lag_of = |input: Option<InputTrack>| {
            let mut newest = i64::MIN;
            let lags = units.iter().filter_map(|unit| {
                newest = newest.max(unit.dts);
                (Some(unit.track) == input).then(|| span(unit.dts, newest, clock))
            });
            lags.max().unwrap_or_default().min(LAG_MAX)
        };
        self.tracks = inputs.iter().map(|&input| Lag { usual: lag_of(input), heard: start, silent: false }).collect();
    }

    fn track(&mut self, track: usize) -> &mut Lag {
        if track >= self.tracks.len() {
            self.tracks.resize(track + 1, Lag::default());
        }
        &mut self.tracks[track]
    }

    /// Fills the fed tracks of sound with silence whose encoder sends none. Returns what is to be told.
    pub(super) fn fill(&mut self, tracks: &mut [TrackMuxer], cutter: &mut Cutter, arrived: UnixTime) -> Vec<Output> {
        let (newest, mut out) = (cutter.newest(), Vec::new());
        for (place, muxer) in tracks.iter_mut().enumerate() {
            if muxer.is_video() || cutter.input(place).is_none() {
                continue;
            }
            // A track that begins late in its period has a gap before.
            let end = (cutter.newest_of(place) + muxer.frame_duration()).max(muxer.numbered());
            let Some((to, begins)) = self.due(place, end, newest) else { continue };
            let units = to.saturating_sub(end).as_nanos() / muxer.frame_duration().as_nanos().max(1);
            let units = u64::try_from(units).unwrap_or(0) + 1;
            out.extend(be_silent(muxer, (place, cutter), units, begins, arrived));
        }
        out
    }

    /// Notes a unit at `at` that the encoder has sent, while the newest unit of all was at `newest`.
    pub(super) fn heard(&mut self, track: usize, at: Duration, newest: Duration) {
        let lag = self.track(track);
        let now = newest.saturating_sub(at).min(LAG_MAX);
        lag.usual = if now > lag.usual { now } else { lag.usual - (lag.usual - now) / LAG_SHARE };
        lag.heard = lag.heard.max(at);
    }

    /// Notes that a unit of the encoder takes its place. Returns whether silence went before it.
    pub(super) fn returned(&mut self, track: usize) -> bool {
        std::mem::take(&mut self.track(track).silent)
    }

    /// Returns where the encoder's newest unit of a track begins.
    pub(super) fn newest(&self, track: usize) -> Option<Duration> {
        self.tracks.get(track).map(|lag| lag.heard)
    }

    /// Returns up to where a track that ends at `end` is to be silent, and whether its sound stops with that.
    fn due(&mut self, track: usize, end: Duration, newest: Duration) -> Option<(Duration, bool)> {
        let lag = self.track(track);
        let behind = newest.saturating_sub(end);
        let begins = !lag.silent;
        if behind <= lag.usual + if begins { WAIT } else { KEEP } {
            return None;
        }
        lag.silent = true;
        Some((newest.saturating_sub(lag.usual + KEEP), begins))
    }
}

/// Appends units of silence to a track, by its place in the cutter, if its codec has one. Returns what is to be told.
pub(super) fn be_silent(
    muxer: &mut TrackMuxer,
    (place, cutter): (usize, &mut Cutter),
    units: u64,
    told: bool,
    arrived: UnixTime,
) -> Option<Output> {
    let mut first = None;
    for _ in 0..units {
        let Some(unit) = muxer.silence(arrived) else { break };
        first = first.or(Some(muxer.media(unit.dts)));
        cutter.place(place, unit);
    }
    let at = first.filter(|_| told)?;
    Some(Output::Diagnostic(Diagnostic::SoundMissing { track: muxer.track().id, at }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timescale;
    use crate::packager::publishers::tests::track_unit;

    const AUDIO: InputTrack = InputTrack(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn sound_that_stops_is_silent_until_it_returns() {
        let mut fill = AudioFill::default();
        fill.heard(0, ms(1_000), ms(1_000));
        assert_eq!(fill.due(0, ms(1_020), ms(1_500)), None, "it may come yet");
        assert_eq!(fill.due(0, ms(1_020), ms(1_540)), Some((ms(1_440), true)));
        assert_eq!(fill.due(0, ms(1_440), ms(1_540)), None);
        assert_eq!(fill.due(0, ms(1_440), ms(1_580)), Some((ms(1_480), false)));
        assert_eq!(fill.newest(0), Some(ms(1_000)));
        fill.heard(0, ms(1_580), ms(1_580));
        assert!(fill.returned(0) && !fill.returned(0));
        assert_eq!(fill.due(0, ms(1_600), ms(2_000)), None);
    }

    #[test]
    fn sound_that_always_lags_is_waited_for() {
        let clock = InputClock { scale: Timescale::MILLIS, wrap_bits: 32 };
        let units: Vec<InputUnit> = (0..50)
            .flat_map(|n| [track_unit(InputTrack(0), 800 + n * 40, true), track_unit(AUDIO, n * 40, true)])
            .collect();
        let mut fill = AudioFill::default();
        fill.begin(&[Some(InputTrack(0)), Some(AUDIO)], &units, clock, ms(0));
        assert_eq!(fill.due(1, ms(1_000), ms(2_300)), None);
        assert_eq!(fill.due(1, ms(1_000), ms(2_301)), Some((ms(1_401), true)));
    }
}
