//! The settings. Each has one name in the file (`segment = 2.0`), as a flag (`--segment 2.0`) and in the environment
//! (`DAMSON_SEGMENT=2.0`). A flag beats the environment, which beats the file.

use std::fmt::Display;
use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use url::Url;

mod amount;
mod ingest;

pub use amount::{Size, Span};
pub use ingest::{Looped, Secret};

use crate::dvr;
use crate::ingest::keys::KeyEntry;
use crate::ingest::udp::source::Source;
use crate::ingest::{Settings as Publishing, Takeover};
use crate::net::http_client::{deserialize_url, parse_url};

/// The settings of a node. `None` stands for the default in the flag's help.
#[derive(Args, Deserialize, Clone, Debug, Default)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Name of this node in traces and logs [default: the name in its certificate]
    #[arg(long, env = "DAMSON_NAME")]
    pub name: Option<String>,

    /// Folder with the node's key and certificate, as `damson pki issue` writes it
    #[arg(long, env = "DAMSON_IDENTITY", value_name = "DIR")]
    pub identity: Option<PathBuf>,

    /// Address for links to other nodes (QUIC over UDP) [default: 0.0.0.0:4900]
    #[arg(long, env = "DAMSON_MESH", value_name = "ADDR")]
    pub mesh: Option<SocketAddr>,

    /// Address that other nodes dial, if it differs from `--mesh` (NAT, 0.0.0.0)
    #[arg(long, env = "DAMSON_ADVERTISE", value_name = "ADDR")]
    pub advertise: Option<SocketAddr>,

    /// Node of the cluster to join through; repeatable, or separated by commas
    #[arg(long, env = "DAMSON_JOIN", value_name = "ADDR", value_delimiter = ',')]
    pub join: Vec<SocketAddr>,

    /// Way of finding neighbours: by HyParView, or only the nodes of `--join` [default: gossip]
    #[arg(long, env = "DAMSON_TOPOLOGY", value_enum)]
    pub topology: Option<Topology>,

    /// Upload limit towards other nodes, in Mb/s, 0.1-100000; the node sends to only as many nodes as fit [default: no
    /// limit]
    #[arg(long, env = "DAMSON_UPLOAD", value_name = "MBPS")]
    pub upload: Option<f64>,

    /// Address for RTMP publishers, or `off` [default: 127.0.0.1:1935]
    #[arg(long, env = "DAMSON_RTMP", value_name = "ADDR")]
    pub rtmp: Option<Listen>,

    /// Address for RTMP publishers over TLS, or `off`; needs `--tls-cert` and `--tls-key` [default: off]
    #[arg(long, env = "DAMSON_RTMPS", value_name = "ADDR")]
    pub rtmps: Option<Listen>,

    /// Address for SRT publishers (MPEG-TS over UDP), or `off` [default: off]
    #[arg(long, env = "DAMSON_SRT", value_name = "ADDR")]
    pub srt: Option<Listen>,

    /// Passphrase of SRT publishers, 10-79 characters; set it in the environment or the file, since the list of
    /// processes shows flags [default: none, and publishers must not encrypt]
    #[arg(long, env = "DAMSON_SRT_PASSPHRASE", value_name = "TEXT", hide_env_values = true)]
    pub srt_passphrase: Option<Secret>,

    /// Latency of SRT, retransmissions included, in seconds, 0.02-8; a publisher's own applies if it is longer
    /// [default: 0.12]
    #[arg(long, env = "DAMSON_SRT_LATENCY", value_name = "SECONDS")]
    pub srt_latency: Option<f64>,

    /// Stream of SRT publishers that send no stream id, as VLC; its publish keys hold [default: none, and such publishers
    /// are refused]
    #[arg(long, env = "DAMSON_SRT_DEFAULT", value_name = "STREAM")]
    pub srt_default: Option<String>,

    /// Longest RTMP message (one coded frame), in bytes, 64K-16M [default: 8M]
    #[arg(long, env = "DAMSON_RTMP_MESSAGE", value_name = "BYTES")]
    pub rtmp_message: Option<Size>,

    /// Time limit for an RTMP connection to begin publishing, in seconds, 1-60 [default: 10]
    #[arg(long, env = "DAMSON_RTMP_HEADER", value_name = "SECONDS")]
    pub rtmp_header: Option<f64>,

    /// Idle timeout of an RTMP publisher, in seconds, 1-300 [default: 10]
    #[arg(long, env = "DAMSON_RTMP_IDLE", value_name = "SECONDS")]
    pub rtmp_idle: Option<f64>,

    /// Most tracks of an RTMP push, 2-16 [default: 16]
    #[arg(long, env = "DAMSON_RTMP_TRACKS", value_name = "N")]
    pub rtmp_tracks: Option<u8>,

    /// Most pushes at a time, over all protocols, 1-65536 [default: 1024]
    #[arg(long, env = "DAMSON_PUSHERS", value_name = "N")]
    pub pushers: Option<usize>,

    /// Stream of MPEG-TS over UDP or RTP, unicast or multicast, such as `cam1=udp://239.1.2.3:5000`, with `source=`,
    /// `interface=` and `program=` after `?`; repeatable, or separated by commas
    #[arg(long, env = "DAMSON_UDP", value_name = "STREAM=URL", value_delimiter = ',')]
    pub udp: Vec<Source>,

    /// Address for HTTP publishers (whole streams, CMAF tracks, HLS and DASH segments), or `off` [default: off]
    #[arg(long, env = "DAMSON_HTTP_INGEST", value_name = "ADDR")]
    pub http_ingest: Option<Listen>,

    /// Address for HTTPS publishers, or `off`; needs `--tls-cert` and `--tls-key` [default: off]
    #[arg(long, env = "DAMSON_HTTPS_INGEST", value_name = "ADDR")]
    pub https_ingest: Option<Listen>,

    /// Path below which streams are pushed over HTTP, or `/` [default: /ingest]
    #[arg(long, env = "DAMSON_HTTP_INGEST_PATH", value_name = "PATH")]
    pub http_ingest_path: Option<String>,

    /// Time for which an HTTP push outlasts its last request, in seconds, 1-300 [default: 10]
    #[arg(long, env = "DAMSON_HTTP_INGEST_GRACE", value_name = "SECONDS")]
    pub http_ingest_grace: Option<f64>,

    /// Idle timeout within an HTTP push request, in seconds, 1-300 [default: 30]
    #[arg(long, env = "DAMSON_HTTP_INGEST_IDLE", value_name = "SECONDS")]
    pub http_ingest_idle: Option<f64>,

    /// Time limit for the head of an HTTP push request, in seconds, 1-60 [default: 10]
    #[arg(long, env = "DAMSON_HTTP_INGEST_HEADER", value_name = "SECONDS")]
    pub http_ingest_header: Option<f64>,

    /// Longest fragment of an HTTP push, in bytes [default: 64M]
    #[arg(long, env = "DAMSON_HTTP_INGEST_SEGMENT", value_name = "BYTES")]
    pub http_ingest_segment: Option<Size>,

    /// Most tracks of an HTTP push, 1-16 [default: 16]
    #[arg(long, env = "DAMSON_HTTP_INGEST_TRACKS", value_name = "N")]
    pub http_ingest_tracks: Option<usize>,

    /// File (.mp4) to loop as a stream; repeatable, or separated by commas
    #[arg(long = "loop", env = "DAMSON_LOOP", value_name = "STREAM=FILE", value_delimiter = ',')]
    #[serde(rename = "loop")]
    pub looped: Vec<Looped>,

    /// Publish key of a stream, hashed, as `damson key` prints it; repeatable, or separated by commas
    #[arg(long, env = "DAMSON_PUBLISH_KEY", value_name = "STREAM=HASH", value_delimiter = ',', hide_env_values = true)]
    pub publish_key: Vec<KeyEntry>,

    /// URL of a server that decides who may push: it gets a POST of JSON at each attempt, and allows the push by status
    /// 2xx; where publish keys are set, both have to agree [default: none]
    #[arg(long, env = "DAMSON_ON_PUBLISH", value_name = "URL", hide_env_values = true, value_parser = parse_url)]
    #[serde(deserialize_with = "deserialize_url")]
    pub on_publish: Option<Url>,

    /// Timeout of `--on-publish`, in seconds, 0.1-10; no answer refuses the push [default: 5]
    #[arg(long, env = "DAMSON_ON_PUBLISH_TIMEOUT", value_name = "SECONDS")]
    pub on_publish_timeout: Option<f64>,

    /// Address for players over HTTP, or `off` [default: 0.0.0.0:8080]
    #[arg(long, env = "DAMSON_HTTP", value_name = "ADDR")]
    pub http: Option<Listen>,

    /// Address for players over HTTPS, or `off`; needs `--tls-cert` and `--tls-key` [default: off]
    #[arg(long, env = "DAMSON_HTTPS", value_name = "ADDR")]
    pub https: Option<Listen>,

    /// Certificate for HTTPS and RTMPS with its chain, a PEM file; reloaded when it changes
    #[arg(long, env = "DAMSON_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of that certificate, a PEM file
    #[arg(long, env = "DAMSON_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Most connections of players [default: 16384]
    #[arg(long, env = "DAMSON_CONNECTIONS", value_name = "N")]
    pub connections: Option<usize>,

    /// Most connections of players from one address (IPv6: one /64); raise it behind a proxy [default: 12288]
    #[arg(long, env = "DAMSON_ADDRESS_CONNECTIONS", value_name = "N")]
    pub address_connections: Option<usize>,

    /// Most held requests from one address [default: 12288]
    #[arg(long, env = "DAMSON_ADDRESS_HELD", value_name = "N")]
    pub address_held: Option<usize>,

    /// Duration of a segment, in seconds, 2-10 [default: the whole number of GOPs nearest to 2]
    #[arg(long, env = "DAMSON_SEGMENT", value_name = "SECONDS")]
    pub segment: Option<f64>,

    /// Duration of a part, in seconds, 0.1-1 [default: 0.2]
    #[arg(long, env = "DAMSON_PART", value_name = "SECONDS")]
    pub part: Option<f64>,

    /// Distance from the live edge that low-latency players are asked to keep, in seconds, 0-10 [default: three parts]
    #[arg(long, env = "DAMSON_LATENCY", value_name = "SECONDS")]
    pub latency: Option<f64>,

    /// Time for which a stream outlives its publisher, in seconds, 0-3600 [default: 30]
    #[arg(long, env = "DAMSON_LINGER", value_name = "SECONDS")]
    pub linger: Option<f64>,

    /// Rule by which a push takes over a stream that has a publisher [default: same-address]
    #[arg(long, env = "DAMSON_TAKEOVER", value_enum)]
    pub takeover: Option<Takeover>,

    /// Highest bit rate of a push over 10 s, in Mb/s, 0.1-1000 [default: 100]
    #[arg(long, env = "DAMSON_BIT_RATE_MAX", value_name = "MBPS")]
    pub bit_rate_max: Option<f64>,

    /// Segment addressing of the MPD [default: number]
    #[arg(long, env = "DAMSON_DASH", value_enum)]
    pub dash: Option<Dash>,

    /// OpenTelemetry collector for traces of parts (OTLP/HTTP), such as `http://localhost:4318` [default: none]
    #[arg(long, env = "DAMSON_OTLP", value_name = "URL", value_parser = parse_url)]
    #[serde(deserialize_with = "deserialize_url")]
    pub otlp: Option<Url>,

    /// Latency breakdown of each part: in traces, in histograms, and in the headers CMSD and Server-Timing, which show
    /// the nodes' names to viewers [default: on]
    #[arg(long, env = "DAMSON_TRACING", value_enum)]
    pub tracing: Option<Tracing>,

    /// Time for which viewers can seek back, 30s-24h, such as `90s`, `45m`, `2h` [default: 30 s, as live playlists have
    /// it]
    #[arg(long, env = "DAMSON_DVR", value_name = "TIME")]
    pub dvr: Option<Span>,

    /// Memory for the DVR, in bytes; playlists list half of it if there is no `--dvr-dir` [default: 256M]
    #[arg(long, env = "DAMSON_DVR_MEMORY", value_name = "BYTES")]
    pub dvr_memory: Option<Size>,

    /// Folder for the DVR's segments, for this node alone; a restarted node goes on with them [default: none]
    #[arg(long, env = "DAMSON_DVR_DIR", value_name = "DIR")]
    pub dvr_dir: Option<PathBuf>,

    /// Disk space for the DVR's segments, in bytes; playlists list half of it [default: 10G]
    #[arg(long, env = "DAMSON_DVR_DISK", value_name = "BYTES")]
    pub dvr_disk: Option<Size>,
}

