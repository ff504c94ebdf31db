//! Requests that are held until something is published. Pure: one [`HeldRequests`] a stream.
//!
//! The contract: after every [`HeldRequests::handle`], drain [`HeldRequests::poll_output`]; then wait for the
//! next input or [`HeldRequests::poll_timeout`], whose passing is told by [`Input::Timeout`]. A publication
//! wakes exactly the waiters that it satisfies.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::time::Time;
use crate::model::{Msn, TrackId};

/// Most requests held for one stream; the next one is answered 503. Our own guess: several times what
/// one edge's uplink can serve (10 Gb/s at 3 Mb/s is 3,300 viewers).
pub const STREAM_WAITERS_MAX: usize = 20_000;

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaitFor {
    /// The stream's record.
    Record,
    /// The first listing of every track.
    Started,
    /// The listing of this part, or of a later one.
    Part(TrackId, Msn, u16),
    /// The completion of this segment.
    Segment(TrackId, Msn),
}

/// A waiter's name, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(u64);

/// Why a waiter is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// What it waits for is there; or the stream's life ended or began anew: look again.
    Look,
    /// It has waited long enough.
    TimedOut,
    /// The node is going down.
    Closing,
}

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// [`HeldRequests::poll_timeout`] has passed.
    Timeout,
    /// A waiter's client has gone.
    Cancel(Token),
    /// The record is known.
    Record,
    /// Every track is listed.
    Started,
    /// A part is listed.
    Listed(TrackId, Msn, u16),
    /// A segment is whole.
    Completed(TrackId, Msn),
    /// A life began or ended, or the stream is gone: everybody looks again.
    Reset,
    /// The node is going down.
    Close,
}

/// The held requests of a stream, each with a handle of the driver's.
#[derive(Debug)]
pub struct HeldRequests<T> {
    next: u64,
    places: BTreeMap<(WaitFor, Token), T>,
    tokens: BTreeMap<Token, (WaitFor, Time)>,
    deadlines: BTreeSet<(Time, Token)>,
    outputs: VecDeque<(T, Wake)>,
}

impl<T> Default for HeldRequests<T> {
    fn default() -> Self {
        HeldRequests {
            next: 0,
            places: BTreeMap::new(),
            tokens: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }
}

impl<T> HeldRequests<T> {
    /// Adds a waiter that is woken by `deadline` at the latest; `None` if there are
    /// [`STREAM_WAITERS_MAX`] already.
    pub fn wait(&mut self, place: WaitFor, deadline: Time, handle: T) -> Option<Token> {
        if self.tokens.len() >= STREAM_WAITERS_MAX {
            return None;
        }
        let token = Token(self.next);
        self.next += 1;
        self.places.insert((place, token), handle);
        self.tokens.insert(token, (place, deadline));
        self.deadlines.insert((deadline, token));
        Some(token)
    }

    /// Takes an input in.
    pub fn handle(&mut self, now: Time, input: Input) {
        const FIRST: Token = Token(0);
        const LAST: Token = Token(u64::MAX);
        match input {
            Input::Timeout => {
                while let Some((_, token)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
                    self.wake(token, Wake::TimedOut);
                }
            }
            Input::Cancel(token) => {
                self.remove(token);
            }
            Input::Record => self.wake_range((WaitFor::Record, FIRST), (WaitFor::Record, LAST), Wake::Look),
            Input::Started => self.wake_range((WaitFor::Record, FIRST), (WaitFor::Started, LAST), Wake::Look),
            // The first part of a segment also satisfies who asked past the end of the one before:
            // "the Server MUST treat [it] as a request for Part Index 0 of the following" (6.2.5.2).
            Input::Listed(track, msn, part) => {
                self.wake_range(
                    (WaitFor::Part(track, 0, 0), FIRST),
                    (WaitFor::Part(track, msn, part), LAST),
                    Wake::Look,
                );
            }
            Input::Completed(track, msn) => {
                self.wake_range((WaitFor::Segment(track, 0), FIRST), (WaitFor::Segment(track, msn), LAST), Wake::Look);
            }
            Input::Reset => self.wake_all(Wake::Look),
            Input::Close => self.wake_all(Wake::Closing),
        }
    }

