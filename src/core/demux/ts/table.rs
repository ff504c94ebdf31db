//! PIDs that carry sections.

use super::diagnostic::Counters;
use super::packet::{Continuity, Found, Packet};
use super::psi::Sections;

/// A PID with sections.
#[derive(Debug, Default)]
pub(super) struct PsiTable {
    continuity: Continuity,
    sections: Sections,
}

impl PsiTable {
    /// Drops the section that is under way.
    pub(super) fn forget(&mut self) {
        self.sections.forget();
    }

    /// The whole sections that a packet ends.
    pub(super) fn sections(&mut self, packet: &Packet<'_>, stats: &mut Counters) -> Vec<Vec<u8>> {
        match self.continuity.check(packet) {
            Found::Next => {}
            Found::Duplicate => {
                stats.duplicates += 1;
                return Vec::new();
            }
            Found::Gap { lost, announced } => {
                if !announced {
                    stats.continuity_errors += 1;
                    stats.lost += u64::from(lost);
                }
                self.sections.forget();
            }
        }
        self.sections.push(packet.start, packet.payload, stats)
    }
}
