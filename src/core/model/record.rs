//! The record of a presentation: what playlists and MPDs say beyond the parts' headers.
//!
//! The ingest node writes it. Every member of the swarm holds the newest revision. An ingest node that restarts reads it and
//! goes on. The record freezes for the whole presentation (docs/architecture.md, Invariants): `target_duration`,
//! `part_target`, `latency`, `availability_start`, and the tracks' order, kinds, names and timescales. A track that comes
//! late is appended, and never removed.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::id::{Epoch, LifeId, Msn, StreamName, TrackId};
use super::scheme::Schemes;
use super::time::{Timescale, UnixTime};
use super::wire::{self, Fault, Reader, WireError, put_micros};

/// Holds what playlists and MPDs say about a presentation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The stream.
    pub stream: StreamName,
    /// The presentation of the stream.
    pub life: LifeId,
    /// The publisher that wrote this revision.
    pub epoch: Epoch,
    /// The revision; it goes up with each change within an epoch.
    pub revision: u32,
    /// MSN of the presentation's first segment: the Unix time of its start in seconds, or more.
    pub first_msn: Msn,
    /// EXT-X-TARGETDURATION, in seconds.
    pub target_duration: u32,
    /// EXT-X-PART-INF PART-TARGET, in whole milliseconds.
    pub part_target: Duration,
    /// The distance from the live edge that low-latency players keep: PART-HOLD-BACK, at least 3 x PART-TARGET ("SHOULD
    /// be at least three times the Part Target Duration", rfc8216bis 4.4.3.8; Apple's guide says must), and the MPD's `Latency@target`.
    pub latency: Duration,
    /// The segment length that the packager aims at; the MPD's `@duration`.
    pub segment_duration: Duration,
    /// The kinds of timed metadata that have come so far.
    pub messages: Schemes,
    /// The MPD's availabilityStartTime: the wallclock of media time 0.
    pub availability_start: UnixTime,
    /// All tracks; a track's id is its index. The order is frozen: new ones come behind.
    pub tracks: Vec<Track>,
    /// The presentation's periods, oldest first; never empty. Periods that have left every window may be dropped.
    pub periods: Vec<Period>,
    /// The presentation's last MSN, once it has ended: ENDLIST, a static MPD.
    pub ended: Option<Msn>,
}

/// A stretch without a discontinuity in which the same tracks are sent: a DASH Period ("Representations are neither
/// added to a Period nor removed from it", DASH-IF live, 4.4.3.3). A period that [continues](Period::continues)
/// the one before it is no period to HLS, where a rendition comes and goes without EXT-X-DISCONTINUITY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Period {
    /// MSN of its first segment.
    pub first_msn: Msn,
    /// The discontinuity sequence number, counted from the stream's first presentation.
    pub discontinuity: u32,
    /// Period@start, from availabilityStartTime: the media time at which its first segment begins.
    pub start: Duration,
    /// The tracks that have segments; the others number gaps.
    pub tracks: TrackSet,
    /// Media goes on from the period before without a discontinuity: only the tracks differ.
    pub continues: bool,
}

/// Holds some of a record's tracks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TrackSet(pub u64);

const _: () = assert!(TrackId::COUNT_MAX as u32 <= u64::BITS);

impl TrackSet {
    /// Every track.
    pub const ALL: TrackSet = TrackSet(u64::MAX);

    /// Returns whether the set has the track.
    pub fn contains(self, id: TrackId) -> bool {
        1u64.checked_shl(id.0.into()).is_some_and(|bit| self.0 & bit != 0)
    }

    /// Returns the set with the track.
    #[must_use]
    pub fn with(self, id: TrackId) -> TrackSet {
        TrackSet(self.0 | 1u64.checked_shl(id.0.into()).unwrap_or(0))
    }
}

impl FromIterator<TrackId> for TrackSet {
    fn from_iter<I: IntoIterator<Item = TrackId>>(ids: I) -> Self {
        ids.into_iter().fold(TrackSet::default(), TrackSet::with)
    }
}