    /// The next waiter to wake, and why.
    pub fn poll_output(&mut self) -> Option<(T, Wake)> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    fn wake_range(&mut self, from: (WaitFor, Token), to: (WaitFor, Token), wake: Wake) {
        // Most publications satisfy either nobody or everybody who waits on the track.
        while let Some((_, token)) = self.places.range(from..=to).next().map(|(key, _)| *key) {
            self.wake(token, wake);
        }
    }

    fn wake_all(&mut self, wake: Wake) {
        while let Some((_, token)) = self.places.first_key_value().map(|(key, _)| *key) {
            self.wake(token, wake);
        }
    }

    fn wake(&mut self, token: Token, wake: Wake) {
        if let Some(handle) = self.remove(token) {
            self.outputs.push_back((handle, wake));
        }
    }

    fn remove(&mut self, token: Token) -> Option<T> {
        let (place, deadline) = self.tokens.remove(&token)?;
        self.deadlines.remove(&(deadline, token));
        self.places.remove(&(place, token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V: TrackId = TrackId(0);
    const A: TrackId = TrackId(1);

    fn check(waits: &[(WaitFor, u64)], now_ms: u64, inputs: Vec<Input>, expect: &[(usize, Wake)]) {
        let mut waiters = HeldRequests::default();
        for (i, (place, deadline_ms)) in waits.iter().enumerate() {
            waiters.wait(*place, Time::from_millis(*deadline_ms), i).expect("room");
        }
        for input in inputs {
            waiters.handle(Time::from_millis(now_ms), input);
        }
        let woken: Vec<_> = std::iter::from_fn(|| waiters.poll_output()).collect();
        assert_eq!(woken, expect);
        assert_eq!(waiters.len(), waits.len() - woken.len());
        assert_eq!(waiters.is_empty(), waiters.poll_timeout().is_none());
    }

    #[test]
    fn a_publication_wakes_exactly_whom_it_satisfies() {
        let waits = [
            (WaitFor::Part(V, 7, 3), 900),
            (WaitFor::Part(V, 7, 4), 900),
            (WaitFor::Part(A, 7, 3), 900),
            (WaitFor::Segment(V, 7), 900),
            (WaitFor::Started, 900),
        ];
        check(&waits, 0, vec![Input::Listed(V, 7, 3)], &[(0, Wake::Look)]);
        check(&waits, 0, vec![Input::Listed(V, 7, 4)], &[(0, Wake::Look), (1, Wake::Look)]);
        check(&waits, 0, vec![Input::Listed(V, 7, 2), Input::Completed(V, 6)], &[]);
        check(&waits, 0, vec![Input::Completed(V, 7)], &[(3, Wake::Look)]);
        check(&waits, 0, vec![Input::Started], &[(4, Wake::Look)]);
    }

    #[test]
    fn a_part_past_the_segments_end_means_the_next_segments_first() {
        let waits = [(WaitFor::Part(V, 7, 10), 900)];
        check(&waits, 0, vec![Input::Listed(V, 7, 9), Input::Completed(V, 7)], &[]);
        check(&waits, 0, vec![Input::Listed(V, 8, 0)], &[(0, Wake::Look)]);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let waits = [(WaitFor::Part(V, 7, 3), 900), (WaitFor::Record, 100)];
        check(&waits, 99, vec![Input::Timeout], &[]);
        check(&waits, 100, vec![Input::Timeout], &[(1, Wake::TimedOut)]);
        check(&waits, 900, vec![Input::Timeout], &[(1, Wake::TimedOut), (0, Wake::TimedOut)]);
        check(&waits, 0, vec![Input::Close], &[(1, Wake::Closing), (0, Wake::Closing)]);
        check(&waits, 0, vec![Input::Reset], &[(1, Wake::Look), (0, Wake::Look)]);
    }

    #[test]
    fn who_goes_away_is_forgotten_and_the_number_is_bounded() {
        let mut waiters = HeldRequests::default();
        let token = waiters.wait(WaitFor::Record, Time::ZERO, ()).expect("room");
        waiters.handle(Time::ZERO, Input::Cancel(token));
        waiters.handle(Time::ZERO, Input::Cancel(token));
        assert!(waiters.is_empty() && waiters.poll_output().is_none());
        for _ in 0..STREAM_WAITERS_MAX {
            assert!(waiters.wait(WaitFor::Record, Time::ZERO, ()).is_some());
        }
        assert!(waiters.wait(WaitFor::Record, Time::ZERO, ()).is_none());
    }
}
