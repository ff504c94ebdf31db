//! The diagnostics of a [`Packager`](super::packager::Packager). The node logs them, and counts them by kind.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plan::Plan;
use crate::codec::codec::CodecError;
use crate::model::{InputTrack, Msn, PushId, TrackId};

/// A diagnostic for operators. Most are the publisher's fault; none stops the stream.
#[derive(Clone, PartialEq, Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Diagnostic {
    /// A presentation begins, and freezes its plan.
    #[error(
        "presentation begins at segment {first_msn}: segments of {:?}, TARGETDURATION {}, PART-TARGET {:?}",
        .plan.segment, .plan.target_duration, .plan.part_target
    )]
    #[strum(serialize = "life_began")]
    PresentationBegan {
        /// The first segment.
        first_msn: Msn,
        /// The plan.
        plan: Plan,
    },
    /// A new period begins: a discontinuity.
    #[error("discontinuity {discontinuity} at segment {first_msn}")]
    PeriodBegan {
        /// The first segment.
        first_msn: Msn,
        /// The discontinuity sequence number.
        discontinuity: u32,
    },
    /// The presentation has ended.
    #[error("presentation ended with segment {last_msn}")]
    #[strum(serialize = "life_ended")]
    PresentationEnded {
        /// The last segment.
        last_msn: Msn,
    },
    /// The segment was cut without a keyframe, because none came in time.
    #[error("no keyframe came: segment {msn} of track {} is cut after {after:?}", .track.0)]
    ForcedCut {
        /// The track that leads.
        track: TrackId,
        /// The segment that was cut.
        msn: Msn,
        /// The segment's length.
        after: Duration,
    },
    /// A part is shorter than 85 % of PART-TARGET, because its units are too large or too many.
    #[error("a part of segment {msn} of track {} lasts only {duration:?}", .track.0)]
    ShortPart {
        /// The track.
        track: TrackId,
        /// The segment.
        msn: Msn,
        /// The length of the part.
        duration: Duration,
    },
    /// Timestamps jumped: a discontinuity follows.
    #[error("timestamps of input track {} jump by {ahead:?} ahead, {behind:?} back", .track.0)]
    Jump {
        /// The input's track.
        track: InputTrack,
        /// The distance behind the last unit.
        behind: Duration,
        /// The distance ahead of it.
        ahead: Duration,
    },
    /// A timestamp didn't go forward, and was moved by too little to be seen or heard.
    #[error("a timestamp of input track {} didn't go forward: moved by {by:?}", .track.0)]
    Nudged {
        /// The input's track.
        track: InputTrack,
        /// The distance by which it was moved.
        by: Duration,
    },
    /// One timestamp was off, and was put between its neighbours.
    #[error("a timestamp of input track {} is off by {by:?}: put between its neighbours", .track.0)]
    Outlier {
        /// The input's track.
        track: InputTrack,
        /// How far it was moved.
        by: Duration,
    },
    /// Audio's sample count had drifted from its timestamps, and restarts at them.
    #[error("samples and timestamps of input track {} differ by {by:?}: the count restarts", .track.0)]
    Reanchored {
        /// The input's track.
        track: InputTrack,
        /// The drift of the count.
        by: Duration,
    },
    /// Sound is missing while pictures go on: silence takes its place, until it returns.
    #[error("sound of track {} is missing at {at:?}: silence takes its place", .track.0)]
    #[strum(serialize = "silence_filled")]
    SoundMissing {
        /// Its track.
        track: TrackId,
        /// The media time at which the silence begins.
        at: Duration,
    },
    /// A unit came after a gap was numbered in its place; it is dropped.
    #[error("a unit of track {} is {behind:?} late: dropped", .track.0)]
    Late {
        /// The track.
        track: TrackId,
        /// The lateness of the unit.
        behind: Duration,
    },
    /// The publisher sends nothing, though it may still be connected.
    #[error("the publisher sends nothing")]
    Silence,
    /// A segment in which nothing came was numbered.
    #[error("segment {msn} is a gap")]
    GapSegment {
        /// The number of the segment.
        msn: Msn,
    },
    /// The codec's headers changed: a new init segment and a discontinuity follow.
    #[error("headers of input track {} changed", .track.0)]
    ConfigChanged {
        /// The input's track.
        track: InputTrack,
    },
    /// The codec's headers can't be used; the track keeps its old ones.
    #[error("headers of input track {} can't be used: {error}", .track.0)]
    BadConfig {
        /// The input's track.
        track: InputTrack,
        /// The fault found in them.
        error: CodecError,
    },
    /// A track comes after the presentation has begun, or comes back after the others of its push.
    #[error("input track {} comes late: it joins the presentation with a segment", .track.0)]
    TrackLate {
        /// The input's track.
        track: InputTrack,
    },
    /// A track can't be a part of the presentation.
    #[error("input track {} is ignored until its push returns: {why}", .track.0)]
    TrackIgnored {
        /// The input's track.
        track: InputTrack,
        /// The reason.
        why: Refusal,
    },
    /// Units can't be published.
    #[error("{units} units of input track {} dropped: {why}", .track.0)]
    #[strum(serialize = "unusable_unit")]
    Unusable {
        /// The input's track.
        track: InputTrack,
        /// The number of units.
        units: usize,
        /// The reason.
        why: Unusable,
    },
    /// A push has joined, or joined again, a presentation that others had begun.
    #[error("track {} continues with segment {first_msn}", .track.0)]
    #[strum(serialize = "rendition_joined")]
    Joined {
        /// The first track of the push.
        track: TrackId,
        /// The first segment.
        first_msn: Msn,
    },
    /// One of several pushes is gone, or out of alignment: its tracks number gaps until it returns.
    #[error("push {} has left or is out of alignment: its tracks have gaps until it returns", .push.0)]
    #[strum(serialize = "rendition_left")]
    Left {
        /// The push.
        push: PushId,
    },
    /// A push was refused.
    #[error("push {} is refused: {why}", .push.0)]
    #[strum(serialize = "rendition_refused")]
    Refused {
        /// The push.
        push: PushId,
        /// The reason.
        why: Refusal,
    },
    /// PROGRAM-DATE-TIME follows the encoder's clock, by this many microseconds.
    #[error("PROGRAM-DATE-TIME moves by {micros} us")]
    DateTimeStep {
        /// Positive: the encoder is slow.
        micros: i64,
    },
}

