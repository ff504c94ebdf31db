//! fixtures/grafana.json asks for nothing that `/metrics` doesn't have.

use std::collections::BTreeSet;
use std::time::Duration;

use damson::observe::Metrics;
use damson::observe::metrics::RequestKind;
use damson_core::model::time::Time;
use damson_core::model::{Hop, LatencyBreakdown, NodeId, NodeName, Stage, Trace};
use damson_core::testing::synthetic;

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("damson_")).collect()
}

/// Returns what `/metrics` has: a sample of every family.
pub(crate) fn exposition() -> String {
    let metrics = Metrics::default();
    // A family without a member isn't exposed.
    metrics.request(RequestKind::Part, 200, 1);
    metrics.ingest.diagnostic("late");
    Stage::OF_REQUESTS.iter().for_each(|stage| metrics.request_stage(RequestKind::Part, *stage, Duration::ZERO));
    // Below zero, which has a counter of its own.
    let hop = Hop { transit_us: -1, ..Hop::by(NodeId(1), NodeName::of("ingest")) };
    let record = synthetic::record("cam1");
    let (header, ..) = synthetic::part(&record, synthetic::VIDEO, synthetic::FIRST_MSN, 0, 1);
    metrics.part_listed(&LatencyBreakdown {
        id: header.id,
        length: 1,
        duration: 1,
        ingested: header.ingested,
        trace: Trace { packaging_us: Some(0), hops: vec![hop] },
        tail: Duration::ZERO,
        listing: Duration::ZERO,
        listed: Time::ZERO,
    });
    metrics.encode(0, 0, 0, 0)
}

#[test]
fn the_dashboard_asks_for_metrics_that_are_there() {
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../../fixtures/grafana.json")).expect("the dashboard is JSON");
    let exposed = exposition();
    let exposed = names(&exposed);
    let panels = dashboard["panels"].as_array().expect("panels");
    let expressions: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().expect("targets"))
        .map(|target| target["expr"].as_str().expect("an expression"))
        .collect();
    assert!(expressions.len() > 20, "{} expressions", expressions.len());
    for expression in expressions {
        for name in names(expression) {
            // A counter's samples and a histogram's buckets have their family's name and a suffix.
            let family = name.strip_suffix("_total").or(name.strip_suffix("_bucket")).unwrap_or(name);
            assert!(exposed.contains(name) || exposed.contains(family), "{name}, in {expression}");
        }
    }
}
