//! Units of pushes and tracks that aren't live: they wait for the start of a segment, or are sound that another push sends,
//! too.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::align::tolerance;
use super::diagnostic::Refusal;
use super::unit::{InputUnit, PeriodStart, SegmentStart, micros};
use crate::model::limits::{PATIENCE_PUSH, push_bounded};
use crate::model::time::Time;
use crate::model::{InputTrack, Msn, PushId};

/// The most bytes and units that wait. A longer queue is dropped, and the push waits for a later segment.
const QUEUE_LEN_MAX: usize = 32 << 20;
const QUEUE_UNITS_MAX: usize = 4_096;
/// Timestamps further from the others' come from another clock. A connection may lag by this much; a push that lags more is given
/// up anyway.
const APART_MAX: Duration = PATIENCE_PUSH;
/// The time for which they must be apart, since one encoder's renditions jump one after the other.
const APART_FOR: Duration = Duration::from_secs(2);
/// The longest time from a segment's start to its first sound, in microseconds: a hole of a few units.
const HOLE_MAX: i64 = 100_000;
/// The most segments that a joining push may be behind; otherwise it waits for the next one.
const SEGMENTS_LATE_MAX: u32 = 3;
/// The most units that are kept of sound that another push sends: about 4 s.
const SPARE_UNITS_MAX: usize = 192;

/// The facts about a presentation that a joining push needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct PresentationView {
    pub period: PeriodStart,
    /// The newest media time of the leading track.
    pub newest: Duration,
    /// The length of one of its frames.
    pub frame: Duration,
    pub next_msn: Msn,
    /// Whether any track is fed, and whether any video track is.
    pub fed: bool,
    pub fed_video: bool,
}

impl PresentationView {
    /// Returns the presentation time of a unit, in microseconds of media time.
    fn shown(&self, unit: &InputUnit) -> i64 {
        self.period.micros(unit.shown())
    }

    /// Returns the latest time that a push on the presentation's clock can have reached, in microseconds of media time.
    fn latest(&self) -> i64 {
        micros(self.newest + APART_MAX)
    }
}

/// What waits for the start of a segment, to join the presentation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Joiner {
    /// All tracks of a push.
    Push(PushId),
    /// A track that came later than the others of its push, which are live.
    Track(InputTrack),
}

impl Joiner {
    pub(super) fn push(self) -> PushId {
        match self {
            Joiner::Push(push) => push,
            Joiner::Track(track) => track.push(),
        }
    }
}

/// The outcome for a push that joins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Join {
    /// The push hasn't reached the segment that it waits for.
    Wait,
    /// The segment is not cut yet.
    NotCut,
    /// The push shows no keyframe at the segment's start.
    Misaligned(Refusal),
    /// The unit at this place in the queue begins the segment, with its clock this far off, in ticks of the input.
    Begin { segment: SegmentStart, from: usize, shifted: i64 },
}

/// Holds what waits, and the sound that isn't published.
#[derive(Debug, Default)]
pub(super) struct Renditions {
    joining: BTreeMap<Joiner, Joining>,
    spare: BTreeMap<InputTrack, VecDeque<InputUnit>>,
}

/// A push or a track that waits for a segment's start.
#[derive(Debug)]
struct Joining {
    /// The first segment that it may begin with.
    target: Msn,
    queue: VecDeque<InputUnit>,
    len: usize,
    since: Option<Time>,
    /// The presentation times of the newest dropped unit and keyframe, in microseconds of media time.
    forgotten: Option<i64>,
    keyframe: Option<i64>,
}

impl Renditions {
    /// Lets a push or a track wait for the start of a segment, `target` or a later one.
    pub(super) fn join(&mut self, joiner: Joiner, target: Msn) {
        if let Joiner::Push(push) = joiner {
            self.forget(push);
        }
        self.joining.insert(joiner, Joining::new(target));
    }

    /// Forgets a push and its tracks.
    pub(super) fn forget(&mut self, push: PushId) {
        self.spare.retain(|track, _| track.push() != push);
        self.joining.retain(|joiner, _| joiner.push() != push);
    }

    /// Forgets a track that waits.
    pub(super) fn forget_track(&mut self, track: InputTrack) {
        self.joining.remove(&Joiner::Track(track));
    }

