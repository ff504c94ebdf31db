//! The fetches of segments that other nodes hold: which node is asked next, and which requests wait. Pure.
//!
//! A segment that many requests want is fetched once. If a holder doesn't have it, is busy, fails or is silent for too long,
//! the next one is asked; a holder that failed lately is asked last. The fetches at once, the fetches that wait, the requests
//! that wait for them, and the time are all bounded. After each call, drain [`FetchQueue::poll_output`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::entry::SegmentKey;
use crate::link::query::QueryError;
use crate::model::time::Time;
use crate::model::{NodeId, Peer};
use crate::window::Segment;

/// The most segments fetched at once: each may take [`SEGMENT_LEN_MAX`](super::query::SEGMENT_LEN_MAX) bytes of memory.
const ACTIVE_MAX: usize = 16;
/// The most segments that wait to be fetched.
const QUEUE_MAX: usize = 256;
/// The most requests that wait, for all segments together.
const WAITERS_MAX: usize = 10_000;
/// The longest silence of a holder: a dial and a slow disk take less. The next holder still has time before hls.js gives up
/// a segment, 10 s without its first byte.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// The longest time of a fetch.
const WHOLE_MAX: Duration = Duration::from_secs(8);
/// The time for which a holder that failed is asked last.
const SHUNNED: Duration = Duration::from_secs(10);
/// The time for which the queue remembers that no holder has a segment.
const NOBODY: Duration = Duration::from_secs(5);
/// The most segments for which it remembers that.
const NOBODY_MAX: usize = 1_024;

/// A query to one holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u64);

/// The end of a fetch.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The segment is here.
    Here(Arc<Segment>),
    /// No holder has it.
    Nobody,
    /// A holder may have it, but couldn't be asked.
    Unreachable,
    /// The queue is full.
    Full,
}

/// An event for the fetch queue.
#[derive(Debug)]
pub enum Input<W> {
    /// A request wants a segment that these nodes may hold.
    Want {
        /// The segment.
        key: SegmentKey,
        /// The nodes that may hold it.
        holders: Vec<Peer>,
        /// The request, which is told the outcome.
        waiter: W,
    },
    /// More bytes of an answer are here.
    Progress(Attempt),
    /// The holder has answered, or won't.
    Answered(Attempt, Result<Arc<Segment>, QueryError>),
    /// The time of [`FetchQueue::poll_timeout`] is here.
    Timeout,
}

/// An action for the driver of the fetch queue.
#[derive(Debug)]
pub enum Output<W> {
    /// Ask this holder for the segment.
    Ask {
        /// The query, which [`Input::Answered`] names.
        attempt: Attempt,
        /// The holder.
        holder: Peer,
        /// The segment.
        key: SegmentKey,
    },
    /// Stop this query.
    Abandon(Attempt),
    /// Tell the requests how the fetch ended.
    Done {
        /// The requests.
        waiters: Vec<W>,
        /// The outcome.
        outcome: Outcome,
    },
}

#[derive(Debug)]
struct Fetch<W> {
    /// The nodes that haven't been asked yet, the next one last.
    holders: Vec<Peer>,
    waiters: Vec<W>,
    /// The fetch fails at this time.
    deadline: Time,
    asked: Option<PendingQuery>,
    /// A holder that couldn't answer may have it.
    is_uncertain: bool,
}

impl<W> Fetch<W> {
    /// Returns when the fetch fails, or when the holder that was asked counts as silent.
    fn due(&self) -> Time {
        self.asked.map_or(self.deadline, |asked| asked.deadline.min(self.deadline))
    }
}

#[derive(Debug, Clone, Copy)]
struct PendingQuery {
    attempt: Attempt,
    holder: NodeId,
    deadline: Time,
}

/// All fetches of a node.
#[derive(Debug)]
pub struct FetchQueue<W> {
    fetches: BTreeMap<SegmentKey, Fetch<W>>,
    /// The segments whose fetch hasn't begun.
    queue: VecDeque<SegmentKey>,
    next: u64,
    /// Holders that failed, each until this time.
    shunned: BTreeMap<NodeId, Time>,
    /// Segments that no holder has, each until this time.
    nobody: BTreeMap<SegmentKey, Time>,
    outputs: VecDeque<Output<W>>,
}

impl<W> Default for FetchQueue<W> {
    fn default() -> Self {
        FetchQueue {
            fetches: BTreeMap::new(),
            queue: VecDeque::new(),
            next: 0,
            shunned: BTreeMap::new(),
            nobody: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }
}

impl<W> FetchQueue<W> {
    /// Takes an input.
    pub fn handle(&mut self, now: Time, input: Input<W>) {
        match input {
            Input::Want { key, holders, waiter } => self.want(now, key, holders, waiter),
            Input::Progress(attempt) => {
                let asked = self.fetches.values_mut().filter_map(|fetch| fetch.asked.as_mut());
                for asked in asked.filter(|asked| asked.attempt == attempt) {
                    asked.deadline = now + SILENCE_MAX;
                }
                return;
            }
            Input::Answered(attempt, answer) => self.answered(now, attempt, answer),
            Input::Timeout => self.timeout(now),
        }
        self.fill(now);
    }

