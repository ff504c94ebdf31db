//! The settings of the ingest.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use damson_core::demux::flv;
use damson_core::demux::srt::stream_id;
use damson_core::model::StreamName;
use serde::{Deserialize, Deserializer};
use srt_protocol::options::Passphrase;
use url::Url;

use super::amount::{Size, Span};
use super::{ConfigError, Listen, Settings, seconds, within};
use crate::ingest;
use crate::ingest::keys::KeyEntry;
use crate::ingest::udp::source::Source;
use crate::ingest::{http, rtmp, srt};

/// A text that no log or error shows.
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

/// A file, and the stream as which it is looped: `cam1=FILE.mp4`.
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
        let fault = || format!("{text:?} isn't STREAM=FILE");
        let (stream, file) = text.split_once('=').filter(|(_, file)| !file.is_empty()).ok_or_else(fault)?;
        let stream = StreamName::parse(stream).map_err(|error| format!("{}: {error}", fault()))?;
        Ok(Looped { stream, file: file.into() })
    }
}

/// Reads a type from a settings file as from a flag. A bare number needs no quotes.
macro_rules! from_text {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let value = toml::Value::deserialize(d)?;
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
from_text!(Secret, Looped, Source, KeyEntry, Listen, Span, Size);

impl Settings {
    /// Returns the settings of SRT: [`Settings::srt_latency`], or 0.12 s, [`Settings::srt_passphrase`], and
    /// [`Settings::srt_default`].
    pub fn srt(&self) -> Result<srt::server::Settings, ConfigError> {
        let latency = self.srt_latency.unwrap_or(DEFAULT_LATENCY.as_secs_f64());
        let latency = seconds("srt-latency", latency, 0.02..=8.0)?;
        let passphrase = self.srt_passphrase.as_ref().map(|Secret(text)| Passphrase::try_from(text.clone()));
        let wrong = |_| ConfigError::Value { name: "srt-passphrase", why: "must have 10 to 79 characters".to_owned() };
        let passphrase = passphrase.transpose().map_err(wrong)?;
        let wrong = |why: String| ConfigError::Value { name: "srt-default", why };
        let default = self.srt_default.as_deref().map(stream_id::parse).transpose();
        let default = default.map_err(|error| wrong(format!("is wrong: {error}")))?;
        if default.as_ref().is_some_and(|target| target.query.is_some()) {
            return Err(wrong("takes no key: whoever reaches the port would have it".to_owned()));
        }
        Ok(srt::server::Settings { latency, passphrase, default, connections_max: connections(self.pushers()?) })
    }

    /// Returns the limits of RTMP.
    pub fn rtmp_limits(&self) -> Result<rtmp::server::Limits, ConfigError> {
        let default = rtmp::server::Limits::default();
        let message_len_max = self.rtmp_message.map_or(default.session.message_len_max, |Size(bytes)| bytes as usize);
        let tracks_max = self.rtmp_tracks.unwrap_or(default.session.tracks_max);
        Ok(rtmp::server::Limits {
            connections_max: connections(self.pushers()?),
            setup: timeout("rtmp-header", self.rtmp_header, default.setup, 60.0)?,
            idle: timeout("rtmp-idle", self.rtmp_idle, default.idle, 300.0)?,
            session: damson_core::demux::rtmp::Limits {
                message_len_max: within("rtmp-message", message_len_max, RTMP_MESSAGE_LEN, " bytes")?,
                tracks_max: within("rtmp-tracks", tracks_max, 2..=flv::TRACKS_MAX, "")?,
            },
            ..default
        })
    }

    /// Returns the most pushes at a time: [`Settings::pushers`].
    pub fn pushers(&self) -> Result<usize, ConfigError> {
        within("pushers", self.pushers.unwrap_or(ingest::Settings::PUSHES_MAX), 1..=65_536, "")
    }

    /// Returns the settings of HTTP ingest.
    pub fn http_ingest(&self) -> Result<http::server::Settings, ConfigError> {
        let default = http::server::Settings::default();
        let prefix = match self.http_ingest_path.as_deref() {
            None => default.prefix,
            Some(path) if path.starts_with('/') => path.trim_end_matches('/').to_owned(),
            Some(path) => {
                let why = format!("is {path:?}; it must begin with '/'");
                return Err(ConfigError::Value { name: "http-ingest-path", why });
            }
        };
        let tracks_max = self.http_ingest_tracks.unwrap_or(default.tracks_max);
        Ok(http::server::Settings {
            prefix,
            grace: timeout("http-ingest-grace", self.http_ingest_grace, default.grace, 300.0)?,
            idle: timeout("http-ingest-idle", self.http_ingest_idle, default.idle, 300.0)?,
            header: timeout("http-ingest-header", self.http_ingest_header, default.header, 60.0)?,
            segment_max: self.http_ingest_segment.map_or(default.segment_max, |Size(bytes)| bytes),
            tracks_max: within("http-ingest-tracks", tracks_max, 1..=16, "")?,
            linger: self.linger()?,
            connections_max: connections(self.pushers()?),
        })
    }

    /// Returns the URL of the `on_publish` hook and its timeout, if [`Settings::on_publish`] is set.
    pub fn on_publish(&self) -> Result<Option<(Url, Duration)>, ConfigError> {
        let timeout = seconds("on-publish-timeout", self.on_publish_timeout.unwrap_or(5.0), 0.1..=10.0)?;
        if self.on_publish.is_none() && self.on_publish_timeout.is_some() {
            return Err(ConfigError::Missing { name: "on-publish", why: "the URL that --on-publish-timeout bounds" });
        }
        Ok(self.on_publish.clone().map(|url| (url, timeout)))
    }

    /// Returns the sources of datagrams. No stream may have two sources, files included.
    pub fn sources(&self) -> Result<&[Source], ConfigError> {
        let twice = |name: &'static str, stream: &dyn fmt::Display| {
            Err(ConfigError::Value { name, why: format!("names stream {stream}, which has another source already") })
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

/// Returns a timeout of at least 1 s.
fn timeout(name: &'static str, value: Option<f64>, default: Duration, max: f64) -> Result<Duration, ConfigError> {
    seconds(name, value.unwrap_or(default.as_secs_f64()), 1.0..=max)
}

/// Returns the most connections of a socket for this many pushes: it has to include connections in the handshake, and dead
/// ones whose encoders have come again.
fn connections(pushers: usize) -> usize {
    (2 * pushers).max(CONNECTIONS_MIN)
}

const CONNECTIONS_MIN: usize = 512;
/// The range of the longest message, in bytes: a key picture needs the one, and a part can't carry more than the other.
const RTMP_MESSAGE_LEN: std::ops::RangeInclusive<usize> = 64 << 10..=16 << 20;
/// The default of SRT in live mode.
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
        assert!(!shown.contains("0123456789") && shown.contains("Some(Passphrase)"), "{shown}");
    }

    #[test]
    fn limits_of_rtmp_are_settings() {
        let toml = "rtmp-message = \"1M\"\nrtmp-header = 3.5\nrtmp-idle = 60.0\nrtmp-tracks = 4\npushers = 9";
        let settings = toml::from_str::<Settings>(toml).expect("valid");
        let limits = settings.rtmp_limits().expect("in range");
        assert_eq!((limits.setup, limits.idle), (Duration::from_millis(3_500), Duration::from_secs(60)));
        assert_eq!((limits.session.message_len_max, limits.session.tracks_max), (1 << 20, 4));
        assert_eq!((settings.pushers().ok(), limits.connections_max), (Some(9), 512));
    }

    #[test]
    fn faults_name_the_setting() {
        let check = |toml: &str, text: &str| {
            let settings: Settings = toml::from_str(toml).expect("it can be read");
            let error = settings.srt().map(drop).and(settings.sources().map(drop));
            let error = error.and(settings.http_ingest().map(drop)).and(settings.on_publish().map(drop));
            let error = error.and(settings.rtmp_limits().map(drop));
            let error = error.expect_err(toml);
            assert_eq!(error.to_string(), text);
        };
        check(
            "srt-passphrase = \"short\"",
            "--srt-passphrase (DAMSON_SRT_PASSPHRASE, srt-passphrase in the file) must have 10 to 79 characters",
        );
        check(
            "srt-latency = 9.0",
            "--srt-latency (DAMSON_SRT_LATENCY, srt-latency in the file) is 9; it must be 0.02 to 8 seconds",
        );
        check(
            "srt-default = \"my cam\"",
            "--srt-default (DAMSON_SRT_DEFAULT, srt-default in the file) is wrong: the stream id \"my cam\": \
             a stream name is made of A-Z, a-z, 0-9, '_' and '-'; this one has ' ' at byte 2",
        );
        check(
            "srt-default = \"cam1?key=plum\"",
            "--srt-default (DAMSON_SRT_DEFAULT, srt-default in the file) takes no key: whoever reaches the port would have it",
        );
        check(
            "udp = [\"a=udp://0.0.0.0:1\"]\nloop = [\"a=x.mp4\"]",
            "--loop (DAMSON_LOOP, loop in the file) names stream a, which has another source already",
        );
        check(
            "http-ingest-path = \"push\"",
            "--http-ingest-path (DAMSON_HTTP_INGEST_PATH, http-ingest-path in the file) is \"push\"; it must begin with '/'",
        );
        check(
            "http-ingest-grace = 0.5",
            "--http-ingest-grace (DAMSON_HTTP_INGEST_GRACE, http-ingest-grace in the file) is 0.5; it must be 1 to 300 seconds",
        );
        check(
            "on-publish = \"localhost:1\"\non-publish-timeout = 60.0",
            "--on-publish-timeout (DAMSON_ON_PUBLISH_TIMEOUT, on-publish-timeout in the file) is 60; \
             it must be 0.1 to 10 seconds",
        );
        check(
            "rtmp-message = \"1K\"",
            "--rtmp-message (DAMSON_RTMP_MESSAGE, rtmp-message in the file) is 1024; it must be 65536 to 16777216 bytes",
        );
        check(
            "rtmp-tracks = 17",
            "--rtmp-tracks (DAMSON_RTMP_TRACKS, rtmp-tracks in the file) is 17; it must be 2 to 16",
        );
        check("pushers = 0", "--pushers (DAMSON_PUSHERS, pushers in the file) is 0; it must be 1 to 65536");
        assert!(toml::from_str::<Settings>("publish-key = [\"cam1=secret\"]").is_err());
    }
}
