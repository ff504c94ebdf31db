//! The metrics of the ingest.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DiagnosticLabels {
    kind: &'static str,
}

/// The counters of all inputs of a node.
#[derive(Debug, Clone, Default)]
pub struct Ingest {
    /// Received transport packets of MPEG-TS.
    pub ts_packets: Counter,
    /// Missing transport packets: at least this many, by continuity counters.
    pub ts_lost: Counter,
    /// Gaps in the continuity counters.
    pub ts_continuity_errors: Counter,
    /// Losses of the packets' synchronisation.
    pub ts_resyncs: Counter,
    /// Dropped access units: damaged ones, and pictures that refer to them.
    pub ts_units_dropped: Counter,
    /// Missing datagrams, by RTP's sequence numbers.
    pub rtp_lost: Counter,
    /// Datagrams that SRT didn't deliver in time.
    pub srt_lost: Counter,
    /// HTTP requests with a body.
    pub http_requests: Counter,
    /// Refused HTTP requests.
    pub http_refused: Counter,
    /// Repeated units and messages: from redundant encoders, or sent again.
    pub http_units_repeated: Counter,
    /// Dropped units and messages: of damaged fragments, pictures that refer to them, and messages without media near them.
    pub http_units_dropped: Counter,
    /// Received clocks of encoders (`prft`).
    pub http_references: Counter,
    /// Pushes refused for a wrong or a missing key.
    pub keys_refused: Counter,
    /// Diagnostics of the packager, by kind: the number of kinds is fixed, that of streams isn't.
    diagnostics: Family<DiagnosticLabels, Counter>,
}

impl Ingest {
    /// Counts a diagnostic of the packager by its kind: [`Diagnostic::kind`](damson_core::packager::Diagnostic::kind).
    pub fn diagnostic(&self, kind: &'static str) {
        self.diagnostics.get_or_create(&DiagnosticLabels { kind }).inc();
    }

    /// Registers the counters for `/metrics`.
    pub(super) fn register(&self, r: &mut Registry) {
        let mut add = |name: &str, help: &str, counter: &Counter| r.register(name, help, counter.clone());
        add("ingest_ts_packets", "Transport packets received", &self.ts_packets);
        add("ingest_ts_lost", "Transport packets missing (at least), by continuity counters", &self.ts_lost);
        add("ingest_ts_continuity_errors", "Gaps in continuity counters", &self.ts_continuity_errors);
        add("ingest_ts_resyncs", "Losses of the synchronisation of transport packets", &self.ts_resyncs);
        add("ingest_ts_units_dropped", "Damaged access units, and pictures that refer to them", &self.ts_units_dropped);
        add("ingest_rtp_lost", "Datagrams missing by RTP's sequence numbers", &self.rtp_lost);
        add("ingest_srt_lost", "Datagrams that SRT did not deliver in time", &self.srt_lost);
        add("ingest_http_requests", "Requests with a body", &self.http_requests);
        add("ingest_http_refused", "Requests that were refused", &self.http_refused);
        add("ingest_http_units_repeated", "Access units and timed metadata that came again", &self.http_units_repeated);
        add(
            "ingest_http_units_dropped",
            "Damaged access units, pictures that refer to them, and timed metadata without media near it",
            &self.http_units_dropped,
        );
        add("ingest_http_references", "Clocks of encoders (prft) received", &self.http_references);
        add("ingest_keys_refused", "Pushes refused for a wrong or missing key", &self.keys_refused);
        r.register("packager_diagnostics", "Diagnostics of the packager, by kind", self.diagnostics.clone());
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
