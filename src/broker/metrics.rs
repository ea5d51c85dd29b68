//! What the broker counts, under the names Kafka's dashboards use.
//!
//! Counters on the hot path are plain atomics: those of a topic live beside the topic in the
//! partition table, and labels are only made when `/metrics` is read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::wire::api::ApiKey;

/// Counters of one topic.
#[derive(Default)]
pub struct TopicCounters {
    pub messages_in: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    pub produce_requests: AtomicU64,
    pub fetch_requests: AtomicU64,
    pub failed_produce_requests: AtomicU64,
    pub failed_fetch_requests: AtomicU64,
}

impl TopicCounters {
    pub fn produced(&self, records: i32, bytes: usize) {
        add(&self.messages_in, u64::from(records.unsigned_abs()));
        add(&self.bytes_in, u64::try_from(bytes).unwrap_or(u64::MAX));
        add(&self.produce_requests, 1);
    }

    pub fn produce_failed(&self) {
        add(&self.failed_produce_requests, 1);
    }

    pub fn fetch_failed(&self) {
        add(&self.failed_fetch_requests, 1);
    }

    pub fn fetched(&self, bytes: usize) {
        add(&self.bytes_out, u64::try_from(bytes).unwrap_or(u64::MAX));
        add(&self.fetch_requests, 1);
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// Upper bounds of the request latency histogram, in seconds.
const LATENCY_BOUNDS: [f64; 14] = [
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0,
];

/// Counters of the whole broker.
pub struct Metrics {
    connections: AtomicI64,
    connections_total: AtomicU64,
    latency: BTreeMap<ApiKey, Histogram>,
    failed_requests: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let latency = ApiKey::TABLE
            .iter()
            .map(|key| (*key, Histogram::new(LATENCY_BOUNDS)))
            .collect();
        Self {
            connections: AtomicI64::new(0),
            connections_total: AtomicU64::new(0),
            latency,
            failed_requests: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    pub fn connection_opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        add(&self.connections_total, 1);
    }

    pub fn connection_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    #[must_use]
    pub fn connections(&self) -> i64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn request_served(&self, key: ApiKey, took: Duration, failed: bool) {
        if let Some(histogram) = self.latency.get(&key) {
            histogram.observe(took.as_secs_f64());
        }
        if failed {
            add(&self.failed_requests, 1);
        }
    }
}

type Labels = Vec<(&'static str, String)>;

/// Values of one metric, read at the moment of the scrape.
#[derive(Debug, Default)]
pub struct Samples {
    name: &'static str,
    doc: &'static str,
    counter: bool,
    values: Vec<(Labels, f64)>,
}

impl Samples {
    #[must_use]
    pub fn gauge(name: &'static str, doc: &'static str) -> Self {
        Self {
            name,
            doc,
            counter: false,
            values: Vec::new(),
        }
    }

    /// `name` without `_total`, which is added.
    #[must_use]
    pub fn counter(name: &'static str, doc: &'static str) -> Self {
        Self {
            name,
            doc,
            counter: true,
            values: Vec::new(),
        }
    }

    #[must_use]
    pub fn with(mut self, labels: Labels, value: f64) -> Self {
        self.push(labels, value);
        self
    }

    pub fn push(&mut self, labels: Labels, value: f64) {
        self.values.push((labels, value));
    }
}

impl Samples {
    fn encode_value(&self, encoder: &mut MetricEncoder<'_>, value: f64) -> Result<(), fmt::Error> {
        match self.counter {
            true => encoder.encode_counter::<Labels, f64, u64>(&value, None),
            false => encoder.encode_gauge(&value),
        }
    }
}

impl EncodeMetric for Samples {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for (labels, value) in &self.values {
            match labels.is_empty() {
                true => self.encode_value(&mut encoder, *value)?,
                false => self.encode_value(&mut encoder.encode_family(labels)?, *value)?,
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        match self.counter {
            true => MetricType::Counter,
            false => MetricType::Gauge,
        }
    }
}

#[derive(Debug)]
struct Scrape(Vec<Samples>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for samples in &self.0 {
            let kind = samples.metric_type();
            let metric = encoder.encode_descriptor(samples.name, samples.doc, None, kind)?;
            samples.encode(metric)?;
        }
        Ok(())
    }
}

/// The text of `/metrics`, in the OpenMetrics format.
pub fn render(metrics: &Metrics, mut samples: Vec<Samples>) -> Result<String, fmt::Error> {
    samples.push(
        Samples::gauge(
            "kafka_server_socket_server_metrics_connection_count",
            "Client connections that are open",
        )
        .with(Vec::new(), as_f64(metrics.connections().unsigned_abs())),
    );
    samples.push(
        Samples::counter(
            "klamm_connections_accepted",
            "Client connections since the start",
        )
        .with(
            Vec::new(),
            as_f64(metrics.connections_total.load(Ordering::Relaxed)),
        ),
    );
    samples.push(
        Samples::counter(
            "klamm_requests_failed",
            "Requests answered by closing the connection",
        )
        .with(
            Vec::new(),
            as_f64(metrics.failed_requests.load(Ordering::Relaxed)),
        ),
    );
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(samples)));
    registry.register_collector(Box::new(Latency(metrics.latency.clone())));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Latency(BTreeMap<ApiKey, Histogram>);

impl Collector for Latency {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut metric = encoder.encode_descriptor(
            "klamm_request_seconds",
            "Time from a request's arrival to its answer, by API",
            None,
            MetricType::Histogram,
        )?;
        for (key, histogram) in &self.0 {
            let labels = [("api", key.name())];
            histogram.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// A count as a sample's value.
#[must_use]
pub fn as_f64(count: u64) -> f64 {
    // Counts beyond 2^53 lose their last digits, which no dashboard shows.
    #[allow(clippy::cast_precision_loss)]
    let value = count as f64;
    value
}
