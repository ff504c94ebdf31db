//! Pushes and tracks that join the presentation, and leave it.

use std::time::Duration;

use super::Packager;
use crate::model::{Clocks, InputTrack, Msn, PushId};
use crate::packager::diagnostic::{Diagnostic, Refusal, Unusable};
use crate::packager::io::Output;
use crate::packager::presentation::{Lead, Presentation};
use crate::packager::renditions::{Join, Joiner};
use crate::packager::timeline::TRACKS_APART_MAX;
use crate::packager::unit::{InputUnit, SegmentStart, micros};

impl Packager {
    /// Takes the first unit of a track that comes, or comes back, after the others of its push.
    pub(super) fn late_unit(&mut self, clocks: Clocks, unit: InputUnit) {
        let Some(presentation) = &self.presentation else { return };
        let (track, view, joiner) = (unit.track, presentation.view(), Joiner::Track(unit.track));
        let off = view.period.micros(unit.dts).saturating_sub(micros(view.newest));
        let apart = |off: i64| Duration::from_micros(u64::try_from(off).unwrap_or(0));
        let (behind, ahead) = (apart(off.saturating_neg()), apart(off));
        if behind.max(ahead) > TRACKS_APART_MAX {
            // It has a clock of its own, and is put beside the others by its arrival.
            self.diagnose(Diagnostic::Jump { track, behind, ahead });
            self.interrupt(false);
            return self.preroll.push(unit);
        }
        self.diagnose(Diagnostic::TrackLate { track });
        self.renditions.join(joiner, view.next_msn);
        self.wait_for_place(clocks, joiner, unit);
    }

    /// Takes a unit of what waits for a place.
    pub(super) fn wait_for_place(&mut self, clocks: Clocks, joiner: Joiner, unit: InputUnit) {
        let (push, dts, now) = (unit.track.push(), unit.dts, unit.now);
        self.wait(unit);
        self.join(joiner);
        // Units from the preroll say nothing about how far the others are.
        let Some(presentation) = self.presentation.as_ref().filter(|_| now == clocks.now) else { return };
        if let Some(why) = self.renditions.apart(push, clocks.now, dts, &presentation.view()) {
            self.refuse(push, why);
        }
    }

    /// Returns the track by which a joiner is aligned, and whether that has pictures.
    fn guide(&self, joiner: Joiner) -> Option<(InputTrack, bool)> {
        match joiner {
            Joiner::Push(push) => self.publishers.guide(push),
            Joiner::Track(track) => Some((track, self.publishers.is_video(track))),
        }
    }

    /// Keeps a unit for later.
    pub(super) fn wait(&mut self, unit: InputUnit) {
        let Some((presentation, joiner)) = self.presentation.as_ref().zip(self.renditions.joiner_of(unit.track)) else {
            return;
        };
        let guide = self.guide(joiner).map(|(track, _)| track);
        self.renditions.wait(unit, guide, |msn| presentation.segment(msn), &presentation.view());
    }

    /// Lets a push or a track join if the start of a segment is there, and its units for it.
    fn join(&mut self, joiner: Joiner) {
        let Some(guide) = self.guide(joiner).filter(|_| self.renditions.waits(joiner)) else { return };
        let Some(presentation) = &mut self.presentation else { return };
        let view = presentation.view();
        if !view.fed {
            return self.anew(true);
        }
        if guide.1 && !view.fed_video {
            return self.lead(joiner, guide.0);
        }
        let Some(source) = self.publishers.source(guide.0) else { return };
        let place = presentation.place_of(&source.codec, self.publishers.rendition(joiner.push()));
        let at = place.map(|track| presentation.msn(track));
        match self.renditions.look(joiner, guide, at, |msn| presentation.segment(msn), &view) {
            Join::Wait => {}
            Join::NotCut => presentation.break_for(place, &source.codec),
            Join::Misaligned(why) => self.turn_down(joiner, why),
            Join::Begin { segment, from, shifted } => self.take_place(joiner, guide.0, &segment, from, shifted),
        }
        self.reserve();
    }

    /// Lets pictures that come to sound alone begin a segment with their first keyframe: sound cuts where it likes.
    fn lead(&mut self, joiner: Joiner, guide: InputTrack) {
        let keyframe = self.renditions.keyframe(joiner, guide);
        let Some(((from, keyframe), presentation)) = keyframe.zip(self.presentation.as_mut()) else { return };
        let Some(source) = self.publishers.source(guide) else { return };
        let place = presentation.place_of(&source.codec, self.publishers.rendition(joiner.push()));
        presentation.break_for(place, &source.codec);
        match presentation.lead_with(keyframe, place.is_none()) {
            Lead::Later => {}
            Lead::Elsewhere => self.anew(true),
            Lead::Begun(segment, out) => {
                self.outputs.extend(out);
                self.take_place(joiner, guide, &segment, from, 0);
                self.reserve();
            }
        }
    }

