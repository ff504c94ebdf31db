//! Chunks (5.3) to messages and back.
//!
//! ```text
//! basic header   fmt:2 csid:6 [csid - 64 in 1 or 2 bytes, where the 6 bits are 0 or 1]
//! message header fmt 0: timestamp:24 length:24 type:8 stream:32 (little-endian)
//!                fmt 1: delta:24 length:24 type:8    fmt 2: delta:24    fmt 3: nothing
//! extended       timestamp or delta:32, where the 24 bits are 0xFFFFFF; repeated on fmt 3
//! payload        at most the chunk size, then the next chunk
//! ```

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

/// A message, put together from its chunks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The message type id.
    pub kind: u8,
    /// The message stream id; 0 is the connection itself.
    pub stream: u32,
    /// The timestamp in milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// The body.
    pub payload: Bytes,
}

/// A chunk can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {what}")]
pub struct ChunkError {
    /// Offset of the chunk in the connection's bytes.
    pub at: u64,
    /// The fault found in it.
    pub what: String,
}

/// The most chunk streams of a connection. Encoders use three to eight.
pub const CHUNK_STREAMS_MAX: usize = 64;
/// The chunk size of both sides until they say otherwise (5.4.1).
pub const CHUNK_SIZE_INITIAL: usize = 128;
const EXTENDED: u32 = 0xff_ffff;
const HEADER_LEN_MAX: usize = 3 + 11 + 4;

/// Assembles messages from chunks, for one side of a connection.
#[derive(Debug)]
pub struct Dechunker {
    message_len_max: usize,
    chunk_size: usize,
    streams: BTreeMap<u32, ChunkStream>,
    /// The length of all unfinished messages, in bytes.
    unfinished: usize,
    /// The bytes of the current chunk's header that have come so far.
    header: [u8; HEADER_LEN_MAX],
    header_len: usize,
    /// The stream of the current chunk, and the length of its payload that is still to come.
    chunk: Option<(u32, usize)>,
    /// The number of bytes taken so far.
    at: u64,
    chunk_at: u64,
}

/// The newest header of a chunk stream, and the payload of its unfinished message.
#[derive(Debug, Default)]
struct ChunkStream {
    head: Head,
    payload: BytesMut,
}

/// The newest header of a chunk stream.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    timestamp: u32,
    /// The timestamp field as it was sent: a delta, except in a type 0 header.
    field: u32,
    extended: bool,
    len: usize,
    kind: u8,
    stream: u32,
    /// The message that this header begins is unfinished.
    open: bool,
}

/// A parsed chunk header.
struct Header {
    csid: u32,
    /// The header's length, without bytes that turned out to be payload.
    len: usize,
    head: Head,
}

impl Dechunker {
    /// Returns a reader that refuses messages above `message_len_max` bytes. `at` is the first byte's position in the
    /// connection.
    pub fn new(message_len_max: usize, at: u64) -> Self {
        Dechunker {
            message_len_max,
            chunk_size: CHUNK_SIZE_INITIAL,
            streams: BTreeMap::new(),
            unfinished: 0,
            header: [0; HEADER_LEN_MAX],
            header_len: 0,
            chunk: None,
            at,
            chunk_at: at,
        }
    }

    /// Returns the position of the current chunk, or of the last one.
    pub fn chunk_at(&self) -> u64 {
        self.chunk_at
    }

    /// Returns whether no message and no header is unfinished.
    pub fn is_between_messages(&self) -> bool {
        self.header_len == 0 && !self.streams.values().any(|stream| stream.head.open)
    }

    /// Sets the chunk size from the next chunk on (5.4.1).
    pub fn set_chunk_size(&mut self, size: u32) -> Result<(), ChunkError> {
        if size == 0 || size > 0x7fff_ffff {
            return Err(self.fault(format!("chunk size {size} is not allowed; use 1 to 2147483647")));
        }
        self.chunk_size = size as usize;
        Ok(())
    }