    /// Notes that a period begins: from now on exactly the pushes `waiting` wait, for segment `target` or a later one.
    pub(super) fn begin_period(&mut self, target: Msn, waiting: impl Iterator<Item = PushId>) {
        self.joining = waiting.map(|push| (Joiner::Push(push), Joining::new(target))).collect();
    }

    pub(super) fn is_joining(&self, push: PushId) -> bool {
        self.waits(Joiner::Push(push))
    }

    pub(super) fn waits(&self, joiner: Joiner) -> bool {
        self.joining.contains_key(&joiner)
    }

    /// Returns what waits that has this track.
    pub(super) fn joiner_of(&self, track: InputTrack) -> Option<Joiner> {
        [Joiner::Push(track.push()), Joiner::Track(track)].into_iter().find(|&joiner| self.waits(joiner))
    }

    /// Returns the segments that pushes and tracks wait for.
    pub(super) fn targets(&self) -> impl Iterator<Item = (Joiner, Msn)> {
        self.joining.iter().map(|(&joiner, joining)| (joiner, joining.target))
    }

    /// Takes the units of all pushes in `order`, of which nothing waits any more.
    pub(super) fn drain(&mut self, order: Vec<PushId>) -> Vec<InputUnit> {
        let place = |joiner: &Joiner| order.iter().position(|&push| push == joiner.push());
        let mut all: Vec<(Joiner, Joining)> = std::mem::take(&mut self.joining).into_iter().collect();
        all.sort_by_key(|(joiner, _)| place(joiner));
        all.into_iter().flat_map(|(_, joining)| joining.queue).collect()
    }

    /// Takes the units of the tracks that wait, as those of their pushes, which are live, wait for a period.
    pub(super) fn drain_tracks(&mut self) -> Vec<InputUnit> {
        let is_track = |joiner: &Joiner| matches!(joiner, Joiner::Track(_));
        let (tracks, pushes): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.joining).into_iter().partition(|(joiner, _)| is_track(joiner));
        self.joining = pushes;
        tracks.into_values().flat_map(|joining| joining.queue).collect()
    }

    /// Keeps a unit of what waits. `guide` is the track by which that is aligned; `segment` returns the segments that are cut.
    pub(super) fn wait(
        &mut self,
        unit: InputUnit,
        guide: Option<InputTrack>,
        segment: impl Fn(Msn) -> Option<SegmentStart>,
        view: &PresentationView,
    ) {
        let joiner = self.joiner_of(unit.track);
        let Some(joining) = joiner.and_then(|joiner| self.joining.get_mut(&joiner)) else { return };
        // Pictures that will lead begin with any keyframe.
        let leads = !view.fed_video;
        let newest = micros(view.newest.saturating_sub(view.frame));
        let earliest = (!leads && segment(joining.target).is_none()).then_some(newest);
        joining.push(unit, guide, earliest, view);
    }

    /// Returns whether the timestamps of a push, now at `dts`, are another clock's than the presentation's.
    pub(super) fn apart(&self, push: PushId, now: Time, dts: i64, view: &PresentationView) -> Option<Refusal> {
        let micros = view.period.micros(dts).saturating_sub(micros(view.newest));
        let since = self.joining.get(&Joiner::Push(push))?.since;
        let long = since.is_some_and(|since| now.since(since) >= APART_FOR);
        (long && Duration::from_micros(micros.unsigned_abs()) > APART_MAX).then_some(Refusal::Apart { micros })
    }

    /// Looks for a segment that a joiner can begin with; `place` is the one that its track is in, if it had one before.
    pub(super) fn look(
        &mut self,
        joiner: Joiner,
        guide: (InputTrack, bool),
        place: Option<Msn>,
        segment: impl Fn(Msn) -> Option<SegmentStart>,
        view: &PresentationView,
    ) -> Join {
        let Some(joining) = self.joining.get_mut(&joiner) else { return Join::Wait };
        loop {
            joining.target = joining.target.max(place.unwrap_or(0));
            if joining.target + SEGMENTS_LATE_MAX < view.next_msn {
                joining.target = view.next_msn;
            }
            let Some(segment) = segment(joining.target) else { return Join::NotCut };
            match joining.look(guide, segment, view) {
                Some(join) => return join,
                None => joining.target = segment.msn + 1,
            }
        }
    }

    /// Returns the place of the first keyframe that waits, and the unit.
    pub(super) fn keyframe(&self, joiner: Joiner, guide: InputTrack) -> Option<(usize, &InputUnit)> {
        let queue = self.joining.get(&joiner)?.queue.iter().enumerate();
        queue.into_iter().find(|(_, unit)| unit.track == guide && unit.keyframe)
    }

    /// Returns what waits from the unit at `from` on; and, apart from it, what is shown after the latest: up to there all
    /// tracks would be filled with gaps. Nothing of the joiner waits any more.
    pub(super) fn take(
        &mut self,
        joiner: Joiner,
        from: usize,
        view: &PresentationView,
    ) -> (Vec<InputUnit>, Vec<InputUnit>) {
        let queue = self.joining.remove(&joiner).map(|joining| joining.queue).unwrap_or_default();
        queue.into_iter().skip(from).partition(|unit| view.shown(unit) <= view.latest())
    }

    /// Keeps a unit of sound that another push feeds. Returns whether it did.
    pub(super) fn spare(&mut self, unit: InputUnit, view: &PresentationView) -> bool {
        if view.period.micros(unit.dts) > view.latest() {
            return false;
        }
        push_bounded(self.spare.entry(unit.track).or_default(), unit, SPARE_UNITS_MAX);
        true
    }

    /// Takes the newest unpublished sound that `fits`.
    pub(super) fn next_sound(&mut self, fits: impl Fn(InputTrack) -> bool) -> Option<VecDeque<InputUnit>> {
        let spares = self.spare.iter().filter(|&(&track, _)| fits(track));
        let newest = |units: &VecDeque<InputUnit>| units.back().map(|unit| unit.dts);
        let track = spares.max_by_key(|(_, units)| newest(units)).map(|(&track, _)| track)?;
        self.spare.remove(&track)
    }

    /// Puts unused sound back.
    pub(super) fn put_back(&mut self, units: VecDeque<InputUnit>) {
        if let Some(track) = units.front().map(|unit| unit.track) {
            self.spare.insert(track, units);
        }
    }
}

