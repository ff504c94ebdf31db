//! What comes in, and what of it doesn't.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DiagnosticLabels {
    kind: &'static str,
}

/// Counters of all inputs of a node.
#[derive(Debug, Clone, Default)]
pub struct Ingest {
    /// Transport packets of MPEG-TS.
    pub ts_packets: Counter,
    /// Those that are missing at least, as continuity counters tell.
    pub ts_lost: Counter,
    /// Gaps in the continuity counters.
    pub ts_continuity_errors: Counter,
    /// How often the packets' raster was lost.
    pub ts_resyncs: Counter,
    /// Access units that were damaged, and pictures that refer to such: all that was dropped.
    pub ts_units_dropped: Counter,
    /// Datagrams missing in the sequence numbers of RTP.
    pub rtp_lost: Counter,
    /// Datagrams that weren't retransmitted in time by SRT.
    pub srt_lost: Counter,
    /// HTTP requests with a body.
    pub http_requests: Counter,
    /// Those that were refused.
    pub http_refused: Counter,
    /// Units and messages that had come already: of redundant encoders, or sent again.
    pub http_units_repeated: Counter,
    /// Units of cut or damaged fragments, pictures that refer to such, and messages that find no place.
    pub http_units_dropped: Counter,
    /// Encoders' clocks that came (`prft`).
    pub http_references: Counter,
    /// Pushes refused for a wrong or a missing key.
    pub keys_refused: Counter,
    /// Of the packager, by kind: how many kinds there are is fixed, and how many streams isn't.
    diagnostics: Family<DiagnosticLabels, Counter>,
}

impl Ingest {
    /// Counts what the packager has said of a push: [`Diagnostic::kind`](damson_core::packager::Diagnostic::kind).
    pub fn diagnostic(&self, kind: &'static str) {
        self.diagnostics.get_or_create(&DiagnosticLabels { kind }).inc();
    }

    /// Adds them to what `/metrics` shows.
    pub(super) fn register(&self, r: &mut Registry) {
        let mut add = |name: &str, help: &str, counter: &Counter| r.register(name, help, counter.clone());
        add("ingest_ts_packets", "Transport packets taken", &self.ts_packets);
        add("ingest_ts_lost", "Transport packets missing at least, by continuity counters", &self.ts_lost);
        add("ingest_ts_continuity_errors", "Gaps in continuity counters", &self.ts_continuity_errors);
        add("ingest_ts_resyncs", "How often the raster of transport packets was lost", &self.ts_resyncs);
        add("ingest_ts_units_dropped", "Damaged access units, and pictures that refer to them", &self.ts_units_dropped);
        add("ingest_rtp_lost", "Datagrams missing by RTP's sequence numbers", &self.rtp_lost);
        add("ingest_srt_lost", "Datagrams that SRT didn't bring in time", &self.srt_lost);
        add("ingest_http_requests", "Requests with a body", &self.http_requests);
        add("ingest_http_refused", "Requests that were refused", &self.http_refused);
        add(
            "ingest_http_units_repeated",
            "Access units and timed metadata that had come already",
            &self.http_units_repeated,
        );
        add(
            "ingest_http_units_dropped",
            "Damaged access units, pictures that refer to them, and timed metadata that finds no place",
            &self.http_units_dropped,
        );
        add("ingest_http_references", "Encoders' clocks (prft) that came", &self.http_references);
        add("ingest_keys_refused", "Pushes refused for a wrong or missing key", &self.keys_refused);
        r.register("packager_diagnostics", "What the packager has said of pushes, by kind", self.diagnostics.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::metrics::Metrics;
    use damson_core::model::TrackId;
    use damson_core::packager::Diagnostic;

    #[test]
    fn diagnostics_are_counted_by_kind() {
        let metrics = Metrics::default();
        let late = Diagnostic::Late { track: TrackId(0), behind: Duration::ZERO };
        for notice in [&late, &Diagnostic::Silence, &late] {
            metrics.ingest.diagnostic(notice.kind());
        }
        let text = metrics.encode(0, 0, 0, 0);
        for line in [
            "damson_packager_diagnostics_total{kind=\"late\"} 2",
            "damson_packager_diagnostics_total{kind=\"silence\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
