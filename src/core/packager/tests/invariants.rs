//! The invariants of a packager's output, for any input.

use std::collections::BTreeMap;

use super::*;
use crate::model::Flags;

/// The samples of a part, read back by re_mp4, and its times checked on the way.
pub(crate) fn samples(record: &Record, header: &PartHeader, body: &Bytes) -> Vec<Bytes> {
    if header.flags.gap {
        return Vec::new();
    }
    let track = record.track(header.id.track).expect("a part's track is in the record");
    let init = track.inits.iter().find(|init| init.number == header.init).expect("a part's init is in the record");
    let file = [&init.bytes[..], &body[..]].concat();
    let mp4 = re_mp4::Mp4::read_bytes(&file).expect("init and part are an mp4 file");
    let [moof] = &mp4.moofs[..] else { panic!("{} moofs in a part", mp4.moofs.len()) };
    let [traf] = &moof.trafs[..] else { panic!("{} trafs", moof.trafs.len()) };
    let missing = traf.tfdt.as_ref().expect("a tfdt").base_media_decode_time.checked_sub(header.decode_time);
    let missing = missing.filter(|&missing| missing < u64::from(header.duration));
    let missing = missing.unwrap_or_else(|| panic!("its first unit isn't in {header:?}"));
    let [trun] = &traf.truns[..] else { panic!("{} truns", traf.truns.len()) };
    let lasts: u64 = trun.sample_durations.iter().map(|&d| u64::from(d)).sum();
    let last = u64::from(*trun.sample_durations.last().expect("a part has samples"));
    assert!(missing + lasts - last < u64::from(header.duration), "its last unit isn't in {header:?}");
    assert!(trun.sample_durations.iter().all(|&d| d > 0), "an empty sample in {header:?}");
    let sync = traf.tfhd.default_sample_flags.expect("default flags") & 1 << 16 == 0;
    let first = trun.first_sample_flags.or(trun.sample_flags.first().copied()).map(|flags| flags & 1 << 16 == 0);
    assert_eq!(first.unwrap_or(sync), header.flags.independent, "{header:?}");
    let prft = body.starts_with(&[0, 0, 0, 28]) || body.starts_with(&[0, 0, 0, 32]);
    assert!(prft && &body[4..8] == b"prft", "a part begins with {:?}", &body[..8]);
    let mut moof = init.bytes.len() + usize::from(body[3]);
    while &file[moof + 4..moof + 8] == b"emsg" {
        moof += u32::from_be_bytes(file[moof..moof + 4].try_into().expect("four")) as usize;
    }
    let mut at = moof + usize::try_from(trun.data_offset.expect("an offset")).expect("positive");
    let mut out = Vec::new();
    for &size in &trun.sample_sizes {
        out.push(Bytes::copy_from_slice(&file[at..at + size as usize]));
        at += size as usize;
    }
    assert_eq!(at, file.len(), "mdat has more than trun says");
    out
}

#[derive(Default)]
struct Checked {
    last: Option<PartHeader>,
    /// Ticks and parts of the segment under way.
    ticks: u64,
    began: u64,
    short: u32,
    date_time: Option<(Msn, UnixTime)>,
}

/// Asserts the invariants (docs/architecture.md) of records and parts. Says how many parts were below 85 %.
pub(crate) fn check_invariants(outputs: &[Output]) -> u32 {
    let mut record: Option<Record> = None;
    let mut tracks = BTreeMap::<TrackId, Checked>::new();
    let (mut discontinuities, mut short) = (BTreeMap::<Msn, u32>::new(), 0);
    for output in outputs {
        match output {
            Output::Diagnostic(_) | Output::Refused { .. } => {}
            Output::Record(new) => {
                if let Some(old) = &record {
                    check_records(old, new);
                    if old.life != new.life {
                        tracks.clear();
                    }
                }
                assert!(Record::decode(new.encode()).as_ref() == Ok(new), "a record doesn't survive the wire");
                record = Some(new.clone());
            }
            Output::Part { header, body } => {
                let record = record.as_ref().expect("a record comes before the first part");
                assert_eq!(header.id.epoch, record.epoch, "a part of another epoch than the record's");
                assert!(record.ended.is_none(), "a part after the end");
                assert!(header.matches(body));
                assert_eq!(header.flags.gap, body.is_empty());
                samples(record, header, body);
                let said = *discontinuities.entry(header.id.msn).or_insert(header.discontinuity);
                assert_eq!(said, header.discontinuity, "tracks differ in discontinuity at {}", header.id.msn);
                let period = record.periods.iter().rev().find(|p| p.first_msn <= header.id.msn).expect("a period");
                assert_eq!(period.discontinuity, header.discontinuity, "{header:?} {:?}", record.periods);
                short += check_part(tracks.entry(header.id.track).or_default(), record, header);
            }
        }
    }
    assert!(discontinuities.values().is_sorted(), "discontinuity goes back");
    for (id, checked) in &tracks {
        let last = checked.last.expect("it had a part");
        let others = tracks.values().filter_map(|checked| checked.last).map(|last| last.id.msn);
        assert!(others.max().is_none_or(|most| most <= last.id.msn + 5), "{id:?} stays behind");
    }
    short
}

