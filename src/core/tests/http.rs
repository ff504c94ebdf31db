//! HTTP: frames in the requests of a push, and these through the bodies and tracks of a session.

use std::collections::VecDeque;

use bytes::Bytes;

use super::carrier::{Carrier, TsMuxer, record};
use super::{Frame, HZ, mux, payload, pictures, sounds};
use crate::cmaf;
use crate::codec::codec::Codec;
use crate::codec::scte35::tests::insert;
use crate::demux::bmff::tests::boxed;
use crate::demux::cmaf_ingest::body::{Body, needs_init};
use crate::demux::cmaf_ingest::jitter_buffer::Pushed;
use crate::demux::cmaf_ingest::path::{self, Object, TargetKind};
use crate::demux::cmaf_ingest::tracks::{BodyOutput, Tracks};
use crate::demux::{bmff, ts};
use crate::model::time::{Time, Timescale};
use crate::model::{Announced, CodecConfig, InputClock};
use crate::packager::Input;

/// How long a chunk is, and a segment at least, in 1/90,000 s.
const CHUNK: u64 = HZ / 2;
const SEGMENT: u64 = 2 * HZ;

/// Who makes requests of frames.
pub(super) trait Muxer {
    /// What its timestamps count.
    const CLOCK: InputClock;
    /// What is sent once there is a frame more; `None`: once there is none.
    fn mux(&mut self, frame: Option<&Frame>, first: u64) -> Vec<Piece>;
}

/// Bytes of a request.
pub(super) struct Piece {
    /// By which connection it comes: one request at a time.
    connection: usize,
    name: String,
    bytes: Vec<u8>,
    /// They are its last.
    ends: bool,
}

/// A request, as the server has it.
struct Request {
    connection: usize,
    object: Object,
    /// What hasn't been read yet.
    left: VecDeque<Vec<u8>>,
    ended: bool,
    body: Option<Body>,
    /// For this there was no room.
    held: Option<BodyOutput>,
    finishing: bool,
    finished: bool,
}

/// A push by HTTP.
pub(super) struct Http<M> {
    muxer: M,
    tracks: Tracks,
    requests: Vec<Request>,
    announced: Option<Announced>,
}

impl<M: Muxer> Http<M> {
    pub(super) fn new(muxer: M) -> Self {
        Http { muxer, tracks: Tracks::new(None, 16), requests: Vec::new(), announced: None }
    }

    fn send(&mut self, now: Time, pieces: Vec<Piece>) {
        for Piece { connection, name, bytes, ends } in pieces {
            let path = format!("/ingest/cam1/{name}");
            let Ok(TargetKind::Object(object)) = path::parse("/ingest", &path).map(|target| target.kind) else {
                panic!("{path} is an object's");
            };
            let open = self.requests.iter().rposition(|request| request.object == object && !request.ended);
            let open = open.unwrap_or_else(|| {
                let (left, body, held, finishing) = (VecDeque::new(), None, None, false);
                self.requests.push(Request {
                    connection,
                    object,
                    left,
                    ended: false,
                    body,
                    held,
                    finishing,
                    finished: false,
                });
                self.requests.len() - 1
            });
            self.requests[open].left.push_back(bytes);
            self.requests[open].ended = ends;
        }
        self.read(now);
    }

    /// Takes what there is room for, each request of a connection after the one before.
    fn read(&mut self, now: Time) {
        let mut busy = Vec::new();
        for request in &mut self.requests {
            if !busy.contains(&request.connection) {
                request.read(now, &mut self.tracks);
            }
            busy.extend((!request.finished).then_some(request.connection));
        }
        self.requests.retain(|request| !request.finished);
    }
}

