//! AC-3 and E-AC-3 (ETSI TS 102 366): the headers of frames, and the ISO BMFF boxes made from them (annex F), since no
//! transport carries these boxes.

use bytes::Bytes;
use h264_reader::rbsp::{BitRead, BitReader};
use mp4_atom::{Ac3SpecificBox, Atom as _, Ec3IndependentSubstream, Ec3SpecificBox};

use super::error::HeaderError;
use crate::model::CodecConfig;

/// syncword (4.4.1.1).
pub(crate) const SYNC: [u8; 2] = [0x0b, 0x77];
/// Samples of an audio block, and blocks of an AC-3 frame.
const BLOCK: u32 = 256;
pub(crate) const SAMPLES: u32 = 6 * BLOCK;
/// The number of bytes that are read of a frame.
pub(crate) const HEADER_LEN: usize = 8;
/// The most frames of an access unit: for each of six blocks, a frame of each of eight substreams and its dependent ones.
const FRAMES_MAX: usize = 128;
/// Sample rates by fscod, in Hz (table 4.1).
const RATES: [u32; 3] = [48_000, 44_100, 32_000];
/// Bit rates by frmsizecod / 2, in kbit/s (table 4.13).
const KILOBITS: [usize; 19] = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640];
/// Places of chan_loc (table F.6.1) that have two speakers: Lc/Rc, Lrs/Rrs, Lsd/Rsd, Lw/Rw, Lvh/Rvh.
const PAIRS: u16 = 0b0_0111_0011;
/// Full-range channels by acmod (table 4.3).
const CHANNELS: [u8; 8] = [2, 1, 2, 3, 3, 4, 4, 5];

/// AC-3 as its sample entry has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ac3 {
    /// The content of a `dac3`: two are the same if these bytes are.
    pub config: Bytes,
    /// The fields of `config`.
    pub dac3: Ac3SpecificBox,
    /// In Hz.
    pub sample_rate: u32,
    /// Speakers, the low-frequency one included.
    pub channels: u8,
}

/// E-AC-3 as its sample entry has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Eac3 {
    /// The content of a `dec3`.
    pub config: Bytes,
    /// The fields of `config`.
    pub dec3: Ec3SpecificBox,
    /// In Hz.
    pub sample_rate: u32,
    /// Speakers of the first programme, the low-frequency one included.
    pub channels: u8,
}

/// Returns the sample rate of an AC-3 frame: in all decoders, bsid 9 and 10 halve and quarter it.
fn plain_rate(fscod: u8, bsid: u8) -> Option<u32> {
    Some(RATES.get(usize::from(fscod))? >> bsid.clamp(8, 10).saturating_sub(8))
}

impl Ac3 {
    /// Reads the content of a `dac3` (F.4).
    pub fn parse(config: &Bytes) -> Result<Ac3, HeaderError> {
        let bytes = config.first_chunk::<3>().ok_or(HeaderError::Missing("three bytes"))?;
        let dac3 = Ac3SpecificBox::decode_body(&mut &bytes[..])?;
        let sample_rate = plain_rate(dac3.fscod, dac3.bsid).ok_or(HeaderError::invalid("fscod", dac3.fscod))?;
        let channels = CHANNELS[usize::from(dac3.acmod & 7)] + u8::from(dac3.lfeon);
        Ok(Ac3 { config: config.slice(..3), dac3, sample_rate, channels })
    }
}

impl Eac3 {
    /// Reads the content of a `dec3` (F.6).
    pub fn parse(config: &Bytes) -> Result<Eac3, HeaderError> {
        let dec3 = Ec3SpecificBox::decode_body(&mut &config[..])?;
        let first = dec3.substreams.first().ok_or(HeaderError::Missing("substream"))?;
        // The box has no fscod2, which halves the rate. Decoders read the rate from the frame.
        let sample_rate = RATES.get(usize::from(first.fscod)).map_or(24_000, |&rate| rate);
        let chan_loc = first.chan_loc.unwrap_or(0);
        let pairs = (chan_loc & PAIRS).count_ones();
        let singles = (chan_loc & 0x1ff & !PAIRS).count_ones();
        let channels = CHANNELS[usize::from(first.acmod & 7)] + u8::from(first.lfeon) + (2 * pairs + singles) as u8;
        let mut kept = Vec::new();
        dec3.encode_body(&mut kept)?;
        Ok(Eac3 { config: kept.into(), sample_rate, channels, dec3 })
    }
}

/// The header of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct SyncFrame {
    /// The frame's length, in bytes.
    pub len: usize,
    pub enhanced: bool,
    /// The frame goes on with the substream before it (E.1.3.1.1: strmtyp).
    pub dependent: bool,
    pub substream: u8,
    /// Audio blocks.
    pub blocks: u32,
    pub rate: u32,
    fscod: u8,
    bsid: u8,
    bsmod: u8,
    acmod: u8,
    lfeon: bool,
    bit_rate_code: u8,
    /// chanmap (E.1.3.1.8), if there is one.
    chanmap: Option<u16>,
}