impl Joining {
    fn new(target: Msn) -> Self {
        Joining { target, queue: VecDeque::new(), len: 0, since: None, forgotten: None, keyframe: None }
    }

    /// Appends a unit. Units shown before `earliest`, the newest time of the presentation, can't begin a segment that isn't
    /// cut yet, and are forgotten, unless the target has begun. Units shown after the latest time are kept, since the others
    /// may jump as far in a moment, but no unit waits behind them.
    fn push(&mut self, unit: InputUnit, guide: Option<InputTrack>, earliest: Option<i64>, view: &PresentationView) {
        self.since.get_or_insert(unit.now);
        self.len += unit.data.len();
        self.queue.push_back(unit);
        let full = self.len > QUEUE_LEN_MAX || self.queue.len() > QUEUE_UNITS_MAX;
        let (earliest, latest) = if full { (Some(i64::MAX), i64::MAX) } else { (earliest, view.latest()) };
        let Some(earliest) = earliest else { return };
        while let Some(i) = self.queue.iter().position(|unit| view.shown(unit) <= latest) {
            let shown = view.shown(&self.queue[i]);
            if shown >= earliest {
                break;
            }
            let Some(unit) = self.queue.remove(i) else { break };
            if Some(unit.track) == guide {
                self.forgotten = self.forgotten.max(Some(shown));
                self.keyframe = Some(shown).filter(|_| unit.keyframe).or(self.keyframe);
            }
            self.len -= unit.data.len();
        }
    }

