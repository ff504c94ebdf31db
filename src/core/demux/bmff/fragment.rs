//! `moof` (ISO 14496-12, 8.8.4): the samples of a fragment.

use std::time::Duration;

use mp4_atom::{Tfdt, Tfhd, Trex};

use super::boxes::Cursor;
use super::error::BmffError;
use super::four_cc::FourCc;
use super::limits::SAMPLES_MAX;
use super::movie::Movie;
use super::place::SamplePlace;
use super::track::{Handler, MovieTrack};

/// Times of sound that differ from the count of its frames by no more than this are rounded, or a frame off: a frame of HE-AAC
/// lasts 46 ms.
const AUDIO_DRIFT_MAX: Duration = Duration::from_millis(50);
/// sample_is_non_sync_sample (8.8.3.1).
const NON_SYNC: u32 = 1 << 16;

/// A fragment's samples, in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Fragment {
    /// The index of the track, and the sample.
    pub samples: Vec<(usize, SamplePlace)>,
    /// The end of each track's last sample, in case the track's next fragment has no time.
    pub ends: Vec<(usize, i64)>,
}

/// Reads a `moof`'s content. The box begins at `start`, its content at `at`. `ends` is where the tracks' fragments
/// before it ended, without edits.
pub(super) fn read(content: &[u8], start: u64, at: u64, movie: &Movie, ends: &[i64]) -> Result<Fragment, BmffError> {
    let mut moof = Cursor::new(FourCc(*b"moof"), at, content);
    let mut out = Fragment::default();
    // "the first track fragment's base-data-offset is the position of the first byte of the moof; for the others the end
    // of the data of the track fragment before" (8.8.7.1).
    let mut base = start;
    while let Some(child) = moof.child()? {
        if child.kind.0 == *b"traf" {
            base = traf(child, start, base, movie, ends, &mut out)?;
        }
    }
    out.samples.sort_by_key(|(_, place)| place.offset);
    Ok(out)
}

/// Returns the end of the track fragment's data.
fn traf(
    traf: Cursor<'_>,
    start: u64,
    before: u64,
    movie: &Movie,
    ends: &[i64],
    out: &mut Fragment,
) -> Result<u64, BmffError> {
    let header: Tfhd = traf.need(b"tfhd")?.decode()?;
    let id = header.track_id;
    let known = movie.tracks.iter().position(|track| track.id == id);
    let index = known.ok_or(BmffError::UnknownTrack { id })?;
    let track: &MovieTrack = &movie.tracks[index];
    let base = header.base_data_offset.unwrap_or(if header.default_base_is_moof { start } else { before });
    let mut defaults = track.defaults.clone();
    defaults.default_sample_duration = header.default_sample_duration.unwrap_or(defaults.default_sample_duration);
    defaults.default_sample_size = header.default_sample_size.unwrap_or(defaults.default_sample_size);
    defaults.default_sample_flags = header.default_sample_flags.unwrap_or(defaults.default_sample_flags);
    let end = ends.get(index).copied().unwrap_or(0);
    let mut time = match traf.find(b"tfdt")? {
        Some(tfdt) => i64::try_from(tfdt.decode::<Tfdt>()?.base_media_decode_time)
            .map_err(|_| tfdt.invalid("a time above 2^63"))?,
        None => end,
    };
    // Sound is counted by its frames: some muxers state times that are a frame off. The first one begins where it says.
    let drift = track.timescale.duration(time.abs_diff(end));
    if track.handler == Handler::Audio && end > 0 && drift <= AUDIO_DRIFT_MAX {
        time = end;
    }
    let mut at = base;
    let mut boxes = traf;
    while let Some(child) = boxes.child()? {
        if child.kind.0 == *b"trun" {
            at = trun(child, base, at, &defaults, (index, track.shift), &mut time, out)?;
        }
    }
    out.ends.push((index, time));
    Ok(at)
}

/// Reads a run of samples. `mp4_atom` doesn't do it, since it misreads a run that has both flags of its first sample
/// and flags of each sample.
fn trun(
    mut trun: Cursor<'_>,
    base: u64,
    follows: u64,
    defaults: &Trex,
    (index, shift): (usize, i64),
    time: &mut i64,
    out: &mut Fragment,
) -> Result<u64, BmffError> {
    let (_, flags) = trun.full()?;
    let count = trun.u32()?;
    let mut at = follows;
    if flags & 1 != 0 {
        let offset = trun.u32()?.cast_signed();
        at = base.checked_add_signed(offset.into()).ok_or_else(|| trun.invalid("a data offset before the file"))?;
    }
    let first = if flags & 4 != 0 { Some(trun.u32()?) } else { None };
    if out.samples.len().saturating_add(usize::try_from(count).unwrap_or(usize::MAX)) > SAMPLES_MAX {
        return Err(BmffError::Samples);
    }
    for n in 0..count {
        let duration = if flags & 0x100 != 0 { trun.u32()? } else { defaults.default_sample_duration };
        let len = if flags & 0x200 != 0 { trun.u32()? } else { defaults.default_sample_size };
        let own = if flags & 0x400 != 0 { Some(trun.u32()?) } else { None };
        // Signed in version 1 (8.8.8.2). Some muxers write signed offsets in version 0, too.
        let composition_offset = if flags & 0x800 != 0 { trun.u32()?.cast_signed() } else { 0 };
        let flags = first.filter(|_| n == 0).or(own).unwrap_or(defaults.default_sample_flags);
        let keyframe = flags & NON_SYNC == 0;
        let dts = time.saturating_add(shift);
        out.samples.push((index, SamplePlace { offset: at, len, dts, duration, composition_offset, keyframe }));
        *time = time.saturating_add(duration.into());
        at = at.checked_add(len.into()).ok_or_else(|| trun.invalid("samples beyond byte 2^64"))?;
    }
    Ok(at)
}