impl SyncFrame {
    /// Reads the frame header at the beginning of `data`.
    pub(crate) fn parse(data: &[u8]) -> Result<SyncFrame, HeaderError> {
        let Some(&[s0, s1, .., id, _, _]) = data.first_chunk::<HEADER_LEN>() else {
            return Err(HeaderError::Missing("whole header"));
        };
        if [s0, s1] != SYNC {
            return Err(HeaderError::Missing("syncword"));
        }
        // bsid is at the same place in both (4.4.2.1, E.1.3.1.6).
        match id >> 3 {
            0..=10 => SyncFrame::plain(data),
            11..=16 => SyncFrame::enhanced(data),
            bsid => Err(HeaderError::invalid("bsid", bsid)),
        }
    }

    /// Reads the header of an AC-3 frame (4.3.1, 4.3.2).
    fn plain(data: &[u8]) -> Result<SyncFrame, HeaderError> {
        let r = &mut BitReader::new(data);
        r.skip(32, "syncword, crc1")?;
        let fscod: u8 = r.read_var(2, "fscod")?;
        let size: u8 = r.read_var(6, "frmsizecod")?;
        let bsid: u8 = r.read_var(5, "bsid")?;
        let bsmod: u8 = r.read_var(3, "bsmod")?;
        let acmod: u8 = r.read_var(3, "acmod")?;
        let mix = if acmod & 1 == 1 && acmod != 1 { 2 } else { 0 };
        r.skip(mix + if acmod & 4 != 0 { 2 } else { 0 } + if acmod == 2 { 2 } else { 0 }, "mix levels")?;
        let lfeon = r.read_bit("lfeon")?;
        let (Some(rate), Some(&kilobits)) = (plain_rate(fscod, bsid), KILOBITS.get(usize::from(size >> 1))) else {
            return Err(HeaderError::invalid("fscod and frmsizecod", fscod << 6 | size));
        };
        let words = match fscod {
            0 => kilobits * 2,
            2 => kilobits * 3,
            _ => kilobits * 320 / 147 + usize::from(size & 1),
        };
        let (len, bit_rate_code) = (words * 2, size >> 1);
        Ok(SyncFrame { len, blocks: 6, rate, fscod, bsid, bsmod, acmod, lfeon, bit_rate_code, ..SyncFrame::default() })
    }

    /// Reads the header of an E-AC-3 frame (E.1.2.2).
    fn enhanced(data: &[u8]) -> Result<SyncFrame, HeaderError> {
        let r = &mut BitReader::new(data);
        r.skip(16, "syncword")?;
        let kind: u8 = r.read_var(2, "strmtyp")?;
        let substream: u8 = r.read_var(3, "substreamid")?;
        let words: u16 = r.read_var(11, "frmsiz")?;
        let fscod: u8 = r.read_var(2, "fscod")?;
        let code: u8 = r.read_var(2, "fscod2 or numblkscod")?;
        let (rate, blocks) = match (RATES.get(usize::from(fscod)), RATES.get(usize::from(code))) {
            (Some(&rate), _) => (rate, [1, 2, 3, 6][usize::from(code & 3)]),
            (None, Some(rate)) => (rate / 2, 6),
            (None, None) => return Err(HeaderError::invalid("fscod2", code)),
        };
        let acmod: u8 = r.read_var(3, "acmod")?;
        let lfeon = r.read_bit("lfeon")?;
        let bsid: u8 = r.read_var(5, "bsid")?;
        let dependent = kind == 1;
        let mut chanmap = None;
        if dependent {
            for _ in 0..if acmod == 0 { 2 } else { 1 } {
                r.skip(5, "dialnorm")?;
                if r.read_bit("compre")? {
                    r.skip(8, "compr")?;
                }
            }
            if r.read_bit("chanmape")? {
                chanmap = Some(r.read_var(16, "chanmap")?);
            }
        }
        if kind == 3 {
            return Err(HeaderError::invalid("strmtyp", kind));
        }
        let (len, enhanced) = ((usize::from(words) + 1) * 2, true);
        let frame = SyncFrame { len, enhanced, dependent, substream, blocks, rate, ..SyncFrame::default() };
        Ok(SyncFrame { fscod, bsid, acmod, lfeon, chanmap, ..frame })
    }
}

/// Returns the number of samples of an access unit, from the frames of its first substream; `None` if it has none.
pub fn samples(unit: &[u8]) -> Option<u32> {
    let frames = frames(unit).take(FRAMES_MAX).map_while(Result::ok);
    let frames = frames.filter(|frame| !frame.dependent && frame.substream == 0);
    Some(frames.map(|frame| frame.blocks * BLOCK).sum()).filter(|&samples| samples > 0)
}

