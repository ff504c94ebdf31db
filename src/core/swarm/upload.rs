//! What a node may send, shared by the streams that it carries.

use std::time::Duration;

use super::hub::Hub;
use crate::model::time::Time;

/// How often the shares are reckoned anew: as often as a stream's rate is measured.
const SHARE_EVERY: Duration = Duration::from_secs(2);

impl Hub {
    /// Gives each stream its share of [`broadcast::Config::upload`](crate::plumtree::Config::upload), by rate: all
    /// trees then have as many children here. A stream whose rate isn't known yet takes what it needs until it is.
    pub(super) fn share_upload(&mut self, now: Time) {
        let Some(upload) = self.config.broadcast.upload else { return };
        if self.share_at.is_some_and(|at| now < at) {
            return;
        }
        self.share_at = Some(now + SHARE_EVERY);
        let streams = || self.members.values().filter_map(|member| member.stream.as_ref());
        let all: u64 = streams().map(|stream| stream.tree.inflow(now)).sum();
        for stream in self.members.values_mut().filter_map(|member| member.stream.as_mut()) {
            let rate = stream.tree.inflow(now);
            let share = u128::from(upload) * u128::from(rate) / u128::from(all.max(1));
            let share = if rate == 0 { upload } else { u64::try_from(share).unwrap_or(u64::MAX) };
            stream.tree.configure(|config| config.upload = Some(share));
        }
    }
}