/// The way in which nodes find neighbours.
#[derive(clap::ValueEnum, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    /// HyParView
    #[default]
    Gossip,
    /// Only the nodes of `--join`, and those that join through this node
    Static,
}

/// Whether parts carry the breakdown of their latency.
#[derive(clap::ValueEnum, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Tracing {
    /// Parts carry it, and viewers can read it
    #[default]
    On,
    /// This node removes it from parts
    Off,
}

/// The way in which the MPD addresses segments.
#[derive(clap::ValueEnum, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Dash {
    /// `$Number$` with `@duration`: low latency, no polling
    #[default]
    Number,
    /// SegmentTimeline: handles gaps and uneven segments
    Timeline,
}

/// A listening address, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Don't listen.
    Off,
    /// Listen on this address.
    On(SocketAddr),
}

impl Listen {
    /// Returns the address, if any.
    pub fn addr(self) -> Option<SocketAddr> {
        match self {
            Listen::Off => None,
            Listen::On(addr) => Some(addr),
        }
    }
}

impl FromStr for Listen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Listen::Off),
            addr => addr.parse().map(Listen::On).map_err(|_| format!("{addr:?} is neither ADDRESS:PORT nor \"off\"")),
        }
    }
}

/// The reason why the settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the settings file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file isn't valid TOML, or has an unknown setting.
    #[error("settings file {}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause, with its line.
        source: Box<toml::de::Error>,
    },
    /// A setting has a wrong value.
    #[error("--{name} (DAMSON_{}, {name} in the file) {why}", name.to_uppercase().replace('-', "_"))]
    Value {
        /// The setting.
        name: &'static str,
        /// The predicate: what is wrong, and what the value must be.
        why: String,
    },
    /// A setting is missing.
    #[error("--{name} (DAMSON_{}, {name} in the file) is missing: {why}", name.to_uppercase().replace('-', "_"))]
    Missing {
        /// The setting.
        name: &'static str,
        /// The purpose of the setting.
        why: &'static str,
    },
}

