//! Sections (2.4.4) of one PID, put together from its packets.

use super::diagnostic::Counters;
use super::packet::{Continuity, Found, Packet};
use crate::model::crc32::crc32;

/// The longest section, in bytes: 1,024 for the PAT and PMTs (2.4.4.4, 2.4.4.9), this for private sections (2.4.4.11).
const SECTION_LEN_MAX: usize = 4_096;

/// A PID that carries sections.
#[derive(Debug, Default)]
pub(super) struct PsiTable {
    continuity: Continuity,
    /// The bytes of the unfinished section that have come so far.
    section: Option<Vec<u8>>,
}

impl PsiTable {
    /// Drops the unfinished section.
    pub(super) fn forget(&mut self) {
        self.section = None;
    }

    /// Takes a packet. Returns the sections that it completes and whose checksum is right.
    pub(super) fn sections(&mut self, packet: &Packet<'_>, stats: &mut Counters) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        match self.continuity.check(packet, stats) {
            Found::Next => {}
            Found::Duplicate => return out,
            Found::Gap => self.forget(),
        }
        if !packet.start {
            self.add(packet.payload, stats, &mut out);
            return out;
        }
        // pointer_field: the first section begins there. A section of an earlier packet ends before it.
        let Some((&pointer, rest)) = packet.payload.split_first() else { return out };
        let Some((end, beginning)) = rest.split_at_checked(usize::from(pointer)) else {
            self.forget();
            return out;
        };
        self.add(end, stats, &mut out);
        self.section = Some(Vec::new());
        self.add(beginning, stats, &mut out);
        out
    }

    fn add(&mut self, bytes: &[u8], stats: &mut Counters, out: &mut Vec<Vec<u8>>) {
        let Some(buffer) = &mut self.section else { return };
        buffer.extend_from_slice(bytes);
        while let Some(header) = buffer.first_chunk::<3>() {
            let len = 3 + usize::from(u16::from_be_bytes([header[1] & 0xf, header[2]]));
            // table_id 0xff: stuffing up to the packet's end.
            if header[0] == 0xff || len > SECTION_LEN_MAX {
                return self.forget();
            }
            if buffer.len() < len {
                return;
            }
            let rest = buffer.split_off(len);
            let section = std::mem::replace(buffer, rest);
            if crc32(&section) == 0 { out.push(section) } else { stats.bad_sections += 1 }
        }
    }
}
