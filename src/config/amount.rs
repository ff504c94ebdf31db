//! Durations and sizes, as people write them.

use std::str::FromStr;
use std::time::Duration;

/// A duration: `90s`, `45m`, `2h`, or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A number of bytes: `512K`, `256M`, `10G`, `2T` (powers of 1024), or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// Parses a whole number with a unit, and returns it times the unit's factor.
fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let (_, factor) = units.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = amount(text, &[("", 1), ("s", 1), ("m", 60), ("h", 3_600)]);
        let seconds = seconds.ok_or_else(|| format!("{text:?} isn't a duration such as 90s, 45m or 2h"))?;
        Ok(Span(Duration::from_secs(seconds)))
    }
}

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = amount(text, &[("", 1), ("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40)]);
        bytes.map(Size).ok_or_else(|| format!("{text:?} isn't a size such as 256M or 10G"))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn units_are_read() {
        let span = |text: &str| text.parse().ok().map(|Span(span)| span.as_secs());
        assert_eq!(
            ["90s", "45m", "2h", "7", "2d", "h", "-1", ""].map(span),
            [90, 2_700, 7_200, 7, 0, 0, 0, 0].map(|n| { if n > 0 { Some(n) } else { None } })
        );
        let size = |text: &str| text.parse().ok().map(|Size(size)| size);
        assert_eq!(size("10G"), Some(10 << 30));
        assert_eq!(size("256m"), Some(256 << 20));
        assert_eq!((size("12"), size("1.5G"), size("99999999999T")), (Some(12), None, None));
        #[derive(Deserialize)]
        struct File {
            a: Span,
            b: Size,
        }
        let file: File = toml::from_str("a = 90\nb = \"1K\"").expect("valid");
        assert_eq!((file.a, file.b), (Span(Duration::from_secs(90)), Size(1_024)));
    }
}