/// The reason why a push can't be a part of the presentation of others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum Refusal {
    /// The keyframes aren't aligned with those of the leading rendition.
    #[error(
        "keyframes are {:.1} ms {} the leading rendition's: make all renditions in one encoder, with the same -g, -bf and \
         -sc_threshold 0, and -output_ts_offset 1 at each output",
        millis(*micros), if *micros < 0 { "before" } else { "after" }
    )]
    Misaligned {
        /// The delay of its nearest keyframe, in microseconds; negative if it is early.
        micros: i64,
    },
    /// The timestamps come from another clock.
    #[error(
        "timestamps are {:.1} ms {} the other renditions': all renditions need one clock (ffmpeg: -copyts, or one process)",
        millis(*micros), if *micros < 0 { "behind" } else { "ahead of" }
    )]
    Apart {
        /// The distance ahead of the others' timestamps, in microseconds; negative if they are behind.
        micros: i64,
    },
    /// The timestamps have other units, or the presentation has all tracks that it may have.
    #[error("the stream has no place for this rendition")]
    NoPlace,
}

fn millis(micros: i64) -> f64 {
    micros.unsigned_abs() as f64 / 1_000.0
}

/// The reason why a unit can't be published.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum Unusable {
    /// The unit came before its track's headers.
    #[error("they came before the track's headers")]
    NoConfig,
    /// The unit is empty.
    #[error("they are empty")]
    Empty,
    /// The unit is longer than [`UNIT_LEN_MAX`](crate::model::UNIT_LEN_MAX).
    #[error("they are longer than a part may be")]
    TooLong,
    /// The unit came before the publisher's first keyframe.
    #[error("they came before the first keyframe")]
    NoKeyframe,
    /// The headers changed before the unit could be published.
    #[error("their headers have changed")]
    ConfigGone,
    /// The timestamp jumped from the other pushes' before the unit's push was a part of the presentation.
    #[error("their timestamps jumped while the push waited to join")]
    Jumped,
}

impl Diagnostic {
    /// Returns a diagnostic for each track of dropped units. `tracks` has the track of each unit.
    pub(super) fn dropped(tracks: impl Iterator<Item = InputTrack>, why: Unusable) -> impl Iterator<Item = Diagnostic> {
        let mut dropped = BTreeMap::<InputTrack, usize>::new();
        for track in tracks {
            *dropped.entry(track).or_default() += 1;
        }
        dropped.into_iter().map(move |(track, units)| Diagnostic::Unusable { track, units, why })
    }

    /// Returns a short name for a counter's label.
    pub fn kind(&self) -> &'static str {
        self.into()
    }
}
