//! An RTMP session: any bytes are taken or refused, and where the network cuts them changes nothing.
#![no_main]

use bytes::{Bytes, BytesMut};
use damson_core::demux::amf0::{Value, encode_all};
use damson_core::demux::rtmp::chunk::{Message, put_message};
use damson_core::demux::rtmp::{Limits, Output, RtmpError, RtmpSession};
use libfuzzer_sys::fuzz_target;

/// How far the encoder has come when the fuzzed bytes begin: most bytes would never get through the handshake.
enum Start {
    Nothing,
    Handshake,
    Publishing,
}

impl Start {
    fn bytes(self) -> BytesMut {
        let mut out = BytesMut::new();
        if let Start::Nothing = self {
            return out;
        }
        out.extend_from_slice(&[3]); // C0
        out.extend_from_slice(&[0; 1536 + 1536]); // C1, C2
        if let Start::Publishing = self {
            let text = |text: &str| Value::String(text.to_owned());
            let commands = [
                (0, vec![text("connect"), Value::Number(1.0), Value::object([("app", text("live"))])]),
                (0, vec![text("createStream"), Value::Number(2.0), Value::Null]),
                (1, vec![text("publish"), Value::Number(3.0), Value::Null, text("cam1"), text("live")]),
            ];
            for (stream, values) in commands {
                let payload = encode_all(&values).freeze();
                put_message(&mut out, 3, &Message { kind: 20, stream, timestamp: 0, payload }, 128);
            }
        }
        out
    }
}

/// What a session says of `bytes` that come in pieces: all but its replies, whose acknowledgements may fall
/// differently.
fn run(bytes: &Bytes, piece: usize) -> (Vec<Output>, Option<RtmpError>) {
    let mut session = RtmpSession::new(Limits { message_len_max: 64 << 10, ..Limits::default() });
    let mut outputs = Vec::new();
    for piece in bytes.chunks(piece) {
        let mut result = session.handle(piece);
        while let Some(output) = session.poll_output() {
            if let Output::PublishRequested(_) = output
                && result.is_ok()
            {
                result = session.accept_publish();
            }
            if !matches!(output, Output::Send(_)) {
                outputs.push(output);
            }
        }
        if let Err(error) = result {
            return (outputs, Some(error));
        }
    }
    (outputs, None)
}

fuzz_target!(|data: &[u8]| {
    let [start, piece, rest @ ..] = data else { return };
    let start = match start % 4 {
        0 => Start::Nothing,
        1 => Start::Handshake,
        _ => Start::Publishing,
    };
    let mut bytes = start.bytes();
    bytes.extend_from_slice(rest);
    let bytes = bytes.freeze();
    assert_eq!(run(&bytes, usize::MAX), run(&bytes, usize::from(*piece) + 1));
});
