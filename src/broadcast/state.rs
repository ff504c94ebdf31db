//! The state machine.

use std::collections::VecDeque;

use super::{Config, Input, Output, Stats};
use crate::live::NodeId;
use crate::units::Time;

/// One node's Plumtree in one swarm.
#[derive(Debug)]
pub struct Plumtree {
    outputs: VecDeque<Output>,
    stats: Stats,
}

impl Plumtree {
    /// A node without neighbours. `seed` fixes all of its choices.
    pub fn new(_me: NodeId, _config: Config, _seed: u64) -> Self {
        Plumtree { outputs: VecDeque::new(), stats: Stats::default() }
    }

    /// Takes one input at `now`, which never goes back.
    pub fn handle(&mut self, _now: Time, input: Input) {
        if let Input::Publish { header, body } = input {
            self.stats.published += 1;
            self.outputs.push_back(Output::Deliver { header, body, trace: Default::default(), received: _now });
        }
    }

    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }

    /// What was counted.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
}
