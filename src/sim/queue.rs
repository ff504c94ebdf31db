//! What happens when. A heap of the next few milliseconds only, since a heap of everything is far away in memory at
//! each step down; what is later lies in baskets by time. Events beside it in a slab, timers in the entries themselves.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// A basket holds 2^this microseconds: with ten thousand nodes, some hundred events.
const BASKET_BITS: u32 = 12;

/// Marks an entry as a timer's; the other bits are its node's.
const TIMER: u32 = 1 << 31;

/// When, in which order of those of one time, and what: a timer's node, or a place in the slab.
type Entry = (u64, u64, u32);

/// What is next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<E> {
    /// A node's timer.
    Timer(u32),
    /// Something else.
    Event(E),
}

/// Events by time; those of one time in the order in which they were added.
#[derive(Debug, Clone)]
pub(super) struct Queue<E> {
    /// Everything before `baskets`.
    near: BinaryHeap<Reverse<Entry>>,
    /// By time >> [`BASKET_BITS`]; none is empty.
    baskets: BTreeMap<u64, Vec<Entry>>,
    /// Entries of baskets below this go to `near`.
    opened: u64,
    /// Empty baskets, to be used again.
    spare: Vec<Vec<Entry>>,
    slab: Vec<Option<E>>,
    free: Vec<u32>,
    added: u64,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Queue {
            near: BinaryHeap::new(),
            baskets: BTreeMap::new(),
            opened: 0,
            spare: Vec::new(),
            slab: Vec::new(),
            free: Vec::new(),
            added: 0,
        }
    }

    /// Adds an event at `at` microseconds.
    pub(super) fn add(&mut self, at: u64, event: E) {
        let place = match self.free.pop() {
            Some(place) => {
                self.slab[place as usize] = Some(event);
                place
            }
            None => {
                self.slab.push(Some(event));
                u32::try_from(self.slab.len() - 1).ok().filter(|at| *at < TIMER).expect("fewer than 2^31 events")
            }
        };
        self.enter(at, place);
    }

    /// Adds a timer of `node`'s, below 2^31, at `at` microseconds.
    pub(super) fn add_timer(&mut self, at: u64, node: u32) {
        self.enter(at, node | TIMER);
    }

    fn enter(&mut self, at: u64, what: u32) {
        self.added += 1;
        let entry = (at, self.added, what);
        let basket = at >> BASKET_BITS;
        if basket < self.opened {
            self.near.push(Reverse(entry));
        } else {
            let spare = &mut self.spare;
            self.baskets.entry(basket).or_insert_with(|| spare.pop().unwrap_or_default()).push(entry);
        }
    }

    /// Takes the next event, if it is due by `end`.
    pub(super) fn pop(&mut self, end: u64) -> Option<(u64, Next<E>)> {
        if self.near.is_empty() {
            let (basket, mut entries) = self.baskets.pop_first()?;
            self.opened = basket + 1;
            self.near.extend(entries.drain(..).map(Reverse));
            self.spare.push(entries);
        }
        let at = self.near.peek().map(|Reverse((at, ..))| *at).filter(|at| *at <= end)?;
        let Reverse((_, _, what)) = self.near.pop()?;
        if what & TIMER != 0 {
            return Some((at, Next::Timer(what & !TIMER)));
        }
        self.free.push(what);
        self.slab[what as usize].take().map(|event| (at, Next::Event(event)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_those_of_one_time_in_order() {
        let mut queue = Queue::new();
        let mut expected = Vec::new();
        let mut dice = 1u64;
        let mut add = |queue: &mut Queue<u32>, expected: &mut Vec<(u64, u32)>, from: u64, n: u32| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = from + (dice >> 33) % 50_000;
            expected.push((at, n));
            if n.is_multiple_of(3) { queue.add_timer(at, n) } else { queue.add(at, n) }
        };
        let mut now = 0;
        let mut came = Vec::new();
        for n in 0..2_000 {
            add(&mut queue, &mut expected, now, n);
            // Half of them are taken as others are added, at times that may lie in the basket just opened.
            if n % 2 == 0
                && let Some((at, next)) = queue.pop(u64::MAX)
            {
                now = at;
                came.push((at, next));
            }
        }
        assert_eq!(queue.pop(now.saturating_sub(1)), None, "what is due later stays");
        while let Some(next) = queue.pop(u64::MAX) {
            came.push(next);
        }
        assert_eq!(came.len(), expected.len());
        assert!(came.is_sorted_by_key(|(at, _)| *at));
        for (at, next) in came {
            let (Next::Timer(n) | Next::Event(n)) = next;
            assert_eq!(expected[n as usize], (at, n));
            assert_eq!(matches!(next, Next::Timer(_)), n.is_multiple_of(3));
        }
        // Those of one time in the order in which they were added.
        for n in 0..10 {
            queue.add(now + 60_000, n);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(u64::MAX)).collect();
        assert!((0u32..).zip(order).all(|(n, (_, next))| next == Next::Event(n)));
    }
}
