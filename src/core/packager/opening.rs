//! The tracks and the record with which a presentation begins.

use std::time::Duration;

use super::align::Aligned;
use super::plan::{FRAME_RATE_MIN, FRAME_RATE_UNKNOWN, Gops, Plan, frame_rate_milli, measure, unit_duration};
use super::publishers::Publishers;
use super::settings::Settings;
use super::start_numbers::StartNumbers;
use super::track::TrackMuxer;
use super::track_names::{Named, names};
use super::unit::InputUnit;
use crate::codec::codec::Codec;
use crate::model::time::{Timescale, UnixTime};
use crate::model::{InputClock, InputTrack, LifeId, PushId, Record, Schemes, StreamName, TrackId};

/// The shortest time from which a bit rate is computed before the first segment is complete.
const RATE_SPAN_MIN: Duration = Duration::from_secs(1);

/// A new presentation.
#[derive(Debug)]
pub(super) struct Opening {
    /// The record, without its tracks.
    pub record: Record,
    pub plan: Plan,
    /// A GOP is longer than what was measured.
    pub irregular: bool,
    /// The longest GOP seen.
    pub longest_gop: Option<Duration>,
    pub tracks: Vec<(InputTrack, TrackMuxer)>,
}

/// The units of a track so far.
struct Seen<'a> {
    named: Named,
    codec: &'a Codec,
    unit: Option<&'a [u8]>,
    gops: Option<Gops>,
    rate_milli: u32,
    bandwidth: u32,
}

impl<'a> Seen<'a> {
    fn new(named: Named, publishers: &'a Publishers, units: &'a [InputUnit], clock: InputClock) -> Option<Seen<'a>> {
        let codec = &publishers.source(named.input)?.codec;
        let own = || units.iter().filter(|unit| unit.track == named.input);
        let stamps: Vec<i64> = own().map(|unit| unit.dts).collect();
        let rate = frame_rate_milli(&stamps, clock, codec.frame_rate_milli()).unwrap_or(FRAME_RATE_UNKNOWN);
        Some(Seen {
            codec,
            unit: own().next().map(|unit| &unit.data[..]),
            gops: codec.is_video().then(|| Gops::measure(own(), clock)),
            rate_milli: rate.max(FRAME_RATE_MIN),
            bandwidth: bit_rate(own(), clock.scale),
            named,
        })
    }
}

/// Decides the values that a presentation freezes, from the units of the leading push and of those that begin with it.
pub(super) fn open(
    stream: &StreamName,
    settings: &Settings,
    lead: PushId,
    publishers: &Publishers,
    aligned: &Aligned,
    start: StartNumbers,
) -> Option<Opening> {
    let publisher = publishers.get(lead)?;
    let (clock, units) = (publisher.clock, &aligned.units[..]);
    let named = names(lead, publishers, units).into_iter();
    let seen: Vec<Seen> = named.filter_map(|named| Seen::new(named, publishers, units, clock)).collect();
    let lasts = |seen: &Seen| (seen.codec.is_video(), unit_duration(seen.codec, seen.unit, seen.rate_milli));
    // Pictures that are announced and haven't come may have long GOPs.
    let unseen = Gops::default();
    let missing = publisher.announced.video == Some(true) && !seen.iter().any(|seen| seen.codec.is_video());
    let gops = seen.first().and_then(|seen| seen.gops.as_ref()).or(missing.then_some(&unseen));
    let longest_gop = gops.and_then(|gops| gops.complete.iter().max().copied());
    let (plan, irregular) = measure(settings, clock, &seen.iter().map(lasts).collect::<Vec<_>>(), gops);
    let began = units.iter().map(|unit| unit.origin(aligned.base, clock.scale)).min().unwrap_or_default();
    let began = UnixTime::from_micros(began.as_millis() * 1_000);
    let record = Record {
        stream: stream.clone(),
        life: LifeId(start.life.max(began.as_micros())),
        epoch: start.epoch.map_or(publisher.epoch, |epoch| epoch.max(publisher.epoch)),
        revision: start.revision,
        first_msn: start.msn,
        target_duration: plan.target_duration,
        part_target: plan.part_target,
        latency: settings.latency.max(plan.part_target * 3),
        segment_duration: plan.segment,
        messages: Schemes::default(),
        availability_start: began,
        tracks: Vec::new(),
        periods: Vec::new(),
        ended: None,
    };
    let muxer = |(id, seen): (u8, Seen)| {
        let (name, rates) = ((seen.named.name, seen.named.language), (seen.rate_milli, seen.bandwidth));
        (seen.named.input, TrackMuxer::with_codec(TrackId(id), name, seen.codec, rates, seen.unit, &record))
    };
    let tracks = (0..).zip(seen).map(muxer).collect();
    Some(Opening { record, plan, irregular, longest_gop, tracks })
}