    /// Returns the next output.
    pub fn poll_output(&mut self) -> Option<Output<W>> {
        self.outputs.pop_front()
    }

    /// Returns when [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.fetches.values().map(Fetch::due).min()
    }

    fn want(&mut self, now: Time, key: SegmentKey, mut holders: Vec<Peer>, waiter: W) {
        let waiters: usize = self.fetches.values().map(|fetch| fetch.waiters.len()).sum();
        let refused = if self.nobody.get(&key).is_some_and(|until| now < *until) {
            Some(Outcome::Nobody)
        } else if holders.is_empty() && !self.fetches.contains_key(&key) {
            Some(Outcome::Unreachable)
        } else if waiters >= WAITERS_MAX || (self.queue.len() >= QUEUE_MAX && !self.fetches.contains_key(&key)) {
            Some(Outcome::Full)
        } else {
            None
        };
        if let Some(outcome) = refused {
            return self.outputs.push_back(Output::Done { waiters: vec![waiter], outcome });
        }
        if let Some(fetch) = self.fetches.get_mut(&key) {
            return fetch.waiters.push(waiter);
        }
        self.shunned.retain(|_, until| now < *until);
        // Each segment has a preferred holder, the same for all edges, so that one cache serves them all.
        holders.sort_by_key(|holder| (self.shunned.contains_key(&holder.id), share(holder.id, key.msn)));
        holders.dedup_by_key(|holder| holder.id);
        holders.reverse();
        let deadline = now + WHOLE_MAX;
        let fetch = Fetch { holders, waiters: vec![waiter], deadline, asked: None, is_uncertain: false };
        self.fetches.insert(key.clone(), fetch);
        self.queue.push_back(key);
    }

    fn answered(&mut self, now: Time, attempt: Attempt, answer: Result<Arc<Segment>, QueryError>) {
        let is_it = |fetch: &Fetch<W>| fetch.asked.is_some_and(|asked| asked.attempt == attempt);
        // Otherwise the query was stopped.
        let Some((key, fetch)) = self.fetches.iter_mut().find(|(_, fetch)| is_it(fetch)) else { return };
        let (key, asked) = (key.clone(), fetch.asked.take());
        match answer {
            Ok(segment) => return self.done(&key, Outcome::Here(segment)),
            Err(QueryError::NotHere) => {}
            Err(QueryError::Busy) => fetch.is_uncertain = true,
            Err(QueryError::Unreachable(_) | QueryError::Wrong(_)) => {
                fetch.is_uncertain = true;
                self.shunned.extend(asked.map(|asked| (asked.holder, now + SHUNNED)));
            }
        }
        self.ask_next(now, &key);
    }

    fn timeout(&mut self, now: Time) {
        let due = self.fetches.iter().filter(|(_, fetch)| fetch.due() <= now);
        let due: Vec<SegmentKey> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            let Some(fetch) = self.fetches.get_mut(&key) else { continue };
            let is_late = fetch.deadline <= now;
            if let Some(asked) = fetch.asked.take() {
                fetch.is_uncertain = true;
                self.outputs.push_back(Output::Abandon(asked.attempt));
                self.shunned.extend((!is_late).then_some((asked.holder, now + SHUNNED)));
            }
            if is_late {
                self.done(&key, Outcome::Unreachable);
            } else {
                self.ask_next(now, &key);
            }
        }
    }

    /// Begins fetches while there is room.
    fn fill(&mut self, now: Time) {
        while self.fetches.values().filter(|fetch| fetch.asked.is_some()).count() < ACTIVE_MAX {
            let Some(key) = self.queue.pop_front() else { return };
            self.ask_next(now, &key);
        }
    }

    fn ask_next(&mut self, now: Time, key: &SegmentKey) {
        let Some(fetch) = self.fetches.get_mut(key) else { return };
        let Some(holder) = fetch.holders.pop() else {
            let is_uncertain = fetch.is_uncertain;
            if !is_uncertain {
                self.nobody.retain(|_, until| now < *until);
                if self.nobody.len() < NOBODY_MAX {
                    self.nobody.insert(key.clone(), now + NOBODY);
                }
            }
            return self.done(key, if is_uncertain { Outcome::Unreachable } else { Outcome::Nobody });
        };
        let attempt = Attempt(self.next);
        self.next += 1;
        fetch.asked = Some(PendingQuery { attempt, holder: holder.id, deadline: now + SILENCE_MAX });
        self.outputs.push_back(Output::Ask { attempt, holder, key: key.clone() });
    }

    fn done(&mut self, key: &SegmentKey, outcome: Outcome) {
        let Some(fetch) = self.fetches.remove(key) else { return };
        self.queue.retain(|waiting| waiting != key);
        self.outputs.push_back(Output::Done { waiters: fetch.waiters, outcome });
    }
}

/// Returns a holder's rank for a segment; the lowest is asked first (rendezvous hashing, with splitmix64's finisher).
fn share(node: NodeId, msn: u32) -> u64 {
    let mut x = node.0 ^ u64::from(msn).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
