//! What a [`Packager`](super::packager::Packager) reports beside its parts. The node logs it, and counts it by kind.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plan::Plan;
use crate::codec::codec::CodecError;
use crate::model::{InputTrack, Msn, PushId, TrackId};

/// Something that an operator may want to know. Most are the publisher's fault; none stops the stream.
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
        /// Its first segment.
        first_msn: Msn,
        /// The plan.
        plan: Plan,
    },
    /// A new period begins: a discontinuity.
    #[error("discontinuity {discontinuity} at segment {first_msn}")]
    PeriodBegan {
        /// Its first segment.
        first_msn: Msn,
        /// Its discontinuity sequence number.
        discontinuity: u32,
    },
    /// The presentation has ended.
    #[error("presentation ended with segment {last_msn}")]
    #[strum(serialize = "life_ended")]
    PresentationEnded {
        /// Its last segment.
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
    /// A part is shorter than 85 % of PART-TARGET, because frames don't come evenly.
    #[error("a part of segment {msn} of track {} lasts only {duration:?}", .track.0)]
    ShortPart {
        /// Its track.
        track: TrackId,
        /// Its segment.
        msn: Msn,
        /// Its length.
        duration: Duration,
    },
    /// Timestamps jumped: a discontinuity follows.
    #[error("timestamps of input track {} jump by {ahead:?} ahead, {behind:?} back", .track.0)]
    Jump {
        /// The input's track.
        track: InputTrack,
        /// How far back of the last unit.
        behind: Duration,
        /// How far ahead of it.
        ahead: Duration,
    },
    /// A timestamp didn't go forward, and was moved by too little to be seen or heard.
    #[error("a timestamp of input track {} didn't go forward: moved by {by:?}", .track.0)]
    Nudged {
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
        /// How far the count had drifted.
        by: Duration,
    },
    /// A unit came after a gap was numbered in its place; it is dropped.
    #[error("a unit of track {} is {behind:?} late: dropped", .track.0)]
    Late {
        /// Its track.
        track: TrackId,
        /// How late.
        behind: Duration,
    },
    /// The publisher sends nothing, though it may still be connected.
    #[error("the publisher sends nothing")]
    Silence,
    /// A segment in which nothing came was numbered.
    #[error("segment {msn} is a gap")]
    GapSegment {
        /// Its number.
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
    /// The presentation has no place for this track.
    #[error("input track {} came after the presentation's tracks were fixed: ignored", .track.0)]
    TrackIgnored {
        /// The input's track.
        track: InputTrack,
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
        /// Its first track.
        track: TrackId,
        /// Its first segment.
        first_msn: Msn,
    },
    /// One of several pushes is gone, or out of alignment: its tracks number gaps until it returns.
    #[error("push {} is gone or out of alignment: gaps until it returns", .push.0)]
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

/// Says why a push can't be a part of the presentation of others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum Refusal {
    /// Its keyframes aren't aligned with those of the leading rendition.
    #[error(
        "keyframes are {:.1} ms {} the leading rendition's: make all renditions in one encoder, with the same -g, -bf and \
         -sc_threshold 0, and -output_ts_offset 1 at each output",
        millis(*micros), if *micros < 0 { "before" } else { "after" }
    )]
    Misaligned {
        /// How much later its nearest one is, in microseconds; negative: earlier.
        micros: i64,
    },
    /// Its timestamps come from another clock.
    #[error(
        "timestamps are {:.1} ms {} the other renditions': all renditions need one clock (ffmpeg: -copyts, or one process)",
        millis(*micros), if *micros < 0 { "behind" } else { "ahead of" }
    )]
    Apart {
        /// How far ahead of the others', in microseconds; negative: behind.
        micros: i64,
    },
    /// Its timestamps have other units, or the presentation has all tracks that it may have.
    #[error("the stream has no place for this rendition")]
    NoPlace,
}

fn millis(micros: i64) -> f64 {
    micros.unsigned_abs() as f64 / 1_000.0
}

/// Says why a unit can't be published.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum Unusable {
    /// It came before its track's headers.
    #[error("before its track's headers")]
    NoConfig,
    /// It is empty.
    #[error("empty")]
    Empty,
    /// It is longer than [`UNIT_LEN_MAX`](crate::model::UNIT_LEN_MAX).
    #[error("longer than a part may be")]
    TooLong,
    /// It came before the publisher's first keyframe.
    #[error("before the first keyframe")]
    NoKeyframe,
    /// Its headers had changed before it could be published.
    #[error("of headers that have changed")]
    ConfigGone,
    /// Its timestamp had jumped from the other pushes' before its own push was a part of the presentation.
    #[error("of timestamps that jumped while the push waited for its place")]
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
