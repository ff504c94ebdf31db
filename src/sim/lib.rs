//! The deterministic network in which tests and bench run the cores: seeded discrete events in virtual time.
//!
//! ```text
//!   Net ----- Queue      the events to come
//!    |------- Node       a core: swarm::Hub, or one swarm's HyParView and Plumtree (Member)
//!    |------- Latency    the delays of links
//!    |------- Uplink     the bodies that share a node's upload
//!    `------- Ledger     the parts and their deliveries, and the checks that are always on
//!   Scenario             a run as data: a file of fixtures/scenario/, played on a Net
//!   Departure            our rules that aren't the papers', by name, with their switches
//! ```
//!
//! The same seed gives the same trace ([`Net::trace_hash`]). A check that fails panics with the seed and
//! the command that repeats the run. The model:
//!
//! - *Links* are QUIC connections: a dial takes a round trip, a frame one link delay, in order. A dead
//!   peer's links are noticed down after [`Settings::notice`]; its dials are refused after a round trip
//!   or time out ([`Settings::dead_dials`]).
//! - *Bodies* share their sender's upload: one chunk each in turn, control frames ahead of all. The
//!   receiver's download comes after.
//! - *Loss* swallows control frames, and tears bodies somewhere on their way.
//! - *Crash* is SIGKILL; *restart* is a new node at the same address; *cuts* go from any set of nodes to any
//!   other, in one direction or both; *slow* nodes have a low rate; clocks may be *skewed*.
//!
//! Not modelled: congestion control, and the bytes of control frames in the upload (they are counted).

mod check;
mod departure;
mod latency;
mod member;
mod net;
mod node;
mod queue;
pub mod scenario;
mod units;
mod uplink;

#[cfg(test)]
mod tests;

pub use check::{Delivery, Ledger, Message};
pub use departure::Departure;
pub use latency::Latency;
pub use member::Member;
pub use net::{DeadDials, Net, Settings, Traffic};
pub use node::{Glance, Node};
pub use scenario::{Outcome, Scenario, ScenarioError};
