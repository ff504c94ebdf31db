//! What an operator is told of a transport stream.

/// What an operator wants to know of a transport stream.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TsDiagnostic {
    /// The PAT lists several programs, or not the one that was asked for.
    #[error("programs {numbers:?}: {}", choice(*played))]
    Programs {
        /// Those that it lists.
        numbers: Vec<u16>,
        /// The one that is played.
        played: Option<u16>,
    },
    /// An elementary stream that isn't taken.
    #[error("PID {pid} (stream_type {stream_type:#04x}) isn't taken: {what}")]
    Refused {
        /// Its PID.
        pid: u16,
        /// Its stream_type (table 2-34).
        stream_type: u8,
        /// What that is, and what would be taken.
        what: &'static str,
    },
    /// Nothing of the program can be taken.
    #[error("program {number} has neither H.264 nor H.265, nor AAC (ADTS), AC-3, E-AC-3 or Opus")]
    Nothing {
        /// program_number.
        number: u16,
    },
    /// A PES packet or its payload can't be read.
    #[error("PID {pid}: {what}")]
    Broken {
        /// Its PID.
        pid: u16,
        /// What is wrong with it.
        what: &'static str,
    },
}

fn choice(played: Option<u16>) -> String {
    played.map_or("the one that is asked for isn't among them".to_owned(), |played| {
        format!("{played} is played (program=N chooses another)")
    })
}

/// What has come and what hasn't. All only go up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Transport packets.
    pub packets: u64,
    /// Gaps in the continuity counters.
    pub continuity_errors: u64,
    /// Packets that are missing at least, as these tell.
    pub lost: u64,
    /// Packets that came twice, as they may (2.4.3.3).
    pub duplicates: u64,
    /// Packets that the modulator says are damaged (transport_error_indicator).
    pub transport_errors: u64,
    /// How often the packets' raster was lost.
    pub resyncs: u64,
    /// Bytes outside of it.
    pub skipped: u64,
    /// Sections whose checksum is wrong.
    pub bad_sections: u64,
    /// Scrambled packets and PES packets, which can't be read.
    pub scrambled: u64,
    /// Access units that were damaged, and dropped.
    pub damaged: u64,
    /// Pictures that were whole, and dropped since what they refer to wasn't.
    pub undecodable: u64,
}
