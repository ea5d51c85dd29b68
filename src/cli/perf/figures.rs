//! Figures of a test: rates, and percentiles from an HDR histogram (three digits, up to ten
//! minutes).

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longest time told apart, in microseconds.
const LONGEST: u64 = 600_000_000;

/// How long things took.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    #[must_use]
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3);
        Self(histogram.expect("1 to 600,000,000 with 3 digits are valid bounds"))
    }

    pub fn record(&mut self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(micros);
    }

    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Milliseconds at a quantile.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> f64 {
        millis(self.0.value_at_quantile(quantile))
    }

    /// Milliseconds: p50, p90, p99, p99.9, greatest, mean. Null without any.
    #[must_use]
    pub fn json(&self) -> Value {
        if self.0.is_empty() {
            return Value::Null;
        }
        json!({
            "p50": self.quantile(0.5), "p90": self.quantile(0.9), "p99": self.quantile(0.99),
            "p99_9": self.quantile(0.999), "max": millis(self.0.max()),
            "mean": rounded(self.0.mean() / 1000.0, 3),
        })
    }

    #[must_use]
    pub fn text(&self) -> String {
        if self.0.is_empty() {
            return "-".to_owned();
        }
        format!(
            "p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2} ms",
            self.quantile(0.5),
            self.quantile(0.9),
            self.quantile(0.99),
            self.quantile(0.999),
            millis(self.0.max())
        )
    }
}

#[allow(clippy::cast_precision_loss, reason = "at most 600,000,000")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// Rounded to so many digits behind the point.
#[must_use]
pub fn rounded(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}

/// What went through, and in what time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Throughput {
    pub records: u64,
    /// Of values and keys, before compression.
    pub bytes: u64,
    pub seconds: f64,
}

impl Throughput {
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    pub fn records_per_second(&self) -> f64 {
        rounded(self.records as f64 / self.seconds.max(1e-9), 1)
    }

    /// In millions of bytes.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    pub fn megabytes_per_second(&self) -> f64 {
        rounded(self.bytes as f64 / 1e6 / self.seconds.max(1e-9), 3)
    }

    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "records": self.records, "bytes": self.bytes, "seconds": rounded(self.seconds, 3),
            "records_per_second": self.records_per_second(),
            "megabytes_per_second": self.megabytes_per_second(),
        })
    }

    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "{:.0} records/s, {:.2} MB/s ({} records, {} in {:.2} s)",
            self.records_per_second(),
            self.megabytes_per_second(),
            self.records,
            super::super::report::size(self.bytes),
            self.seconds
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_recorded() {
        let mut latencies = Latencies::new();
        for millis in 1..=1000 {
            latencies.record(Duration::from_millis(millis));
        }
        assert!((latencies.quantile(0.5) - 500.0).abs() < 1.0);
        assert!((latencies.quantile(0.99) - 990.0).abs() < 1.0);
        latencies.record(Duration::from_secs(100_000));
        assert!(latencies.quantile(1.0) >= 600_000.0);
        assert_eq!(latencies.count(), 1001);
    }

    #[test]
    fn rates_are_per_second_and_in_millions_of_bytes() {
        let done = Throughput {
            records: 1000,
            bytes: 5_000_000,
            seconds: 2.0,
        };
        assert!((done.records_per_second() - 500.0).abs() < 1e-9);
        assert!((done.megabytes_per_second() - 2.5).abs() < 1e-9);
    }
}
