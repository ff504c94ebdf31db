//! `damson trace URL`: asks an edge where the time of a stream's parts goes, and shows it as a table.
//!
//! The edge does the sums ([`crate::edge::api::latency`]); here they are laid out.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use crate::net::http_client::{HttpClient, HttpClientError, Trust};

/// How often the edge is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is to be shown.
#[derive(Debug, Clone)]
pub struct Options {
    /// The edge, or a stream there.
    pub url: Url,
    /// The track; all without it.
    pub track: Option<String>,
    /// The window that is shown, in seconds: 1, 10 or 60.
    pub window: u64,
    /// The edge's own words in place of the table.
    pub json: bool,
    /// How many times; for ever without it.
    pub count: Option<u64>,
    /// Whom to believe by HTTPS.
    pub trust: Trust,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The edge can't be asked.
    #[error("{url}: {source}")]
    Asked {
        /// At which URL.
        url: Url,
        /// Why not.
        source: HttpClientError,
    },
    /// The edge has no answer.
    #[error("{url}: {status}: {text}")]
    Refused {
        /// At which URL.
        url: Url,
        /// The HTTP status.
        status: u16,
        /// What it says.
        text: String,
    },
    /// It isn't an edge of damson's, or one of another version.
    #[error("{url}: not what an edge says: {source}")]
    Rubbish {
        /// At which URL.
        url: Url,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The URL names no stream, and the edge has none or several.
    #[error("{url}: {what}")]
    Which {
        /// The URL.
        url: Url,
        /// Which streams there are.
        what: String,
    },
    /// Nobody takes what is shown.
    #[error("can't write: {0}")]
    Write(#[from] io::Error),
}

#[derive(Deserialize)]
struct Streams {
    streams: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Trace {
    stream: String,
    edge: Named,
    windows: Vec<Window>,
}

#[derive(Deserialize)]
struct Window {
    seconds: u64,
    parts: u64,
    age: Option<Spread>,
    stages: Vec<Stage>,
    requests: Vec<Stage>,
}

#[derive(Deserialize)]
struct Stage {
    stage: String,
    name: Option<String>,
    to: Option<Named>,
    #[serde(flatten)]
    spread: Spread,
    uncertainty_us: Option<u64>,
}

#[derive(Deserialize)]
struct Spread {
    count: u64,
    p50_us: i64,
    p90_us: i64,
    p99_us: i64,
    max_us: i64,
}

/// Asks each second, and shows what the edge says; `clear` puts each table in the place of the last.
///
/// # Errors
/// The first question isn't answered, or nobody takes what is shown. Later ones may go unanswered.
pub async fn run(options: &Options, clear: bool, out: &mut impl Write) -> Result<(), TraceError> {
    let asked = |source| TraceError::Asked { url: options.url.clone(), source };
    let client = HttpClient::new(options.trust).map_err(asked)?;
    let stream = match named(options.url.path()) {
        Some(stream) => stream.to_owned(),
        None => only(&client, &options.url).await?,
    };
    let mut url = at(&options.url, &format!("/api/v1/streams/{stream}/trace"));
    url.set_query(options.track.as_ref().map(|track| format!("track={track}")).as_deref());
    let mut each = tokio::time::interval(INTERVAL);
    let mut shown = 0;
    while options.count.is_none_or(|count| shown < count) {
        each.tick().await;
        let text = match ask(&client, &url).await {
            Ok(text) => text,
            // An edge that restarts is asked again.
            Err(error) if shown > 0 => {
                writeln!(out, "{error}")?;
                shown += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        if options.json {
            writeln!(out, "{text}")?;
        } else {
            let trace: Trace =
                serde_json::from_str(&text).map_err(|source| TraceError::Rubbish { url: url.clone(), source })?;
            let cursor = if clear { "\x1b[H\x1b[2J" } else { "" };
            writeln!(out, "{cursor}{}", table(&trace, options.window))?;
        }
        out.flush()?;
        shown += 1;
    }
    Ok(())
}

/// The stream that a path names: of a playlist, of the API, or alone.
fn named(path: &str) -> Option<&str> {
    let mut at = path.split('/').filter(|name| !name.is_empty());
    match at.next()? {
        "api" => at.nth(2),
        name => Some(name),
    }
}

/// The same edge at another path.
fn at(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    url.set_path(path);
    url.set_query(None);
    url
}

/// The edge's only stream.
async fn only(client: &HttpClient, url: &Url) -> Result<String, TraceError> {
    let list = at(url, "/api/v1/streams");
    let text = ask(client, &list).await?;
    let streams: Streams = serde_json::from_str(&text).map_err(|source| TraceError::Rubbish { url: list, source })?;
    let mut names: Vec<String> = streams.streams.into_iter().map(|stream| stream.name).collect();
    let which = |what| TraceError::Which { url: url.clone(), what };
    match names.len() {
        0 => Err(which("no stream is there".to_owned())),
        1 => Ok(names.swap_remove(0)),
        _ => Err(which(format!("which stream: {}?", names.join(", ")))),
    }
}

async fn ask(client: &HttpClient, url: &Url) -> Result<String, TraceError> {
    let answer = client.get(url).await.map_err(|source| TraceError::Asked { url: url.clone(), source })?;
    let text = String::from_utf8_lossy(answer.body()).trim_end().to_owned();
    match answer.status().as_u16() {
        200 => Ok(text),
        status => Err(TraceError::Refused { url: url.clone(), status, text }),
    }
}

/// A window as a table, in milliseconds.
fn table(trace: &Trace, seconds: u64) -> String {
    let Some(window) = trace.windows.iter().find(|window| window.seconds == seconds) else {
        return format!("{}: no window of {seconds} s", trace.stream);
    };
    let mut rows: Vec<[String; 7]> = Vec::new();
    let mut row = |stage: &str, place: String, spread: &Spread, uncertainty: Option<u64>| {
        let ms = |us: i64| format!("{:.3}", us as f64 / 1_000.0);
        let uncertainty = uncertainty.filter(|&us| us > 0).map(|us| format!("±{:.3}", us as f64 / 1_000.0));
        let Spread { p50_us, p90_us, p99_us, max_us, .. } = *spread;
        let cells = [stage.to_owned(), place, ms(p50_us), ms(p90_us), ms(p99_us), ms(max_us)];
        let [stage, place, p50, p90, p99, max] = cells;
        rows.push([stage, place, p50, p90, p99, max, uncertainty.unwrap_or_default()]);
    };
    for stage in &window.stages {
        let place = stage.name.clone().unwrap_or_default();
        let place = stage.to.as_ref().map_or(place.clone(), |to| format!("{place} > {}", to.name));
        row(&stage.stage, place, &stage.spread, stage.uncertainty_us);
    }
    if let Some(age) = &window.age {
        row("age", format!("listed at {}", trace.edge.name), age, None);
    }
    for stage in &window.requests {
        row(&stage.stage, format!("{} requests", stage.spread.count), &stage.spread, None);
    }
    let mut out = format!("{} at {}: {} parts in {seconds} s\n", trace.stream, trace.edge.name, window.parts);
    let head = ["STAGE", "WHERE", "P50 ms", "P90 ms", "P99 ms", "MAX ms", ""].map(str::to_owned);
    let all: Vec<&[String; 7]> = std::iter::once(&head).chain(&rows).collect();
    let width = |n: usize| all.iter().map(|row| row[n].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    for cells in all {
        let [stage, place, numbers @ ..] = cells;
        let mut line = format!("{stage:<0$}  {place:<1$}", widths[0], widths[1]);
        for (number, width) in numbers.iter().zip(&widths[2..]) {
            // Writing to a String can't fail.
            let _ = write!(line, "  {number:>width$}");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_in_many_ways() {
        let check = |path: &str, expect: Option<&str>| assert_eq!(named(path), expect, "{path}");
        check("/", None);
        check("/demo", Some("demo"));
        check("/demo/index.m3u8?x", Some("demo"));
        check("/api/v1/streams/cam1/trace", Some("cam1"));
        check("/api/v1/streams", None);
    }

    #[test]
    fn a_table_lines_up() {
        let spread = r#""count":5,"p50_us":33100,"p90_us":33400,"p99_us":-5,"max_us":1234567"#;
        let text = format!(
            r#"{{"stream":"cam1","edge":{{"node":"2","name":"edge"}},"windows":[{{"seconds":10,"parts":5,
            "age":{{{spread}}},
            "stages":[{{"stage":"packaging","hop":0,"node":"1","name":"in",{spread},"uncertainty_us":0}},
                {{"stage":"transit","hop":0,"node":"1","name":"in","to":{{"node":"2","name":"edge"}},{spread},
                "uncertainty_us":95}}],
            "requests":[{{"stage":"held",{spread}}}]}}]}}"#
        );
        let trace: Trace = serde_json::from_str(&text).expect("as an edge says it");
        let expect = "cam1 at edge: 5 parts in 10 s\n\
            STAGE      WHERE           P50 ms  P90 ms  P99 ms    MAX ms\n\
            packaging  in              33.100  33.400  -0.005  1234.567\n\
            transit    in > edge       33.100  33.400  -0.005  1234.567  ±0.095\n\
            age        listed at edge  33.100  33.400  -0.005  1234.567\n\
            held       5 requests      33.100  33.400  -0.005  1234.567\n";
        assert_eq!(table(&trace, 10), expect);
        assert!(table(&trace, 60).contains("no window"));
    }
}
