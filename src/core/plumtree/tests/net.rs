//! A network of bare Plumtree instances, links of equal delay, and what goes wrong on them.

use super::*;

pub(super) fn epoch(counter: u32) -> Epoch {
    Epoch { counter, node: NodeId(0) }
}

pub(super) fn part(msn: Msn, part: u16) -> PartId {
    PartId { epoch: epoch(1), track: TrackId(0), msn, part }
}

pub(super) fn body(id: PartId, length: usize) -> Bytes {
    let mut bytes = format!("{id:?}").into_bytes();
    bytes.resize(length, b'x');
    bytes.into()
}

pub(super) fn header(id: PartId, body: &[u8]) -> PartHeader {
    PartHeader {
        id,
        decode_time: 0,
        duration: 1,
        program_date_time: UnixTime::from_micros(0),
        ingested: UnixTime::from_micros(0),
        init: 0,
        discontinuity: 0,
        flags: Flags { independent: true, last: id.part == 4, ..Flags::default() },
        length: body.len() as u32,
        hash: *blake3::hash(body).as_bytes(),
    }
}

pub(super) fn trace(from: NodeId) -> Trace {
    Trace { hops: vec![Hop::by(from, NodeName::default())], ..Trace::default() }
}

/// A frame on its way.
pub(super) enum Frame {
    Message(Message),
    Head(PartHeader, Trace, u32),
    Piece(PartId, Bytes),
    Abort(PartId),
    Stop(PartId),
}

pub(super) const DELAY: Duration = Duration::from_millis(10);

/// Some nodes with equal links, in virtual time.
pub(super) struct Net {
    pub(super) now: Time,
    pub(super) nodes: BTreeMap<NodeId, Plumtree>,
    pub(super) queue: BTreeMap<(Time, u64), (NodeId, NodeId, Frame)>,
    pub(super) sent: u64,
    pub(super) delivered: BTreeMap<NodeId, BTreeMap<PartId, (Time, Bytes)>>,
    pub(super) log: Vec<(NodeId, NodeId, Message)>,
    pub(super) heads: u64,
    /// Links that swallow everything: (from, to).
    pub(super) dead: BTreeSet<(NodeId, NodeId)>,
    /// Links that swallow control messages of this kind.
    pub(super) drop: fn(&Message) -> bool,
}

impl Net {
    pub(super) fn new(n: u64, config: &Config) -> Self {
        let nodes = (0..n).map(|id| (NodeId(id), Plumtree::new(NodeId(id), config.clone(), id))).collect();
        Net {
            now: Time::from_millis(1_000),
            nodes,
            queue: BTreeMap::new(),
            sent: 0,
            delivered: BTreeMap::new(),
            log: Vec::new(),
            heads: 0,
            dead: BTreeSet::new(),
            drop: |_| false,
        }
    }

    pub(super) fn link(&mut self, a: u64, b: u64) {
        self.input(a, Input::NeighborUp(NodeId(b)));
        self.input(b, Input::NeighborUp(NodeId(a)));
    }

    pub(super) fn line(n: u64, config: &Config) -> Self {
        let mut net = Net::new(n, config);
        for id in 1..n {
            net.link(id - 1, id);
        }
        net
    }

    pub(super) fn full(n: u64, config: &Config) -> Self {
        let mut net = Net::new(n, config);
        for a in 0..n {
            for b in a + 1..n {
                net.link(a, b);
            }
        }
        net
    }

    pub(super) fn input(&mut self, node: u64, input: Input) {
        let id = NodeId(node);
        let Some(tree) = self.nodes.get_mut(&id) else { return };
        tree.handle(self.now, input);
        while let Some(output) = tree.poll_output() {
            let (to, frame) = match output {
                Output::Send { to, message } => {
                    self.log.push((id, to, message.clone()));
                    if (self.drop)(&message) {
                        continue;
                    }
                    (to, Frame::Message(message))
                }
                Output::Body { peer: to, action: BodyAction::Head { header, mut trace, offset, .. } } => {
                    self.heads += 1;
                    trace.hops.push(Hop::by(id, NodeName::default()));
                    (to, Frame::Head(header, trace, offset))
                }
                Output::Body { peer: to, action: BodyAction::Piece { id, bytes } } => (to, Frame::Piece(id, bytes)),
                Output::Body { peer: to, action: BodyAction::Abort(id) } => (to, Frame::Abort(id)),
                Output::Body { peer: from, action: BodyAction::Refuse(id) } => (from, Frame::Stop(id)),
                Output::Deliver { header, body, .. } => {
                    assert!(header.matches(&body), "node {node} delivered other bytes");
                    let old = self.delivered.entry(id).or_default().insert(header.id, (self.now, body));
                    assert!(old.is_none(), "node {node} delivered {:?} twice", header.id);
                    continue;
                }
            };
            self.sent += 1;
            self.queue.insert((self.now + DELAY, self.sent), (id, to, frame));
        }
    }

    pub(super) fn publish(&mut self, node: u64, id: PartId, length: usize) {
        let body = body(id, length);
        self.input(node, Input::Publish { header: header(id, &body), body, trace: Trace::default() });
    }

    /// Runs for this long.
    pub(super) fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            let timer = self.nodes.iter().filter_map(|(id, tree)| Some((tree.poll_timeout()?, *id))).min();
            let frame = self.queue.keys().next().copied();
            match (timer, frame) {
                (Some((at, id)), frame) if at <= end && frame.is_none_or(|(frame, _)| at < frame) => {
                    self.now = self.now.max(at);
                    self.input(id.0, Input::Timeout);
                }
                (_, Some(key)) if key.0 <= end => {
                    self.now = self.now.max(key.0);
                    let Some((from, to, frame)) = self.queue.remove(&key) else { continue };
                    if self.dead.contains(&(from, to)) {
                        continue;
                    }
                    let input = match frame {
                        Frame::Message(message) => Input::Message { from, message },
                        Frame::Head(header, trace, offset) => {
                            Input::Body { peer: from, event: BodyEvent::Head { header, trace, offset } }
                        }
                        Frame::Piece(id, bytes) => Input::Body { peer: from, event: BodyEvent::Piece { id, bytes } },
                        Frame::Abort(id) => Input::Body { peer: from, event: BodyEvent::Torn(id) },
                        Frame::Stop(id) => Input::Body { peer: from, event: BodyEvent::Stopped(id) },
                    };
                    self.input(to.0, input);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    pub(super) fn kill(&mut self, node: u64) {
        self.nodes.remove(&NodeId(node));
        let others: Vec<u64> = self.nodes.keys().map(|id| id.0).collect();
        for other in others {
            self.input(other, Input::NeighborDown(NodeId(node)));
        }
    }

    pub(super) fn has(&self, node: u64, id: PartId) -> bool {
        self.delivered.get(&NodeId(node)).is_some_and(|had| had.contains_key(&id))
    }

    pub(super) fn all_have(&self, id: PartId) {
        for node in self.nodes.keys() {
            assert!(self.has(node.0, id), "node {node} lacks {id:?}");
        }
    }

    pub(super) fn stats(&self, node: u64) -> Counters {
        *self.nodes[&NodeId(node)].counters()
    }

    pub(super) fn count(&self, test: impl Fn(&Message) -> bool) -> usize {
        self.log.iter().filter(|(_, _, message)| test(message)).count()
    }
}