/// Describes one elementary stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Track {
    /// The track's index in [`Record::tracks`].
    pub id: TrackId,
    /// The track's path segment, unique in the stream: `video`, `audio`, `video1`, `audio_de`.
    pub name: String,
    /// Units of `decode_time` and `duration`.
    pub timescale: Timescale,
    /// RFC 6381 codecs string, as read from the codec's own headers.
    pub codec: String,
    /// BCP 47 language, if known.
    pub language: Option<String>,
    /// Peak bit rate of any segment so far, in bits/s; 0 before the first one is measured.
    pub bandwidth: u32,
    /// Mean bit rate over the segments so far, in bits/s.
    pub average_bandwidth: u32,
    /// The kind of the track, with the facts of that kind.
    pub kind: TrackKind,
    /// The track's newest init segments, oldest first; never empty.
    pub inits: Vec<Init>,
}

/// Says what a track carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrackKind {
    /// Pictures.
    Video(VideoInfo),
    /// Sound.
    Audio(AudioInfo),
}

/// Holds the facts of a video track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VideoInfo {
    /// In pixels, cropped.
    pub width: u16,
    /// In pixels, cropped.
    pub height: u16,
    /// Frames in a thousand seconds: 29970 is 29.97 fps; 0 if unknown.
    pub frame_rate_milli: u32,
    /// TransferCharacteristics (ISO 23091-2): 16 is PQ, 18 HLG; 2 if unknown.
    pub transfer: u8,
    /// The shape of a pixel.
    pub sar: SampleAspectRatio,
}

/// The width of a pixel to its height, in lowest terms (H.264 E.2.1, sar_width and sar_height).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SampleAspectRatio {
    /// Never 0.
    pub width: u16,
    /// Never 0.
    pub height: u16,
}

impl SampleAspectRatio {
    /// Pixels as wide as high.
    pub const SQUARE: SampleAspectRatio = SampleAspectRatio { width: 1, height: 1 };

    /// Returns the ratio; square where one of both is 0, which means that it isn't specified.
    pub fn new(width: u16, height: u16) -> Self {
        let (mut divisor, mut rest) = (width, height);
        while rest != 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        if width == 0 || height == 0 {
            return Self::SQUARE;
        }
        SampleAspectRatio { width: width / divisor, height: height / divisor }
    }

    /// Returns how wide `width` pixels are shown, counted in pixels as wide as high.
    pub fn display_width(self, width: u16) -> u16 {
        let (of, to) = (u32::from(self.width), u32::from(self.height));
        u16::try_from((u32::from(width) * of + to / 2) / to).unwrap_or(u16::MAX).max(1)
    }
}

/// Holds the facts of an audio track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AudioInfo {
    /// In Hz.
    pub sample_rate: u32,
    /// EXT-X-MEDIA CHANNELS.
    pub channels: u8,
}

/// Holds an init segment (`ftyp` and `moov`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Init {
    /// The number in its name: `init.{number}.mp4`.
    pub number: u16,
    /// The bytes of the init segment.
    pub bytes: Bytes,
}

impl Record {
    /// The longest encoded record, in bytes.
    pub const LEN_MAX: usize = 1 << 20;
    /// Most init segments that are kept of a track.
    pub const INITS_MAX: usize = 16;
    /// Most periods that are kept.
    pub const PERIODS_MAX: usize = 256;
    /// The longest latency that can be set. Three long parts may be longer.
    pub const LATENCY_MAX: Duration = Duration::from_secs(10);
    const INIT_LEN_MAX: usize = 16 << 10;
    /// 2: periods have tracks. 3: the latency can be set. 4: timed metadata, transfer characteristics.
    /// 5: sample aspect ratios.
    const VERSION: u8 = 5;

    /// Returns the track with this id.
    pub fn track(&self, id: TrackId) -> Option<&Track> {
        self.tracks.get(usize::from(id.0))
    }

    /// Returns the track with this path segment.
    pub fn track_named(&self, name: &str) -> Option<&Track> {
        self.tracks.iter().find(|t| t.name == name)
    }

