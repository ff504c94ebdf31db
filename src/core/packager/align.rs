//! The units with which a period begins: aligned on one clock, without undecodable ones and without jumps.

use std::collections::BTreeMap;
use std::time::Duration;

use super::diagnostic::{Diagnostic, Unusable};
use super::plan::{frame_duration, frame_rate_milli};
use super::preroll::Preroll;
use super::publishers::{Publisher, Publishers};
use super::timeline::{BACKWARD_MAX, TRACKS_APART_MAX};
use super::unit::InputUnit;
use crate::model::input_clock::span;
use crate::model::limits::PATIENCE_PUSH;
use crate::model::{InputClock, InputTrack, PushId};

/// If tracks that share a clock by their standard begin further apart than this, their muxer is broken. A hole of that
/// length is a jump, too.
const COMMON_APART_MAX: Duration = Duration::from_secs(10);
/// Audio up to this long before the first keyframe is kept, since encoders interleave loosely.
const AUDIO_LEAD_MAX: Duration = Duration::from_millis(500);

/// The preroll's units, split.
#[derive(Debug)]
pub(super) struct Aligned {
    /// The units of all pushes that begin together, in order of arrival, without jumps.
    pub units: Vec<InputUnit>,
    /// The earliest time at which one of them is decoded or shown: presentation times are never negative.
    pub base: i64,
    /// The units of the pushes that join later.
    pub others: BTreeMap<PushId, Vec<InputUnit>>,
}

/// Adds the units of the pushes that show a keyframe together with the lead's first one, and their sound. Returns
/// diagnostics of dropped units, too.
pub(super) fn align(
    preroll: &mut Preroll,
    lead: PushId,
    publishers: &Publishers,
) -> (Option<Aligned>, Vec<Diagnostic>) {
    let (units, need_keyframe) = preroll.take();
    let Some(clock) = publishers.get(lead).map(|publisher| publisher.clock) else { return (None, Vec::new()) };
    let (mut units, others): (Vec<InputUnit>, _) = units.into_iter().partition(|unit| unit.track.push() == lead);
    let mut dropped = match need_keyframe {
        true => drop_undecodable(&mut units, clock, publishers),
        false => Vec::new(),
    };
    one_clock(&mut units, lead, clock, publishers);
    units.retain(|unit| publishers.source(unit.track).is_some());
    let Some(start) = Start::of(&units, lead, clock, publishers) else { return (None, dropped) };
    let mut waiting: BTreeMap<PushId, Vec<InputUnit>> = BTreeMap::new();
    for unit in others {
        waiting.entry(unit.track.push()).or_default().push(unit);
    }
    let mut sound = start.has_sound(lead, &units);
    let mut jumped = Vec::new();
    for push in publishers.in_order() {
        let Some((begins, video)) = waiting.get(&push).and_then(|came| start.begins(push, came)) else { continue };
        let came = waiting.remove(&push).unwrap_or_default();
        let takes_sound = !sound && start.has_sound(push, &came);
        let taken = start.take((&begins, video), came, takes_sound);
        jumped.extend(taken.iter().filter(|unit| unit.dts > start.latest).map(|unit| unit.track));
        units.extend(taken.into_iter().filter(|unit| unit.dts <= start.latest));
        sound |= takes_sound;
    }
    dropped.extend(Diagnostic::dropped(jumped.into_iter(), Unusable::Jumped));
    // The order is that of arrival, so that no track lags because it is fed after the others.
    units.sort_by_key(|unit| unit.now);
    let base = units.iter().map(InputUnit::earliest).min().unwrap_or_default();
    (Some(Aligned { units, base, others: waiting }), dropped)
}

/// The start of the leading push, in ticks of the input clock.
struct Start<'a> {
    publishers: &'a Publishers,
    first: InputUnit,
    /// The longest distance of a keyframe from the lead's first one.
    near: i64,
    /// The longest time that sound may begin later.
    apart: i64,
    /// The time before which sound is dropped.
    earliest: i64,
    /// The time after which units of other pushes are dropped: they jumped.
    latest: i64,
}

