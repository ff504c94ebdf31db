//! A small multiplexer for tests: tables, PES packets and transport packets by the letter of the standard.

use std::collections::BTreeMap;

use crate::demux::ts::sync::PACKET_LEN;
use crate::model::crc32::crc32;

/// Writes transport packets.
#[derive(Debug, Default)]
pub(crate) struct Mux {
    pub(crate) packets: Vec<[u8; PACKET_LEN]>,
    counters: BTreeMap<u16, u8>,
}

/// How a PES packet is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) pts: u64,
    pub(crate) dts: Option<u64>,
    /// PES_packet_length is given.
    pub(crate) bounded: bool,
}

impl Mux {
    /// A PAT of programs and the PIDs of their PMTs.
    pub(crate) fn pat(&mut self, programs: &[(u16, u16)]) {
        let entries = programs.iter().flat_map(|(number, pid)| [number.to_be_bytes(), (0xe000 | pid).to_be_bytes()]);
        let section = section(0, 1, 0, &entries.flatten().collect::<Vec<u8>>());
        self.section(0, &section);
    }

    /// A PMT on `pid`: stream_type and PID of each stream.
    pub(crate) fn pmt(&mut self, pid: u16, number: u16, version: u8, streams: &[(u8, u16)]) {
        let streams: Vec<_> = streams.iter().map(|&(stream_type, pid)| (stream_type, pid, &[][..])).collect();
        self.pmt_described(pid, number, version, &streams);
    }

    /// The same, and each stream's descriptors.
    pub(crate) fn pmt_described(&mut self, pid: u16, number: u16, version: u8, streams: &[(u8, u16, &[u8])]) {
        let mut content = vec![0xe1, 0, 0xf0, 0];
        for (stream_type, pid, descriptors) in streams {
            content.push(*stream_type);
            content.extend((0xe000 | pid).to_be_bytes());
            content.extend([0xf0, u8::try_from(descriptors.len()).expect("short")]);
            content.extend(*descriptors);
        }
        self.section(pid, &section(2, number, version, &content));
    }

    pub(crate) fn section(&mut self, pid: u16, section: &[u8]) {
        let bytes = [&[0][..], section].concat();
        let padded = bytes.len().next_multiple_of(PACKET_LEN - 4);
        let bytes: Vec<u8> = bytes.into_iter().chain(std::iter::repeat(0xff)).take(padded).collect();
        self.payload(pid, &bytes);
    }

    /// A PES packet.
    pub(crate) fn pes(&mut self, pid: u16, stream_id: u8, stamp: Option<Stamp>, data: &[u8]) {
        let mut header = Vec::new();
        let mut flags = 0;
        if let Some(stamp) = stamp {
            flags = if stamp.dts.is_some() { 0xc0 } else { 0x80 };
            header.extend(time(if stamp.dts.is_some() { 3 } else { 2 }, stamp.pts));
            header.extend(stamp.dts.into_iter().flat_map(|dts| time(1, dts)));
        }
        let len = header.len() + 3 + data.len();
        let len = u16::try_from(len).ok().filter(|_| stamp.is_some_and(|stamp| stamp.bounded)).unwrap_or(0);
        let [high, low] = len.to_be_bytes();
        let header_len = u8::try_from(header.len()).expect("short");
        let start = [0, 0, 1, stream_id, high, low, 0x80, flags, header_len];
        self.payload(pid, &[&start[..], &header, data].concat());
    }

    /// Bytes that begin a packet and go on in the next, the last one stuffed.
    pub(crate) fn payload(&mut self, pid: u16, bytes: &[u8]) {
        let mut rest = bytes;
        let mut start = 0x40;
        while !rest.is_empty() {
            let counter = self.counters.entry(pid).or_default();
            let mut packet = [0xff; PACKET_LEN];
            let [high, low] = pid.to_be_bytes();
            packet[..4].copy_from_slice(&[0x47, start | high, low, 0x10 | *counter]);
            *counter = (*counter + 1) & 15;
            let len = rest.len().min(PACKET_LEN - 4);
            let stuffing = PACKET_LEN - 4 - len;
            if stuffing > 0 {
                packet[3] |= 0x20;
                packet[4] = u8::try_from(stuffing - 1).expect("below 184");
                if stuffing > 1 {
                    packet[5] = 0;
                }
            }
            packet[4 + stuffing..].copy_from_slice(&rest[..len]);
            self.packets.push(packet);
            (rest, start) = (&rest[len..], 0);
        }
    }

    /// All packets, joined.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.packets.concat()
    }
}

fn section(table_id: u8, extension: u16, version: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(5 + content.len() + 4).expect("short");
    let mut out = vec![table_id];
    out.extend((0xb000 | len).to_be_bytes());
    out.extend(extension.to_be_bytes());
    out.extend([0xc1 | version << 1, 0, 0]);
    out.extend(content);
    out.extend(crc32(&out).to_be_bytes());
    out
}

fn time(prefix: u8, time: u64) -> [u8; 5] {
    let byte = |shift: u32| u8::try_from(time >> shift & 0xff).expect("masked");
    [prefix << 4 | (byte(30) & 7) << 1 | 1, byte(22), byte(14) & 0xfe | 1, byte(7), byte(0) << 1 | 1]
}

/// An ADTS frame: LC, 48 kHz, stereo.
pub(crate) fn adts(data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len() + 7).expect("short");
    let [high, low] = len.to_be_bytes();
    let mut out = vec![0xff, 0xf1, 0x4c, 0x80 | high >> 3, high << 5 | low >> 3, low << 5 | 0x1f, 0xfc];
    out.extend(data);
    out
}
