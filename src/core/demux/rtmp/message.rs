//! Messages (5.4, 7) by their types, and the messages that a server sends.

use bytes::{BufMut, Bytes, BytesMut};

use super::chunk::Message;
use crate::demux::amf0::{self, Value};

/// The longest command, in bytes; a `connect` has about 300.
pub const COMMAND_LEN_MAX: usize = 64 << 10;

/// A message, by its type.
#[derive(Clone, PartialEq, Debug)]
pub enum MessageBody {
    /// Type 1: the peer's chunk size.
    SetChunkSize(u32),
    /// Type 2: the receiver drops the unfinished message of this chunk stream.
    Abort(u32),
    /// Types 3, 6 and all others that an ingest has no use for.
    Ignored,
    /// Type 4, event 6: a ping with this timestamp; event 7 answers it.
    PingRequest(u32),
    /// Type 5: an acknowledgement is due each time this many bytes have come.
    WindowSize(u32),
    /// Type 8: an AUDIODATA body.
    Audio(Bytes),
    /// Type 9: a VIDEODATA body.
    Video(Bytes),
    /// Types 15 and 18: the name of a handler and its arguments.
    Data(Vec<Value>),
    /// Types 17 and 20: a command.
    Command(Command),
    /// Type 22: FLV tags.
    Aggregate(Vec<Message>),
}

/// A remote procedure call (7.1.1).
#[derive(Clone, PartialEq, Debug)]
pub struct Command {
    /// The procedure.
    pub name: String,
    /// The number that an answer repeats; 0 if none is expected.
    pub transaction: f64,
    /// The command object, then the arguments.
    pub args: Vec<Value>,
}

/// A message is invalid; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MessageError(String);

impl MessageBody {
    /// Reads a message by its type.
    pub fn parse(message: Message) -> Result<MessageBody, MessageError> {
        let Message { kind, payload, .. } = &message;
        Ok(match kind {
            1 => MessageBody::SetChunkSize(word(&message, 0)?),
            2 => MessageBody::Abort(word(&message, 0)?),
            // 7.1.7: event type:16, then event data.
            4 => match payload.get(..2) {
                Some([0, 6]) => MessageBody::PingRequest(word(&message, 2)?),
                Some(_) => MessageBody::Ignored,
                None => return Err(truncated(&message)),
            },
            5 => MessageBody::WindowSize(word(&message, 0)?),
            8 => MessageBody::Audio(message.payload),
            9 => MessageBody::Video(message.payload),
            // Metadata is a hint, so invalid metadata is no reason to refuse a push.
            15 if payload.first() == Some(&0) => data(&payload[1..]),
            18 => data(payload),
            // 7.1.1: type 17 is "AMF3", but in fact a zero and then AMF0.
            17 if payload.first() == Some(&0) => MessageBody::Command(command(&payload[1..])?),
            20 => MessageBody::Command(command(payload)?),
            22 => MessageBody::Aggregate(aggregate(&message)?),
            _ => MessageBody::Ignored,
        })
    }
}

fn truncated(message: &Message) -> MessageError {
    MessageError(format!("the message of type {} is truncated after {} bytes", message.kind, message.payload.len()))
}

fn word(message: &Message, at: usize) -> Result<u32, MessageError> {
    match message.payload.get(at..at + 4) {
        Some(&[a, b, c, d]) => Ok(u32::from_be_bytes([a, b, c, d])),
        _ => Err(truncated(message)),
    }
}

fn data(payload: &[u8]) -> MessageBody {
    let short = payload.len() <= COMMAND_LEN_MAX;
    short.then(|| amf0::decode_all(payload).ok()).flatten().map_or(MessageBody::Ignored, MessageBody::Data)
}

fn command(payload: &[u8]) -> Result<Command, MessageError> {
    if payload.len() > COMMAND_LEN_MAX {
        return Err(MessageError(format!("the command has {} bytes; the limit is {COMMAND_LEN_MAX}", payload.len())));
    }
    let unreadable = |error| MessageError(format!("can't read the command: {error}"));
    let mut values = amf0::decode_all(payload).map_err(unreadable)?.into_iter();
    match (values.next(), values.next()) {
        (Some(Value::String(name)), Some(Value::Number(transaction))) => {
            Ok(Command { name, transaction, args: values.collect() })
        }
        _ => Err(MessageError("the command has no name or no transaction id".to_owned())),
    }
}

