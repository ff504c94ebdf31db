//! Who had what, when; and the checks that are always on.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use damson_core::model::{PartHeader, PartId};

/// A published part, and how it fared.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its header.
    pub header: PartHeader,
    /// Its body.
    pub body: Bytes,
    /// Who published it.
    pub source: u32,
    /// When, in microseconds.
    pub published_us: u64,
    /// By node: microseconds from publication to delivery, + 1; 0: not (yet) delivered.
    had: Vec<u32>,
    /// By node: links passed.
    hops: Vec<u8>,
    /// Bodies begun towards somebody: the paper's m.
    pub heads: u64,
    /// Body bytes that went over links.
    pub bytes: u64,
}

/// How a part spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delivery {
    /// Nodes that have it, of those asked about.
    pub reached: usize,
    /// Nodes asked about.
    pub of: usize,
    /// The paper's relative message redundancy: m / (n - 1) - 1.
    pub rmr: f64,
    /// Body bytes sent over bytes needed.
    pub bytes_ratio: f64,
    /// The paper's last delivery hop.
    pub ldh: u8,
    /// When the last node had it, after publication.
    pub last: Duration,
    /// The mean over nodes, after publication.
    pub mean: Duration,
}

/// All published parts.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    messages: Vec<Message>,
    index: BTreeMap<PartId, u32>,
}

impl Ledger {
    pub(super) fn publish(&mut self, source: u32, now_us: u64, header: PartHeader, body: Bytes) {
        let at = u32::try_from(self.messages.len()).expect("fewer than 4 billion parts");
        self.index.insert(header.id, at);
        let message = Message {
            header,
            body,
            source,
            published_us: now_us,
            had: Vec::new(),
            hops: Vec::new(),
            heads: 0,
            bytes: 0,
        };
        self.messages.push(message);
    }

    pub(super) fn get_mut(&mut self, id: &PartId) -> Option<&mut Message> {
        let at = *self.index.get(id)?;
        self.messages.get_mut(at as usize)
    }

    /// Checks and notes a delivery. Safety: each part once a node, byte for byte.
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
            message.had.resize(at + 1, 0);
            message.hops.resize(at + 1, 0);
        }
        if message.had[at] != 0 {
            return Err(format!("node {node} delivered {:?} twice", header.id));
        }
        message.had[at] = u32::try_from(now_us - message.published_us).unwrap_or(u32::MAX - 1) + 1;
        message.hops[at] = hops;
        Ok(())
    }

    /// A node starts anew, and has nothing.
    pub(super) fn forget(&mut self, node: u32) {
        for message in &mut self.messages {
            if let Some(had) = message.had.get_mut(node as usize) {
                *had = 0;
            }
        }
    }

    /// All parts, in order of publication.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// How the `n`th part spread among `nodes`.
    pub fn delivery(&self, n: usize, nodes: impl IntoIterator<Item = u32>) -> Delivery {
        let message = &self.messages[n];
        let (mut reached, mut of, mut ldh, mut last, mut sum) = (0usize, 0usize, 0, 0u64, 0u64);
        for node in nodes {
            of += 1;
            if let Some(after) = message.delivered_after(node) {
                reached += 1;
                ldh = ldh.max(message.hops[node as usize]);
                let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
                last = last.max(after);
                sum += after;
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
    /// How long after publication a node had it.
    pub fn delivered_after(&self, node: u32) -> Option<Duration> {
        let had = self.had.get(node as usize).copied().filter(|had| *had != 0)?;
        Some(Duration::from_micros(u64::from(had - 1)))
    }
}
