//! Timed metadata: messages beside pictures and sound. They travel in the parts, as event message boxes (DASH, 23009-1,
//! 5.10.3.3); the [`Record`](super::record::Record) lists the kinds that have come.

/// The format of a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scheme {
    /// An ID3v2 tag (AOM, "Carriage of ID3 Timed Metadata in CMAF").
    Id3,
    /// A splice_info_section (SCTE 35), carried as SCTE 214-3, 6.7 says.
    Scte35,
}

impl Scheme {
    /// All schemes.
    pub const ALL: [Scheme; 2] = [Scheme::Id3, Scheme::Scte35];

    /// Returns `scheme_id_uri` of an event message, `schemeIdUri` of an InbandEventStream.
    pub const fn uri(self) -> &'static str {
        match self {
            Scheme::Id3 => "https://aomedia.org/emsg/ID3",
            Scheme::Scte35 => "urn:scte:scte35:2013:bin",
        }
    }

    /// Returns the scheme of a `scheme_id_uri`. ID3 has Apple's older one, too.
    pub fn parse(uri: &str) -> Option<Scheme> {
        match uri {
            "https://developer.apple.com/streaming/emsg-id3" => Some(Scheme::Id3),
            _ => Scheme::ALL.into_iter().find(|scheme| scheme.uri() == uri),
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Scheme::Id3 => 1,
            Scheme::Scte35 => 2,
        }
    }
}

/// A set of schemes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Schemes(pub(crate) u8);

impl Schemes {
    /// Returns the set with `scheme`.
    #[must_use]
    pub const fn with(self, scheme: Scheme) -> Schemes {
        Schemes(self.0 | scheme.bit())
    }

    /// Returns whether the set has `scheme`.
    pub const fn contains(self, scheme: Scheme) -> bool {
        self.0 & scheme.bit() != 0
    }

    /// Returns each scheme of the set.
    pub fn iter(self) -> impl Iterator<Item = Scheme> {
        Scheme::ALL.into_iter().filter(move |scheme| self.contains(*scheme))
    }
}
