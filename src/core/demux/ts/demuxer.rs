//! The demuxer: it chooses the program, and hands packets to the decoders of its streams.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::annexb::ByteStream;
use super::diagnostic::{Counters, TsDiagnostic};
use super::framing::SoundDecoder;
use super::language;
use super::metadata::MetadataStream;
use super::output::{AUDIO, AUDIO_TRACKS_MAX, End, Output, VIDEO};
use super::packet::{Continuity, Found, Packet};
use super::pes::{self, Pes};
use super::psi::{self, Pmt, StreamKind};
use super::sound;
use super::sync::{self, Sync};
use super::table::PsiTable;
use crate::model::{Announced, InputTrack};
use crate::packager::Input;

/// The PID of the PAT (table 2-3).
const PID_PAT: u16 = 0;

/// An elementary stream that is published.
#[derive(Debug)]
struct Stream {
    track: InputTrack,
    kind: StreamKind,
    continuity: Continuity,
    pes: pes::Assembler,
    decoder: Decoder,
}

#[derive(Debug)]
enum Decoder {
    Video(Box<ByteStream>),
    Sound(Box<dyn SoundDecoder>),
}

/// A program's newest PMT.
#[derive(Debug)]
struct Map {
    pmt: Pmt,
    /// The PMT has come twice. By then the PMTs of all programs have come.
    again: bool,
}

/// Demultiplexes one program of a transport stream.
#[derive(Debug, Default)]
pub struct Demuxer {
    wanted: Option<u16>,
    sync: Sync,
    /// The newest datagram, to find doubled ones.
    last: Vec<u8>,
    pat: PsiTable,
    /// Each program's number and the PID of its PMT, in the PAT's order.
    programs: Vec<(u16, u16)>,
    /// By PID.
    tables: BTreeMap<u16, PsiTable>,
    /// By program_number.
    maps: BTreeMap<u16, Map>,
    played: Option<u16>,
    /// By PID.
    streams: BTreeMap<u16, Stream>,
    /// The played program's timed metadata, by PID.
    metadata: BTreeMap<u16, MetadataStream>,
    /// The diagnostics that were put out, by PID.
    said: BTreeSet<(u16, &'static str)>,
    stats: Counters,
    out: VecDeque<Output>,
}

impl Demuxer {
    /// Returns a demuxer of the program with this number, or of the first playable program.
    pub fn new(program: Option<u16>) -> Self {
        Demuxer { wanted: program, ..Demuxer::default() }
    }

    /// Takes a datagram of a sender, whose datagrams may begin and end within packets. A doubled datagram is taken once.
    pub fn datagram(&mut self, bytes: &[u8]) {
        if self.last == bytes && bytes.len() >= sync::PACKET_LEN {
            self.stats.duplicates += (bytes.len() / sync::PACKET_LEN) as u64;
            return;
        }
        self.last.clear();
        self.last.extend_from_slice(bytes);
        self.sync.datagram(bytes, &mut self.stats);
        self.push(bytes);
    }

    /// Takes bytes of a stream, in pieces of any length.
    pub fn push(&mut self, bytes: &[u8]) {
        self.sync.push(bytes);
        while let Some(bytes) = self.sync.next(&mut self.stats) {
            self.stats.packets += 1;
            match Packet::parse(&bytes) {
                Some(packet) if packet.error => self.stats.transport_errors += 1,
                Some(packet) => self.packet(&packet),
                None => {}
            }
        }
    }

    /// Notes that packets were lost here, which damages all unfinished units.
    pub fn lost(&mut self) {
        self.sync.lost(&mut self.stats);
        for pid in self.streams.keys().copied().collect::<Vec<_>>() {
            self.damage(pid);
        }
        for table in self.tables.values_mut().chain([&mut self.pat]) {
            table.forget();
        }
        self.metadata.values_mut().for_each(MetadataStream::forget);
    }

    /// Ends the stream, or notes a pause. Without it, an unfinished picture would wait for the next PES packet.
    pub fn finish(&mut self, end: End) {
        for pid in self.streams.keys().copied().collect::<Vec<_>>() {
            let Some(stream) = self.streams.get_mut(&pid) else { continue };
            if let Some(pes) = stream.pes.end(end) {
                self.decode(pid, pes);
            }
            self.settle(pid, end);
        }
    }