/// Returns the headers of a unit's frames.
fn frames(unit: &[u8]) -> impl Iterator<Item = Result<SyncFrame, HeaderError>> {
    let mut rest = unit;
    std::iter::from_fn(move || {
        (!rest.is_empty()).then(|| {
            let frame = SyncFrame::parse(rest);
            rest = frame.as_ref().ok().and_then(|frame| rest.get(frame.len..)).unwrap_or(&[]);
            frame
        })
    })
}

/// Makes a stream's configuration from its frames.
#[derive(Debug, Default)]
pub struct Headers {
    known: Option<CodecConfig>,
    of: Vec<SyncFrame>,
}

impl Headers {
    /// Returns whether there is a configuration.
    pub fn is_known(&self) -> bool {
        self.known.is_some()
    }

    /// Takes an access unit. Returns the configuration if it has changed; a variable bit rate is no change.
    pub fn of(&mut self, unit: &[u8]) -> Result<Option<CodecConfig>, HeaderError> {
        let frames = frames(unit).take(FRAMES_MAX + 1).collect::<Result<Vec<SyncFrame>, _>>()?;
        if frames.len() > FRAMES_MAX {
            return Err(HeaderError::invalid("frames of an access unit", frames.len() as u64));
        }
        let first = frames.first().ok_or(HeaderError::Missing("syncword"))?;
        let rate = |frame: &SyncFrame| SyncFrame { len: 0, blocks: 0, bit_rate_code: 0, ..*frame };
        if self.known.is_some() && self.of.iter().map(rate).eq(frames.iter().map(rate)) {
            return Ok(None);
        }
        let config = if first.enhanced { enhanced(&frames)? } else { plain(first)? };
        self.of = frames;
        self.known = Some(config.clone());
        Ok(Some(config))
    }
}

fn plain(frame: &SyncFrame) -> Result<CodecConfig, HeaderError> {
    let &SyncFrame { fscod, bsid, bsmod, acmod, lfeon, bit_rate_code, .. } = frame;
    let mut out = Vec::new();
    let dac3 = Ac3SpecificBox { fscod, bsid, bsmod, acmod, lfeon, bit_rate_code };
    dac3.encode_body(&mut out)?;
    Ok(CodecConfig::Ac3(out.into()))
}

fn enhanced(frames: &[SyncFrame]) -> Result<CodecConfig, HeaderError> {
    let mut substreams: Vec<Ec3IndependentSubstream> = Vec::new();
    let (mut bytes, mut blocks, mut rate) = (0, 0, RATES[0]);
    for frame in frames {
        bytes += frame.len;
        if frame.dependent {
            let of =
                substreams.last_mut().ok_or(HeaderError::Missing("substream that a dependent one goes on with"))?;
            // Frames of less than six blocks repeat the substreams.
            if blocks <= 6 {
                of.num_dep_sub = (of.num_dep_sub + 1).min(15);
                of.chan_loc = Some(of.chan_loc.unwrap_or(0) | places(frame.chanmap.unwrap_or(0)));
            }
            continue;
        }
        if frame.substream == 0 {
            (blocks, rate) = (blocks + frame.blocks, frame.rate);
        }
        if usize::from(frame.substream) >= substreams.len() && substreams.len() < 8 {
            substreams.push(Ec3IndependentSubstream {
                fscod: frame.fscod,
                bsid: frame.bsid,
                asvc: false,
                bsmod: frame.bsmod,
                acmod: frame.acmod,
                lfeon: frame.lfeon,
                num_dep_sub: 0,
                chan_loc: None,
            });
        }
    }
    let bits = bytes as u64 * 8 * u64::from(rate) / u64::from((blocks * BLOCK).max(1));
    let data_rate = u16::try_from(bits / 1_000).unwrap_or(u16::MAX).min(0x1fff);
    let mut out = Vec::new();
    Ec3SpecificBox { data_rate, substreams }.encode_body(&mut out)?;
    Ok(CodecConfig::Eac3(out.into()))
}

/// Returns chan_loc (table F.6.1) of a chanmap (table E.1.5), whose first bit is the left speaker's: Lc/Rc, Lrs/Rrs, Cs, Ts,
/// Lsd/Rsd, Lw/Rw, Lvh/Rvh, Cvh, LFE2.
fn places(chanmap: u16) -> u16 {
    let from = [5u16, 6, 7, 8, 9, 10, 11, 12, 14];
    (0..).zip(from).fold(0, |places, (to, from)| places | (chanmap >> (15 - from) & 1) << to)
}

#[cfg(test)]
mod tests;
