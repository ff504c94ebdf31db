//! The wait before an address is dialled again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::model::time::Time;

/// The wait after the first failure. It doubles with each further one. A guess: a restarting node is back in about a second.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(5);
/// The most addresses remembered. The one whose wait is over first is forgotten for a new one.
const ADDRESSES_MAX: usize = 1_024;

/// The addresses that have failed lately.
#[derive(Debug)]
pub struct Backoff {
    rng: SmallRng,
    failed: BTreeMap<SocketAddr, Failed>,
}

#[derive(Debug, Clone, Copy)]
struct Failed {
    times: u32,
    until: Time,
}

impl Backoff {
    /// Makes an empty table. `seed` is for the jitter.
    pub fn new(seed: u64) -> Self {
        Backoff { rng: SmallRng::seed_from_u64(seed), failed: BTreeMap::new() }
    }

    /// Returns how long `addr` must wait for its next dial.
    pub fn wait(&self, now: Time, addr: SocketAddr) -> Duration {
        self.failed.get(&addr).map_or(Duration::ZERO, |failed| failed.until.since(now))
    }

    /// Notes that a dial to `addr` has failed, or that its link didn't last.
    pub fn failed(&mut self, now: Time, addr: SocketAddr) {
        let times = self.failed.get(&addr).map_or(0, |failed| failed.times);
        let wait = FIRST.saturating_mul(1 << times.min(16)).min(LONGEST);
        // Half of it is jitter, so that the survivors of a crash don't dial at the same time.
        let wait = wait.mul_f64(self.rng.random_range(0.5..1.0));
        if self.failed.len() >= ADDRESSES_MAX
            && let Some(addr) = self.failed.iter().min_by_key(|(_, failed)| failed.until).map(|(addr, _)| *addr)
        {
            self.failed.remove(&addr);
        }
        self.failed.insert(addr, Failed { times: times.saturating_add(1), until: now + wait });
    }

    /// Notes that a link to `addr` has lasted.
    pub fn succeeded(&mut self, addr: SocketAddr) {
        self.failed.remove(&addr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_end_with_success() {
        let addr = "127.0.0.1:1".parse().expect("an address");
        let now = Time::from_millis(1_000);
        let mut backoff = Backoff::new(1);
        assert_eq!(backoff.wait(now, addr), Duration::ZERO);
        for times in 0..40 {
            backoff.failed(now, addr);
            let full = FIRST.saturating_mul(1 << times.min(10)).min(LONGEST);
            let wait = backoff.wait(now, addr);
            assert!(wait >= full / 2 && wait <= full, "{wait:?} after {times} failures");
        }
        backoff.succeeded(addr);
        assert_eq!(backoff.wait(now, addr), Duration::ZERO);
    }

    #[test]
    fn strangers_addresses_are_bounded() {
        let mut backoff = Backoff::new(1);
        for port in 0..5_000 {
            backoff.failed(Time::ZERO, SocketAddr::new([127, 0, 0, 1].into(), port));
        }
        assert_eq!(backoff.failed.len(), ADDRESSES_MAX);
    }
}