/// Splits an aggregate (7.1.6) into tags as in an FLV file (type:8 size:24 timestamp:24+8 stream:24, body, back
/// pointer:32). Their timestamps are shifted so that the first one equals the message's.
fn aggregate(message: &Message) -> Result<Vec<Message>, MessageError> {
    let body = &message.payload;
    let mut out = Vec::new();
    let mut at = 0;
    let mut first = None;
    while at < body.len() {
        let Some(&[kind, s0, s1, s2, t0, t1, t2, t3, _, _, _]) = body.get(at..at + 11) else {
            return Err(truncated(message));
        };
        let len = u32::from_be_bytes([0, s0, s1, s2]) as usize;
        let timestamp = u32::from_be_bytes([t3, t0, t1, t2]);
        let first = *first.get_or_insert(timestamp);
        at += 11;
        if body.len() - at < len {
            return Err(truncated(message));
        }
        out.push(Message {
            kind: kind & 0x1f, // E.4.1: the upper bits are reserved, and the mark of encryption
            stream: message.stream,
            timestamp: message.timestamp.wrapping_add(timestamp.wrapping_sub(first)),
            payload: body.slice(at..at + len),
        });
        at += len + 4;
    }
    Ok(out)
}

/// Returns a message of the connection itself, whose body is 32-bit words and `tail`.
pub fn control(kind: u8, words: &[u32], tail: &[u8]) -> Message {
    let mut payload = BytesMut::new();
    words.iter().for_each(|&word| payload.put_u32(word));
    payload.put_slice(tail);
    Message { kind, stream: 0, timestamp: 0, payload: payload.freeze() }
}

/// Returns a user control event (7.1.7) with one word of data.
pub fn user_control(event: u16, data: u32) -> Message {
    let mut payload = BytesMut::new();
    payload.put_u16(event);
    payload.put_u32(data);
    Message { kind: 4, stream: 0, timestamp: 0, payload: payload.freeze() }
}

/// Returns a command to the peer.
pub fn call(stream: u32, name: &str, transaction: f64, args: &[Value]) -> Message {
    let mut payload = amf0::encode_all(&[name.into(), transaction.into()]);
    payload.unsplit(amf0::encode_all(args));
    Message { kind: 20, stream, timestamp: 0, payload: payload.freeze() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, payload: &'static [u8]) -> Message {
        Message { kind, stream: 1, timestamp: u32::MAX, payload: Bytes::from_static(payload) }
    }

    fn check(kind: u8, payload: &'static [u8], expect: Result<MessageBody, &str>) {
        let got = MessageBody::parse(message(kind, payload)).map_err(|e| e.to_string());
        assert_eq!(got, expect.map_err(str::to_owned));
    }

    #[test]
    fn messages_by_type() {
        let command =
            |name: &str| MessageBody::Command(Command { name: name.to_owned(), transaction: 0.0, args: vec![] });
        check(1, &[0, 0, 16, 0], Ok(MessageBody::SetChunkSize(4_096)));
        check(1, &[0, 0, 16], Err("the message of type 1 is truncated after 3 bytes"));
        check(4, &[0, 6, 0, 0, 0, 9], Ok(MessageBody::PingRequest(9)));
        check(4, &[0, 3, 0, 0, 0, 1, 0, 0, 0, 9], Ok(MessageBody::Ignored));
        check(4, &[0], Err("the message of type 4 is truncated after 1 bytes"));
        check(20, b"\x02\x00\x01a\x00\0\0\0\0\0\0\0\0", Ok(command("a")));
        check(17, b"\0\x02\x00\x01a\x00\0\0\0\0\0\0\0\0", Ok(command("a")));
        check(20, b"\x02\x00\x01a", Err("the command has no name or no transaction id"));
        check(20, b"\x42", Err("can't read the command: byte 0 of the AMF0 values: unknown AMF0 marker"));
        check(20, &[5; COMMAND_LEN_MAX + 1], Err("the command has 65537 bytes; the limit is 65536"));
        check(18, b"\x02\x00\x01a", Ok(MessageBody::Data(vec!["a".into()])));
        check(18, b"\x42", Ok(MessageBody::Ignored));
        check(99, b"", Ok(MessageBody::Ignored));
    }

    #[test]
    fn aggregates_are_taken_apart_and_their_times_moved() {
        let tags = b"\x08\0\0\x01\0\0\x05\0\0\0\0A\0\0\0\x0c\x09\0\0\x02\0\0\x0f\0\0\0\0VV\0\0\0\x0d";
        let part =
            |kind, timestamp, payload| Message { kind, stream: 1, timestamp, payload: Bytes::from_static(payload) };
        check(22, tags, Ok(MessageBody::Aggregate(vec![part(8, u32::MAX, b"A"), part(9, 9, b"VV")])));
        check(22, &tags[..27], Err("the message of type 22 is truncated after 27 bytes"));
        check(22, &tags[..20], Err("the message of type 22 is truncated after 20 bytes"));
    }
}
