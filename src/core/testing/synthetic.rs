//! A made-up programme, for tests and bench: a record, and parts whose bodies are numbered noise.

use std::time::Duration;

use bytes::Bytes;

use crate::manifest::directives::Skip;
use crate::manifest::hls;
use crate::manifest::hls_history::HlsHistory;
use crate::manifest::listed::Listed;
use crate::model::time::{Time, Timescale, UnixTime};
use crate::model::{
    AudioInfo, Epoch, Flags, Init, LifeId, Msn, NodeId, PartHeader, PartId, Period, Record, SampleAspectRatio,
    StreamName, Trace, Track, TrackId, TrackKind, VideoInfo,
};
use crate::window::{Input, Window};

/// MSN of a programme's first segment.
pub const FIRST_MSN: Msn = 1_795_359_753;
/// Parts of a segment.
pub const PARTS: u16 = 10;
/// The video track.
pub const VIDEO: TrackId = TrackId(0);
/// The audio track.
pub const AUDIO: TrackId = TrackId(1);

/// A record of 2 s segments in 0.2 s parts: 720p30 video, and stereo sound.
pub fn record(name: &str) -> Record {
    let start = UnixTime::from_micros(u64::from(FIRST_MSN) * 1_000_000);
    let track = |id: TrackId, name: &str, hz: u32, codec: &str, bandwidth: u32, kind: TrackKind| Track {
        id,
        name: name.to_owned(),
        timescale: Timescale::new(hz).expect("not zero"),
        codec: codec.to_owned(),
        language: None,
        bandwidth,
        average_bandwidth: bandwidth * 9 / 10,
        kind,
        inits: vec![Init { number: 0, bytes: Bytes::from(format!("init of {name}")) }],
    };
    let pictures = TrackKind::Video(VideoInfo {
        width: 1280,
        height: 720,
        frame_rate_milli: 30_000,
        transfer: 2,
        sar: SampleAspectRatio::SQUARE,
    });
    let sound = TrackKind::Audio(AudioInfo { sample_rate: 48_000, channels: 2 });
    Record {
        stream: StreamName::parse(name).expect("a name"),
        life: LifeId(start.as_micros()),
        epoch: Epoch { counter: FIRST_MSN, node: NodeId(1) },
        revision: 0,
        first_msn: FIRST_MSN,
        target_duration: 2,
        part_target: Duration::from_millis(202),
        latency: Duration::from_millis(202) * 3,
        segment_duration: Duration::from_secs(2),
        messages: crate::model::Schemes::default(),
        availability_start: start,
        tracks: vec![
            track(VIDEO, "video", 90_000, "avc1.64001f", 3_000_000, pictures),
            track(AUDIO, "audio", 48_000, "mp4a.40.2", 128_000, sound),
        ],
        periods: vec![Period::new(FIRST_MSN, 0, Duration::ZERO)],
        ended: None,
    }
}

/// One part of a programme, with a body of `len` bytes.
pub fn part(record: &Record, track: TrackId, msn: Msn, part: u16, len: usize) -> (PartHeader, Bytes, Trace) {
    let scale = record.track(track).map_or(Timescale::MPEG, |t| t.timescale);
    // A part of 0.2 s is a whole number of ticks in both timescales.
    let duration = scale.hz() / 5;
    let index = u64::from(msn.saturating_sub(record.first_msn)) * u64::from(PARTS) + u64::from(part);
    let decode_time = index * u64::from(duration);
    let video = record.track(track).is_none_or(Track::is_video);
    let seed = blake3::hash(format!("{}/{}.{part}", track.0, msn).as_bytes());
    let body: Vec<u8> = seed.as_bytes().iter().copied().cycle().take(len).collect();
    let start = record.availability_start + scale.duration(decode_time);
    let period = record.periods.iter().rfind(|p| p.first_msn <= msn);
    let header = PartHeader {
        id: PartId { epoch: record.epoch, track, msn, part },
        decode_time,
        duration,
        program_date_time: start,
        ingested: start + Duration::from_millis(200),
        init: 0,
        discontinuity: period.map_or(0, |p| p.discontinuity),
        flags: Flags { independent: !video || part == 0, last: part + 1 == PARTS, ..Flags::default() },
        length: u32::try_from(len).expect("a part's length"),
        hash: blake3::hash(&body).into(),
    };
    (header, Bytes::from(body), Trace { packaging_us: Some(0), hops: Vec::new() })
}

/// A window fed part by part, on a clock of its own.
#[derive(Debug)]
pub struct Feed {
    /// What has been fed.
    pub window: Window,
    /// Its newest record.
    pub record: Record,
    now: Time,
}

impl Feed {
    /// An empty window that knows `record`.
    pub fn new(record: Record) -> Self {
        let mut feed = Feed { window: Window::new(record.stream.clone()), record, now: Time::ZERO };
        feed.update(|_| {});
        feed
    }

