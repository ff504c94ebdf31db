//! Settings. Each has one name, in the file (`segment = 2.0`), the flag (`--segment 2.0`) and the
//! environment (`DAMSON_SEGMENT=2.0`). A flag beats the environment, which beats the file.

use std::fs;
use std::net::SocketAddr;
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

/// What can be set of a node. `None` means the default that the flag's help gives.
#[derive(Args, Deserialize, Clone, Debug, Default)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// What this node is called in traces and logs [default: the name in its certificate]
    #[arg(long, env = "DAMSON_NAME")]
    pub name: Option<String>,

    /// The folder with the node's key and certificate, as `damson pki issue` makes it
    #[arg(long, env = "DAMSON_IDENTITY", value_name = "DIR")]
    pub identity: Option<PathBuf>,

    /// Where other nodes reach this one: QUIC over UDP [default: 0.0.0.0:4900]
    #[arg(long, env = "DAMSON_MESH", value_name = "ADDR")]
    pub mesh: Option<SocketAddr>,

    /// The address that other nodes dial, where it isn't the one of `--mesh` (NAT, 0.0.0.0)
    #[arg(long, env = "DAMSON_ADVERTISE", value_name = "ADDR")]
    pub advertise: Option<SocketAddr>,

    /// A node of the cluster to join through; may be repeated, or separated by commas
    #[arg(long, env = "DAMSON_JOIN", value_name = "ADDR", value_delimiter = ',')]
    #[serde(default)]
    pub join: Vec<SocketAddr>,

    /// How nodes find neighbours: by HyParView, or only those named by --join [default: gossip]
    #[arg(long, env = "DAMSON_TOPOLOGY", value_enum)]
    pub topology: Option<Topology>,

    /// What this node may send to other nodes, in Mb/s, 0.1-100000: it feeds no more of them than fit [default: no cap]
    #[arg(long, env = "DAMSON_UPLOAD", value_name = "MBPS")]
    pub upload: Option<f64>,

    /// Where encoders push RTMP, or `off` [default: 127.0.0.1:1935]
    #[arg(long, env = "DAMSON_RTMP", value_name = "ADDR")]
    pub rtmp: Option<Listen>,

    /// Where encoders push RTMP over TLS, or `off`; it needs `--tls-cert` and `--tls-key` [default: off]
    #[arg(long, env = "DAMSON_RTMPS", value_name = "ADDR")]
    pub rtmps: Option<Listen>,

    /// Where encoders push SRT with MPEG-TS (UDP), or `off` [default: off]
    #[arg(long, env = "DAMSON_SRT", value_name = "ADDR")]
    pub srt: Option<Listen>,

    /// The passphrase with which SRT callers encrypt, 10-79 characters; better in the environment or the file, where
    /// nobody sees it in the list of processes [default: none, and callers mustn't encrypt]
    #[arg(long, env = "DAMSON_SRT_PASSPHRASE", value_name = "TEXT", hide_env_values = true)]
    pub srt_passphrase: Option<Secret>,

    /// How long SRT waits for what is sent again, in seconds, 0.02-8; a caller's own, if it is longer [default: 0.12]
    #[arg(long, env = "DAMSON_SRT_LATENCY", value_name = "SECONDS")]
    pub srt_latency: Option<f64>,

    /// The longest message that is taken by RTMP, which is a coded frame, in bytes, 64K-16M [default: 8M]
    #[arg(long, env = "DAMSON_RTMP_MESSAGE", value_name = "BYTES")]
    pub rtmp_message: Option<Size>,

    /// How long an RTMP encoder may take to publish, in seconds, 1-60 [default: 10]
    #[arg(long, env = "DAMSON_RTMP_HEADER", value_name = "SECONDS")]
    pub rtmp_header: Option<f64>,

    /// For how long nothing may come of an RTMP push, in seconds, 1-300 [default: 10]
    #[arg(long, env = "DAMSON_RTMP_IDLE", value_name = "SECONDS")]
    pub rtmp_idle: Option<f64>,

    /// Most tracks of an RTMP push, 2-16 [default: 16]
    #[arg(long, env = "DAMSON_RTMP_TRACKS", value_name = "N")]
    pub rtmp_tracks: Option<u8>,

    /// Most pushes at a time, by all protocols together, 1-65536 [default: 1024]
    #[arg(long, env = "DAMSON_PUSHERS", value_name = "N")]
    pub pushers: Option<usize>,

    /// A stream that comes as MPEG-TS over UDP or RTP, unicast or multicast: cam1=udp://239.1.2.3:5000, behind `?` also
    /// `source=`, `interface=`, `program=`; may be repeated, or separated by commas
    #[arg(long, env = "DAMSON_UDP", value_name = "STREAM=URL", value_delimiter = ',')]
    #[serde(default)]
    pub udp: Vec<Source>,

    /// Where encoders push over HTTP: whole streams, CMAF tracks, HLS and DASH segments; or `off` [default: off]
    #[arg(long, env = "DAMSON_HTTP_INGEST", value_name = "ADDR")]
    pub http_ingest: Option<Listen>,

    /// The same over HTTPS, or `off`; it needs `--tls-cert` and `--tls-key` [default: off]
    #[arg(long, env = "DAMSON_HTTPS_INGEST", value_name = "ADDR")]
    pub https_ingest: Option<Listen>,

    /// Below which path streams are pushed over HTTP, or `/` [default: /ingest]
    #[arg(long, env = "DAMSON_HTTP_INGEST_PATH", value_name = "PATH")]
    pub http_ingest_path: Option<String>,

    /// How long a push over several HTTP requests outlasts the last of them, in seconds, 1-300 [default: 10]
    #[arg(long, env = "DAMSON_HTTP_INGEST_GRACE", value_name = "SECONDS")]
    pub http_ingest_grace: Option<f64>,

    /// For how long nothing may come within a request that is pushed, in seconds, 1-300 [default: 30]
    #[arg(long, env = "DAMSON_HTTP_INGEST_IDLE", value_name = "SECONDS")]
    pub http_ingest_idle: Option<f64>,

    /// How long the head of such a request may take, in seconds, 1-60 [default: 10]
    #[arg(long, env = "DAMSON_HTTP_INGEST_HEADER", value_name = "SECONDS")]
    pub http_ingest_header: Option<f64>,

    /// The longest fragment that is pushed over HTTP: `64M` [default: 64M]
    #[arg(long, env = "DAMSON_HTTP_INGEST_SEGMENT", value_name = "BYTES")]
    pub http_ingest_segment: Option<Size>,

    /// Most tracks of a stream that is pushed over HTTP, 1-16 [default: 16]
    #[arg(long, env = "DAMSON_HTTP_INGEST_TRACKS", value_name = "N")]
    pub http_ingest_tracks: Option<usize>,

    /// An .mp4 file that is looped as a stream; may be repeated, or separated by commas
    #[arg(long = "loop", env = "DAMSON_LOOP", value_name = "STREAM=FILE", value_delimiter = ',')]
    #[serde(default, rename = "loop")]
    pub looped: Vec<Looped>,

    /// A stream's publish key, hashed, as `damson key` prints it; may be repeated, or separated by commas
    #[arg(long, env = "DAMSON_PUBLISH_KEY", value_name = "STREAM=HASH", value_delimiter = ',', hide_env_values = true)]
    #[serde(default)]
    pub publish_key: Vec<KeyEntry>,

    /// Who decides who may push: asked by a POST of JSON at each attempt, 2xx lets it in; beside the keys, if there are
    /// any [default: nobody]
    #[arg(long, env = "DAMSON_ON_PUBLISH", value_name = "URL", hide_env_values = true, value_parser = parse_url)]
    #[serde(deserialize_with = "deserialize_url")]
    pub on_publish: Option<Url>,

    /// How long that may take, in seconds, 0.1-10; then it is a no [default: 5]
    #[arg(long, env = "DAMSON_ON_PUBLISH_TIMEOUT", value_name = "SECONDS")]
    pub on_publish_timeout: Option<f64>,

    /// Where players fetch: HTTP, or `off` [default: 0.0.0.0:8080]
    #[arg(long, env = "DAMSON_HTTP", value_name = "ADDR")]
    pub http: Option<Listen>,

    /// Where players fetch by HTTPS, or `off`; it needs `--tls-cert` and `--tls-key` [default: off]
    #[arg(long, env = "DAMSON_HTTPS", value_name = "ADDR")]
    pub https: Option<Listen>,

    /// The certificate for HTTPS and RTMPS in PEM, its chain after it; looked at again while the node runs
    #[arg(long, env = "DAMSON_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// The key of that certificate, in PEM
    #[arg(long, env = "DAMSON_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Most connections of players [default: 16384]
    #[arg(long, env = "DAMSON_CONNECTIONS", value_name = "N")]
    pub connections: Option<usize>,

    /// Most of them from one address (IPv6: one /64); more where a proxy stands before the edge [default: 12288]
    #[arg(long, env = "DAMSON_ADDRESS_CONNECTIONS", value_name = "N")]
    pub address_connections: Option<usize>,

    /// Most requests held for one address [default: 12288]
    #[arg(long, env = "DAMSON_ADDRESS_HELD", value_name = "N")]
    pub address_held: Option<usize>,

    /// The length of a segment in seconds, 2-10 [default: measured, the whole number of GOPs nearest to 2]
    #[arg(long, env = "DAMSON_SEGMENT", value_name = "SECONDS")]
    pub segment: Option<f64>,

    /// The length of a part in seconds, 0.1-1 [default: 0.2]
    #[arg(long, env = "DAMSON_PART", value_name = "SECONDS")]
    pub part: Option<f64>,

    /// How far behind the live edge low-latency players are asked to stay, in seconds, up to 10 [default: three parts]
    #[arg(long, env = "DAMSON_LATENCY", value_name = "SECONDS")]
    pub latency: Option<f64>,

    /// How long a stream outlives its publisher, in seconds, 0-3600 [default: 30]
    #[arg(long, env = "DAMSON_LINGER", value_name = "SECONDS")]
    pub linger: Option<f64>,

    /// Who may take a stream over from a publisher that is still there [default: same-address]
    #[arg(long, env = "DAMSON_TAKEOVER", value_enum)]
    pub takeover: Option<Takeover>,

    /// What a push may send for longer than 10 s, in Mb/s, 0.1-1000 [default: 100]
    #[arg(long, env = "DAMSON_BIT_RATE_MAX", value_name = "MBPS")]
    pub bit_rate_max: Option<f64>,

    /// How the MPD addresses segments [default: number]
    #[arg(long, env = "DAMSON_DASH", value_enum)]
    pub dash: Option<Dash>,

    /// Where traces of parts go: an OpenTelemetry collector's OTLP/HTTP, `http://localhost:4318` [default: nowhere]
    #[arg(long, env = "DAMSON_OTLP", value_name = "URL", value_parser = parse_url)]
    #[serde(deserialize_with = "deserialize_url")]
    pub otlp: Option<Url>,

    /// The account of each part: traces, histograms of its stages, and the headers CMSD and Server-Timing, which tell viewers
    /// the nodes' names [default: on]
    #[arg(long, env = "DAMSON_TRACING", value_enum)]
    pub tracing: Option<Tracing>,

    /// How far viewers can seek back in a stream, 30s-24h: `90s`, `45m`, `2h` [default: 30 s, as live playlists do]
    #[arg(long, env = "DAMSON_DVR", value_name = "TIME")]
    pub dvr: Option<Span>,

    /// Memory for what they seek back to: `256M`, `1G`; half of it is listed where there is no --dvr-dir [default: 256M]
    #[arg(long, env = "DAMSON_DVR_MEMORY", value_name = "BYTES")]
    pub dvr_memory: Option<Size>,

    /// The folder for what doesn't fit there, of this node alone; a restarted node goes on with it [default: none]
    #[arg(long, env = "DAMSON_DVR_DIR", value_name = "DIR")]
    pub dvr_dir: Option<PathBuf>,

    /// What may lie in that folder: `10G`; half of it is listed [default: 10G]
    #[arg(long, env = "DAMSON_DVR_DISK", value_name = "BYTES")]
    pub dvr_disk: Option<Size>,
}