    /// Returns the next output, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Returns the counters so far.
    pub fn stats(&self) -> Counters {
        self.stats
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        if packet.pid == PID_PAT {
            for section in self.pat.sections(packet, &mut self.stats) {
                self.list(psi::programs(&section));
            }
        } else if self.streams.contains_key(&packet.pid) {
            self.elementary(packet);
        } else if let Some(metadata) = self.metadata.get_mut(&packet.pid) {
            if let Err(what) = metadata.packet(packet, &mut self.stats, &mut self.out) {
                self.tell(packet.pid, what, TsDiagnostic::Broken { pid: packet.pid, what });
            }
        } else if let Some(table) = self.tables.get_mut(&packet.pid) {
            for section in table.sections(packet, &mut self.stats) {
                if let Some((number, pmt)) = Pmt::parse(&section) {
                    self.map(packet.pid, number, pmt);
                }
            }
        }
    }

    /// Takes the list of programs from a PAT.
    fn list(&mut self, programs: Option<Vec<(u16, u16)>>) {
        let Some(programs) = programs.filter(|programs| *programs != self.programs) else { return };
        self.programs = programs;
        let listed = |number: u16| self.programs.iter().any(|(listed, _)| *listed == number);
        self.maps.retain(|&number, _| listed(number));
        let gone = self.played.is_some_and(|played| !listed(played));
        let pids: BTreeSet<u16> = self.programs.iter().map(|(_, pid)| *pid).collect();
        self.tables.retain(|pid, _| pids.contains(pid));
        for pid in pids {
            self.tables.entry(pid).or_default();
        }
        if gone {
            self.played = None;
            self.streams.clear();
            self.metadata.clear();
        }
        let numbers: Vec<u16> = self.programs.iter().map(|(number, _)| *number).collect();
        if self.wanted.is_some_and(|wanted| !numbers.contains(&wanted)) {
            self.out.push_back(Output::Diagnostic(TsDiagnostic::Programs { numbers, played: None }));
        }
    }

    /// Takes a program's PMT.
    fn map(&mut self, pid: u16, number: u16, pmt: Pmt) {
        if !self.programs.contains(&(number, pid)) {
            return;
        }
        let changed = self.maps.get(&number).is_none_or(|map| map.pmt != pmt);
        self.maps.insert(number, Map { pmt, again: !changed });
        if self.played == Some(number) {
            if changed {
                self.play(number);
            }
        } else if self.played.is_none()
            && let Some(number) = self.choose()
        {
            if self.programs.len() > 1 {
                let numbers = self.programs.iter().map(|(number, _)| *number).collect();
                self.out.push_back(Output::Diagnostic(TsDiagnostic::Programs { numbers, played: Some(number) }));
            }
            self.played = Some(number);
            self.play(number);
        }
    }

    /// Returns the program to publish: the requested one, or the first one with a supported track.
    fn choose(&mut self) -> Option<u16> {
        if let Some(wanted) = self.wanted {
            return self.maps.contains_key(&wanted).then_some(wanted);
        }
        for &(number, _) in &self.programs {
            match self.maps.get(&number) {
                Some(map) if map.pmt.is_playable() => return Some(number),
                Some(_) => {}
                // The PMTs of later programs have come twice: this program has no PMT.
                None if self.maps.values().any(|map| map.again) => {}
                None => return None,
            }
        }
        // No program is playable: report the first.
        self.programs.first().map(|(number, _)| *number).filter(|number| self.maps.contains_key(number))
    }

    /// Opens the tracks of a program's PMT. Tracks that it had before go on.
    fn play(&mut self, number: u16) {
        let Some(pmt) = self.maps.get(&number).map(|map| map.pmt.clone()) else { return };
        let listed = |pid: u16, kind: StreamKind| pmt.streams.iter().any(|s| s.pid == pid && s.kind == kind);
        self.streams.retain(|&pid, stream| listed(pid, stream.kind));
        let mut languages = Vec::new();
        let mut known = std::mem::take(&mut self.metadata);
        let mut video = self.streams.values().any(|stream| stream.track == VIDEO);
        for stream in &pmt.streams {
            if let Some(metadata) = MetadataStream::of(stream.kind) {
                let metadata = known.remove(&stream.pid).unwrap_or(metadata);
                self.metadata.insert(stream.pid, metadata);
                continue;
            }
            if self.streams.contains_key(&stream.pid) {
                continue;
            }
            let taken = |track: u8| self.streams.values().any(|stream| stream.track.0 == track);
            let free = (AUDIO.0..).take(AUDIO_TRACKS_MAX).find(|&track| !taken(track)).map(InputTrack);
            let pictures = ByteStream::new(stream.kind).filter(|_| !video);
            let sound = || free.and_then(|track| Some((track, Decoder::Sound(sound::decoder(stream.kind, track)?))));
            let Some((track, decoder)) =
                pictures.map(|pictures| (VIDEO, Decoder::Video(Box::new(pictures)))).or_else(sound)
            else {
                let (pid, stream_type, what) = (stream.pid, stream.stream_type, stream.kind.refused());
                self.tell(pid, what, TsDiagnostic::Refused { pid, stream_type, what });
                continue;
            };
            video |= track == VIDEO;
            if let Some(language) = stream.language.and_then(language::tag).filter(|_| track != VIDEO) {
                languages.push(Output::Input(Input::Language { track, language }));
            }
            let (kind, continuity, pes) = (stream.kind, Continuity::default(), pes::Assembler::default());
            self.streams.insert(stream.pid, Stream { track, kind, continuity, pes, decoder });
        }
        let audio = self.streams.values().any(|stream| stream.track != VIDEO);
        let announced = Announced { video: Some(video), audio: Some(audio) };
        if video || audio {
            self.out.push_back(Output::Program { number, announced });
            self.out.extend(languages);
        } else {
            self.out.push_back(Output::Diagnostic(TsDiagnostic::Nothing { number }));
        }
    }

