//! When a crowd has gone, its memory goes too: the C library keeps it otherwise, in case another crowd comes.

use std::time::Duration;

use damson_core::model::time::Time;

/// Fewer connections than these leave nothing worth the trouble: 8 KB each.
const CROWD: usize = 1_000;
/// How long it is to be calm first; giving memory back holds all threads up for some milliseconds.
pub(crate) const CALM: Duration = Duration::from_secs(2);

/// Watches how many connections there are.
#[derive(Debug, Default)]
pub(crate) struct Ebb {
    /// The most since memory was given back.
    highest: usize,
    /// Since when no more have gone.
    calm: Option<(Time, usize)>,
}

impl Ebb {
    /// Whether memory is to be given back now: half of a crowd has gone, and no more are going.
    pub(crate) fn look(&mut self, now: Time, connections: usize) -> bool {
        self.highest = self.highest.max(connections);
        if self.highest - connections < CROWD.max(self.highest / 2) {
            self.calm = None;
            return false;
        }
        let (since, before) = *self.calm.get_or_insert((now, connections));
        if connections < before.saturating_sub(CROWD / 10) {
            self.calm = Some((now, connections));
        } else if now.since(since) >= CALM {
            (self.highest, self.calm) = (connections, None);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds at which memory is given back, where these are the connections of each second.
    fn given(connections: &[usize]) -> Vec<u64> {
        let mut ebb = Ebb::default();
        let looks = (0..).zip(connections);
        looks.filter(|(s, n)| ebb.look(Time::from_millis(s * 1_000), **n)).map(|(s, _)| s).collect()
    }

    #[test]
    fn once_a_crowd_has_gone() {
        const NEVER: [u64; 0] = [];
        assert_eq!(given(&[0, 10_000, 10_000, 10, 10, 10, 10, 10, 10]), [5]);
        assert_eq!(given(&[0, 10_000, 8_000, 6_000, 4_000, 2_000, 10, 10, 10, 10]), [8], "not while they go");
        assert_eq!(given(&[0, 900, 0, 0, 0, 0, 0]), NEVER, "no crowd");
        assert_eq!(given(&[10_000, 6_000, 6_000, 6_000, 6_000]), NEVER, "most are still there");
        assert_eq!(given(&[0, 5_000, 10, 10, 10, 5_000, 10, 10, 10, 10]), [4, 8], "each time");
        assert_eq!(given(&[0, 5_000, 10, 5_000, 10, 5_000, 5_000]), NEVER, "they come back");
    }
}