    /// Returns the first segment of a track, which is later than the presentation's if the track came late.
    pub fn first_msn_of(&self, id: TrackId) -> Msn {
        match self.periods.iter().position(|period| period.tracks.contains(id)) {
            Some(late) if late > 0 => self.periods[late].first_msn,
            _ => self.first_msn,
        }
    }

    /// Returns whether a track came, or came back, after the oldest period in the record.
    pub fn is_late(&self, id: TrackId) -> bool {
        self.periods.first().is_some_and(|period| !period.tracks.contains(id))
    }

    /// Returns whether a track is sent at present. A rendition that has stopped is numbered in gaps until it returns.
    pub fn is_sent(&self, id: TrackId) -> bool {
        self.periods.last().is_none_or(|period| period.tracks.contains(id))
    }

    /// Returns EXT-X-TARGETDURATION.
    pub fn target(&self) -> Duration {
        Duration::from_secs(u64::from(self.target_duration))
    }

    /// Returns the longest that a segment may be, to the millisecond: "The EXTINF duration of each Media Segment [...], when
    /// rounded to the nearest integer, MUST be less than or equal to the Target Duration" (rfc8216bis 4.4.3.1).
    pub fn segment_longest(&self) -> Duration {
        self.target() + Duration::from_millis(499)
    }

    /// Returns how much a playlist lists: max(30 s, 7 x TARGETDURATION).
    pub fn playlist_duration(&self) -> Duration {
        (self.target() * 7).max(Duration::from_secs(30))
    }

    /// Returns how many segments of a track a node holds, with the segment under way: what the playlist lists and
    /// 4 x TARGETDURATION more, so that players can fetch a segment that has left the playlist (rfc8216bis 6.2.2).
    pub fn held_segments(&self) -> u32 {
        let held = self.playlist_duration() + self.target() * 4;
        u32::try_from(held.as_micros().div_ceil(self.segment_duration.as_micros().max(1)))
            .unwrap_or(u32::MAX)
            .saturating_add(2)
    }

    /// Returns HOLD-BACK: 3 x TARGETDURATION.
    pub fn hold_back(&self) -> Duration {
        self.target() * 3
    }

    /// Returns whether this record replaces `other`: a higher epoch, or a higher revision of the same.
    pub fn supersedes(&self, other: &Record) -> bool {
        (self.epoch, self.revision) > (other.epoch, other.revision)
    }

    /// Returns the record as a message body.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(Self::VERSION);
        wire::put_text(&mut out, self.stream.as_str());
        out.put_u64(self.life.0);
        self.epoch.encode(&mut out);
        out.put_u32(self.revision);
        out.put_u32(self.first_msn);
        out.put_u32(self.target_duration);
        put_micros(&mut out, self.part_target);
        put_micros(&mut out, self.latency);
        put_micros(&mut out, self.segment_duration);
        out.put_u8(self.messages.0);
        out.put_u64(self.availability_start.as_micros());
        out.put_u8(self.ended.is_some().into());
        out.put_u32(self.ended.unwrap_or(0));
        wire::put_count(&mut out, self.periods.len());
        for period in &self.periods {
            period.encode(&mut out);
        }
        wire::put_count(&mut out, self.tracks.len());
        for track in &self.tracks {
            track.encode(&mut out);
        }
        out.freeze()
    }

    /// Reads a record.
    pub fn decode(body: Bytes) -> Result<Self, WireError> {
        let r = &mut Reader::new(body);
        if r.u8("record version")? != Self::VERSION {
            return Err(r.fault("record version", Fault::Invalid));
        }
        let record = Record {
            stream: StreamName::decode(r)?,
            life: LifeId(r.u64("presentation")?),
            epoch: Epoch::decode(r)?,
            revision: r.u32("revision")?,
            first_msn: r.u32("first msn")?,
            target_duration: r.u32("target duration")?,
            part_target: r.micros("part target")?,
            latency: r.micros("latency")?,
            segment_duration: r.micros("segment duration")?,
            messages: Schemes(r.u8("messages")?),
            availability_start: UnixTime::from_micros(r.u64("availability start")?),
            ended: Some((r.flag("ended")?, r.u32("last msn")?)).filter(|(ended, _)| *ended).map(|(_, last)| last),
            periods: r.list(Self::PERIODS_MAX, Period::WIRE_LEN, "periods", |r, _| Period::decode(r))?,
            tracks: r.list(usize::from(TrackId::COUNT_MAX), 16, "tracks", |r, id| Track::decode(id, r))?,
        };
        match record.invalid() {
            Some(what) => Err(r.fault(what, Fault::Invalid)),
            None => Ok(record),
        }
    }

    /// Returns a field whose value no node may have sent.
    fn invalid(&self) -> Option<&'static str> {
        let longest = self.target() + Duration::from_secs(1);
        let lasts = |duration: Duration| !duration.is_zero() && duration <= longest;
        if !(1..=3_600).contains(&self.target_duration) {
            return Some("target duration");
        }
        if !lasts(self.part_target) || !lasts(self.segment_duration) {
            return Some("part target or segment duration");
        }
        let least = self.part_target * 3;
        if self.latency < least || self.latency > Self::LATENCY_MAX.max(least) {
            return Some("latency");
        }
        self.periods.is_empty().then_some("periods")
    }
}

