//! What openraft calls of the crate of this name, with nothing behind it.
//!
//! openraft keeps histograms of its batches, and gives them out only with its feature
//! `runtime-stats`, which Klamm leaves off. The crate it keeps them in computes tables of all
//! sixteen resolutions when the first histogram is made: 27 MB that stay resident in every node of
//! a quorum. Here a histogram counts nothing, so **do not switch `runtime-stats` on** without
//! taking the `[patch]` out of `Cargo.toml`.

use std::fmt;
use std::marker::PhantomData;

/// Keeps nothing of what is recorded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Histogram<T = ()>(PhantomData<T>);

impl<T> Histogram<T> {
    #[must_use]
    pub fn new() -> Self {
        Self(PhantomData)
    }

    pub fn record(&mut self, _value: u64) {}

    pub fn record_n(&mut self, _value: u64, _count: u64) {}

    /// Of no samples.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats::default()
    }
}

/// Percentiles of what was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not counted")
    }
}

/// Histograms as text: empty.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart;

impl AsciiChart {
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    #[must_use]
    pub fn add(self, _name: &str, _histogram: Histogram) -> Self {
        self
    }

    #[must_use]
    pub fn detailed(&self) -> &Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
