//! Writes `/metrics`.

use crate::edge::context::Edge;
use crate::observe::prometheus_text;

const OPENMETRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Returns the body of `/metrics` and its content type: OpenMetrics if the client accepts it.
pub(crate) fn metrics(edge: &Edge, accepted: Option<&str>) -> (String, &'static str) {
    let streams = edge.store().streams();
    let (mut held, mut late) = (0, 0);
    for stream in &streams {
        let state = stream.lock();
        held += state.window().held_bytes();
        late += state.window().late();
    }
    let text = edge.metrics().encode(streams.len() as u64, edge.store().waiting() as u64, held, late);
    match accepted.is_some_and(|accepted| accepted.contains("application/openmetrics-text")) {
        true => (text, OPENMETRICS_TYPE),
        false => (prometheus_text::of(&text), prometheus_text::CONTENT_TYPE),
    }
}
