//! Quantiles, and Markdown tables of them.

use std::time::Duration;

/// Readings of one thing.
#[derive(Default, Clone)]
pub(crate) struct Readings(Vec<f64>);

impl Readings {
    /// One more.
    pub(crate) fn push(&mut self, reading: f64) {
        self.0.push(reading);
    }

    /// One more, in milliseconds.
    pub(crate) fn push_ms(&mut self, reading: Duration) {
        self.push(reading.as_secs_f64() * 1e3);
    }

    /// All of the others, too.
    pub(crate) fn extend(&mut self, others: &Readings) {
        self.0.extend_from_slice(&others.0);
    }

    /// These readings by the others, each by that of the same turn.
    pub(crate) fn by(&self, others: &Readings) -> Readings {
        self.0.iter().zip(&others.0).map(|(one, other)| one / other).collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The reading that a share `q` (0-1) of all doesn't exceed (nearest rank); NaN of none.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (q * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// The median.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Between which two readings the true median lies with 95 %: by the ranks of a fair coin's throws, near enough.
    pub(crate) fn median_between(&self) -> (f64, f64) {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len() as f64;
        let off = 0.98 * n.sqrt();
        let at = |rank: f64| sorted.get((rank.max(1.0) as usize).min(sorted.len()).saturating_sub(1)).copied();
        let (low, high) = (at((n / 2.0 - off).floor()), at((n / 2.0 + off).ceil() + 1.0));
        (low.unwrap_or(f64::NAN), high.unwrap_or(f64::NAN))
    }

    /// `p50 / p99` in the given number of decimals.
    pub(crate) fn p50_p99(&self, decimals: usize) -> String {
        format!("{:.decimals$} / {:.decimals$}", self.quantile(0.5), self.quantile(0.99))
    }
}

impl FromIterator<f64> for Readings {
    fn from_iter<I: IntoIterator<Item = f64>>(readings: I) -> Self {
        Readings(readings.into_iter().collect())
    }
}

/// A Markdown table.
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    /// With these column heads.
    pub(crate) fn new(heads: &[&str]) -> Self {
        Table(vec![heads.iter().map(|head| (*head).to_owned()).collect()])
    }

    /// One more row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.push(cells.to_vec());
    }

    /// Prints it, columns aligned.
    pub(crate) fn print(&self) {
        let columns = self.0.first().map_or(0, Vec::len);
        let width =
            |column: usize| self.0.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let line = |row: &[String]| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} |"));
            println!("|{}", cells.collect::<String>());
        };
        for (n, row) in self.0.iter().enumerate() {
            line(row);
            if n == 0 {
                line(&widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>());
            }
        }
        println!();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_readings() {
        let check = |q: f64, expect: f64| {
            let readings: Readings = (1..=100).rev().map(f64::from).collect();
            assert!((readings.quantile(q) - expect).abs() < f64::EPSILON, "{q}");
        };
        check(0.0, 1.0);
        check(0.5, 50.0);
        check(0.99, 99.0);
        check(1.0, 100.0);
    }
}
