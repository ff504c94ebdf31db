//! Settings of what comes in, as they are written.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use damson_core::demux::flv;
use damson_core::model::StreamName;
use serde::{Deserialize, Deserializer};
use srt_protocol::options::Passphrase;
use url::Url;

use super::amount::Size;
use super::{ConfigError, Settings, seconds};
use crate::ingest;
use crate::ingest::keys::KeyEntry;
use crate::ingest::udp::source::Source;
use crate::ingest::{http, rtmp, srt};

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
        let passphrase = passphrase.transpose().map_err(wrong)?;
        Ok(srt::server::Settings { latency, passphrase, connections_max: connections(self.pushers()?) })
    }

    /// What RTMP may take.
    pub fn rtmp_limits(&self) -> Result<rtmp::server::Limits, ConfigError> {
        let default = rtmp::server::Limits::default();
        let time = |name, value: Option<f64>, default: Duration, max, range| {
            seconds(name, value.unwrap_or(default.as_secs_f64()), 1.0, max, range)
        };
        let message_len_max = self.rtmp_message.map_or(default.session.message_len_max, |Size(bytes)| bytes as usize);
        if !RTMP_MESSAGE_LEN.contains(&message_len_max) {
            let why = format!("it is {message_len_max} bytes; it must be 64K to 16M");
            return Err(ConfigError::Value { name: "rtmp-message", why });
        }
        let tracks_max = self.rtmp_tracks.unwrap_or(default.session.tracks_max);
        if !(2..=flv::TRACKS_MAX).contains(&tracks_max) {
            let why = format!("it is {tracks_max}; it must be 2 to {}", flv::TRACKS_MAX);
            return Err(ConfigError::Value { name: "rtmp-tracks", why });
        }
        Ok(rtmp::server::Limits {
            connections_max: connections(self.pushers()?),
            setup: time("rtmp-header", self.rtmp_header, default.setup, 60.0, "1 to 60 seconds")?,
            idle: time("rtmp-idle", self.rtmp_idle, default.idle, 300.0, "1 to 300 seconds")?,
            session: damson_core::demux::rtmp::Limits { message_len_max, tracks_max },
            ..default
        })
    }

    /// Pushes at a time: [`Settings::pushers`].
    pub fn pushers(&self) -> Result<usize, ConfigError> {
        let pushers = self.pushers.unwrap_or(ingest::Settings::PUSHES_MAX);
        if !(1..=65_536).contains(&pushers) {
            let why = format!("it is {pushers}; it must be 1 to 65536");
            return Err(ConfigError::Value { name: "pushers", why });
        }
        Ok(pushers)
    }

    /// What HTTP ingest may take.
    pub fn http_ingest(&self) -> Result<http::server::Settings, ConfigError> {
        let default = http::server::Settings::default();
        let time = |name, value: Option<f64>, default: Duration, max, range| {
            seconds(name, value.unwrap_or(default.as_secs_f64()), 1.0, max, range)
        };
        let value = |name, why: String| ConfigError::Value { name, why };
        let prefix = match self.http_ingest_path.as_deref() {
            None => default.prefix,
            Some(path) if path.starts_with('/') => path.trim_end_matches('/').to_owned(),
            Some(path) => return Err(value("http-ingest-path", format!("{path:?} doesn't begin with a '/'"))),
        };
        let tracks_max = self.http_ingest_tracks.unwrap_or(default.tracks_max);
        if !(1..=16).contains(&tracks_max) {
            return Err(value("http-ingest-tracks", format!("it is {tracks_max}; it must be 1 to 16")));
        }
        let long = "1 to 300 seconds";
        Ok(http::server::Settings {
            prefix,
            grace: time("http-ingest-grace", self.http_ingest_grace, default.grace, 300.0, long)?,
            idle: time("http-ingest-idle", self.http_ingest_idle, default.idle, 300.0, long)?,
            header: time("http-ingest-header", self.http_ingest_header, default.header, 60.0, "1 to 60 seconds")?,
            segment_max: self.http_ingest_segment.map_or(default.segment_max, |Size(bytes)| bytes),
            tracks_max,
            linger: self.linger()?,
            connections_max: connections(self.pushers()?),
        })
    }

    /// Who is asked at each publish: [`Settings::on_publish`], if set.
    pub fn on_publish(&self) -> Result<Option<(Url, Duration)>, ConfigError> {
        let timeout = self.on_publish_timeout.unwrap_or(5.0);
        let timeout = seconds("on-publish-timeout", timeout, 0.1, 10.0, "0.1 to 10 seconds")?;
        if self.on_publish.is_none() && self.on_publish_timeout.is_some() {
            return Err(ConfigError::Missing { name: "on-publish", why: "whose time --on-publish-timeout bounds" });
        }
        Ok(self.on_publish.clone().map(|url| (url, timeout)))
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

/// How many connections a socket has at a time for so many pushes: those included that shake hands, and those that are
/// dead already, and not missed yet when their encoders come again.
fn connections(pushers: usize) -> usize {
    (2 * pushers).max(CONNECTIONS_MIN)
}

const CONNECTIONS_MIN: usize = 512;
/// In bytes: less is less than a key picture, and more is more than a part can carry.
const RTMP_MESSAGE_LEN: std::ops::RangeInclusive<usize> = 64 << 10..=16 << 20;
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
        check(
            "http-ingest-path = \"push\"",
            "--http-ingest-path (DAMSON_HTTP_INGEST_PATH, http-ingest-path in the file): \"push\" doesn't begin with a '/'",
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
            "--rtmp-message (DAMSON_RTMP_MESSAGE, rtmp-message in the file): it is 1024 bytes; it must be 64K to 16M",
        );
        check(
            "rtmp-tracks = 17",
            "--rtmp-tracks (DAMSON_RTMP_TRACKS, rtmp-tracks in the file): it is 17; it must be 2 to 16",
        );
        check("pushers = 0", "--pushers (DAMSON_PUSHERS, pushers in the file): it is 0; it must be 1 to 65536");
        assert!(toml::from_str::<Settings>("publish-key = [\"cam1=secret\"]").is_err());
    }
}