    /// The next revision of the record.
    pub fn update(&mut self, change: impl FnOnce(&mut Record)) {
        change(&mut self.record);
        self.record.revision += 1;
        self.window.handle(self.now, Input::Record(self.record.clone()));
    }

    /// One part.
    pub fn part(&mut self, track: TrackId, msn: Msn, part: u16) {
        let (header, body, trace) = self::part(&self.record, track, msn, part, 1_000);
        self.window.handle(self.now, Input::Part { header, body, trace, received: self.now });
    }

    /// All tracks' parts of the segments `from..to` after the first, and `more` parts of the next.
    pub fn run(&mut self, from: u32, to: u32, more: u16) -> &mut Self {
        let parts = (from..to).flat_map(|s| (0..PARTS).map(move |p| (s, p))).chain((0..more).map(|p| (to, p)));
        for (segment, part) in parts {
            for id in (0..TrackId::COUNT_MAX).map(TrackId).take(self.record.tracks.len()) {
                self.part(id, FIRST_MSN + segment, part);
            }
        }
        self
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.window.handle(self.now, Input::Timeout);
    }
}

/// Twenty whole segments, and three parts of the next.
pub fn live() -> Feed {
    let mut feed = Feed::new(record("cam1"));
    feed.run(0, 20, 3);
    feed
}

/// A part of the newest segment was lost.
pub fn lost_part() -> Feed {
    let mut feed = live();
    for part in [3, 4, 6, 7, 8, 9] {
        feed.part(VIDEO, FIRST_MSN + 20, part);
    }
    feed.pass(Duration::from_millis(606));
    feed
}

/// The publisher was gone, and has returned: a discontinuity.
pub fn returned() -> Feed {
    let mut feed = live();
    feed.run(20, 21, 0);
    feed.update(|r| {
        let start = Duration::from_secs(42);
        r.periods.push(Period::new(FIRST_MSN + 21, 1, start));
    });
    feed.run(21, 22, 4);
    feed
}

/// Two renditions, and sound in two languages.
pub fn ladder() -> Feed {
    let mut record = record("cam1");
    let (high, sound) = (record.tracks[0].clone(), record.tracks[1].clone());
    let german = Track { name: "audio_de".to_owned(), language: Some("de".to_owned()), ..sound.clone() };
    record.tracks = vec![Track { name: "720p".to_owned(), ..high.clone() }, smaller(&high, "360p"), sound, german];
    renumber(&mut record.tracks);
    record.periods[0].tracks = record.tracks.iter().map(|t| t.id).collect();
    let mut feed = Feed::new(record);
    feed.run(0, 20, 3);
    feed
}

/// The same, with one rendition more from a segment's start on.
pub fn late_rendition() -> Feed {
    let mut feed = ladder();
    feed.run(20, 21, 0);
    feed.update(|r| {
        r.tracks.push(smaller(&r.tracks[0], "180p"));
        renumber(&mut r.tracks);
        let start = Duration::from_secs(42);
        let tracks = r.tracks.iter().map(|t| t.id).collect();
        r.periods.push(Period { tracks, continues: true, ..Period::new(FIRST_MSN + 21, 0, start) });
    });
    feed.run(21, 22, 4);
    feed
}

fn smaller(track: &Track, name: &str) -> Track {
    let pictures = TrackKind::Video(VideoInfo {
        width: 640,
        height: 360,
        frame_rate_milli: 30_000,
        transfer: 2,
        sar: SampleAspectRatio::SQUARE,
    });
    let (bandwidth, average_bandwidth) = (track.bandwidth / 3, track.average_bandwidth / 3);
    let codec = "avc1.64001e".to_owned();
    Track { name: name.to_owned(), codec, bandwidth, average_bandwidth, kind: pictures, ..track.clone() }
}

fn renumber(tracks: &mut [Track]) {
    for (track, id) in tracks.iter_mut().zip(0..) {
        track.id = TrackId(id);
    }
}

/// The life has ended.
pub fn ended() -> Feed {
    let mut feed = live();
    feed.run(20, 21, 0);
    feed.update(|r| r.ended = Some(FIRST_MSN + 20));
    feed
}

/// A programme of one track.
pub fn only(track: TrackId) -> Feed {
    let mut record = self::record("cam1");
    record.tracks.retain(|t| t.id == track);
    for t in &mut record.tracks {
        t.id = TrackId(0);
    }
    let mut feed = Feed::new(record);
    feed.run(0, 3, 2);
    feed
}

/// The whole media playlist of a track.
pub fn playlist<'a>(of: impl Into<Listed<'a>>, track: TrackId) -> Option<String> {
    hls::media(of, &mut HlsHistory::default(), track, Skip::Nothing)
}