impl Settings {
    /// Reads a settings file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
    }

    /// Returns the duration of a segment: [`Settings::segment`], if set.
    pub fn segment(&self) -> Result<Option<Duration>, ConfigError> {
        self.segment.map(|s| seconds("segment", s, 2.0..=10.0)).transpose()
    }

    /// Returns the duration of a part: [`Settings::part`], or 0.2 s.
    pub fn part(&self) -> Result<Duration, ConfigError> {
        seconds("part", self.part.unwrap_or(0.2), 0.1..=1.0)
    }

    /// Returns the latency of low-latency players: [`Settings::latency`], or zero, which stands for three parts.
    pub fn latency(&self) -> Result<Duration, ConfigError> {
        seconds("latency", self.latency.unwrap_or(0.0), 0.0..=10.0)
    }

    /// Returns the time for which a stream outlives its publisher: [`Settings::linger`], or 30 s.
    pub fn linger(&self) -> Result<Duration, ConfigError> {
        seconds("linger", self.linger.unwrap_or(30.0), 0.0..=3_600.0)
    }

    /// Returns the settings of the DVR, if [`Settings::dvr`] is set.
    pub fn dvr(&self) -> Result<Option<dvr::Settings>, ConfigError> {
        let Some(Span(depth)) = self.dvr else {
            let why = "the other settings of the DVR need the time for which viewers can seek back";
            let unused = self.dvr_dir.is_some() || self.dvr_disk.is_some() || self.dvr_memory.is_some();
            return if unused { Err(ConfigError::Missing { name: "dvr", why }) } else { Ok(None) };
        };
        let depth = seconds("dvr", depth.as_secs_f64(), 30.0..=86_400.0)?;
        if self.dvr_dir.is_none() && self.dvr_disk.is_some() {
            return Err(ConfigError::Missing { name: "dvr-dir", why: "the folder that --dvr-disk bounds" });
        }
        let bytes = |size: Option<Size>, default| size.map_or(default, |Size(bytes)| bytes);
        let disk = self.dvr_dir.clone().map(|dir| (dir, bytes(self.dvr_disk, dvr::Settings::DISK)));
        Ok(Some(dvr::Settings { depth, memory: bytes(self.dvr_memory, dvr::Settings::MEMORY), disk }))
    }

    /// Returns the highest sustained bit rate of a push, in bits/s: [`Settings::bit_rate_max`].
    pub fn bit_rate_max(&self) -> Result<u64, ConfigError> {
        let Some(mbps) = self.bit_rate_max else { return Ok(Publishing::BIT_RATE_MAX) };
        within("bit-rate-max", mbps, 0.1..=1_000.0, " Mb/s").map(|mbps| (mbps * 1e6) as u64)
    }

    /// Returns the upload limit towards other nodes, in bytes/s: [`Settings::upload`], if set.
    pub fn upload(&self) -> Result<Option<u64>, ConfigError> {
        let mbps = self.upload.map(|mbps| within("upload", mbps, 0.1..=100_000.0, " Mb/s")).transpose()?;
        Ok(mbps.map(|mbps| (mbps * 125_000.0) as u64))
    }
}