    /// Drops the unfinished message of a chunk stream (5.4.2).
    pub fn abort(&mut self, csid: u32) {
        if let Some(stream) = self.streams.get_mut(&csid) {
            self.unfinished -= stream.payload.len();
            stream.payload = BytesMut::new();
            stream.head.open = false;
        }
    }

    /// Takes bytes off the front of `input` up to the end of a message. Returns `None` when it needs more.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Message>, ChunkError> {
        loop {
            let chunk = if self.chunk.is_some() { self.chunk } else { self.header(input)? };
            let Some((csid, left)) = chunk else { return Ok(None) };
            if self.unfinished.saturating_add(left.min(input.len())) > self.unfinished_max() {
                return Err(self.fault(format!("unfinished messages exceed {} bytes", self.unfinished_max())));
            }
            let stream = self.streams.get_mut(&csid).expect("its header was read");
            let taken = take(input, left);
            self.at += taken.len() as u64;
            self.unfinished += taken.len();
            // The buffer grows with the bytes that have come, never by the announced length.
            stream.payload.extend_from_slice(taken);
            if stream.payload.len() == stream.head.len {
                self.chunk = None;
                self.unfinished -= stream.payload.len();
                stream.head.open = false;
                return Ok(Some(Message {
                    kind: stream.head.kind,
                    stream: stream.head.stream,
                    timestamp: stream.head.timestamp,
                    payload: std::mem::take(&mut stream.payload).freeze(),
                }));
            }
            if taken.len() < left {
                self.chunk = Some((csid, left - taken.len()));
                return Ok(None);
            }
            self.chunk = None;
        }
    }

    /// The most bytes of unfinished messages: two of full length (video and audio), and small ones beside them.
    fn unfinished_max(&self) -> usize {
        self.message_len_max.saturating_mul(2)
    }

    fn fault(&self, what: String) -> ChunkError {
        ChunkError { at: self.chunk_at, what }
    }

    /// Reads a chunk header, byte by byte until it is whole. Returns the chunk stream and the payload's length.
    fn header(&mut self, input: &mut &[u8]) -> Result<Option<(u32, usize)>, ChunkError> {
        loop {
            self.chunk_at = self.at - self.header_len as u64;
            match self.parse_header()? {
                Ok(header) => return self.begin(header).map(Some),
                Err(needed) => {
                    let taken = take(input, needed - self.header_len);
                    self.header[self.header_len..][..taken.len()].copy_from_slice(taken);
                    self.header_len += taken.len();
                    self.at += taken.len() as u64;
                    if self.header_len < needed {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Returns the header, or the number of bytes that are needed to read on.
    fn parse_header(&self) -> Result<Result<Header, usize>, ChunkError> {
        let have = &self.header[..self.header_len];
        let Some(&first) = have.first() else { return Ok(Err(1)) };
        let fmt = first >> 6;
        let (basic, csid) = match (first & 0x3f, have) {
            (0, [_, low, ..]) => (2, 64 + u32::from(*low)),
            (0, _) => return Ok(Err(2)),
            (1, [_, low, high, ..]) => (3, 64 + u32::from(*low) + u32::from(*high) * 256),
            (1, _) => return Ok(Err(3)),
            (csid, _) => (1, u32::from(csid)),
        };
        let known = self.streams.get(&csid);
        // A type 1 header may begin a chunk stream; librtmp sends such pings.
        if known.is_none() && fmt >= 2 {
            let what = format!("chunk stream {csid} begins with a type {fmt} header, which needs an earlier header");
            return Err(self.fault(what));
        }
        let mut head = known.map(|known| known.head).unwrap_or_default();
        if head.open && fmt != 3 {
            let missing = head.len - known.map_or(0, |known| known.payload.len());
            let what = format!("chunk stream {csid} begins a message, but the last one lacks {missing} bytes");
            return Err(self.fault(what));
        }
        let whole = basic + [11, 7, 3, 0][usize::from(fmt)];
        if have.len() < whole {
            return Ok(Err(whole));
        }
        let fields = &have[basic..whole];
        if fmt < 3 {
            head.field = be24(&fields[..3]);
            head.extended = head.field == EXTENDED;
        }
        if fmt < 2 {
            head.len = be24(&fields[3..6]) as usize;
            head.kind = fields[6];
        }
        if fmt == 0 {
            head.stream = u32::from_le_bytes([fields[7], fields[8], fields[9], fields[10]]);
        }
        let mut len = whole;
        if head.extended {
            if have.len() < whole + 4 {
                return Ok(Err(whole + 4));
            }
            let word = u32::from_be_bytes([have[whole], have[whole + 1], have[whole + 2], have[whole + 3]]);
            // 5.3.1.3: "This field is present in Type 3 chunks when the most recent Type 0, 1, or 2 chunk for
            // the same chunk stream ID indicated the presence of an extended timestamp field." Some encoders
            // leave it out where a message goes on: there, what isn't the timestamp again is payload.
            if !head.open || word == head.field || word == head.timestamp {
                len = whole + 4;
            }
            if !head.open {
                head.field = word;
            }
        }
        if !head.open {
            // 5.3.1.2.4: a type 3 chunk that begins a message has the delta of the header before; after a type
            // 0 header, "the timestamp delta for this Type 3 chunk is the same as the timestamp of the Type 0".
            head.timestamp = if fmt == 0 { head.field } else { head.timestamp.wrapping_add(head.field) };
        }
        Ok(Ok(Header { csid, len, head }))
    }

    fn begin(&mut self, header: Header) -> Result<(u32, usize), ChunkError> {
        let Header { csid, len, head } = header;
        if head.len > self.message_len_max {
            let what = format!("the message has {} bytes; the limit is {}", head.len, self.message_len_max);
            return Err(self.fault(what));
        }
        if !self.streams.contains_key(&csid) && self.streams.len() == CHUNK_STREAMS_MAX {
            return Err(self.fault(format!("more than {CHUNK_STREAMS_MAX} chunk streams")));
        }
        let stream = self.streams.entry(csid).or_default();
        stream.head = Head { open: true, ..head };
        let left = self.chunk_size.min(head.len - stream.payload.len());
        // If the bytes read for an extended timestamp aren't one, they are payload, and perhaps the next header.
        let payload = left.min(self.header_len - len);
        stream.payload.extend_from_slice(&self.header[len..len + payload]);
        self.unfinished += payload;
        self.header.copy_within(len + payload..self.header_len, 0);
        self.header_len -= len + payload;
        Ok((csid, left - payload))
    }
}

fn take<'a>(input: &mut &'a [u8], max: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(max.min(input.len()));
    *input = rest;
    taken
}

fn be24(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// Appends `message` as one type 0 chunk and as many type 3 chunks as `chunk_size` asks for.
pub fn put_message(out: &mut BytesMut, csid: u8, message: &Message, chunk_size: usize) {
    debug_assert!((2..64).contains(&csid), "a one-byte basic header");
    let len = u32::try_from(message.payload.len()).expect("our own messages are far below 16 MiB");
    out.put_u8(csid);
    out.put_uint(u64::from(message.timestamp.min(EXTENDED)), 3);
    out.put_uint(u64::from(len), 3);
    out.put_u8(message.kind);
    out.put_u32_le(message.stream);
    let extension = message.timestamp.to_be_bytes();
    let extension = if message.timestamp >= EXTENDED { &extension[..] } else { &[] };
    out.put_slice(extension);
    for (n, chunk) in message.payload.chunks(chunk_size).enumerate() {
        if n > 0 {
            out.put_u8(0xc0 | csid);
            out.put_slice(extension);
        }
        out.put_slice(chunk);
    }
}

#[cfg(test)]
mod tests;