    /// Lets a push or a track take its places with a segment, with which its unit at `from` begins.
    fn take_place(&mut self, joiner: Joiner, guide: InputTrack, segment: &SegmentStart, from: usize, shifted: i64) {
        let Some(presentation) = &mut self.presentation else { return };
        let (mut units, jumped) = self.renditions.take(joiner, from, &presentation.view());
        let dropped = Diagnostic::dropped(jumped.iter().map(|unit| unit.track), Unusable::Jumped);
        self.outputs.extend(dropped.map(Output::Diagnostic));
        for unit in units.iter_mut().filter(|unit| unit.track == guide) {
            unit.shifted = shifted;
        }
        let (placed, out) = presentation.join_push(&self.publishers, guide, &units, segment);
        self.outputs.extend(out);
        if !placed {
            return self.turn_down(joiner, Refusal::NoPlace);
        }
        for unit in units {
            match (self.track_of(unit.track), &mut self.presentation) {
                (Some(track), Some(presentation)) => self.outputs.extend(presentation.put(track, unit)),
                _ => self.spare_unit(unit),
            }
        }
        self.cut();
        self.in_step();
    }

    /// Tells a push that it can't be a part of the presentation; a track of a push that is one is ignored.
    fn turn_down(&mut self, joiner: Joiner, why: Refusal) {
        match joiner {
            Joiner::Push(push) => self.refuse(push, why),
            Joiner::Track(track) => self.ignore(track, why),
        }
    }

    /// Keeps the segments with which a push may still join.
    pub(super) fn reserve(&mut self) {
        let keep = self.renditions.targets().map(|(_, target)| target).min();
        let place = |(joiner, target): (Joiner, Msn)| {
            let source = self.publishers.source(self.guide(joiner)?.0)?;
            let rendition = self.publishers.rendition(joiner.push());
            Some((self.presentation.as_ref()?.place_of(&source.codec, rendition)?, target))
        };
        let places: Vec<(usize, Msn)> = self.renditions.targets().filter_map(place).collect();
        if let Some(presentation) = &mut self.presentation {
            presentation.reserve(keep, &places);
        }
    }

    /// Detaches pushes that fell out of alignment.
    pub(super) fn in_step(&mut self) {
        while let Some(lost) = self.presentation.as_mut().and_then(Presentation::poll_lost) {
            if self.publishers.get(lost.push).is_none() || self.renditions.is_joining(lost.push) {
                continue;
            }
            match lost.misaligned {
                Some(micros) => self.refuse(lost.push, Refusal::Misaligned { micros }),
                None => drop(self.step_out(lost.push)),
            }
        }
    }

    /// Makes a push of several join anew. Returns whether it is one of several that are live.
    pub(super) fn step_out(&mut self, push: PushId) -> bool {
        let Some(presentation) = self.presentation.as_mut().filter(|own| own.is_fed_beside(push)) else { return false };
        presentation.release(push);
        self.renditions.join(Joiner::Push(push), presentation.next_msn());
        self.outputs.extend(presentation.cut(false));
        self.diagnose(Diagnostic::Left { push });
        self.take_sound();
        true
    }

    /// Lets one of several pushes go.
    pub(super) fn leave(&mut self, push: PushId) {
        let was = self.presentation.as_mut().is_some_and(|presentation| presentation.release(push));
        self.publishers.detach(push);
        self.renditions.forget(push);
        self.preroll.forget_push(push);
        self.cut();
        self.reserve();
        if was {
            self.diagnose(Diagnostic::Left { push });
            self.take_sound();
        }
        if !self.presentation.as_ref().is_some_and(Presentation::is_fed) {
            // No push is live any more: those that waited begin again.
            self.anew(true);
        }
        self.in_step();
    }

    /// Tells a push that it can't be a part of the presentation, and lets it go.
    pub(super) fn refuse(&mut self, push: PushId, why: Refusal) {
        self.diagnose(Diagnostic::Refused { push, why });
        self.outputs.push_back(Output::Refused { push, why });
        if self.publishers.get(push).is_some() {
            self.leave(push);
        }
    }

    /// Leaves a track out until its push returns.
    pub(super) fn ignore(&mut self, track: InputTrack, why: Refusal) {
        self.publishers.ignore(track);
        self.renditions.forget_track(track);
        self.diagnose(Diagnostic::TrackIgnored { track, why });
    }
}
