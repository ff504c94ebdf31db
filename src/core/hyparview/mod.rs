//! HyParView (Leitao, Pereira, Rodrigues: "HyParView: a membership protocol for reliable gossip-based
//! broadcast", DSN 2007), one instance a swarm.
//!
//! A node holds two partial views. The *active view* is small and symmetric: its members are the
//! neighbours that Plumtree sends to, each over an open link. The *passive view* is a larger list of
//! nodes that can take a failed neighbour's place, and shuffles keep it fresh.
//!
//! - [`HyParView`]: takes inputs, asks the parts below, and alone sends.
//! - `views`: the two views, and the contact cache behind them. `view`: one such list.
//! - `join`, `neighbor`, `shuffle`: the paper's three procedures, with the requests under way.
//! - `departures`: rules that aren't in the paper. Each departure is marked where it happens.
//! - [`Config`]: the settings with their origins, and the switches back to the paper's rules.
//! - [`Message`]: the messages between nodes, and their codec. `timers`: the deadlines.
//!
//! The contract: after every [`HyParView::handle`], drain [`HyParView::poll_output`] until `None`;
//! then wait for the next input or [`HyParView::poll_timeout`], and pass [`Input::Timeout`] then. If a peer can't be
//! reached, the driver answers each [`Output::Send`] to it with [`Input::PeerDown`].
//!
//! Active views are symmetric whenever the network is quiet, by three rules over links that keep the order. A node that
//! accepts a request adds the asker before it answers. The asker adds the node on the answer, or answers DISCONNECT if it
//! has no room any more. No node drops a live neighbour without a DISCONNECT. Where messages are lost, a link may stay
//! one-sided for a while: until the driver closes it, since one end doesn't need it, or until the other end sends a walk
//! over it, which is answered by a DISCONNECT.

mod config;
mod contact_cache;
mod departures;
mod hyparview;
mod io;
mod join;
mod message;
mod neighbor;
mod shuffle;
mod timers;
mod view;
mod views;

#[cfg(test)]
mod tests;

pub use config::{Config, STATIC_ACTIVE_MAX, Topology};
pub use hyparview::HyParView;
pub use io::{Counters, DownCause, Input, Output};
pub use message::{Message, NODES_MAX, Priority};