/// How nodes find neighbours.
#[derive(clap::ValueEnum, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    /// HyParView.
    #[default]
    Gossip,
    /// Only the peers named by `--join`, and those that name us.
    Static,
}

/// Whether parts carry their account.
#[derive(clap::ValueEnum, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Tracing {
    /// They do, and viewers are told of it.
    #[default]
    On,
    /// What passes this node has none from here on.
    Off,
}

/// How the MPD addresses segments.
#[derive(clap::ValueEnum, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Dash {
    /// `$Number$` with `@duration`: low latency, no polling.
    #[default]
    Number,
    /// SegmentTimeline: survives gaps and uneven segments.
    Timeline,
}

/// A listening address, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Don't listen.
    Off,
    /// Listen here.
    On(SocketAddr),
}

impl Listen {
    /// The address, if any.
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

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why the settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the settings file {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no valid TOML, or names a setting that there isn't.
    #[error("settings file {}: {source}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Why, and at which line.
        source: Box<toml::de::Error>,
    },
    /// A value out of its range.
    #[error("--{name} (DAMSON_{}, {name} in the file) is {value}; it must be {range}", name.to_uppercase().replace('-', "_"))]
    Range {
        /// Which setting.
        name: &'static str,
        /// What was given.
        value: f64,
        /// What may be given.
        range: &'static str,
    },
    /// A value that can't be.
    #[error("--{name} (DAMSON_{}, {name} in the file): {why}", name.to_uppercase().replace('-', "_"))]
    Value {
        /// Which setting.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A setting without a default is missing.
    #[error("--{name} (DAMSON_{}, {name} in the file) is missing: {why}", name.to_uppercase().replace('-', "_"))]
    Missing {
        /// Which setting.
        name: &'static str,
        /// What it is for.
        why: &'static str,
    },
}

impl Settings {
    /// Reads a settings file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
    }