impl Request {
    fn read(&mut self, now: Time, tracks: &mut Tracks) {
        loop {
            let came = self.held.take().or_else(|| self.body.as_mut()?.poll(tracks).expect("good media"));
            if let Some(came) = came {
                let bad = matches!(came, BodyOutput::Damaged(_) | BodyOutput::Dropped(..) | BodyOutput::Note(_));
                assert!(!bad, "{}: {came:?}", self.object);
                match tracks.take(now, came) {
                    Ok(pushed) => {
                        let new = !matches!(pushed, Pushed::Repeated | Pushed::Useless);
                        assert!(new, "{}: all of it is new", self.object);
                    }
                    Err(full) => {
                        self.held = Some(full);
                        return;
                    }
                }
            } else if let Some(bytes) = self.left.pop_front() {
                let body = self.body.get_or_insert_with(|| {
                    let known =
                        needs_init(&bytes).then(|| tracks.init_for(&self.object, false).expect("its init segment"));
                    Body::new(Some(self.object.clone()), &bytes, known, bmff::Limits::default(), tracks)
                });
                body.push(&bytes).expect("good media");
            } else if let Some(body) = self.body.as_mut().filter(|_| self.ended && !self.finishing) {
                body.finish(true).expect("a whole one");
                self.finishing = true;
            } else {
                self.finished = self.finishing;
                return;
            }
        }
    }
}

impl<M: Muxer> Carrier for Http<M> {
    fn clock(&self) -> InputClock {
        M::CLOCK
    }

    fn attached(&self) -> (InputClock, Announced) {
        (bmff::CLOCK, self.announced.expect("something has come"))
    }

    fn carry(&mut self, now: Time, frame: &Frame, first: u64) -> Vec<Input> {
        let pieces = self.muxer.mux(Some(frame), first);
        self.send(now, pieces);
        Vec::new()
    }

    fn finish(&mut self, now: Time) -> Vec<Input> {
        let pieces = self.muxer.mux(None, 0);
        self.send(now, pieces);
        Vec::new()
    }

    fn due(&self, now: Time) -> Option<Time> {
        self.tracks.due(now)
    }

    fn play(&mut self, now: Time) -> Vec<Input> {
        let mut played = Vec::new();
        while let Some((queue, item)) = self.tracks.pop(now) {
            let (session, inputs) = self.tracks.inputs(queue, item).expect("a place");
            assert_eq!(session, 0, "pictures and sound are one push");
            if self.announced.is_none() {
                let (announced, headers) = self.tracks.beginning(session, false);
                self.announced = Some(announced);
                played.extend(headers);
            }
            played.extend(inputs);
        }
        self.read(now);
        played
    }
}

/// CMAF (ISO 23000-19), each track by its own connection: as one request of chunks (DASH-IF Live Media Ingest 1.2, interface
/// 1), or one a segment (interface 2).
pub(super) struct Cmaf {
    segments: bool,
    /// When the segment under way began.
    began: u64,
    /// Of pictures, and of sound.
    tracks: [Fragments; 2],
}

/// A track's samples that weren't sent yet.
#[derive(Default)]
struct Fragments {
    headers: Option<u8>,
    /// Ticks a second.
    hz: u64,
    /// When the first of them was decoded, and by how much timestamps were off.
    began: u64,
    jump: i64,
    samples: Vec<Sample>,
    number: u32,
}

struct Sample {
    dts: u64,
    pts: u64,
    key: bool,
    data: Vec<u8>,
}

impl Cmaf {
    pub(super) fn tracks() -> Self {
        Cmaf { segments: false, began: 0, tracks: Default::default() }
    }

    pub(super) fn segments() -> Self {
        Cmaf { segments: true, began: 0, tracks: Default::default() }
    }

    fn piece(&self, track: usize, init: bool, bytes: Vec<u8>) -> Piece {
        let name = match (self.segments, init) {
            (false, _) => format!("Streams(track{track}.cmfv)"),
            (true, true) => format!("init-stream{track}.m4s"),
            (true, false) => format!("chunk-stream{track}-{:05}.m4s", self.tracks[track].number),
        };
        Piece { connection: track, name, bytes, ends: self.segments }
    }

