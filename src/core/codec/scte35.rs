//! Splice information (ANSI/SCTE 35 2023): the time, length and direction of a splice.

use std::time::Duration;

use h264_reader::rbsp::{BitRead, BitReader, BitReaderError};

use super::error::HeaderError;
use crate::model::crc32::crc32;
use crate::model::time::Timescale;

/// table_id of a splice_info_section (9.6).
pub const TABLE_ID: u8 = 0xfc;
/// splice_command_type of splice_null, splice_insert and time_signal (table 7).
const NULL: u8 = 0;
const INSERT: u8 = 5;
const TIME_SIGNAL: u8 = 6;

/// The direction of a splice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpliceKind {
    /// Out of the network, to a break: splice_insert with out_of_network_indicator.
    Out,
    /// Back into the network.
    In,
    /// Something else, which the descriptors state; or a splice is cancelled.
    Command,
    /// A heartbeat.
    Null,
}

/// A splice_info_section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Splice {
    /// The direction.
    pub kind: SpliceKind,
    /// splice_event_id, of a splice_insert.
    pub event: Option<u32>,
    /// splice_time, adjusted, in ticks of 90 kHz modulo 2^33; `None` means at once.
    pub pts: Option<u64>,
    /// break_duration.
    pub duration: Option<Duration>,
}

impl Splice {
    /// Reads a section that didn't come in a transport stream, and checks its length and checksum. In a transport stream, the
    /// reader of sections has checked both.
    ///
    /// # Errors
    /// It is no section, or is damaged, or its length is wrong.
    pub fn checked(section: &[u8]) -> Result<Splice, HeaderError> {
        let splice = Splice::parse(section)?;
        // "section_length: [...] the number of remaining bytes in the splice_info_section, immediately following", with
        // stuffing.
        let len = u16::from_be_bytes([section[1], section[2]]) & 0xfff;
        if section.len() != usize::from(len) + 3 {
            return Err(HeaderError::invalid("section_length", len));
        }
        match crc32(section) {
            0 => Ok(splice),
            rest => Err(HeaderError::invalid("the checksum's remainder", rest)),
        }
    }

    /// Reads a section (9.6). The command of an encrypted section can't be read; it counts as immediate.
    ///
    /// # Errors
    /// It is no section, or ends too early.
    pub fn parse(section: &[u8]) -> Result<Splice, HeaderError> {
        match section.first() {
            Some(&TABLE_ID) => Ok(Splice::read(&mut BitReader::new(section))?),
            table => Err(HeaderError::invalid("table_id", table.copied().unwrap_or(0))),
        }
    }

    fn read(r: &mut impl BitRead) -> Result<Splice, BitReaderError> {
        let splice = Splice { kind: SpliceKind::Command, event: None, pts: None, duration: None };
        r.skip(8 + 16 + 8, "table_id, section_length, protocol_version")?;
        let encrypted = r.read_bit("encrypted_packet")?;
        r.skip(6, "encryption_algorithm")?;
        let adjustment: u64 = r.read_var(33, "pts_adjustment")?;
        r.skip(8 + 12 + 12, "cw_index, tier, splice_command_length")?;
        if encrypted {
            return Ok(splice);
        }
        let adjusted = |pts: Option<u64>| pts.map(|pts| (pts + adjustment) % (1 << 33));
        let command: u8 = r.read_var(8, "splice_command_type")?;
        match command {
            NULL => Ok(Splice { kind: SpliceKind::Null, ..splice }),
            TIME_SIGNAL => Ok(Splice { pts: adjusted(time(r)?), ..splice }),
            INSERT => {
                let Splice { kind, event, pts, duration } = insert(r)?;
                Ok(Splice { kind, event, pts: adjusted(pts), duration })
            }
            _ => Ok(splice),
        }
    }
}

/// Reads splice_insert (9.7.3), and doesn't adjust its time.
fn insert(r: &mut impl BitRead) -> Result<Splice, BitReaderError> {
    let event = Some(r.read_var(32, "splice_event_id")?);
    let cancelled = r.read_bit("splice_event_cancel_indicator")?;
    r.skip(7, "reserved")?;
    if cancelled {
        return Ok(Splice { kind: SpliceKind::Command, event, pts: None, duration: None });
    }
    let kind = if r.read_bit("out_of_network_indicator")? { SpliceKind::Out } else { SpliceKind::In };
    let program = r.read_bit("program_splice_flag")?;
    let lasts = r.read_bit("duration_flag")?;
    let immediate = r.read_bit("splice_immediate_flag")?;
    r.skip(4, "event_id_compliance_flag, reserved")?;
    let mut pts = None;
    if program && !immediate {
        pts = time(r)?;
    }
    if !program {
        for _ in 0..r.read_var::<u8>(8, "component_count")? {
            r.skip(8, "component_tag")?;
            if !immediate {
                // The first component's time counts for all.
                pts = pts.or(time(r)?);
            }
        }
    }
    let mut duration = None;
    if lasts {
        r.skip(7, "auto_return, reserved")?;
        duration = Some(Timescale::MPEG.duration(r.read_var(33, "break_duration")?));
    }
    Ok(Splice { kind, event, pts, duration })
}