    /// The segment length, if set.
    pub fn segment(&self) -> Result<Option<Duration>, ConfigError> {
        self.segment.map(|s| seconds("segment", s, 2.0, 10.0, "2 to 10 seconds")).transpose()
    }

    /// The part length: [`Settings::part`], or 0.2 s.
    pub fn part(&self) -> Result<Duration, ConfigError> {
        seconds("part", self.part.unwrap_or(0.2), 0.1, 1.0, "0.1 to 1 second")
    }

    /// What low-latency players are asked for: [`Settings::latency`]; zero, which is less than three parts, if it isn't set.
    pub fn latency(&self) -> Result<Duration, ConfigError> {
        seconds("latency", self.latency.unwrap_or(0.0), 0.0, 10.0, "0 to 10 seconds")
    }

    /// How long a stream outlives its publisher: [`Settings::linger`], or 30 s.
    pub fn linger(&self) -> Result<Duration, ConfigError> {
        seconds("linger", self.linger.unwrap_or(30.0), 0.0, 3_600.0, "0 to 3600 seconds")
    }

    /// What is kept for seeking back: [`Settings::dvr`], if set.
    pub fn dvr(&self) -> Result<Option<dvr::Settings>, ConfigError> {
        let Some(Span(depth)) = self.dvr else {
            let why = "what is kept for seeking back has to be said to be kept at all";
            let idle = self.dvr_dir.is_some() || self.dvr_disk.is_some() || self.dvr_memory.is_some();
            return if idle { Err(ConfigError::Missing { name: "dvr", why }) } else { Ok(None) };
        };
        let depth = seconds("dvr", depth.as_secs_f64(), 30.0, 86_400.0, "30 seconds to 24 hours")?;
        let bytes = |size: Option<Size>, default| size.map_or(default, |Size(bytes)| bytes);
        let disk = self.dvr_dir.clone().map(|dir| (dir, bytes(self.dvr_disk, dvr::Settings::DISK)));
        if disk.is_none() && self.dvr_disk.is_some() {
            let why = "the folder that --dvr-disk bounds";
            return Err(ConfigError::Missing { name: "dvr-dir", why });
        }
        Ok(Some(dvr::Settings { depth, memory: bytes(self.dvr_memory, dvr::Settings::MEMORY), disk }))
    }

