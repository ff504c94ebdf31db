//! `damson trace URL`: asks an edge for the latency of a stream, stage by stage, and shows it as a table.
//!
//! The edge computes the figures ([`crate::edge::api::latency`]).

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::net::http_client::{HttpClient, Trust, parse_url};

/// The time between two requests to the edge.
const INTERVAL: Duration = Duration::from_secs(1);

/// The options of `damson trace`.
#[derive(clap::Args, Debug, Clone)]
pub struct Options {
    /// URL of a stream at an edge, such as `http://127.0.0.1:8080/demo`; without a path, the edge's only stream
    #[arg(value_parser = parse_url)]
    pub url: Url,
    /// Name of the track [default: all]
    #[arg(long, value_name = "NAME")]
    pub track: Option<String>,
    /// Length of the window that is summed up, in seconds: 1, 10 or 60
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = window)]
    pub window: u64,
    /// Print the edge's answer as one line of JSON each second, instead of the table
    #[arg(long)]
    pub json: bool,
    /// Exit after N updates [default: never]
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Accept any HTTPS certificate, such as the self-signed one of a demo
    #[arg(long)]
    pub insecure: bool,
}

fn window(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(seconds @ (1 | 10 | 60)) => Ok(seconds),
        _ => Err("it must be 1, 10 or 60".to_owned()),
    }
}

/// The reason why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The edge can't be reached, or its answer can't be shown.
    #[error("{url}: {why}")]
    Edge {
        /// The URL.
        url: Url,
        /// A description of the fault.
        why: String,
    },
    /// The output can't be written.
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

/// Asks each second, and shows the edge's answer; `clear` puts each table in the place of the last.
///
/// # Errors
/// The first request fails, or the output can't be written. Later requests may fail.
pub async fn run(options: &Options, clear: bool, out: &mut impl Write) -> Result<(), TraceError> {
    let trust = if options.insecure { Trust::Anyone } else { Trust::System };
    let client = HttpClient::new(trust).map_err(|error| fault(&options.url, error))?;
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
        match get(&client, &url).await {
            Ok(text) if options.json => writeln!(out, "{text}")?,
            Ok(text) => {
                let cursor = if clear { "\x1b[H\x1b[2J" } else { "" };
                writeln!(out, "{cursor}{}", table(&parse(&url, &text)?, options.window))?;
            }
            // An edge that restarts is asked again.
            Err(error) if shown > 0 => writeln!(out, "{error}")?,
            Err(error) => return Err(error),
        }
        out.flush()?;
        shown += 1;
    }
    Ok(())
}

/// Returns the stream that a path names: that of a playlist or of the API, or the name alone.
fn named(path: &str) -> Option<&str> {
    let mut at = path.split('/').filter(|name| !name.is_empty());
    match at.next()? {
        "api" => at.nth(2),
        name => Some(name),
    }
}

/// Returns the URL of the same edge with another path.
fn at(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    url.set_path(path);
    url.set_query(None);
    url
}

/// Returns the edge's only stream.
async fn only(client: &HttpClient, url: &Url) -> Result<String, TraceError> {
    let list = at(url, "/api/v1/streams");
    let streams: Streams = parse(&list, &get(client, &list).await?)?;
    let mut names: Vec<String> = streams.streams.into_iter().map(|stream| stream.name).collect();
    Err(match names.len() {
        1 => return Ok(names.swap_remove(0)),
        0 => fault(url, "the edge has no stream"),
        _ => fault(url, format!("the edge has several streams; add one to the URL: {}", names.join(", "))),
    })
}

async fn get(client: &HttpClient, url: &Url) -> Result<String, TraceError> {
    let answer = client.get(url).await.map_err(|error| fault(url, error))?;
    let text = String::from_utf8_lossy(answer.body()).trim_end().to_owned();
    match answer.status().as_u16() {
        200 => Ok(text),
        status => Err(fault(url, format!("{status}: {text}"))),
    }
}

fn parse<T: DeserializeOwned>(url: &Url, text: &str) -> Result<T, TraceError> {
    let other = |error| fault(url, format!("not an answer of damson, or one of another version: {error}"));
    serde_json::from_str(text).map_err(other)
}

fn fault(url: &Url, why: impl ToString) -> TraceError {
    TraceError::Edge { url: url.clone(), why: why.to_string() }
}

/// Returns a window as a table, in milliseconds.
fn table(trace: &Trace, seconds: u64) -> String {
    let Some(window) = trace.windows.iter().find(|window| window.seconds == seconds) else {
        return format!("{}: no window of {seconds} s", trace.stream);
    };
    let mut rows = vec![["STAGE", "WHERE", "P50 ms", "P90 ms", "P99 ms", "MAX ms", ""].map(str::to_owned)];
    let mut row = |stage: &str, place: String, spread: &Spread, uncertainty: Option<u64>| {
        let ms = |us: i64| format!("{:.3}", us as f64 / 1_000.0);
        let uncertainty = uncertainty.filter(|&us| us > 0).map(|us| format!("±{:.3}", us as f64 / 1_000.0));
        let [p50, p90, p99, max] = [spread.p50_us, spread.p90_us, spread.p99_us, spread.max_us].map(ms);
        rows.push([stage.to_owned(), place, p50, p90, p99, max, uncertainty.unwrap_or_default()]);
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
    let widths: [usize; 7] = std::array::from_fn(|n| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or(0));
    let mut out = format!("{} at {}: {} parts in {seconds} s\n", trace.stream, trace.edge.name, window.parts);
    for [stage, place, numbers @ ..] in &rows {
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
