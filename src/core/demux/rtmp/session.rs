//! A publishing encoder's session (7.2): from its first byte to its last, as a state machine.
//!
//! ```text
//! handshake --> connect --> Idle --publish--> Asked --accept_publish--> Publishing --FCUnpublish,
//!                            ^                  |                         |  deleteStream, closeStream
//!                            |                  '--reject_publish--> (close)
//!                            '--------------------------------------------'
//! ```
//!
//! After each `handle`, `accept_publish`, `reject_publish` and `end`, whatever they return, the caller
//! drains `poll_output`: an error is preceded by the reply that tells the encoder.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::chunk::{ChunkError, Dechunker, Message};
use super::handshake::{Handshake, HandshakeError};
use super::message::{Command, MessageBody};
use super::{chunk, handshake, message};
use crate::demux::amf0::Value;
use crate::demux::flv::{self, FlvNotice, TagKind, Tags};
use crate::demux::target::{PublishTarget, split_query};
use crate::model::Announced;
use crate::packager::Input;

/// The only application that encoders can publish to.
pub const APP: &str = "live";
const PUSH_TO: &str = "push to rtmp://HOST/live/STREAM or rtmp://HOST/live/STREAM/RENDITION";
/// Our window acknowledgement size and peer bandwidth, in bytes: what FMS, nginx-rtmp and SRS send.
const WINDOW: u32 = 2_500_000;
/// The properties by which a client announces Enhanced RTMP in its connect.
const ENHANCED: [&str; 4] = ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx"];
/// The chunk size of the server's replies, in bytes. Each reply fits one chunk.
const CHUNK_SIZE: usize = 4_096;
/// The most bytes that may come while a publish waits for its answer.
const INBOX_LEN_MAX: usize = 1 << 20;

/// The limits of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The longest message, in bytes: a coded frame. Twice this may be unfinished at a time.
    pub message_len_max: usize,
    /// The most tracks of a push.
    pub tracks_max: u8,
}

impl Default for Limits {
    /// Returns 16 tracks and 8 MiB. An intra frame of 4K at 100 Mb/s has about 2 MiB.
    fn default() -> Self {
        Limits { message_len_max: 8 << 20, tracks_max: flv::TRACKS_MAX }
    }
}

/// A request of a session to its caller.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Send these bytes to the encoder.
    Send(Bytes),
    /// Answer with `accept_publish` or `reject_publish`. The session reads nothing until then.
    PublishRequested(PublishTarget),
    /// The tracks that onMetaData announces, once before the first [`Output::Input`] of a publish.
    Metadata(Announced),
    /// A sequence header, a frame, or timed metadata (what onTextData says).
    Input(Input),
    /// Something that the encoder does and shouldn't, for the log.
    Notice(FlvNotice),
    /// The encoder has ended its publish, and may begin another.
    Unpublished,
}