impl<'a> Start<'a> {
    fn of(units: &[InputUnit], lead: PushId, clock: InputClock, publishers: &'a Publishers) -> Option<Start<'a>> {
        let guide = publishers.guide(lead).map(|(track, _)| track);
        let first = units.iter().find(|unit| Some(unit.track) == guide).or(units.first())?.clone();
        let stamps: Vec<i64> = units.iter().filter(|unit| unit.track == first.track).map(|unit| unit.dts).collect();
        let said = publishers.source(first.track).and_then(|source| source.codec.frame_rate_milli());
        let frame = frame_rate_milli(&stamps, clock, said).map_or(Duration::ZERO, frame_duration);
        let ticks = |duration: Duration| i64::try_from(clock.scale.ticks(duration)).unwrap_or(i64::MAX);
        let newest = units.iter().map(|unit| unit.dts).max().unwrap_or(first.dts);
        Some(Start {
            publishers,
            near: ticks(tolerance(frame)),
            apart: ticks(TRACKS_APART_MAX),
            earliest: first.dts.saturating_sub(ticks(AUDIO_LEAD_MAX)),
            latest: newest.saturating_add(ticks(PATIENCE_PUSH)),
            first,
        })
    }

    /// Returns whether a push has sound that all renditions share.
    fn has_sound(&self, push: PushId, units: &[InputUnit]) -> bool {
        self.shares(push) && units.iter().any(|unit| self.is_audio(unit.track))
    }

    fn shares(&self, push: PushId) -> bool {
        !self.publishers.get(push).is_some_and(Publisher::is_language)
    }

    fn is_audio(&self, track: InputTrack) -> bool {
        self.publishers.source(track).is_some_and(|source| !source.codec.is_video())
    }

    /// Returns the unit with which another push begins together with the lead, and whether that is a picture.
    fn begins(&self, push: PushId, came: &[InputUnit]) -> Option<(InputUnit, bool)> {
        let (track, video) = self.publishers.guide(push)?;
        let mut mine = came.iter().filter(|unit| unit.track == track);
        let unit = match video {
            true => mine.find(|unit| unit.keyframe && self.off(unit).abs() <= self.near),
            false => mine.find(|unit| self.off(unit).abs() <= self.apart && self.off(unit) >= -self.near),
        };
        unit.map(|unit| (unit.clone(), video))
    }

    /// Returns the time from the lead's first picture to this unit, as they are shown.
    fn off(&self, unit: &InputUnit) -> i64 {
        unit.shown().saturating_sub(self.first.shown())
    }

    /// Returns the units with which a push begins, shifted so that the same frame is shown at the same time in all pushes.
    fn take(&self, (begins, video): (&InputUnit, bool), came: Vec<InputUnit>, takes_sound: bool) -> Vec<InputUnit> {
        let shifted = if video { self.off(begins) } else { 0 };
        let mut begun = false;
        let mut taken = |unit: &InputUnit| {
            let is_guide = unit.track == begins.track;
            begun |= is_guide && unit.dts == begins.dts;
            match is_guide && video {
                true => begun,
                false => {
                    let used = !self.shares(unit.track.push()) || takes_sound;
                    self.is_audio(unit.track) && unit.dts >= self.earliest && used
                }
            }
        };
        let shift = |unit: InputUnit| InputUnit { dts: unit.dts.saturating_sub(shifted), shifted, ..unit };
        came.into_iter().filter(|unit| taken(unit)).map(shift).collect()
    }
}

/// Drops pictures before the first keyframe, and sound long before it.
fn drop_undecodable(units: &mut Vec<InputUnit>, clock: InputClock, publishers: &Publishers) -> Vec<Diagnostic> {
    let keyframe = |track: InputTrack| units.iter().position(|unit| unit.track == track && unit.keyframe);
    let video = publishers.sources().filter(|(_, source)| source.codec.is_video()).map(|(track, _)| track);
    // A track without any keyframe (intra refresh) is published as it came.
    let begins: BTreeMap<InputTrack, usize> = video.filter_map(|track| Some((track, keyframe(track)?))).collect();
    let Some(first) = begins.values().next().map(|&at| units[at].clone()) else { return Vec::new() };
    let is_early = |unit: &InputUnit| {
        let off = clock.scale.duration(first.dts.abs_diff(unit.dts));
        let lead = match off > TRACKS_APART_MAX {
            true => first.now.since(unit.now),
            false => span(unit.dts, first.dts, clock),
        };
        lead > AUDIO_LEAD_MAX
    };
    let is_audio = |track| publishers.source(track).is_some_and(|source| !source.codec.is_video());
    let (mut at, mut dropped) = (0, Vec::new());
    units.retain(|unit| {
        let undecodable = match begins.get(&unit.track) {
            Some(&begins) => at < begins,
            None => is_audio(unit.track) && is_early(unit),
        };
        at += 1;
        dropped.extend(undecodable.then_some(unit.track));
        !undecodable
    });
    Diagnostic::dropped(dropped.into_iter(), Unusable::NoKeyframe).collect()
}

/// Removes jumps, and puts a push's tracks on one clock: that of its first video track, else its first track's.
fn one_clock(units: &mut [InputUnit], push: PushId, clock: InputClock, publishers: &Publishers) {
    let tracks: Vec<InputTrack> = publishers.sources_of(push).map(|(track, _)| track).collect();
    for &track in &tracks {
        straighten(units, track, clock);
    }
    let video = tracks.iter().filter(|&&track| publishers.is_video(track));
    let first = |track: InputTrack| units.iter().find(|unit| unit.track == track).cloned();
    let Some(reference) = video.chain(&tracks).find_map(|&track| first(track)) else { return };
    let apart = if clock.is_common() { COMMON_APART_MAX } else { TRACKS_APART_MAX };
    for &track in &tracks {
        put_beside(units, track, &reference, clock, apart);
    }
}

/// Moves a track's units before its last jump right before those behind it. No unit is lost, and the newest clock goes on.
fn straighten(units: &mut [InputUnit], track: InputTrack, clock: InputClock) {
    let mut of_track: Vec<&mut InputUnit> = units.iter_mut().filter(|unit| unit.track == track).collect();
    let jump = (1..of_track.len()).rev().find(|&i| {
        let (a, b) = (&*of_track[i - 1], &*of_track[i]);
        // In a transport stream, a picture is complete only with the first packet of the next one.
        let before = of_track[i.saturating_sub(2)].arrived;
        let really = b.arrived.since(before) + Duration::from_secs(1);
        span(b.dts, a.dts, clock) > BACKWARD_MAX || span(a.dts, b.dts, clock) > really
    });
    let Some(jump) = jump else { return };
    let steps = of_track.windows(2).map(|pair| pair[1].dts.saturating_sub(pair[0].dts)).filter(|&step| step > 0);
    let usual = steps.min().unwrap_or(1).min(i64::from(clock.scale.hz()));
    let first = of_track[jump].dts;
    for (back, unit) in (1..).zip(of_track[..jump].iter_mut().rev()) {
        unit.dts = first.saturating_sub(usual * back);
    }
}

/// Aligns a track that runs on a clock of its own with `reference`, by its arrival.
fn put_beside(units: &mut [InputUnit], track: InputTrack, reference: &InputUnit, clock: InputClock, apart: Duration) {
    let Some(first) = units.iter().find(|unit| unit.track == track) else { return };
    let ticks = |duration: Duration| i64::try_from(clock.scale.ticks(duration)).unwrap_or(i64::MAX / 4);
    let arrived = ticks(first.arrived.since(reference.arrived)) - ticks(reference.arrived.since(first.arrived));
    let off = first.dts.saturating_sub(reference.dts.saturating_add(arrived));
    if clock.scale.duration(off.unsigned_abs()) > apart {
        for unit in units.iter_mut().filter(|unit| unit.track == track) {
            unit.dts = unit.dts.saturating_sub(off);
            unit.shifted = unit.shifted.saturating_add(off);
        }
    }
}

/// Returns how far a rendition's keyframe may be shown from the leader's: less than a frame, more than what muxers shift a
/// push by for the samples that an AAC encoder begins before 0 (21 ms at 48 kHz and 30 fps), and more than the
/// rounding of RTMP's milliseconds.
pub(super) fn tolerance(frame: Duration) -> Duration {
    (frame * 3 / 4).max(Duration::from_millis(2))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{asc, avcc};
    use super::*;
    use crate::packager::preroll::tests::empty;
    use crate::packager::publishers::tests::{attached, track_unit};

    const HIGH: PushId = PushId(0);
    const LOW: PushId = PushId(1);
    const VIDEO: InputTrack = InputTrack(0);
    const AUDIO: InputTrack = InputTrack(1);

    fn ladder() -> Publishers {
        let mut publishers = attached(&[(HIGH, Some("720p")), (LOW, Some("360p"))]);
        for push in [HIGH, LOW] {
            publishers.configure(InputTrack::of(push, VIDEO), &avcc());
            publishers.configure(InputTrack::of(push, AUDIO), &asc());
        }
        publishers
    }

    fn gathered(units: &[(PushId, InputTrack, i64, bool)]) -> Preroll {
        let mut preroll = empty();
        for &(push, track, dts, keyframe) in units {
            preroll.push(track_unit(InputTrack::of(push, track), dts, keyframe));
        }
        preroll
    }

    fn stamps(units: &[InputUnit], push: PushId, track: InputTrack) -> Vec<i64> {
        let of_track = units.iter().filter(|unit| unit.track == InputTrack::of(push, track));
        of_track.map(|unit| unit.dts).collect()
    }

    #[test]
    fn pictures_before_the_first_keyframe_are_dropped_with_their_sound() {
        let units = [(HIGH, VIDEO, 0, false), (HIGH, AUDIO, 0, true), (HIGH, AUDIO, 400, true)];
        let keyed = [(HIGH, VIDEO, 800, true), (HIGH, VIDEO, 840, false), (HIGH, AUDIO, 810, true)];
        let (aligned, dropped) = align(&mut gathered(&[&units[..], &keyed].concat()), HIGH, &ladder());
        let aligned = aligned.expect("a keyframe");
        assert_eq!(stamps(&aligned.units, HIGH, VIDEO), [800, 840]);
        assert_eq!(stamps(&aligned.units, HIGH, AUDIO), [400, 810]);
        assert_eq!(aligned.base, 400);
        let said = |track, units| Diagnostic::Unusable { track, units, why: Unusable::NoKeyframe };
        assert_eq!(dropped, [said(VIDEO, 1), said(AUDIO, 1)]);
    }

    #[test]
    fn a_rendition_in_step_begins_with_the_lead_and_takes_its_clock() {
        let frames = |push, off: i64| (0..10).map(move |n| (push, VIDEO, n * 40 + off, n % 5 == 0));
        let sound = [(HIGH, AUDIO, 10, true), (LOW, AUDIO, 10, true)];
        let units: Vec<_> = frames(HIGH, 0).chain(frames(LOW, 20)).chain(sound).collect();
        let aligned = align(&mut gathered(&units), HIGH, &ladder()).0.expect("units");
        assert_eq!(stamps(&aligned.units, LOW, VIDEO), stamps(&aligned.units, HIGH, VIDEO));
        assert_eq!(stamps(&aligned.units, LOW, AUDIO), [0i64; 0], "the lead has brought the sound");
        assert!(aligned.others.is_empty());
        // Half a GOP off it waits.
        let units: Vec<_> = frames(HIGH, 0).chain(frames(LOW, 100)).collect();
        let aligned = align(&mut gathered(&units), HIGH, &ladder()).0.expect("units");
        assert_eq!(aligned.others.keys().collect::<Vec<_>>(), [&LOW]);
        assert_eq!(stamps(&aligned.units, LOW, VIDEO), [0i64; 0]);
    }

    #[test]
    fn jumps_are_taken_out_and_tracks_put_side_by_side() {
        let mut units: Vec<InputUnit> =
            [(0, true), (40, false), (80, false)].map(|(dts, key)| track_unit(VIDEO, dts, key)).into();
        units[0].dts += 100_000;
        let mut sound = track_unit(AUDIO, 10, true);
        sound.dts += 50_000;
        units.push(sound);
        let mut preroll = empty();
        units.into_iter().for_each(|unit| preroll.push(unit));
        let aligned = align(&mut preroll, HIGH, &ladder()).0.expect("units");
        assert_eq!(stamps(&aligned.units, HIGH, VIDEO), [0, 40, 80]);
        assert_eq!(stamps(&aligned.units, HIGH, AUDIO), [10]);
        let sound = aligned.units.iter().find(|unit| unit.track == AUDIO).expect("sound");
        assert_eq!(sound.shifted, 50_000);
    }

    #[test]
    fn nothing_begins_where_no_headers_are_known() {
        let (aligned, dropped) = align(&mut gathered(&[(LOW, VIDEO, 0, true)]), HIGH, &ladder());
        assert!(aligned.is_none() && dropped.is_empty());
    }
}