/// Reads splice_time (9.8.1).
fn time(r: &mut impl BitRead) -> Result<Option<u64>, BitReaderError> {
    if !r.read_bit("time_specified_flag")? {
        r.skip(7, "reserved")?;
        return Ok(None);
    }
    r.skip(6, "reserved")?;
    r.read_var(33, "pts_time").map(Some)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A splice_info_section of a command, its checksum included.
    pub(crate) fn section(adjustment: u64, command: u8, content: &[u8]) -> Vec<u8> {
        let len = u16::try_from(11 + content.len() + 2 + 4).expect("short");
        let mut out = vec![TABLE_ID];
        out.extend((0x3000 | len).to_be_bytes());
        out.push(0);
        out.push(u8::try_from(adjustment >> 32).expect("33 bits"));
        out.extend((adjustment as u32).to_be_bytes());
        out.extend([0, 0xff, 0xf0 | u8::try_from(content.len() >> 8).expect("short"), content.len() as u8, command]);
        out.extend(content);
        out.extend([0, 0]); // descriptor_loop_length
        out.extend(crc32(&out).to_be_bytes());
        out
    }

    fn splice_time(pts: u64) -> Vec<u8> {
        let mut out = vec![0xfe | u8::try_from(pts >> 32).expect("33 bits")];
        out.extend((pts as u32).to_be_bytes());
        out
    }

    /// A splice_insert at `pts`, out for `duration` ticks, or in.
    pub(crate) fn insert(event: u32, pts: u64, out: Option<u64>) -> Vec<u8> {
        let flags = if out.is_some() { 0xef } else { 0x4f };
        let mut content = [&event.to_be_bytes()[..], &[0x7f, flags], &splice_time(pts)].concat();
        content.extend(out.map(splice_time).into_iter().flatten());
        content.extend([0, 1, 0, 0]);
        section(0, INSERT, &content)
    }

    #[test]
    fn commands_are_read() {
        let check = |section: Vec<u8>, kind, event, pts, seconds| {
            let duration = Option::map(seconds, Duration::from_secs);
            assert_eq!(Splice::parse(&section), Ok(Splice { kind, event, pts, duration }));
        };
        check(insert(7, 1_000, Some(30 * 90_000)), SpliceKind::Out, Some(7), Some(1_000), Some(30));
        check(insert(7, 1_000, None), SpliceKind::In, Some(7), Some(1_000), None);
        // pts_adjustment is added modulo 2^33.
        check(section((1 << 33) - 1, TIME_SIGNAL, &splice_time(11)), SpliceKind::Command, None, Some(10), None);
        check(section(0, TIME_SIGNAL, &[0x7f]), SpliceKind::Command, None, None, None);
        check(section(0, NULL, &[]), SpliceKind::Null, None, None, None);
        check(section(0, INSERT, &[0, 0, 0, 9, 0xff]), SpliceKind::Command, Some(9), None, None);
        // Immediate, of two components.
        check(section(0, INSERT, &[0, 0, 0, 9, 0x7f, 0x9f, 2, 1, 2, 0, 1, 0, 0]), SpliceKind::Out, Some(9), None, None);
    }

    #[test]
    fn what_is_cut_short_is_told() {
        let whole = insert(7, 1_000, Some(90_000));
        assert!((1..29).all(|len| Splice::parse(&whole[..len]).is_err()), "{}", whole.len());
        assert!(Splice::parse(&[]).is_err() && Splice::parse(&[0; 40]).is_err());
    }

    #[test]
    fn a_section_by_itself_is_whole_and_undamaged() {
        let whole = insert(7, 1_000, Some(90_000));
        assert_eq!(Splice::checked(&whole), Splice::parse(&whole));
        assert!((0..whole.len()).all(|len| Splice::checked(&whole[..len]).is_err()));
        assert!(Splice::checked(&[&whole[..], &[0]].concat()).is_err(), "something stands behind it");
        let damaged = |at: usize| {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            Splice::checked(&damaged).is_err()
        };
        assert!((0..whole.len()).all(damaged));
        // Stuffing is a part of the section.
        let mut stuffed = whole[..whole.len() - 4].to_vec();
        stuffed.extend([0xff; 7]);
        stuffed[2] += 7;
        stuffed.extend(crc32(&stuffed).to_be_bytes());
        assert_eq!(Splice::checked(&stuffed), Splice::parse(&whole));
    }
}