/// The reason why a session has failed. A position is the start of a chunk, in bytes since the connection began.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RtmpError {
    /// The handshake failed.
    #[error("handshake: {0}")]
    Handshake(#[from] HandshakeError),
    /// A chunk is invalid.
    #[error("chunk: {0}")]
    Chunk(#[from] ChunkError),
    /// A message is invalid, its media can't be used, it comes at the wrong time, or its request is refused.
    #[error("{part}: byte {at}: {what}")]
    Message {
        /// The check that failed: `message`, `media`, `session` or `refused`.
        part: &'static str,
        /// The position of the message's last chunk.
        at: u64,
        /// A description of the fault.
        what: String,
    },
}

/// One connection's session.
#[derive(Debug)]
pub struct RtmpSession {
    handshake: Handshake,
    dechunker: Dechunker,
    state: State,
    app: App,
    outputs: VecDeque<Output>,
    tags: Tags,
    tracks_max: u8,
    /// The bytes that have come since the encoder asked to publish.
    inbox: BytesMut,
    received: u64,
    acknowledged: u64,
    window: u32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Connecting,
    Idle,
    Asked { stream: u32 },
    Publishing { stream: u32, announced: bool },
}

/// The application that the encoder has connected to.
#[derive(Debug, Default)]
struct App {
    /// The path behind [`APP`], and its query. Encoders cut a URL at one of its slashes, in its query, too.
    rest: String,
    /// The query of tcUrl, the URL that the encoder was given.
    query: Option<String>,
}

impl App {
    /// Returns what a stream key asks to publish. The key's own query counts before the application's and tcUrl's.
    ///
    /// An application whose query stands right behind a stream's name was cut in that query: `live/cam1?key=a` and `b` are
    /// `live/cam1?key=a/b`. Else the key goes on with the path: `live?key=a` and `cam1`, `live/cam1/?key=a` and `720p`.
    fn target(&self, key: &str) -> Result<PublishTarget, String> {
        let (path, query) = split_query(&self.rest);
        let cut = query.as_ref().filter(|_| !path.is_empty() && !path.ends_with('/'));
        if let Some(query) = cut {
            let query = if key.is_empty() { query.clone() } else { format!("{query}/{key}") };
            return PublishTarget::parse(path, Some(query));
        }
        let (name, own) = split_query(key);
        PublishTarget::parse(&format!("{path}/{name}"), own.or(query).or_else(|| self.query.clone()))
    }
}

impl RtmpSession {
    /// Returns the session of a new connection.
    pub fn new(limits: Limits) -> Self {
        RtmpSession {
            handshake: Handshake::default(),
            dechunker: Dechunker::new(limits.message_len_max, handshake::LEN as u64),
            state: State::Connecting,
            app: App::default(),
            outputs: VecDeque::new(),
            tags: Tags::new(limits.tracks_max),
            tracks_max: limits.tracks_max,
            inbox: BytesMut::new(),
            received: 0,
            acknowledged: 0,
            window: WINDOW,
        }
    }

    /// Takes bytes of the encoder. Keeps up to 1 MiB of them while a publish waits for its answer.
    pub fn handle(&mut self, bytes: &[u8]) -> Result<(), RtmpError> {
        self.received += bytes.len() as u64;
        if let State::Asked { .. } = self.state {
            return self.keep(bytes);
        }
        let mut rest = bytes;
        if let Some(reply) = self.handshake.handle(&mut rest)? {
            self.outputs.push_back(Output::Send(reply));
        }
        self.messages(rest)
    }

    /// Returns whether a window of bytes (5.4.4) has come since the last acknowledgement.
    pub fn owes_acknowledgement(&self) -> bool {
        self.received - self.acknowledged >= u64::from(self.window)
    }

    /// Sends the Acknowledgement (5.4.3) that is due: the number of bytes received so far. The caller calls this when
    /// the encoder is quiet. An encoder that waits for an acknowledgement is quiet; one that has sent its last message
    /// and closed its socket answers a reply with a reset, which discards the bytes that are still on their way.
    pub fn acknowledge(&mut self) {
        if self.owes_acknowledgement() {
            self.acknowledged = self.received;
            let sequence = (self.received & u64::from(u32::MAX)) as u32;
            self.send(2, &message::control(3, &[sequence], &[]));
        }
    }

    /// Returns the next output, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns the number of bytes received so far: the position of the end, if the connection breaks now.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Returns whether the connection can end here without cutting a message.
    pub fn is_between_messages(&self) -> bool {
        self.handshake.is_untouched() || self.handshake.is_done() && self.dechunker.is_between_messages()
    }

    /// Accepts the publish, and reads the bytes that came in the meantime.
    pub fn accept_publish(&mut self) -> Result<(), RtmpError> {
        let State::Asked { stream } = self.state else { return Ok(()) };
        self.send(2, &message::user_control(0, stream)); // 7.1.7: Stream Begin
        self.status(stream, "status", "NetStream.Publish.Start", "go ahead");
        self.tags = Tags::new(self.tracks_max);
        self.state = State::Publishing { stream, announced: false };
        let inbox = std::mem::take(&mut self.inbox);
        self.messages(&inbox)
    }

    /// Refuses the publish. The caller closes the connection once the reply is out.
    pub fn reject_publish(&mut self, reason: &str) {
        if let State::Asked { stream } = self.state {
            self.status(stream, "error", "NetStream.Publish.BadName", reason);
        }
    }

    /// Tells a publishing encoder why its connection will be closed.
    pub fn end(&mut self, reason: &str) {
        if let State::Publishing { stream, .. } | State::Asked { stream } = self.state {
            self.status(stream, "error", "NetStream.Publish.Denied", reason);
        }
    }

    /// Puts out what is held of the media, before the publish ends.
    pub fn finish(&mut self) {
        let mut media = Vec::new();
        self.tags.end(&mut media);
        self.put_out(media);
    }

    fn put_out(&mut self, media: Vec<Input>) {
        let State::Publishing { announced, .. } = &mut self.state else { return };
        if !media.is_empty() && !std::mem::replace(announced, true) {
            self.outputs.push_back(Output::Metadata(Announced::default()));
        }
        self.outputs.extend(media.into_iter().map(Output::Input));
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), RtmpError> {
        if self.inbox.len() + bytes.len() > INBOX_LEN_MAX {
            return Err(self.fault("session", "more than 1 MiB came before the publish was answered"));
        }
        self.inbox.extend_from_slice(bytes);
        Ok(())
    }

    fn messages(&mut self, mut rest: &[u8]) -> Result<(), RtmpError> {
        while let Some(message) = self.dechunker.next(&mut rest)? {
            self.message(message)?;
            if let State::Asked { .. } = self.state {
                return self.keep(rest);
            }
        }
        Ok(())
    }

    fn message(&mut self, message: Message) -> Result<(), RtmpError> {
        let (timestamp, stream) = (message.timestamp, message.stream);
        match MessageBody::parse(message).map_err(|error| self.fault("message", error))? {
            MessageBody::SetChunkSize(size) => self.dechunker.set_chunk_size(size)?,
            MessageBody::Abort(csid) => self.dechunker.abort(csid),
            MessageBody::Ignored => {}
            MessageBody::PingRequest(stamp) => self.send(2, &message::user_control(7, stamp)),
            MessageBody::WindowSize(window) => self.window = window.max(1),
            MessageBody::Audio(body) => self.media(TagKind::Audio, &body, timestamp)?,
            MessageBody::Video(body) => self.media(TagKind::Video, &body, timestamp)?,
            MessageBody::Data(values) => self.data(&values, timestamp),
            MessageBody::Command(command) => self.command(stream, &command)?,
            MessageBody::Aggregate(parts) => {
                // Metadata came before, or is repeated.
                let mut media = parts.into_iter().filter(|part| matches!(part.kind, 8 | 9));
                media.try_for_each(|part| self.message(part))?;
            }
        }
        Ok(())
    }

    fn media(&mut self, kind: TagKind, body: &Bytes, timestamp: u32) -> Result<(), RtmpError> {
        let State::Publishing { stream, .. } = self.state else {
            // Encoders still send frames when they end their publish.
            return match self.state {
                State::Connecting => Err(self.fault("session", "media came before connect")),
                _ => Ok(()),
            };
        };
        let mut media = Vec::new();
        let read = match kind {
            TagKind::Audio => self.tags.audio(body, timestamp, &mut media),
            TagKind::Video => self.tags.video(body, timestamp, &mut media),
        };
        self.put_out(media);
        self.outputs.extend(std::iter::from_fn(|| self.tags.poll_notice()).map(Output::Notice));
        read.map_err(|error| {
            self.status(stream, "error", "NetStream.Publish.Rejected", &error.to_string());
            self.fault("media", error)
        })
    }

    /// Reads `onMetaData`, {...}, which may stand behind `@setDataFrame`; and `onTextData`, {text: ...}.
    fn data(&mut self, values: &[Value], timestamp: u32) {
        let State::Publishing { announced, .. } = &mut self.state else { return };
        let values = match values {
            [Value::String(name), rest @ ..] if name == "@setDataFrame" => rest,
            values => values,
        };
        let [Value::String(name), said, ..] = values else { return };
        match name.as_str() {
            "onMetaData" if !std::mem::replace(announced, true) => {
                self.outputs.push_back(Output::Metadata(flv::announced(said)));
            }
            "onTextData" if *announced => {
                self.outputs.extend(flv::text(said, timestamp).map(|message| Output::Input(Input::Message(message))));
            }
            _ => {}
        }
    }

    fn command(&mut self, stream: u32, command: &Command) -> Result<(), RtmpError> {
        if let State::Connecting = self.state {
            return match command.name.as_str() {
                "connect" => self.connect(command),
                _ => Err(self.fault("session", "a command came before connect")),
            };
        }
        let nothing = [Value::Null, Value::Null];
        match command.name.as_str() {
            "connect" => return Err(self.fault("session", "connect came twice")),
            "createStream" => self.result(command, &[Value::Null, Value::Number(1.0)]),
            "publish" => return self.publish(stream, command),
            "play" | "play2" => {
                let reason = "this is an ingest: play the stream over HLS or DASH at an edge's HTTP address";
                self.status(stream, "error", "NetStream.Play.Failed", reason);
                return Err(self.fault("refused", reason));
            }
            "FCUnpublish" | "deleteStream" | "closeStream" => {
                self.result(command, &nothing);
                if let State::Publishing { .. } = self.state {
                    self.finish();
                    self.state = State::Idle;
                    self.outputs.push_back(Output::Unpublished);
                }
            }
            // FMLE's own commands (releaseStream, FCPublish), and any other that expects an answer, get an empty answer.
            _ => self.result(command, &nothing),
        }
        Ok(())
    }

    /// Answers `connect` (7.2.1.1).
    fn connect(&mut self, command: &Command) -> Result<(), RtmpError> {
        let text = |name| command.args.first().and_then(|object| object.property(name)).and_then(Value::as_str);
        let asked = text("app").unwrap_or("").trim_start_matches('/');
        let rest = asked.strip_prefix(APP).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
        let Some(rest) = rest.map(str::to_owned) else {
            let reason = format!("application {:?}: {PUSH_TO}", split_query(asked).0);
            let info = status_info("error", "NetConnection.Connect.Rejected", &reason);
            self.send(3, &message::call(0, "_error", command.transaction, &[Value::Null, info]));
            return Err(self.fault("refused", reason));
        };
        let query = text("tcUrl").and_then(|url| split_query(url).1);
        (self.state, self.app) = (State::Idle, App { rest, query });
        self.send(2, &message::control(5, &[WINDOW], &[]));
        self.send(2, &message::control(6, &[WINDOW], &[2])); // 5.4.5: dynamic
        self.send(2, &message::control(1, &[CHUNK_SIZE as u32], &[]));
        let properties = Value::object([("fmsVer", "FMS/3,0,1,123".into()), ("capabilities", 31.0.into())]);
        let mut info = status_info("status", "NetConnection.Connect.Success", "connected");
        if let Value::Object(info) = &mut info {
            info.push(("objectEncoding".to_owned(), Value::Number(0.0)));
            // A client that announces none of this may be older than strict arrays.
            let object = command.args.first();
            if ENHANCED.iter().any(|key| object.is_some_and(|object| object.property(key).is_some())) {
                info.extend(flv::capabilities());
            }
        }
        self.result(command, &[properties, info]);
        Ok(())
    }

    /// Reads `publish` (7.2.2.6): command object, publishing name, publishing type.
    fn publish(&mut self, stream: u32, command: &Command) -> Result<(), RtmpError> {
        let State::Idle = self.state else { return Err(self.fault("session", "publish came during a publish")) };
        let key = command.args.get(1).and_then(Value::as_str).unwrap_or("");
        match self.app.target(key) {
            Ok(target) => {
                self.state = State::Asked { stream };
                self.outputs.push_back(Output::PublishRequested(target));
                Ok(())
            }
            Err(error) => {
                let reason = format!("{error} ({PUSH_TO})");
                self.status(stream, "error", "NetStream.Publish.BadName", &reason);
                Err(self.fault("refused", reason))
            }
        }
    }

    fn result(&mut self, command: &Command, args: &[Value]) {
        if command.transaction != 0.0 {
            self.send(3, &message::call(0, "_result", command.transaction, args));
        }
    }

    /// Sends onStatus (7.2.2).
    fn status(&mut self, stream: u32, level: &str, code: &str, description: &str) {
        let info = status_info(level, code, description);
        self.send(5, &message::call(stream, "onStatus", 0.0, &[Value::Null, info]));
    }

    fn send(&mut self, csid: u8, message: &Message) {
        let mut out = BytesMut::new();
        // The peer reads chunks of 128 bytes until it has Set Chunk Size. So the first replies (three control messages,
        // or the refusal of a connect) are cut into such chunks.
        let size = if let State::Connecting = self.state { chunk::CHUNK_SIZE_INITIAL } else { CHUNK_SIZE };
        chunk::put_message(&mut out, csid, message, size);
        self.outputs.push_back(Output::Send(out.freeze()));
    }

    fn fault(&self, part: &'static str, what: impl ToString) -> RtmpError {
        RtmpError::Message { part, at: self.dechunker.chunk_at(), what: what.to_string() }
    }
}

fn status_info(level: &str, code: &str, description: &str) -> Value {
    Value::object([("level", level.into()), ("code", code.into()), ("description", description.into())])
}

#[cfg(test)]
mod tests;
