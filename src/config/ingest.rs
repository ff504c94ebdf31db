//! Settings of what comes in, as they are written.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use srt_protocol::options::Passphrase;

use super::{ConfigError, Settings, seconds};
use crate::ingest::keys::KeyEntry;
use crate::ingest::srt;
use crate::ingest::udp::source::Source;
use crate::live::StreamName;

/// What mustn't be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Secret(text.to_owned()))
    }
}

/// A file, and the stream that it is looped as: `cam1=FILE.mp4`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Looped {
    /// The stream.
    pub stream: StreamName,
    /// The file.
    pub file: PathBuf,
}

impl FromStr for Looped {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is no STREAM=FILE");
        let (stream, file) = text.split_once('=').filter(|(_, file)| !file.is_empty()).ok_or_else(fault)?;
        let stream = StreamName::parse(stream).map_err(|error| format!("{}: {error}", fault()))?;
        Ok(Looped { stream, file: file.into() })
    }
}

/// As a text, in a file.
macro_rules! from_text {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
from_text!(Secret, Looped, Source, KeyEntry);

impl Settings {
    /// What SRT negotiates: [`Settings::srt_latency`], or 0.12 s, and [`Settings::srt_passphrase`].
    pub fn srt(&self) -> Result<srt::server::Settings, ConfigError> {
        let latency = self.srt_latency.unwrap_or(DEFAULT_LATENCY.as_secs_f64());
        let latency = seconds("srt-latency", latency, 0.02, 8.0, "0.02 to 8 seconds")?;
        let passphrase = self.srt_passphrase.as_ref().map(|Secret(text)| Passphrase::try_from(text.clone()));
        let wrong = |_| ConfigError::Value { name: "srt-passphrase", why: "it has 10 to 79 characters".to_owned() };
        Ok(srt::server::Settings { latency, passphrase: passphrase.transpose().map_err(wrong)? })
    }

    /// Where datagrams come from: no stream twice, be it from there or from a file.
    pub fn sources(&self) -> Result<&[Source], ConfigError> {
        let twice = |name: &'static str, stream: &dyn fmt::Display| {
            Err(ConfigError::Value { name, why: format!("stream {stream} has another source already") })
        };
        for (n, source) in self.udp.iter().enumerate() {
            let same = |other: &Source| other.stream == source.stream && other.rendition == source.rendition;
            if self.udp[..n].iter().any(same) {
                return twice("udp", &source.stream);
            }
        }
        for (n, looped) in self.looped.iter().enumerate() {
            let here = self.looped[..n].iter().any(|other| other.stream == looped.stream);
            if here || self.udp.iter().any(|source| source.stream == looped.stream) {
                return twice("loop", &looped.stream);
            }
        }
        Ok(&self.udp)
    }
}

/// SRT's own default in live mode.
const DEFAULT_LATENCY: Duration = Duration::from_millis(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_inputs_are_read_and_secrets_not_shown() {
        let settings: Settings = toml::from_str(
            "srt = \"127.0.0.1:0\"\nsrt-passphrase = \"0123456789\"\nudp = [\"cam1=udp://239.0.0.1:5000\"]\n\
             loop = [\"film=a=b.mp4\"]",
        )
        .expect("valid");
        assert_eq!(settings.looped[0].file, PathBuf::from("a=b.mp4"));
        assert_eq!(settings.sources().expect("each once").len(), 1);
        let srt = settings.srt().expect("in range");
        assert_eq!(srt.latency, Duration::from_millis(120));
        let shown = format!("{settings:?} {srt:?}");
        assert!(!shown.contains("0123456789") && shown.contains("encrypted: true"), "{shown}");
    }

    #[test]
    fn faults_name_the_setting() {
        let check = |toml: &str, text: &str| {
            let settings: Settings = toml::from_str(toml).expect("it can be read");
            let error = settings.srt().map(|_| ()).and(settings.sources().map(|_| ())).expect_err(toml);
            assert_eq!(error.to_string(), text);
        };
        check(
            "srt-passphrase = \"short\"",
            "--srt-passphrase (DAMSON_SRT_PASSPHRASE, srt-passphrase in the file): it has 10 to 79 characters",
        );
        check(
            "srt-latency = 9.0",
            "--srt-latency (DAMSON_SRT_LATENCY, srt-latency in the file) is 9; it must be 0.02 to 8 seconds",
        );
        check(
            "udp = [\"a=udp://0.0.0.0:1\"]\nloop = [\"a=x.mp4\"]",
            "--loop (DAMSON_LOOP, loop in the file): stream a has another source already",
        );
        assert!(toml::from_str::<Settings>("publish-key = [\"cam1=secret\"]").is_err());
    }
}
