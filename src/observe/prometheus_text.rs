//! Prometheus' text format 0.0.4, for clients that don't ask for OpenMetrics: curl, promtool, older collectors.

use std::fmt::Write as _;

/// The content type of [`of`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Converts an OpenMetrics exposition to the older format, without exemplars: a counter's family has the name of its samples,
/// with `_total`; there are no lines for units and the end.
pub fn of(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    let mut help = "";
    for line in openmetrics.lines() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            // The name depends on the family's type, which comes next.
            help = said;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|said| said.split_once(' ')) {
            let end = if kind == "counter" { "_total" } else { "" };
            let kind = if kind == "unknown" { "untyped" } else { kind };
            if let Some((_, text)) = help.split_once(' ').filter(|(of, _)| *of == name) {
                let _ = writeln!(out, "# HELP {name}{end} {text}");
            }
            let _ = writeln!(out, "# TYPE {name}{end} {kind}");
        } else if !line.starts_with("# ") {
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_named_as_their_samples() {
        let text = "# HELP d_parts Parts.\n# TYPE d_parts counter\nd_parts_total 3\n# HELP d_age_seconds Ages.\n\
            # TYPE d_age_seconds histogram\n# UNIT d_age_seconds seconds\nd_age_seconds_sum 0.1\n# TYPE d_x unknown\nd_x 1\n# EOF\n";
        let classic = "# HELP d_parts_total Parts.\n# TYPE d_parts_total counter\nd_parts_total 3\n\
            # HELP d_age_seconds Ages.\n# TYPE d_age_seconds histogram\nd_age_seconds_sum 0.1\n# TYPE d_x untyped\nd_x 1\n";
        assert_eq!(of(text), classic);
    }
}