    /// Looks for the unit that begins a segment; `None`: the push began later.
    fn look(&self, (track, video): (InputTrack, bool), segment: SegmentStart, view: &PresentationView) -> Option<Join> {
        let tolerance = micros(tolerance(view.frame));
        let mut mine = self.queue.iter().enumerate().filter(|(_, unit)| unit.track == track);
        let mut before = self.forgotten.is_some_and(|shown| shown < micros(segment.shown));
        if !video {
            for (i, unit) in mine {
                let shown = view.shown(unit);
                if shown > view.latest() {
                    continue;
                }
                match shown.saturating_sub(micros(segment.start)) {
                    off if off < -tolerance => before = true,
                    off if off <= HOLE_MAX || before => return Some(Join::Begin { segment, from: i, shifted: 0 }),
                    _ => return None,
                }
            }
            return Some(Join::Wait);
        }
        let mut nearest = self.keyframe.map(|shown| shown.saturating_sub(micros(segment.shown)));
        let mut passed = None;
        for (i, unit) in mine.by_ref().filter(|(_, unit)| view.shown(unit) <= view.latest()) {
            let off = view.shown(unit).saturating_sub(micros(segment.shown));
            if unit.keyframe {
                if off.abs() <= tolerance {
                    return Some(Join::Begin { segment, from: i, shifted: view.period.ticks(off) });
                }
                nearest = nearest.into_iter().chain([off]).min_by_key(|off| off.abs());
            }
            before |= off < -tolerance;
            passed = passed.max(Some(off).filter(|&off| off > tolerance));
        }
        match (passed, before, nearest) {
            (None, ..) => Some(Join::Wait),
            // A nearer keyframe may come; its distance is the one that helps the publisher.
            (Some(passed), true, Some(micros)) if passed < micros.abs() => Some(Join::Wait),
            (Some(_), true, Some(micros)) => Some(Join::Misaligned(Refusal::Misaligned { micros })),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::InputClock;
    use crate::model::time::Timescale;
    use crate::packager::publishers::tests::track_unit;

    const LOW: PushId = PushId(1);
    const VIDEO: InputTrack = InputTrack::of(LOW, InputTrack(0));
    const AUDIO: InputTrack = InputTrack::of(LOW, InputTrack(1));
    const TARGET: Msn = 7;

    /// A presentation at 25 fps that has come to `newest_ms`.
    fn view(newest_ms: u64) -> PresentationView {
        let clock = InputClock { scale: Timescale::MILLIS, wrap_bits: 32 };
        PresentationView {
            period: PeriodStart { clock, base: 0, start: Duration::ZERO },
            newest: Duration::from_millis(newest_ms),
            frame: Duration::from_millis(40),
            next_msn: TARGET + 1,
            fed: true,
            fed_video: true,
        }
    }

    fn cut(start_ms: u64) -> impl Fn(Msn) -> Option<SegmentStart> {
        move |msn| {
            let start = Duration::from_millis(start_ms);
            let segment = SegmentStart {
                msn,
                start,
                ideal: start,
                discontinuity: 0,
                shown: start,
                keyed: true,
                forced: false,
                shift: 0,
            };
            (msn == TARGET).then_some(segment)
        }
    }

    /// Looks for the start of a segment at 2 s among units with these times and keyframes.
    fn look(track: InputTrack, units: &[(i64, bool)], newest_ms: u64) -> Join {
        let mut renditions = Renditions::default();
        renditions.join(Joiner::Push(LOW), TARGET);
        for &(dts, keyframe) in units {
            renditions.wait(track_unit(track, dts, keyframe), Some(track), cut(2_000), &view(newest_ms));
        }
        renditions.look(Joiner::Push(LOW), (track, track == VIDEO), None, cut(2_000), &view(newest_ms))
    }

    #[test]
    fn a_push_begins_with_the_keyframe_of_the_segment() {
        let begins = |join: Join| match join {
            Join::Begin { segment, from, shifted } => Some((segment.msn, from, shifted)),
            _ => None,
        };
        assert_eq!(begins(look(VIDEO, &[(1_960, false), (2_000, true)], 2_100)), Some((TARGET, 1, 0)));
        assert_eq!(begins(look(VIDEO, &[(1_960, false), (2_010, true)], 2_100)), Some((TARGET, 1, 10)));
        assert_eq!(look(VIDEO, &[(1_900, true), (1_960, false)], 2_100), Join::Wait);
        let early = look(VIDEO, &[(1_800, true), (1_960, false), (2_000, false), (2_240, false)], 2_300);
        assert_eq!(early, Join::Misaligned(Refusal::Misaligned { micros: -200_000 }));
        // It came too late for this segment, and the next one isn't cut.
        assert_eq!(look(VIDEO, &[(2_040, false)], 2_100), Join::NotCut);
    }

    #[test]
    fn sound_begins_with_a_segment_or_the_next_one() {
        assert!(matches!(look(AUDIO, &[(1_950, true), (1_999, true)], 2_100), Join::Begin { from: 1, .. }));
        assert!(matches!(look(AUDIO, &[(1_950, true), (2_900, true)], 3_000), Join::Begin { from: 1, .. }));
        assert_eq!(look(AUDIO, &[(2_400, true)], 2_500), Join::NotCut);
        assert_eq!(look(AUDIO, &[(9_000, true)], 2_100), Join::Wait, "a jump");
    }

    #[test]
    fn a_push_that_is_far_behind_waits_for_the_newest_segment() {
        let mut renditions = Renditions::default();
        renditions.join(Joiner::Push(LOW), TARGET - 5);
        let guide = (VIDEO, true);
        assert_eq!(renditions.look(Joiner::Push(LOW), guide, None, |_| None, &view(0)), Join::NotCut);
        assert_eq!(renditions.targets().collect::<Vec<_>>(), [(Joiner::Push(LOW), TARGET + 1)]);
        assert_eq!(renditions.look(Joiner::Push(LOW), guide, Some(TARGET + 3), |_| None, &view(0)), Join::NotCut);
        assert_eq!(
            renditions.targets().collect::<Vec<_>>(),
            [(Joiner::Push(LOW), TARGET + 3)],
            "its track is numbered up to there"
        );
    }

    #[test]
    fn another_clock_is_told_after_a_while() {
        let mut renditions = Renditions::default();
        renditions.join(Joiner::Push(LOW), TARGET);
        renditions.wait(track_unit(VIDEO, 10_000, true), Some(VIDEO), |_| None, &view(1_000));
        let apart = |ms: u64| renditions.apart(LOW, Time::from_millis(ms), 10_000, &view(1_000));
        assert_eq!(apart(11_000), None, "the others may jump as far in a moment");
        assert_eq!(apart(12_000), Some(Refusal::Apart { micros: 9_000_000 }));
    }

    #[test]
    fn what_is_taken_leaves_jumps_out() {
        let mut renditions = Renditions::default();
        renditions.join(Joiner::Push(LOW), TARGET);
        for dts in [1_960, 2_000, 90_000, 2_040] {
            renditions.wait(track_unit(VIDEO, dts, true), Some(VIDEO), cut(2_000), &view(2_000));
        }
        let (units, jumped) = renditions.take(Joiner::Push(LOW), 1, &view(2_100));
        let stamps = |units: &[InputUnit]| units.iter().map(|unit| unit.dts).collect::<Vec<_>>();
        assert_eq!((stamps(&units), stamps(&jumped)), (vec![2_000, 2_040], vec![90_000]));
        assert!(!renditions.is_joining(LOW));
    }

    #[test]
    fn the_newest_sound_is_taken_first_and_may_be_given_back() {
        let mut renditions = Renditions::default();
        let other = InputTrack::of(PushId(2), InputTrack(1));
        for n in 0..200 {
            assert!(renditions.spare(track_unit(AUDIO, n, true), &view(0)));
        }
        assert!(renditions.spare(track_unit(other, 20, true), &view(0)));
        assert!(!renditions.spare(track_unit(other, 20_000, true), &view(0)), "a jump");
        let units = renditions.next_sound(|_| true).expect("sound");
        assert_eq!((units.len(), units[0].track, units[0].dts), (SPARE_UNITS_MAX, AUDIO, 8));
        renditions.put_back(units);
        assert_eq!(renditions.next_sound(|track| track != AUDIO).expect("sound")[0].track, other);
        renditions.forget(LOW);
        assert!(renditions.next_sound(|_| true).is_none());
    }

    #[test]
    fn a_track_waits_apart_from_its_push() {
        let mut renditions = Renditions::default();
        renditions.join(Joiner::Track(VIDEO), TARGET);
        assert_eq!((renditions.joiner_of(AUDIO), renditions.is_joining(LOW)), (None, false));
        let sound_alone = PresentationView { fed_video: false, ..view(2_000) };
        for (dts, keyframe) in [(1_000, false), (1_040, true), (1_080, false)] {
            renditions.wait(track_unit(VIDEO, dts, keyframe), Some(VIDEO), |_| None, &sound_alone);
        }
        let keyframe = renditions.keyframe(Joiner::Track(VIDEO), VIDEO).map(|(from, unit)| (from, unit.dts));
        assert_eq!(keyframe, Some((1, 1_040)), "any one begins what sound alone leads");
        renditions.join(Joiner::Push(PushId(2)), TARGET);
        let stamps: Vec<i64> = renditions.drain_tracks().iter().map(|unit| unit.dts).collect();
        assert_eq!((stamps, renditions.joiner_of(VIDEO)), (vec![1_000, 1_040, 1_080], None));
        assert!(renditions.is_joining(PushId(2)));
    }
}