    /// Sends a track's samples.
    fn flush(&mut self, track: usize) -> Option<Piece> {
        let fragments = &mut self.tracks[track];
        let samples = Some(std::mem::take(&mut fragments.samples)).filter(|samples| !samples.is_empty())?;
        fragments.number += 1;
        let bytes = fragment(fragments.number, &samples);
        Some(self.piece(track, false, bytes))
    }
}

impl Muxer for Cmaf {
    const CLOCK: InputClock = bmff::CLOCK;

    fn mux(&mut self, frame: Option<&Frame>, first: u64) -> Vec<Piece> {
        let mut pieces = Vec::new();
        // The tracks' segments end together.
        let key = frame.filter(|frame| frame.picture && frame.key && frame.at >= self.began + SEGMENT);
        self.began = key.map_or(self.began, |key| key.at);
        for track in 0..2 {
            let over = frame.is_none_or(|frame| {
                let Fragments { began, jump, headers, .. } = self.tracks[track];
                let long = if self.segments { key.is_some() } else { frame.at >= began + CHUNK };
                let own = frame.picture == (track == 0);
                long || own && (jump != frame.jump || frame.key && headers != Some(frame.headers))
            });
            pieces.extend(over.then(|| self.flush(track)).flatten());
        }
        let Some(frame) = frame else {
            // The requests of whole tracks end.
            let whole = (0..2).filter(|&track| !self.segments && self.tracks[track].headers.is_some());
            pieces.extend(whole.map(|track| Piece { ends: true, ..self.piece(track, false, Vec::new()) }));
            return pieces;
        };
        let track = usize::from(!frame.picture);
        if frame.key && self.tracks[track].headers.replace(frame.headers) != Some(frame.headers) {
            let (config, hz) = match (frame.picture, frame.headers) {
                (true, headers) => (CodecConfig::Avc(Bytes::from_static(record(headers))), 90_000),
                (false, 0) => (CodecConfig::Aac(Bytes::from_static(&[0x11, 0x90])), 48_000),
                (false, _) => (CodecConfig::Aac(Bytes::from_static(&[0x15, 0x90])), 8_000),
            };
            self.tracks[track].hz = hz.into();
            let scale = Timescale::new(hz).expect("not zero");
            let init = cmaf::init(&Codec::parse(&config).expect("an encoder's own"), scale);
            pieces.push(self.piece(track, true, init.to_vec()));
        }
        let fragments = &mut self.tracks[track];
        if fragments.samples.is_empty() {
            (fragments.began, fragments.jump) = (frame.at, frame.jump);
        }
        let ticks = |at: u64| ((first + at).strict_add_signed(frame.jump) * fragments.hz + HZ / 2) / HZ;
        let data = payload(frame.number);
        let len = u32::try_from(data.len()).expect("short").to_be_bytes();
        let data = if frame.picture { [&len[..], &data].concat() } else { data.to_vec() };
        let (dts, pts) = (ticks(frame.at), ticks(frame.at + frame.reordered));
        fragments.samples.push(Sample { dts, pts, key: frame.key, data });
        // A chunk is sent with its last frame, not with the one behind.
        let step =
            fragments.samples.windows(2).last().map_or(0, |pair| (pair[1].dts - pair[0].dts) * HZ / fragments.hz);
        let full = !self.segments && frame.at + step >= fragments.began + CHUNK;
        pieces.extend(full.then(|| self.flush(track)).flatten());
        pieces
    }
}