    /// What a push may send for long, in bits/s: [`Settings::bit_rate_max`].
    pub fn bit_rate_max(&self) -> Result<u64, ConfigError> {
        let Some(mbps) = self.bit_rate_max else { return Ok(Publishing::BIT_RATE_MAX) };
        within("bit-rate-max", mbps, 0.1, 1_000.0, "0.1 to 1000 Mb/s").map(|mbps| (mbps * 1e6) as u64)
    }

    /// What the node may send to other nodes, in bytes/s: [`Settings::upload`], if set.
    pub fn upload(&self) -> Result<Option<u64>, ConfigError> {
        let mbps = self.upload.map(|mbps| within("upload", mbps, 0.1, 100_000.0, "0.1 to 100000 Mb/s")).transpose()?;
        Ok(mbps.map(|mbps| (mbps * 125_000.0) as u64))
    }
}

fn seconds(name: &'static str, value: f64, min: f64, max: f64, range: &'static str) -> Result<Duration, ConfigError> {
    within(name, value, min, max, range).map(Duration::from_secs_f64)
}

fn within(name: &'static str, value: f64, min: f64, max: f64, range: &'static str) -> Result<f64, ConfigError> {
    // NaN is in no range.
    if (min..=max).contains(&value) { Ok(value) } else { Err(ConfigError::Range { name, value, range }) }
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
            "--part (DAMSON_PART, part in the file) is NaN; it must be 0.1 to 1 second",
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
            "--dvr (DAMSON_DVR, dvr in the file) is 5; it must be 30 seconds to 24 hours",
        );
        check(
            Settings { dvr: span("2h"), dvr_disk: Some(Size(1)), ..Settings::default() },
            "--dvr-dir (DAMSON_DVR_DIR, dvr-dir in the file) is missing: the folder that --dvr-disk bounds",
        );
        assert!(toml::from_str::<Settings>("segmnt = 4.0").is_err(), "a typo is no setting");
    }
}
