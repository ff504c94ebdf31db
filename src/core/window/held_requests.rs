//! Requests that are held until something is published. Each stream has one [`HeldRequests`].
//!
//! The contract: after every [`HeldRequests::handle`], drain [`HeldRequests::poll_output`]; then wait for the next input or
//! for [`HeldRequests::poll_timeout`], whose passing [`Input::Timeout`] tells. A publication wakes exactly the requests that
//! it satisfies.

use std::collections::{BTreeMap, VecDeque};

use crate::model::time::Time;
use crate::model::{Msn, TrackId};

/// Most requests held for one stream; the next one is answered 503. Our own guess: several times what
/// one edge's uplink can serve (10 Gb/s at 3 Mb/s is 3,300 viewers).
pub const STREAM_WAITERS_MAX: usize = 20_000;

/// Says what a request waits for.
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

/// Names a held request, with a number that is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(WaitFor, u64);

/// Says why a request is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// It may find what it waits for; or the presentation ended or a new one began.
    Look,
    /// It has waited long enough.
    TimedOut,
    /// The node shuts down.
    Closing,
}

/// An event that may wake requests.
#[derive(Debug)]
pub enum Input {
    /// [`HeldRequests::poll_timeout`] has passed.
    Timeout,
    /// The client of a request has gone.
    Cancel(Token),
    /// The record is known.
    Record,
    /// Every track is listed.
    Started,
    /// A part is listed.
    Listed(TrackId, Msn, u16),
    /// A segment is complete.
    Completed(TrackId, Msn),
    /// A presentation began or ended, or the stream is gone: all requests look again.
    Reset,
    /// The node shuts down.
    Close,
}

/// Holds the waiting requests of a stream, each with a handle of the driver.
#[derive(Debug)]
pub struct HeldRequests<T> {
    next: u64,
    held: BTreeMap<Token, (Time, T)>,
    /// By deadline and number, what the request waits for.
    deadlines: BTreeMap<(Time, u64), WaitFor>,
    outputs: VecDeque<(T, Wake)>,
}

impl<T> Default for HeldRequests<T> {
    fn default() -> Self {
        HeldRequests { next: 0, held: BTreeMap::new(), deadlines: BTreeMap::new(), outputs: VecDeque::new() }
    }
}

impl<T> HeldRequests<T> {
    /// Adds a request that is woken by `deadline` at the latest. Returns `None` if [`STREAM_WAITERS_MAX`] are held already.
    pub fn wait(&mut self, place: WaitFor, deadline: Time, handle: T) -> Option<Token> {
        if self.held.len() >= STREAM_WAITERS_MAX {
            return None;
        }
        let token = Token(place, self.next);
        self.next += 1;
        self.held.insert(token, (deadline, handle));
        self.deadlines.insert((deadline, token.1), place);
        Some(token)
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Timeout => {
                while let Some((&(at, number), &place)) = self.deadlines.first_key_value()
                    && at <= now
                {
                    self.wake(Token(place, number), Wake::TimedOut);
                }
            }
            Input::Cancel(token) => drop(self.remove(token)),
            Input::Record => self.wake_range(WaitFor::Record, WaitFor::Record),
            Input::Started => self.wake_range(WaitFor::Record, WaitFor::Started),
            // The first part of a segment also satisfies requests past the end of the segment before: "the Server MUST
            // treat [it] as a request for Part Index 0 of the following" (6.2.5.2).
            Input::Listed(track, msn, part) => {
                self.wake_range(WaitFor::Part(track, 0, 0), WaitFor::Part(track, msn, part));
            }
            Input::Completed(track, msn) => self.wake_range(WaitFor::Segment(track, 0), WaitFor::Segment(track, msn)),
            Input::Reset => self.wake_all(Wake::Look),
            Input::Close => self.wake_all(Wake::Closing),
        }
    }

    /// Returns the next request to wake, and why.
    pub fn poll_output(&mut self) -> Option<(T, Wake)> {
        self.outputs.pop_front()
    }

    /// Returns when [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.deadlines.first_key_value().map(|((at, _), _)| *at)
    }

    /// Returns how many requests are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Returns whether no request is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn wake_range(&mut self, from: WaitFor, to: WaitFor) {
        // Most publications satisfy either none or all of the requests for the track.
        while let Some((&token, _)) = self.held.range(Token(from, 0)..=Token(to, u64::MAX)).next() {
            self.wake(token, Wake::Look);
        }
    }

    fn wake_all(&mut self, wake: Wake) {
        while let Some((&token, _)) = self.held.first_key_value() {
            self.wake(token, wake);
        }
    }

    fn wake(&mut self, token: Token, wake: Wake) {
        if let Some(handle) = self.remove(token) {
            self.outputs.push_back((handle, wake));
        }
    }

    fn remove(&mut self, token: Token) -> Option<T> {
        let (deadline, handle) = self.held.remove(&token)?;
        self.deadlines.remove(&(deadline, token.1));
        Some(handle)
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