/// `moof` and `mdat`, as muxers write them that take the short version where there is one.
fn fragment(number: u32, samples: &[Sample]) -> Vec<u8> {
    let first = samples[0].dts;
    let tfdt = match u32::try_from(first) {
        Ok(short) => boxed(b"tfdt", &[[0; 4], short.to_be_bytes()].concat()),
        Err(_) => boxed(b"tfdt", &[&[1, 0, 0, 0][..], &first.to_be_bytes()].concat()),
    };
    let entries = samples.iter().enumerate().flat_map(|(n, sample)| {
        let step = |pair: &[Sample]| u32::try_from(pair[1].dts - pair[0].dts).expect("in order");
        // Of the last one it isn't known yet: as long as the one before.
        let duration = samples.get(n..n + 2).or(samples.get(n.wrapping_sub(1)..=n)).map_or(0, step);
        let len = u32::try_from(sample.data.len()).expect("short");
        // sample_depends_on, sample_is_non_sync_sample.
        let flags = if sample.key { 2 << 24 } else { 1 << 24 | 1 << 16 };
        [duration, len, flags, u32::try_from(sample.pts - sample.dts).expect("not before")].map(u32::to_be_bytes)
    });
    let entries: Vec<u8> = entries.flatten().collect();
    let count = u32::try_from(samples.len()).expect("few").to_be_bytes();
    let moof = |offset: u32| {
        // default-base-is-moof; data-offset, and all of each sample.
        let tfhd = boxed(b"tfhd", &[[0, 2, 0, 0], 1_u32.to_be_bytes()].concat());
        let trun = boxed(b"trun", &[&[0, 0, 0xf, 1], &count[..], &offset.to_be_bytes(), &entries].concat());
        let mfhd = boxed(b"mfhd", &[[0; 4], number.to_be_bytes()].concat());
        boxed(b"moof", &[mfhd, boxed(b"traf", &[&tfhd[..], &tfdt, &trun].concat())].concat())
    };
    let moof = moof(u32::try_from(moof(0).len() + 8).expect("short"));
    let data: Vec<&[u8]> = samples.iter().map(|sample| &*sample.data).collect();
    [moof, boxed(b"mdat", &data.concat())].concat()
}

/// MPEG-TS in segments, as HLS muxers PUT them: each once it is whole.
#[derive(Default)]
pub(super) struct TsSegments {
    muxer: TsMuxer,
    began: u64,
    number: u32,
}

impl Muxer for TsSegments {
    const CLOCK: InputClock = ts::CLOCK;

    fn mux(&mut self, frame: Option<&Frame>, first: u64) -> Vec<Piece> {
        let over = frame.is_none_or(|frame| frame.picture && frame.key && frame.at >= self.began + SEGMENT);
        let packets = if over { self.muxer.take() } else { Vec::new() };
        let piece = (!packets.is_empty()).then(|| {
            self.number += 1;
            Piece { connection: 0, name: format!("out{}.ts", self.number), bytes: packets.concat(), ends: true }
        });
        if let Some(frame) = frame {
            self.began = if over { frame.at } else { self.began };
            self.muxer.write(frame, first);
        }
        piece.into_iter().collect()
    }
}

#[test]
fn a_splice_goes_by_the_pictures_beside_it() {
    let mut frames = mux([pictures(4, 30, 60), sounds(4)]);
    frames.iter_mut().filter(|frame| !frame.picture).for_each(|frame| frame.jump = 5 * 3_600 * HZ as i64);
    let (mut muxer, mut tracks) = (TsMuxer::default(), Tracks::new(None, 16));
    for frame in &frames {
        muxer.write(frame, 77);
        if (HZ..2 * HZ).contains(&frame.at) {
            muxer.splice(&insert(7, 10 * HZ, None));
        }
    }
    let bytes = muxer.take().concat();
    let mut body = Body::new(None, &bytes, None, bmff::Limits::default(), &mut tracks);
    body.push(&bytes).expect("good media");
    body.finish(true).expect("a whole one");
    let (mut queues, mut at) = (Vec::new(), Vec::new());
    while let Some(came) = body.poll(&mut tracks).expect("good media") {
        match came {
            BodyOutput::Unit(queue, ..) => queues.push(queue),
            BodyOutput::Message(queue, _, message, _) => at.push((queue, message)),
            _ => {}
        }
    }
    let beside = |at: &(_, Option<u64>)| {
        at.0 == queues.iter().min().copied() && at.1.is_some_and(|at| (HZ / 2..2 * HZ + 77).contains(&at))
    };
    assert!(at.len() > 70 && at.iter().all(beside), "{at:?}");
}
