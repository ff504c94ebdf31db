//! Diagnostics and counters of a transport stream.

/// A diagnostic for the log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TsDiagnostic {
    /// The PAT lists several programs, or lacks the wanted one.
    #[error("programs {numbers:?}: {}", choice(*played))]
    Programs {
        /// The listed programs.
        numbers: Vec<u16>,
        /// The program that is published.
        played: Option<u16>,
    },
    /// An elementary stream that is not supported.
    #[error("PID {pid} (stream_type {stream_type:#04x}) is not supported: {what}")]
    Refused {
        /// The PID of the stream.
        pid: u16,
        /// The stream_type (table 2-34).
        stream_type: u8,
        /// The content of the stream, and what to send instead.
        what: &'static str,
    },
    /// The program has no playable track.
    #[error("program {number} has neither H.264 or H.265 video nor AAC (ADTS), AC-3, E-AC-3 or Opus audio")]
    Nothing {
        /// program_number.
        number: u16,
    },
    /// A PES packet or its payload is invalid.
    #[error("PID {pid}: {what}")]
    Broken {
        /// The PID of the stream.
        pid: u16,
        /// A description of the fault.
        what: &'static str,
    },
}

fn choice(played: Option<u16>) -> String {
    played.map_or("the requested program isn't among them".to_owned(), |played| {
        format!("{played} is published (program=N chooses another)")
    })
}

/// Counters of a demuxer. All only go up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Transport packets.
    pub packets: u64,
    /// Gaps in the continuity counters.
    pub continuity_errors: u64,
    /// The number of missing packets by these counters; more may be missing.
    pub lost: u64,
    /// Packets that came twice, which is allowed (2.4.3.3).
    pub duplicates: u64,
    /// Packets that the modulator says are damaged (transport_error_indicator).
    pub transport_errors: u64,
    /// Losses of packet synchronisation.
    pub resyncs: u64,
    /// Bytes outside of packets.
    pub skipped: u64,
    /// Sections whose checksum is wrong.
    pub bad_sections: u64,
    /// Scrambled packets and PES packets, which are dropped.
    pub scrambled: u64,
    /// Damaged access units, which were dropped.
    pub damaged: u64,
    /// Whole pictures that were dropped, since pictures that they refer to are missing.
    pub undecodable: u64,
}
