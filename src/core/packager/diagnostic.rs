//! What a [`Packager`](super::packager::Packager) has to say beside its parts: to be logged, and counted by kind.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::plan::Plan;
use crate::codec::codec::CodecError;
use crate::model::{InputTrack, Msn, PushId, TrackId};

/// Something that an operator may want to know. Most are the publisher's doing; none stops the stream.
#[derive(Clone, PartialEq, Debug)]
pub enum Diagnostic {
    /// A presentation begins, and this is frozen for it.
    LifeBegan {
        /// Its first segment.
        first_msn: Msn,
        /// What was chosen.
        plan: Plan,
    },
    /// A new period begins: a discontinuity.
    PeriodBegan {
        /// Its first segment.
        first_msn: Msn,
        /// Its discontinuity sequence number.
        discontinuity: u32,
    },
    /// The presentation has ended.
    LifeEnded {
        /// Its last segment.
        last_msn: Msn,
    },
    /// No keyframe came in time: the segment was cut all the same.
    ForcedCut {
        /// The track that leads.
        track: TrackId,
        /// The segment that was cut.
        msn: Msn,
        /// How long it is.
        after: Duration,
    },
    /// A part came out below 85 % of PART-TARGET, since frames don't come evenly.
    ShortPart {
        /// Its track.
        track: TrackId,
        /// Its segment.
        msn: Msn,
        /// How long it is.
        duration: Duration,
    },
    /// Timestamps jumped: a discontinuity follows.
    Jump {
        /// The input's track.
        track: InputTrack,
        /// How far back of the last unit.
        behind: Duration,
        /// How far ahead of it.
        ahead: Duration,
    },
    /// A timestamp didn't go forward, and was moved by so little that nothing shows.
    Nudged {
        /// The input's track.
        track: InputTrack,
        /// How far it was moved.
        by: Duration,
    },
    /// Audio's sample count had drifted from its timestamps, and begins again from them.
    Reanchored {
        /// The input's track.
        track: InputTrack,
        /// How far it had drifted.
        by: Duration,
    },
    /// A unit came so late that its time is numbered as a gap already; it is lost.
    Late {
        /// Its track.
        track: TrackId,
        /// How late.
        behind: Duration,
    },
    /// Nothing comes from the publisher, though it may still be connected.
    Silence,
    /// A segment in which nothing came was numbered.
    GapSegment {
        /// Its number.
        msn: Msn,
    },
    /// The codec's headers changed: a new init segment and a discontinuity follow.
    ConfigChanged {
        /// The input's track.
        track: InputTrack,
    },
    /// The codec's headers can't be used; the track keeps those that it had.
    BadConfig {
        /// The input's track.
        track: InputTrack,
        /// What is wrong with them.
        error: CodecError,
    },
    /// The presentation has no place for this track.
    TrackIgnored {
        /// The input's track.
        track: InputTrack,
    },
    /// Units that can't be published.
    Unusable {
        /// The input's track.
        track: InputTrack,
        /// How many.
        units: usize,
        /// Why.
        why: Unusable,
    },
    /// A push has become part of a presentation that others had begun, or is again.
    Joined {
        /// Its first track.
        track: TrackId,
        /// With which segment.
        first_msn: Msn,
    },
    /// A push of several is gone, or out of step: its tracks number gaps until it returns.
    Left {
        /// Which.
        feed: PushId,
    },
    /// A push was refused.
    Refused {
        /// Which.
        feed: PushId,
        /// Why.
        why: Refusal,
    },
    /// PROGRAM-DATE-TIME follows the encoder's clock, by this many microseconds.
    DateTimeStep {
        /// Positive: the encoder is slow.
        micros: i64,
    },
}

/// Why a push can't be a part of the presentation that others make.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refusal {
    /// Its keyframes aren't where the leading rendition's are.
    Misaligned {
        /// How much later its nearest one is, in microseconds; negative: earlier.
        micros: i64,
    },
    /// Its timestamps are another clock's.
    Apart {
        /// How far ahead of the others', in microseconds; negative: behind.
        micros: i64,
    },
    /// Its timestamps have other units, or the presentation has all tracks that it may have.
    NoPlace,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |micros: &i64| micros.unsigned_abs() as f64 / 1_000.0;
        let side = |micros: &i64, ahead, behind| if *micros < 0 { behind } else { ahead };
        match self {
            Refusal::Misaligned { micros } => write!(
                f,
                "keyframes are {:.1} ms {} the leading rendition's: make all renditions in one encoder, with the same \
                 -g, -bf and -sc_threshold 0, and -output_ts_offset 1 at each output",
                ms(micros),
                side(micros, "after", "before")
            ),
            Refusal::Apart { micros } => write!(
                f,
                "timestamps are {:.1} ms {} the other renditions': all renditions need one clock (ffmpeg: -copyts, or \
                 one process)",
                ms(micros),
                side(micros, "ahead of", "behind")
            ),
            Refusal::NoPlace => f.write_str("the stream has no place for this rendition"),
        }
    }
}

