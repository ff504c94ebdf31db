//! The pushes of a stream: who leads, and who begins a period together with it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::diagnostic::{Notice, Unusable};
use super::io::Output;
use super::packager::{Publisher, Source};
use super::plan::{frame_duration, frame_rate_milli};
use super::preroll::{AUDIO_LEAD_MAX, Aligned, Gathered, Raw, TRACKS_APART_MAX};
use super::renditions as join;
use super::renditions::Joining;
use crate::model::Rendition;
use crate::model::{Feed, InputTrack};

/// A push that is attached.
#[derive(Debug)]
pub(crate) struct Push {
    /// Goes up with each attachment.
    pub order: u64,
    pub rendition: Option<Rendition>,
    pub publisher: Publisher,
    /// It isn't a part of the period under way, and waits for a segment's start.
    pub joining: Option<Joining>,
}

pub(crate) type Pushes = BTreeMap<Feed, Push>;
pub(crate) type Sources = BTreeMap<InputTrack, Source>;

impl Push {
    /// Whether it is sound in one language, and nothing else.
    pub(crate) fn is_language(&self) -> bool {
        self.rendition.as_ref().is_some_and(|rendition| rendition.language().is_some())
    }
}

/// The attached pushes, first come first.
pub(crate) fn in_order(pushes: &Pushes) -> Vec<Feed> {
    let mut feeds: Vec<(u64, Feed)> = pushes.iter().map(|(&feed, push)| (push.order, feed)).collect();
    feeds.sort_unstable();
    feeds.into_iter().map(|(_, feed)| feed).collect()
}

/// The push that is measured, and whose keyframes begin the period: the first of which pictures have come, else the
/// first of which anything has.
pub(crate) fn lead(pushes: &Pushes, sources: &Sources, gathered: &Gathered) -> Option<Feed> {
    let came = |feed: Feed, video: bool| {
        let language = pushes.get(&feed).is_some_and(Push::is_language);
        let mut tracks = sources.iter().filter(|(track, _)| track.feed() == feed);
        tracks.any(|(&track, source)| (!video || source.codec.is_video() && !language) && gathered.has(track))
    };
    let feeds = in_order(pushes);
    let first = |video| feeds.iter().copied().find(|&feed| came(feed, video));
    first(true).or_else(|| first(false))
}

/// The track of a push by which it is put in step: its pictures, or its sound if it has none.
pub(crate) fn guide(sources: &Sources, feed: Feed, language: bool) -> Option<(InputTrack, bool)> {
    let of_feed = || sources.iter().filter(move |(track, _)| track.feed() == feed);
    let video = of_feed().find(|(_, source)| source.codec.is_video() && !language);
    video
        .map(|(&track, _)| (track, true))
        .or_else(|| of_feed().find(|(_, source)| !source.codec.is_video()).map(|(&track, _)| (track, false)))
}

/// What was gathered, split.
pub(crate) struct Beginning {
    /// Of all that begin together.
    pub units: Aligned,
    /// Of the pushes that join later.
    pub others: BTreeMap<Feed, Vec<Raw>>,
}

/// Puts the other pushes' units to the lead's: those that show a keyframe with its first one, and sound beside that.
pub(crate) fn align(
    mut gathered: Gathered,
    lead: Feed,
    pushes: &Pushes,
    sources: &Sources,
    out: &mut VecDeque<Output>,
) -> Option<Beginning> {
    let clock = pushes.get(&lead)?.publisher.clock;
    let others = gathered.split_off(lead);
    let mut units = gathered.into_units(clock, sources, out);
    units.raw.retain(|raw| sources.contains_key(&raw.track));
    let mut waiting: BTreeMap<Feed, Vec<Raw>> = BTreeMap::new();
    for raw in others {
        waiting.entry(raw.track.feed()).or_default().push(raw);
    }
    let guided = guide(sources, lead, pushes[&lead].is_language()).map(|(track, _)| track);
    let first = units.raw.iter().find(|raw| Some(raw.track) == guided).or(units.raw.first())?.clone();
    let stamps: Vec<i64> = units.raw.iter().filter(|raw| raw.track == first.track).map(|raw| raw.dts).collect();
    let said = sources.get(&first.track).and_then(|source| source.codec.frame_rate_milli());
    let frame = frame_rate_milli(&stamps, clock, said).map_or(Duration::ZERO, frame_duration);
    let ticks = |duration: Duration| i64::try_from(clock.scale.ticks(duration)).unwrap_or(i64::MAX);
    let (near, apart) = (ticks(tolerance(frame)), ticks(TRACKS_APART_MAX));
    let shared = |feed: Feed| !pushes.get(&feed).is_some_and(Push::is_language);
    let sounds = |feed: Feed, raw: &[Raw]| {
        let audio = |raw: &&Raw| sources.get(&raw.track).is_some_and(|source| !source.codec.is_video());
        shared(feed) && raw.iter().any(|raw| audio(&raw))
    };
    let mut sound = sounds(lead, &units.raw);
    let mut jumped = Vec::new();
    // The lead's jumps have been taken out; another push's are left out.
    let newest = units.raw.iter().map(|raw| raw.dts).max().unwrap_or(first.dts);
    let latest = newest.saturating_add(ticks(join::APART_MAX));
    for feed in in_order(pushes) {
        let Some(came) = waiting.get(&feed) else { continue };
        let Some((track, video)) = guide(sources, feed, !shared(feed)) else { continue };
        let mine = || came.iter().filter(|raw| raw.track == track);
        let off = |raw: &Raw| raw.shown().saturating_sub(first.shown());
        let begins = match video {
            true => mine().find(|raw| raw.keyframe && off(raw).abs() <= near),
            false => mine().find(|raw| off(raw).abs() <= apart && off(raw) >= -near),
        };
        let Some(begins) = begins.cloned() else { continue };
        // The same frame is shown at the same time, whatever its muxer began with.
        let shifted = if video { off(&begins) } else { 0 };
        let takes_sound = !sound && sounds(feed, came);
        let earliest = first.dts.saturating_sub(ticks(AUDIO_LEAD_MAX));
        let mut begun = false;
        for raw in waiting.remove(&feed).unwrap_or_default() {
            let is_guide = raw.track == track;
            begun |= is_guide && raw.dts == begins.dts;
            let audio = sources.get(&raw.track).is_some_and(|source| !source.codec.is_video());
            let taken = match is_guide && video {
                true => begun,
                false => audio && raw.dts >= earliest && (!shared(feed) || takes_sound),
            };
            let dts = raw.dts.saturating_sub(shifted);
            if taken && dts <= latest {
                units.raw.push(Raw { dts, shifted, ..raw });
            } else if taken {
                jumped.push(raw.track);
            }
        }
        sound |= takes_sound;
    }
    out.extend(Notice::dropped(jumped.into_iter(), Unusable::Jumped));
    // In the order in which they came: none lags because it is fed behind the others.
    units.raw.sort_by_key(|raw| raw.now);
    units.base = units.raw.iter().map(Raw::earliest).min().unwrap_or(units.base);
    Some(Beginning { units, others: waiting })
}

/// How far a rendition's keyframe may be shown from the leader's: less than a frame, more than what muxers shift a
/// push by for the samples that an AAC encoder begins before 0 (21 ms at 48 kHz and 30 fps), and more than the
/// rounding of RTMP's milliseconds.
pub(crate) fn tolerance(frame: Duration) -> Duration {
    (frame * 3 / 4).max(Duration::from_millis(2))
}
