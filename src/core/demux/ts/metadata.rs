//! Timed metadata of a program: ID3 tags in PES packets, and splice information in sections.

use std::collections::VecDeque;

use bytes::Bytes;

use super::diagnostic::Counters;
use super::output::{Output, VIDEO};
use super::packet::{Continuity, Found, Packet};
use super::pes::{self, Pes};
use super::psi::StreamKind;
use super::table::PsiTable;
use crate::codec::{id3, scte35};
use crate::model::{MESSAGE_LEN_MAX, Scheme, TimedMessage};

/// The timed metadata of one PID.
#[derive(Debug)]
pub(super) enum MetadataStream {
    Id3 { continuity: Continuity, pes: pes::Assembler },
    Splices(PsiTable),
}

impl MetadataStream {
    pub(super) fn of(kind: StreamKind) -> Option<MetadataStream> {
        match kind {
            StreamKind::Id3 => {
                Some(MetadataStream::Id3 { continuity: Continuity::default(), pes: pes::Assembler::default() })
            }
            StreamKind::Splices => Some(MetadataStream::Splices(PsiTable::default())),
            _ => None,
        }
    }

    /// Drops the unfinished message, since packets are missing.
    pub(super) fn forget(&mut self) {
        match self {
            MetadataStream::Id3 { pes, .. } => drop(pes.cut()),
            MetadataStream::Splices(table) => table.forget(),
        }
    }

    /// Takes a packet, and puts out the messages that it ends.
    pub(super) fn packet(
        &mut self,
        packet: &Packet<'_>,
        stats: &mut Counters,
        out: &mut VecDeque<Output>,
    ) -> Result<(), &'static str> {
        if packet.scrambled {
            stats.scrambled += 1;
            self.forget();
            return Ok(());
        }
        match self {
            MetadataStream::Splices(table) => {
                let sections = table.sections(packet, stats);
                sections.into_iter().try_for_each(|section| splice(section.into(), out))
            }
            MetadataStream::Id3 { continuity, pes } => {
                match continuity.check(packet, stats) {
                    Found::Next => {}
                    Found::Duplicate => return Ok(()),
                    Found::Gap => drop(pes.cut()),
                }
                let before = if packet.start { pes.begin() } else { None };
                let ended = pes.add(packet);
                before.into_iter().chain(ended).filter(|pes| !pes.cut).try_for_each(|pes| tag(&pes, out))
            }
        }
    }
}

fn tag(pes: &Pes, out: &mut VecDeque<Output>) -> Result<(), &'static str> {
    let pes::Payload { times, data, .. } = pes.read()?;
    if !data.starts_with(id3::MAGIC) || data.len() > MESSAGE_LEN_MAX {
        return Err("a message has no ID3 tag, or a very long one");
    }
    let pts = times.map(|(pts, _)| pts);
    out.push_back(Output::message(TimedMessage { track: VIDEO, scheme: Scheme::Id3, pts, duration: None, data }));
    Ok(())
}

fn splice(section: Bytes, out: &mut VecDeque<Output>) -> Result<(), &'static str> {
    let Ok(splice) = scte35::Splice::parse(&section) else {
        return Err("can't read a splice_info_section");
    };
    if splice.kind != scte35::SpliceKind::Null {
        let (scheme, pts, duration) = (Scheme::Scte35, splice.pts, splice.duration);
        out.push_back(Output::message(TimedMessage { track: VIDEO, scheme, pts, duration, data: section }));
    }
    Ok(())
}