impl Period {
    /// A period's length on the wire, in bytes.
    pub const WIRE_LEN: usize = 4 + 4 + 8 + 8 + 1;

    /// Returns a period of all tracks that begins with a discontinuity.
    pub fn new(first_msn: Msn, discontinuity: u32, start: Duration) -> Self {
        Period { first_msn, discontinuity, start, tracks: TrackSet::ALL, continues: false }
    }

    /// Appends the period.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.first_msn);
        out.put_u32(self.discontinuity);
        put_micros(out, self.start);
        out.put_u64(self.tracks.0);
        out.put_u8(self.continues.into());
    }

    /// Reads a period.
    pub fn decode(r: &mut Reader) -> Result<Self, WireError> {
        Ok(Period {
            first_msn: r.u32("period msn")?,
            discontinuity: r.u32("period discontinuity")?,
            start: r.micros("period start")?,
            tracks: TrackSet(r.u64("period tracks")?),
            continues: r.flag("period continues")?,
        })
    }
}

impl Track {
    /// Returns whether this is a video track.
    pub fn is_video(&self) -> bool {
        matches!(self.kind, TrackKind::Video(_))
    }

    fn encode(&self, out: &mut BytesMut) {
        wire::put_text(out, &self.name);
        out.put_u32(self.timescale.hz());
        wire::put_text(out, &self.codec);
        wire::put_text(out, self.language.as_deref().unwrap_or(""));
        out.put_u32(self.bandwidth);
        out.put_u32(self.average_bandwidth);
        match self.kind {
            TrackKind::Video(v) => {
                out.put_u8(0);
                out.put_u16(v.width);
                out.put_u16(v.height);
                out.put_u32(v.frame_rate_milli);
                out.put_u8(v.transfer);
                out.put_u16(v.sar.width);
                out.put_u16(v.sar.height);
            }
            TrackKind::Audio(a) => {
                out.put_u8(1);
                out.put_u32(a.sample_rate);
                out.put_u8(a.channels);
            }
        }
        wire::put_count(out, self.inits.len());
        for init in &self.inits {
            out.put_u16(init.number);
            wire::put_blob(out, &init.bytes);
        }
    }

    fn decode(id: usize, r: &mut Reader) -> Result<Self, WireError> {
        let track = Track {
            id: TrackId(u8::try_from(id).expect("below COUNT_MAX")),
            name: r.text(64, "track name")?,
            timescale: Timescale::new(r.u32("timescale")?).ok_or_else(|| r.fault("timescale", Fault::Invalid))?,
            codec: r.text(64, "codec")?,
            language: Some(r.text(64, "language")?).filter(|language| !language.is_empty()),
            bandwidth: r.u32("bandwidth")?,
            average_bandwidth: r.u32("average bandwidth")?,
            kind: TrackKind::decode(r)?,
            inits: r.list(Record::INITS_MAX, 6, "init segments", |r, _| Init::decode(r))?,
        };
        let printable = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'<' && b != b'&');
        let valid = StreamName::check(&track.name).is_ok()
            && printable(&track.codec)
            && track.language.as_deref().is_none_or(printable)
            && !track.inits.is_empty();
        if valid { Ok(track) } else { Err(r.fault("track", Fault::Invalid)) }
    }
}

