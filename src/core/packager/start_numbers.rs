//! The numbers that continue from one presentation of a stream to the next.

use crate::model::{Epoch, Msn, Record};

/// The lowest numbers with which a presentation may begin, so that none goes back.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct StartNumbers {
    pub msn: Msn,
    pub discontinuity: u32,
    /// Two presentations may begin at the same time by the encoder's timestamps, or after a step of the wallclock.
    pub life: u64,
    /// One of several pushes may be older than the epoch in which the last presentation ended.
    pub epoch: Option<Epoch>,
    /// A publisher may begin a second presentation within its epoch, and its record must supersede the first one's.
    pub revision: u32,
}

impl StartNumbers {
    /// Returns the numbers after a presentation that ended with `last_msn`.
    pub(super) fn after(record: &Record, last_msn: Msn, discontinuity: u32) -> StartNumbers {
        StartNumbers {
            msn: last_msn.saturating_add(1),
            discontinuity: discontinuity.saturating_add(1),
            life: record.life.0.saturating_add(1),
            epoch: Some(record.epoch),
            revision: record.revision,
        }
    }
}