    fn elementary(&mut self, packet: &Packet<'_>) {
        let pid = packet.pid;
        let Some(stream) = self.streams.get_mut(&pid) else { return };
        match stream.continuity.check(packet, &mut self.stats) {
            Found::Next => {}
            Found::Duplicate => return,
            Found::Gap => self.damage(pid),
        }
        if packet.scrambled {
            self.stats.scrambled += 1;
            return self.damage(pid);
        }
        let Some(stream) = self.streams.get_mut(&pid) else { return };
        if packet.start
            && let Some(pes) = stream.pes.begin()
        {
            self.decode(pid, pes);
        }
        let Some(stream) = self.streams.get_mut(&pid) else { return };
        if let Some(pes) = stream.pes.add(packet) {
            self.decode(pid, pes);
        }
    }

    /// Notes that packets of a PID are missing, which damages its unfinished unit. The units before the gap are whole.
    fn damage(&mut self, pid: u16) {
        let Some(stream) = self.streams.get_mut(&pid) else { return };
        if let Some(pes) = stream.pes.cut() {
            return self.decode(pid, pes);
        }
        let had = match &mut stream.decoder {
            Decoder::Video(video) => video.damaged(),
            Decoder::Sound(sound) => sound.damaged(),
        };
        self.stats.damaged += u64::from(had);
    }

    /// Ends the unfinished picture of a PID at the end of the stream, or in a pause.
    fn settle(&mut self, pid: u16, end: End) {
        let Some(Stream { decoder: Decoder::Video(video), .. }) = self.streams.get_mut(&pid) else { return };
        let read = video.finish(end, &mut self.stats, &mut self.out);
        self.broken(pid, read);
    }

    fn decode(&mut self, pid: u16, pes: Pes) {
        let Some(stream) = self.streams.get_mut(&pid) else { return };
        let read = match &mut stream.decoder {
            Decoder::Video(video) => {
                let read = pes.read().and_then(|read| video.packet(&read, !pes.cut, &mut self.stats, &mut self.out));
                if pes.cut {
                    self.stats.damaged += 1;
                    video.damaged();
                    return;
                }
                read
            }
            Decoder::Sound(sound) => {
                let read = pes.read();
                let at = read.as_ref().ok().and_then(|read| read.times);
                let read = read.and_then(|read| sound.frames(&read, &mut self.out));
                if pes.cut {
                    self.stats.damaged += u64::from(sound.damaged());
                }
                // An unfinished picture to which nothing was added meanwhile is whole.
                let stood = |(&pid, other): (&u16, &mut Stream)| Some((pid, other.pes.stood(at?.1)?));
                if let Some((pid, pes)) = self.streams.iter_mut().find_map(stood) {
                    self.decode(pid, pes);
                    self.settle(pid, End::Silent);
                }
                read
            }
        };
        self.broken(pid, read);
    }

    /// Reports the fault of a PES packet.
    fn broken(&mut self, pid: u16, read: Result<(), &'static str>) {
        let Err(what) = read else { return };
        if what == pes::SCRAMBLED {
            self.stats.scrambled += 1;
        }
        self.tell(pid, what, TsDiagnostic::Broken { pid, what });
    }

    /// Puts out a diagnostic once for a PID.
    fn tell(&mut self, pid: u16, what: &'static str, diagnostic: TsDiagnostic) {
        if self.said.insert((pid, what)) {
            self.out.push_back(Output::Diagnostic(diagnostic));
        }
    }
}
