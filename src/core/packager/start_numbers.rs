//! What goes on from one life of a stream to the next.

use crate::model::{Epoch, Msn, Record};

/// What a life begins with at least, so that nothing goes back from one life to the next.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Floor {
    pub msn: Msn,
    pub discontinuity: u32,
    /// Two lives may begin at the same time by the encoder's timestamps, or after a step of the wallclock.
    pub life: u64,
    /// One of several pushes may have been there before the tenure that the last life ended in.
    pub epoch: Option<Epoch>,
    /// A publisher may begin a second life within its epoch, and its record must supersede the first one's.
    pub revision: u32,
}

impl Floor {
    /// After a life that has ended with `last_msn`.
    pub(crate) fn after(record: &Record, last_msn: Msn, discontinuity: u32) -> Floor {
        Floor {
            msn: last_msn.saturating_add(1),
            discontinuity: discontinuity.saturating_add(1),
            life: record.life.0.saturating_add(1),
            epoch: Some(record.epoch),
            revision: record.revision,
        }
    }
}
