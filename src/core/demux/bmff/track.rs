//! `trak` (ISO 14496-12, 8.3.1): one track, and its times on the file's clock.

use bytes::Bytes;
use mp4_atom::Trex;

use super::boxes::Cursor;
use super::error::{BmffError, UnusableTrack};
use super::four_cc::FourCc;
use super::place::{CLOCK, SamplePlace};
use super::sample_entry;
use super::sample_table::{SampleTable, Samples};
use crate::codec::nal::NalTrack;
use crate::model::CodecConfig;
use crate::model::input_clock::rescale;
use crate::model::time::Timescale;

/// The kind of a track (8.4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handler {
    /// `vide`: pictures.
    Video,
    /// `soun`: sound.
    Audio,
    /// Another kind: text, metadata, hints.
    Other(FourCc),
}

/// One track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MovieTrack {
    /// track_ID.
    pub id: u32,
    /// The kind of track.
    pub handler: Handler,
    /// The scale of its times.
    pub timescale: Timescale,
    /// The language in ISO 639-2, or in BCP 47 where `elng` gives it; `None` where it is undetermined.
    pub language: Option<String>,
    /// The difference of presentation and media times, in ticks: a first edit (8.6.6).
    pub shift: i64,
    /// The sample entry's name.
    pub entry: FourCc,
    /// The codec's headers; `Ok(None)` if they come with the samples.
    pub config: Result<Option<CodecConfig>, UnusableTrack>,
    /// How its samples are searched for headers.
    pub(super) nal: Option<NalTrack>,
    /// The samples of a plain file.
    pub(super) table: SampleTable,
    /// The defaults of its fragments.
    pub(super) defaults: Trex,
}

impl MovieTrack {
    pub(super) fn read(trak: Cursor<'_>, moov: &Bytes, movie_scale: u64) -> Result<MovieTrack, BmffError> {
        let mut header = trak.need(b"tkhd")?;
        header.dated()?;
        let id = header.u32()?;
        let mdia = trak.need(b"mdia")?;
        let mut header = mdia.need(b"mdhd")?;
        let version = header.dated()?;
        let timescale = Timescale::new(header.u32()?).ok_or_else(|| header.invalid("a timescale of 0"))?;
        header.wide(version)?;
        let language = match mdia.find(b"elng")? {
            Some(elng) => extended(elng)?,
            None => language(header.u16()?),
        };
        let mut handler = mdia.need(b"hdlr")?;
        handler.take(8)?;
        let handler = match handler.fourcc()? {
            FourCc([b'v', b'i', b'd', b'e']) => Handler::Video,
            FourCc([b's', b'o', b'u', b'n']) => Handler::Audio,
            other => Handler::Other(other),
        };
        let stbl = mdia.need(b"minf")?.need(b"stbl")?;
        let (entry, config, nal) = sample_entry::read(stbl.need(b"stsd")?)?;
        let shift = match trak.find(b"edts")?.map(|edts| edts.find(b"elst")).transpose()?.flatten() {
            Some(elst) => shift(elst, timescale, movie_scale)?,
            None => 0,
        };
        let table = SampleTable::read(stbl, moov)?;
        let defaults = Trex::default();
        Ok(MovieTrack { id, handler, timescale, language, shift, entry, config, nal, table, defaults })
    }

    /// Returns the samples of a plain file.
    pub fn samples(&self) -> Samples {
        Samples::new(&self.table, self.shift)
    }

    /// Returns whether the samples are event messages: by MPEG-B part 18, or by the older practice of a sample entry
    /// for any metadata.
    pub fn is_events(&self) -> bool {
        self.handler == Handler::Other(FourCc(*b"meta")) && matches!(&self.entry.0, b"evte" | b"urim")
    }

    /// Returns a sample's decode and presentation times, on [`CLOCK`].
    pub(super) fn times(&self, place: &SamplePlace) -> (i64, i64) {
        let ticks = |ticks: i64| rescale(ticks, self.timescale, CLOCK.scale);
        (ticks(place.dts), ticks(place.dts.saturating_add(place.composition_offset.into())))
    }
}

/// Reads a packed language: "each character is packed as the difference between its ASCII value and 0x60" (8.4.2.3).
fn language(packed: u16) -> Option<String> {
    let letter = |shift: u16| char::from(((packed >> shift & 0x1f) as u8).wrapping_add(0x60));
    let text: String = [10, 5, 0].into_iter().map(letter).collect();
    text.bytes().all(|byte| byte.is_ascii_lowercase()).then_some(text).filter(|text| text != "und")
}

/// Reads a BCP 47 tag, which ends with a zero (8.4.6).
fn extended(mut elng: Cursor<'_>) -> Result<Option<String>, BmffError> {
    elng.full()?;
    let tag = elng.rest().split(|&byte| byte == 0).next().unwrap_or_default();
    let is_tag =
        |tag: &&[u8]| (2..=35).contains(&tag.len()) && tag.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    let tag = Some(tag).filter(is_tag).and_then(|tag| std::str::from_utf8(tag).ok());
    Ok(tag.filter(|tag| *tag != "und").map(str::to_owned))
}

/// Returns the shift that a list of edits adds to media times. Empty edits at its beginning delay them, and the first
/// other edit tells the media time at which the presentation begins. Further edits are for players of files.
fn shift(mut elst: Cursor<'_>, scale: Timescale, movie_scale: u64) -> Result<i64, BmffError> {
    let (version, _) = elst.full()?;
    let count = elst.u32()?;
    let mut delay = 0i64;
    for _ in 0..count {
        let duration = elst.wide(version)?;
        let starts = if version == 0 { i64::from(elst.u32()?.cast_signed()) } else { elst.u64()?.cast_signed() };
        elst.u32()?;
        if starts != -1 {
            return Ok(delay.saturating_sub(starts));
        }
        let ticks = u128::from(duration) * u128::from(scale.hz()) / u128::from(movie_scale);
        delay = delay.saturating_add(i64::try_from(ticks).unwrap_or(i64::MAX));
    }
    Ok(delay)
}