fn check_records(old: &Record, new: &Record) {
    assert!(new.supersedes(old), "{:?} {} after {:?} {}", new.epoch, new.revision, old.epoch, old.revision);
    if old.life == new.life {
        let frozen =
            |r: &Record| (r.first_msn, r.target_duration, r.part_target, r.segment_duration, r.availability_start);
        assert_eq!(frozen(old), frozen(new));
        assert!(old.tracks.len() <= new.tracks.len(), "a track is taken away");
        for (old, new) in old.tracks.iter().zip(&new.tracks) {
            assert_eq!((&old.name, old.timescale, old.is_video()), (&new.name, new.timescale, new.is_video()));
        }
        assert!(old.ended.is_none(), "a record after the last");
    } else {
        let ended = old.ended.expect("a life ends before the next begins");
        assert!(new.life > old.life, "a life's id goes back");
        assert!(new.first_msn > ended, "MSN goes back");
        assert!(new.periods[0].discontinuity > old.periods.last().expect("a period").discontinuity);
    }
}

fn check_part(checked: &mut Checked, record: &Record, header: &PartHeader) -> u32 {
    let track = record.track(header.id.track).expect("checked before");
    let scale = track.timescale;
    let (id, ticks) = (header.id, u64::from(header.duration));
    assert!(ticks > 0, "{header:?}");
    let begins = match checked.last {
        None => (record.first_msn_of(id.track).max(id.msn), 0),
        Some(last) if last.flags.last => (last.id.msn + 1, 0),
        Some(last) => (last.id.msn, last.id.part + 1),
    };
    assert_eq!((id.msn, id.part), begins, "parts are numbered in a row");
    if let Some(last) = checked.last {
        assert!(header.decode_time >= last.decode_time + u64::from(last.duration), "{header:?} overlaps {last:?}");
        if last.discontinuity == header.discontinuity && !last.flags.last {
            assert_eq!(header.decode_time, last.decode_time + u64::from(last.duration), "a hole inside a segment");
        }
    }
    let most = record.part_target + scale.duration(1);
    assert!(scale.duration(ticks) <= most, "a part of {:?}: {header:?}", scale.duration(ticks));
    // rfc8216bis 4.4.3.7: at least 85 %, "exempt: INDEPENDENT, GAP, the part before a GAP, a segment's last".
    let mut short = 0;
    if let Some(last) = checked.last {
        let marked = |flags: Flags| flags.gap && !flags.held;
        let exempt = last.flags.last
            || last.flags.independent && record.tracks[0].id == id.track
            || marked(last.flags)
            || marked(header.flags);
        let share = scale.duration(last.duration.into()).as_secs_f64() / record.part_target.as_secs_f64();
        short = u32::from(!exempt && share < PART_SHARE_MIN);
        checked.short += short;
    }
    if id.part == 0 {
        (checked.ticks, checked.began) = (0, header.decode_time);
        let forced = Flags { forced: true, ..header.flags } == header.flags;
        let resumes = header.flags.gap || forced || header.flags.independent;
        assert!(resumes, "a segment begins without a keyframe: {header:?}");
        if let Some((msn, before)) = checked.date_time {
            assert!(header.program_date_time > before, "PROGRAM-DATE-TIME goes back from {msn} to {}", id.msn);
        }
        checked.date_time = Some((id.msn, header.program_date_time));
    }
    checked.ticks += ticks;
    if header.flags.last {
        // EXTINF, rounded to the nearest integer, is at most TARGETDURATION (rfc8216bis 4.4.3.1).
        let lasts = scale.duration(checked.ticks);
        let longest = record.target() + Duration::from_millis(500);
        assert!(lasts < longest, "a segment of {lasts:?} from {:?}: {header:?}", checked.began);
    }
    checked.last = Some(*header);
    short
}
