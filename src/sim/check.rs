//! The parts published, their deliveries, and the checks that are always on.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use damson_core::model::{PartHeader, PartId};

/// A published part and its deliveries.
#[derive(Debug, Clone)]
pub struct Message {
    /// The part's header.
    pub header: PartHeader,
    /// The part's body.
    pub body: Bytes,
    /// The publisher.
    pub source: u32,
    /// The time of publication, in microseconds.
    pub published_us: u64,
    /// By node: the microseconds from publication to delivery, and the links passed.
    had: Vec<Option<(u32, u8)>>,
    /// The number of bodies sent, or begun: the paper's m.
    pub heads: u64,
    /// The number of body bytes that went over links.
    pub bytes: u64,
}

/// The spread of a part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delivery {
    /// The number of nodes that have it, of those asked about.
    pub reached: usize,
    /// The number of nodes asked about.
    pub of: usize,
    /// The paper's relative message redundancy: m / (n - 1) - 1.
    pub rmr: f64,
    /// Body bytes sent over bytes needed.
    pub bytes_ratio: f64,
    /// The paper's last delivery hop.
    pub ldh: u8,
    /// The time from publication to the last delivery.
    pub last: Duration,
    /// The mean time from publication to a delivery.
    pub mean: Duration,
}

/// All published parts, by number and by id.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    messages: Vec<Message>,
    index: BTreeMap<PartId, u32>,
}

impl Ledger {
    pub(super) fn publish(&mut self, source: u32, now_us: u64, header: PartHeader, body: Bytes) {
        let at = u32::try_from(self.messages.len()).expect("fewer than 4 billion parts");
        self.index.insert(header.id, at);
        let (had, heads, bytes) = Default::default();
        self.messages.push(Message { header, body, source, published_us: now_us, had, heads, bytes });
    }

    pub(super) fn get_mut(&mut self, id: &PartId) -> Option<&mut Message> {
        let at = *self.index.get(id)?;
        self.messages.get_mut(at as usize)
    }

    /// Notes a delivery. Checks that each node has each part once, byte for byte.
    pub(super) fn deliver(
        &mut self,
        node: u32,
        now_us: u64,
        header: &PartHeader,
        body: &Bytes,
        hops: u8,
    ) -> Result<(), String> {
        let Some(message) = self.get_mut(&header.id) else {
            return Err(format!("node {node} delivered {:?}, which nobody published", header.id));
        };
        if *header != message.header || *body != message.body {
            return Err(format!("node {node} delivered other bytes under {:?}", header.id));
        }
        let at = node as usize;
        if message.had.len() <= at {
            message.had.resize(at + 1, None);
        }
        let after = u32::try_from(now_us - message.published_us).unwrap_or(u32::MAX);
        match message.had[at].replace((after, hops)) {
            Some(_) => Err(format!("node {node} delivered {:?} twice", header.id)),
            None => Ok(()),
        }
    }

    /// Forgets all deliveries to a node, which starts anew.
    pub(super) fn forget(&mut self, node: u32) {
        for message in &mut self.messages {
            if let Some(had) = message.had.get_mut(node as usize) {
                *had = None;
            }
        }
    }

    /// Returns all parts, in order of publication.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Returns the spread of the `n`th part among `nodes`.
    pub fn delivery(&self, n: usize, nodes: impl IntoIterator<Item = u32>) -> Delivery {
        let message = &self.messages[n];
        let (mut reached, mut of, mut ldh, mut last, mut sum) = (0usize, 0usize, 0, 0u64, 0u64);
        for node in nodes {
            of += 1;
            if let Some((after, hops)) = message.had(node) {
                reached += 1;
                ldh = ldh.max(hops);
                last = last.max(u64::from(after));
                sum += u64::from(after);
            }
        }
        let others = reached.saturating_sub(1).max(1);
        let needed = (others as u64 * u64::from(message.header.length)).max(1);
        Delivery {
            reached,
            of,
            rmr: message.heads as f64 / others as f64 - 1.0,
            bytes_ratio: message.bytes as f64 / needed as f64,
            ldh,
            last: Duration::from_micros(last),
            mean: Duration::from_micros(sum / reached.max(1) as u64),
        }
    }
}

impl Message {
    fn had(&self, node: u32) -> Option<(u32, u8)> {
        *self.had.get(node as usize)?
    }

    /// Returns the time from publication to delivery at a node.
    pub fn delivered_after(&self, node: u32) -> Option<Duration> {
        self.had(node).map(|(after, _)| Duration::from_micros(u64::from(after)))
    }
}
