//! One track's messages of H.264 or H.265 to access units.
//!
//! A message is a picture to most encoders. To some it is a slice, or parameter sets and SEI alone. What has no slice waits for
//! the next picture. A slice that goes on with a picture belongs to the message before, so that one has to be held until the
//! next picture comes. That delays each picture by one, so that it is done only at the beginning, and for encoders that
//! turn out to send slices.

use bytes::{BufMut, BytesMut};

use super::FlvNotice;
use crate::codec::codec::CodecError;
use crate::codec::nal::{NalForm, NalTrack, NalUnits};
use crate::model::{AccessUnit, UNIT_LEN_MAX};
use crate::packager::Input;

/// An encoder that sends slices has done so after that much of its pictures, in ms: our guess. The packager measures
/// keyframes for longer before it publishes.
const LEARNING: u64 = 2_000;
/// A picture isn't held until its next slice when something that much later has come, in ms: a guess that is longer than
/// any encoder takes to send a picture.
const HOLD_MAX: u64 = 500;
/// The most bytes that wait for a picture: SEI with captions and user data.
const WAITING_LEN_MAX: usize = 64 << 10;

/// What one track's messages have brought so far.
#[derive(Debug)]
pub(super) struct Pictures {
    nal: NalTrack,
    /// NAL units that belong to the next picture.
    waiting: BytesMut,
    /// The newest picture, to which slices may still come.
    held: Option<(AccessUnit, BytesMut)>,
    /// The first picture's time, while it isn't known whether slices come alone.
    learning: Option<u64>,
    sliced: bool,
    /// The time of the newest picture that was put out.
    last: Option<u64>,
}

impl Pictures {
    /// Returns a track of H.265 or H.264 of which nothing has come.
    pub(super) fn new(is_hevc: bool) -> Self {
        let nal = if is_hevc { NalTrack::hevc() } else { NalTrack::avc() };
        Pictures { nal, waiting: BytesMut::new(), held: None, learning: None, sliced: false, last: None }
    }

    pub(super) fn is_hevc(&self) -> bool {
        self.nal.is_hevc()
    }

    /// Takes a sequence header.
    pub(super) fn header(&mut self, unit: &AccessUnit, out: &mut Vec<Input>) -> Result<(), CodecError> {
        self.end(out);
        let config = self.nal.configure(&unit.data)?;
        out.extend(config.map(|config| Input::Config { track: unit.track, config }));
        Ok(())
    }

    /// Takes a message's NAL units. Returns what is to be told of it.
    pub(super) fn message(&mut self, unit: AccessUnit, out: &mut Vec<Input>) -> Option<FlvNotice> {
        let nals = self.nal.split(&unit.data);
        let notice = match nals.form {
            NalForm::Lengths => None,
            NalForm::EmptyUnits => Some(FlvNotice::EmptyUnits),
            NalForm::StartCodes => Some(FlvNotice::StartCodes),
            NalForm::Damaged(why) => Some(FlvNotice::Damaged(why)),
        };
        if self.nal.continues(&nals) {
            if let Some((_, data)) = self.held.as_mut().filter(|(held, _)| held.dts == unit.dts) {
                self.sliced = true;
                if data.len() <= UNIT_LEN_MAX {
                    data.extend_from_slice(&self.nal.sample(&nals));
                }
                return notice.or(Some(FlvNotice::Slices));
            }
            if self.last == Some(unit.dts) {
                // The picture it belongs to is out.
                self.sliced = true;
                return Some(FlvNotice::Slices);
            }
        }
        if self.held.as_ref().is_some_and(|(held, _)| held.dts != unit.dts) || self.nal.has_slice(&nals) {
            self.end(out);
        }
        let taken = self.nal.take(&nals);
        if self.nal.has_slice(&nals) {
            self.picture(unit, &nals, out);
        } else {
            let data = self.nal.sample_prefix(&nals);
            if self.waiting.len() + data.len() <= WAITING_LEN_MAX {
                self.waiting.extend_from_slice(&data);
            }
        }
        taken.err().map(FlvNotice::Damaged).or(notice)
    }

    /// Begins a picture.
    fn picture(&mut self, unit: AccessUnit, nals: &NalUnits, out: &mut Vec<Input>) {
        let AccessUnit { track, dts, .. } = unit;
        let keyframe = unit.keyframe || self.nal.is_random_access(nals);
        let config = self.nal.renewed(keyframe);
        out.extend(config.map(|config| Input::Config { track, config }));
        let mut data = self.nal.sample(nals);
        if !self.waiting.is_empty() {
            self.waiting.put(data);
            data = self.waiting.split().freeze();
        }
        let began = *self.learning.get_or_insert(dts);
        let unit = AccessUnit { keyframe, ..unit };
        if self.sliced || elapsed(began, dts) < LEARNING {
            self.held = Some((unit, BytesMut::from(data)));
        } else {
            self.last = Some(dts);
            out.push(Input::Unit(AccessUnit { data, ..unit }));
        }
    }

    /// Puts out the picture that is held, since what comes next doesn't belong to it.
    pub(super) fn end(&mut self, out: &mut Vec<Input>) {
        if let Some((unit, data)) = self.held.take() {
            self.last = Some(unit.dts);
            out.push(Input::Unit(AccessUnit { data: data.freeze(), ..unit }));
        }
    }

    /// Puts out the picture that is held, if it is much older than `timestamp`.
    pub(super) fn end_before(&mut self, timestamp: u32, out: &mut Vec<Input>) {
        let is_old = |held: &AccessUnit| (HOLD_MAX..1 << 31).contains(&elapsed(held.dts, timestamp.into()));
        if self.held.as_ref().is_some_and(|(held, _)| is_old(held)) {
            self.end(out);
        }
    }
}

/// Returns the time between two timestamps, in ms modulo 2^32.
fn elapsed(from: u64, to: u64) -> u64 {
    to.wrapping_sub(from) & u64::from(u32::MAX)
}
