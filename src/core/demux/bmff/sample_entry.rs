//! Sample entries (ISO 14496-12, 8.5.2) to codec headers. Only this file knows the codecs of a file.

use bytes::Bytes;

use super::boxes::Cursor;
use super::error::{BmffError, UnusableTrack};
use super::four_cc::FourCc;
use crate::codec::nal::NalTrack;
use crate::codec::opus::Opus;
use crate::model::CodecConfig;

/// The length of a VisualSampleEntry before its boxes (12.1.3), and of an AudioSampleEntry (12.2.3), in bytes.
const VISUAL_LEN: usize = 78;
const AUDIO_LEN: usize = 28;
/// The further bytes of QuickTime's sound descriptions, by version.
const AUDIO_MORE: [usize; 3] = [0, 16, 36];

/// A codec's headers; `None` if they come with the samples.
type Config = Result<Option<CodecConfig>, UnusableTrack>;

/// Reads the first entry of an `stsd`. Returns its name, the headers, and what brings access units into their form.
pub(super) fn read(mut stsd: Cursor<'_>) -> Result<(FourCc, Config, Option<NalTrack>), BmffError> {
    stsd.full()?;
    stsd.u32()?;
    let entry = stsd.child()?.ok_or_else(|| stsd.invalid("no sample entry"))?;
    let name = entry.kind;
    let config = match &name.0 {
        b"avc1" | b"avc3" => {
            return Ok(with_nal_units(name, NalTrack::avc(), content(visual(entry)?, b"avcC")?, CodecConfig::Avc));
        }
        b"hvc1" | b"hev1" => {
            return Ok(with_nal_units(name, NalTrack::hevc(), content(visual(entry)?, b"hvcC")?, CodecConfig::Hevc));
        }
        b"av01" => Ok(Some(CodecConfig::Av1(content(visual(entry)?, b"av1C")?))),
        b"mp4a" => mpeg4_audio(audio(entry)?)?,
        b"Opus" => {
            let dops = audio(entry)?.need(b"dOps")?;
            let head = Opus::head_of(dops.rest()).map_err(|_| dops.invalid("no Opus header"))?;
            Ok(Some(CodecConfig::Opus(head)))
        }
        b"ac-3" => Ok(Some(CodecConfig::Ac3(content(audio(entry)?, b"dac3")?))),
        b"ec-3" => Ok(Some(CodecConfig::Eac3(content(audio(entry)?, b"dec3")?))),
        // Event messages have no headers.
        b"evte" | b"urim" => Ok(None),
        b".mp3" => Err(UnusableTrack::Mp3),
        b"encv" | b"enca" => Err(UnusableTrack::Encrypted),
        _ => Err(UnusableTrack::Codec(name)),
    };
    Ok((name, config, None))
}

fn with_nal_units(
    name: FourCc,
    mut track: NalTrack,
    record: Bytes,
    of: fn(Bytes) -> CodecConfig,
) -> (FourCc, Config, Option<NalTrack>) {
    // The packager reports what is wrong with a record.
    let config = track.configure(&record).unwrap_or_else(|_| Some(of(record)));
    (name, Ok(config), Some(track))
}

/// Copies the content of a box that holds a codec's headers.
fn content(boxes: Cursor<'_>, kind: &[u8; 4]) -> Result<Bytes, BmffError> {
    Ok(Bytes::copy_from_slice(boxes.need(kind)?.rest()))
}

fn visual(mut entry: Cursor<'_>) -> Result<Cursor<'_>, BmffError> {
    entry.take(VISUAL_LEN)?;
    Ok(entry)
}

fn audio(mut entry: Cursor<'_>) -> Result<Cursor<'_>, BmffError> {
    let fixed = entry.take(AUDIO_LEN)?;
    // QuickTime's version; zero in an ISO file.
    let more = AUDIO_MORE.get(usize::from(fixed[9])).ok_or_else(|| entry.invalid("an unknown version"))?;
    entry.take(*more)?;
    Ok(entry)
}

/// Reads the boxes of an `mp4a` (14496-14, 5.6), whose descriptors tell the codec.
fn mpeg4_audio(boxes: Cursor<'_>) -> Result<Config, BmffError> {
    let mut esds = match boxes.find(b"esds")? {
        Some(esds) => esds,
        // QuickTime wraps it in another box.
        None => boxes.need(b"wave")?.need(b"esds")?,
    };
    esds.full()?;
    let mut es = descriptor(&mut esds, 3)?;
    es.u16()?;
    let flags = es.u8()?;
    // 14496-1, 7.2.6.5: dependsOn_ES_ID, URL, OCR_ES_Id.
    if flags & 0x80 != 0 {
        es.u16()?;
    }
    if flags & 0x40 != 0 {
        let len = es.u8()?;
        es.take(len.into())?;
    }
    if flags & 0x20 != 0 {
        es.u16()?;
    }
    let mut decoder = descriptor(&mut es, 4)?;
    let object_type = decoder.u8()?;
    decoder.take(12)?;
    Ok(match object_type {
        // MPEG-4 audio, and MPEG-2 AAC of three profiles (14496-1, table 5).
        0x40 | 0x66..=0x68 => {
            let specific = descriptor(&mut decoder, 5)?;
            Ok(Some(CodecConfig::Aac(Bytes::copy_from_slice(specific.rest()))))
        }
        0x69 | 0x6b => Err(UnusableTrack::Mp3),
        other => Err(UnusableTrack::ObjectType(other)),
    })
}

/// Takes a descriptor with this tag (14496-1, 8.3.3). Its length has 7 bits a byte.
fn descriptor<'a>(cursor: &mut Cursor<'a>, tag: u8) -> Result<Cursor<'a>, BmffError> {
    if cursor.u8()? != tag {
        return Err(cursor.invalid("an unexpected descriptor"));
    }
    let mut len = 0;
    for _ in 0..4 {
        let byte = cursor.u8()?;
        len = len << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    // Some muxers state a length beyond the box. Each later read is checked.
    cursor.part(len.min(cursor.rest().len()))
}