/// Why a unit can't be published.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Unusable {
    /// It came before its track's headers.
    NoConfig,
    /// It is empty.
    Empty,
    /// It is longer than [`UNIT_LEN_MAX`](crate::model::UNIT_LEN_MAX).
    TooLong,
    /// It came before the publisher's first keyframe.
    NoKeyframe,
    /// Its headers had changed before it could be published.
    ConfigGone,
    /// Its timestamp had jumped from the other pushes' before its own push was a part of the presentation.
    Jumped,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unusable::NoConfig => "before its track's headers",
            Unusable::Empty => "empty",
            Unusable::TooLong => "longer than a part may be",
            Unusable::NoKeyframe => "before the first keyframe",
            Unusable::ConfigGone => "of headers that have changed",
            Unusable::Jumped => "of timestamps that jumped while the push waited for its place",
        })
    }
}

impl Diagnostic {
    /// Returns what is said of dropped units: once a track. `tracks` has that of each unit.
    pub(super) fn dropped(tracks: impl Iterator<Item = InputTrack>, why: Unusable) -> impl Iterator<Item = Diagnostic> {
        let mut dropped = BTreeMap::<InputTrack, usize>::new();
        for track in tracks {
            *dropped.entry(track).or_default() += 1;
        }
        dropped.into_iter().map(move |(track, units)| Diagnostic::Unusable { track, units, why })
    }

    /// A short name for a counter's label.
    pub fn kind(&self) -> &'static str {
        match self {
            Diagnostic::LifeBegan { .. } => "life_began",
            Diagnostic::PeriodBegan { .. } => "period_began",
            Diagnostic::LifeEnded { .. } => "life_ended",
            Diagnostic::ForcedCut { .. } => "forced_cut",
            Diagnostic::ShortPart { .. } => "short_part",
            Diagnostic::Jump { .. } => "jump",
            Diagnostic::Nudged { .. } => "nudged",
            Diagnostic::Reanchored { .. } => "reanchored",
            Diagnostic::Late { .. } => "late",
            Diagnostic::Silence => "silence",
            Diagnostic::GapSegment { .. } => "gap_segment",
            Diagnostic::ConfigChanged { .. } => "config_changed",
            Diagnostic::BadConfig { .. } => "bad_config",
            Diagnostic::TrackIgnored { .. } => "track_ignored",
            Diagnostic::Unusable { .. } => "unusable_unit",
            Diagnostic::Joined { .. } => "rendition_joined",
            Diagnostic::Left { .. } => "rendition_left",
            Diagnostic::Refused { .. } => "rendition_refused",
            Diagnostic::DateTimeStep { .. } => "date_time_step",
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Diagnostic::LifeBegan { first_msn, plan } => write!(
                f,
                "life begins at segment {first_msn}: segments of {:?}, TARGETDURATION {}, PART-TARGET {:?}",
                plan.segment, plan.target_duration, plan.part_target
            ),
            Diagnostic::PeriodBegan { first_msn, discontinuity } => {
                write!(f, "discontinuity {discontinuity} at segment {first_msn}")
            }
            Diagnostic::LifeEnded { last_msn } => write!(f, "life ended with segment {last_msn}"),
            Diagnostic::ForcedCut { track, msn, after } => {
                write!(f, "no keyframe: segment {msn} of track {} cut after {after:?}", track.0)
            }
            Diagnostic::ShortPart { track, msn, duration } => {
                write!(f, "a part of segment {msn} of track {} is only {duration:?} long", track.0)
            }
            Diagnostic::Jump { track, behind, ahead } => {
                write!(f, "timestamps of input track {} jump by {ahead:?} ahead, {behind:?} back", track.0)
            }
            Diagnostic::Nudged { track, by } => {
                write!(f, "a timestamp of input track {} didn't go forward: moved by {by:?}", track.0)
            }
            Diagnostic::Reanchored { track, by } => {
                write!(f, "samples and timestamps of input track {} differ by {by:?}: counted anew", track.0)
            }
            Diagnostic::Late { track, behind } => write!(f, "a unit of track {} is lost: {behind:?} late", track.0),
            Diagnostic::Silence => f.write_str("nothing comes from the publisher"),
            Diagnostic::GapSegment { msn } => write!(f, "segment {msn} is a gap"),
            Diagnostic::ConfigChanged { track } => write!(f, "headers of input track {} changed", track.0),
            Diagnostic::BadConfig { track, error } => {
                write!(f, "headers of input track {} can't be used: {error}", track.0)
            }
            Diagnostic::TrackIgnored { track } => {
                write!(f, "input track {} came after the tracks were settled: ignored", track.0)
            }
            Diagnostic::Unusable { track, units, why } => {
                write!(f, "{units} units of input track {} dropped: {why}", track.0)
            }
            Diagnostic::Joined { track, first_msn } => write!(f, "track {} goes on with segment {first_msn}", track.0),
            Diagnostic::Left { feed } => write!(f, "push {} is gone or out of step: gaps until it returns", feed.0),
            Diagnostic::Refused { feed, why } => write!(f, "push {} is refused: {why}", feed.0),
            Diagnostic::DateTimeStep { micros } => write!(f, "PROGRAM-DATE-TIME moves by {micros} us"),
        }
    }
}