impl TrackKind {
    fn decode(r: &mut Reader) -> Result<Self, WireError> {
        match r.u8("track kind")? {
            0 => Ok(TrackKind::Video(VideoInfo {
                width: r.u16("width")?,
                height: r.u16("height")?,
                frame_rate_milli: r.u32("frame rate")?,
                transfer: r.u8("transfer")?,
                sar: SampleAspectRatio::new(r.u16("sample aspect ratio")?, r.u16("sample aspect ratio")?),
            })),
            1 => Ok(TrackKind::Audio(AudioInfo { sample_rate: r.u32("sample rate")?, channels: r.u8("channels")? })),
            _ => Err(r.fault("track kind", Fault::Invalid)),
        }
    }
}

impl Init {
    fn decode(r: &mut Reader) -> Result<Self, WireError> {
        Ok(Init { number: r.u16("init number")?, bytes: r.blob(Record::INIT_LEN_MAX, "init segment")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeId;

    #[test]
    fn pixels_have_a_shape() {
        let check = |ratio: (u16, u16), lowest: (u16, u16), width: u16, shown: u16| {
            let sar = SampleAspectRatio::new(ratio.0, ratio.1);
            assert_eq!(((sar.width, sar.height), sar.display_width(width)), (lowest, shown), "{ratio:?}");
        };
        check((64, 45), (64, 45), 360, 512);
        check((32, 22), (16, 11), 352, 512);
        check((8, 9), (8, 9), 720, 640);
        check((0, 1), (1, 1), 640, 640);
        check((1, 0), (1, 1), 640, 640);
        check((u16::MAX, 1), (u16::MAX, 1), u16::MAX, u16::MAX);
        check((1, u16::MAX), (1, u16::MAX), 1, 1);
    }

    #[test]
    fn records_survive_the_wire() {
        let record = Record {
            stream: StreamName::parse("cam1").expect("a name"),
            life: LifeId(7),
            epoch: Epoch { counter: 3, node: NodeId(4) },
            revision: 5,
            first_msn: 1_795_359_753,
            target_duration: 2,
            part_target: Duration::from_millis(202),
            latency: Duration::from_millis(606),
            segment_duration: Duration::from_secs(2),
            messages: super::super::scheme::Schemes::default(),
            availability_start: UnixTime::from_micros(1_795_359_753_000_000),
            tracks: vec![Track {
                id: TrackId(0),
                name: "video".to_owned(),
                timescale: Timescale::MPEG,
                codec: "avc1.64001f".to_owned(),
                language: Some("de".to_owned()),
                bandwidth: 3_000_000,
                average_bandwidth: 2_500_000,
                kind: TrackKind::Video(VideoInfo {
                    width: 1280,
                    height: 720,
                    frame_rate_milli: 30_000,
                    transfer: 2,
                    sar: SampleAspectRatio::new(16, 11),
                }),
                inits: vec![Init { number: 0, bytes: Bytes::from_static(b"moov") }],
            }],
            periods: vec![
                Period::new(1_795_359_753, 0, Duration::ZERO),
                Period {
                    tracks: [TrackId(0), TrackId(63)].into_iter().collect(),
                    continues: true,
                    ..Period::new(1_795_359_763, 0, Duration::from_secs(20))
                },
            ],
            ended: Some(9),
        };
        let bytes = record.encode();
        assert_eq!(Record::decode(bytes.clone()), Ok(record));
        for cut in 0..bytes.len() {
            assert!(Record::decode(bytes.slice(..cut)).is_err(), "cut at {cut}");
        }
    }
}