fn seconds(name: &'static str, value: f64, range: RangeInclusive<f64>) -> Result<Duration, ConfigError> {
    within(name, value, range, " seconds").map(Duration::from_secs_f64)
}

/// Returns a value that is in its range. NaN is in no range.
fn within<T: PartialOrd + Display>(
    name: &'static str,
    value: T,
    range: RangeInclusive<T>,
    unit: &str,
) -> Result<T, ConfigError> {
    if range.contains(&value) {
        return Ok(value);
    }
    let why = format!("is {value}; it must be {} to {}{unit}", range.start(), range.end());
    Err(ConfigError::Value { name, why })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn a_flag_beats_the_file() {
        let text = "segment = 4.0\nrtmp = \"off\"\njoin = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\npart = 0.5";
        let mut node = Flags { settings: toml::from_str(text).expect("valid") };
        node.update_from(["node", "--segment", "2", "--join", "127.0.0.1:3"]);
        let settings = node.settings;
        assert_eq!(settings.segment().expect("in range"), Some(Duration::from_secs(2)));
        assert_eq!(settings.rtmp, Some(Listen::Off));
        assert_eq!(settings.part, Some(0.5));
        assert_eq!(settings.join, ["127.0.0.1:3".parse().expect("an address")], "a list as a whole");
    }

    #[test]
    fn errors_name_the_setting() {
        let check = |settings: Settings, text: &str| {
            let error =
                settings.segment().map(|_| ()).and(settings.part().map(|_| ())).and(settings.linger().map(|_| ()));
            let error = error
                .and(settings.latency().map(|_| ()))
                .and(settings.upload().map(|_| ()))
                .and(settings.bit_rate_max().map(|_| ()))
                .and(settings.dvr().map(|_| ()));
            assert_eq!(error.expect_err("out of range").to_string(), text);
        };
        check(
            Settings { segment: Some(1.0), ..Settings::default() },
            "--segment (DAMSON_SEGMENT, segment in the file) is 1; it must be 2 to 10 seconds",
        );
        check(
            Settings { part: Some(f64::NAN), ..Settings::default() },
            "--part (DAMSON_PART, part in the file) is NaN; it must be 0.1 to 1 seconds",
        );
        check(
            Settings { latency: Some(11.0), ..Settings::default() },
            "--latency (DAMSON_LATENCY, latency in the file) is 11; it must be 0 to 10 seconds",
        );
        check(
            Settings { upload: Some(0.0), ..Settings::default() },
            "--upload (DAMSON_UPLOAD, upload in the file) is 0; it must be 0.1 to 100000 Mb/s",
        );
        let span = |text: &str| text.parse().ok();
        check(
            Settings { dvr: span("5s"), ..Settings::default() },
            "--dvr (DAMSON_DVR, dvr in the file) is 5; it must be 30 to 86400 seconds",
        );
        check(
            Settings { dvr: span("2h"), dvr_disk: Some(Size(1)), ..Settings::default() },
            "--dvr-dir (DAMSON_DVR_DIR, dvr-dir in the file) is missing: the folder that --dvr-disk bounds",
        );
        assert!(toml::from_str::<Settings>("segmnt = 4.0").is_err(), "a typo is no setting");
    }
}