/// Returns the bit rate of some units; 0 if they are too few.
fn bit_rate<'a>(units: impl Iterator<Item = &'a InputUnit> + Clone, scale: Timescale) -> u32 {
    let stamps = units.clone().map(|unit| unit.dts);
    let (Some(first), Some(last)) = (stamps.clone().min(), stamps.max()) else { return 0 };
    let span = scale.duration(u64::try_from(last.saturating_sub(first)).unwrap_or(0));
    if span < RATE_SPAN_MIN {
        return 0;
    }
    let bytes: usize = units.map(|unit| unit.data.len()).sum();
    u32::try_from(bytes as u128 * 8_000_000 / span.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::{asc, avcc};
    use super::*;
    use crate::packager::publishers::tests::{attached, track_unit};

    const LEAD: PushId = PushId(0);
    const VIDEO: InputTrack = InputTrack(0);
    const AUDIO: InputTrack = InputTrack(1);

    /// A presentation of pictures at 25 fps in GOPs of a second, and sound.
    fn opened(frames: i64, start: StartNumbers) -> Opening {
        let mut publishers = attached(&[(LEAD, None)]);
        publishers.configure(VIDEO, &avcc());
        publishers.configure(AUDIO, &asc());
        let pair = |n: i64| [track_unit(VIDEO, n * 40, n % 25 == 0), track_unit(AUDIO, n * 40, true)];
        let aligned = Aligned { units: (0..frames).flat_map(pair).collect(), base: 0, others: BTreeMap::new() };
        let stream = StreamName::parse("cam1").expect("a name");
        open(&stream, &Settings::default(), LEAD, &publishers, &aligned, start).expect("a publisher")
    }

    #[test]
    fn what_is_measured_is_frozen() {
        let opening = opened(51, StartNumbers { msn: 7, ..StartNumbers::default() });
        assert_eq!((opening.record.segment_duration, opening.irregular), (Duration::from_secs(2), false));
        assert_eq!((opening.record.target_duration, opening.record.first_msn), (2, 7));
        assert_eq!(opening.record.part_target, opening.plan.part_target);
        assert_eq!(opening.record.availability_start, UnixTime::from_micros(1_000_000_000));
        let tracks: Vec<_> = opening.tracks.iter().map(|(input, muxer)| (*input, &muxer.track().name[..])).collect();
        assert_eq!(tracks, [(VIDEO, "video"), (AUDIO, "audio")]);
        assert_eq!(opening.tracks[0].1.track().bandwidth, 175 * 8 / 2);
        let short = opened(10, StartNumbers::default());
        assert_eq!((short.tracks[0].1.track().bandwidth, short.irregular), (0, true), "too short to tell");
    }

    #[test]
    fn nothing_goes_back_from_one_to_the_next() {
        let first = opened(51, StartNumbers::default()).record;
        let second = opened(51, StartNumbers::after(&first, 20, 3)).record;
        assert!(second.life > first.life && second.first_msn == 21);
        assert_eq!((second.epoch, second.revision), (first.epoch, first.revision));
    }
}
