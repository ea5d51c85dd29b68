//! `klamm perf`: measures any Kafka-compatible cluster.
//!
//! With `--rate` load is open-loop: records are due at fixed times, whatever the cluster does, and
//! latency counts from the time a record was due, so that a stall shows in the figures of all
//! records it held up (no coordinated omission). Without it, producers send as fast as their
//! memory allows, and latency counts from the send. A warm-up is left out of every figure.

mod consume;
mod figures;
mod latency;
mod payload;
mod process;
mod produce;
mod sender;

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::options::Seconds;
use super::session::Session;
use crate::client::admin::TopicSpec;
use crate::client::{Admin, ClientConfig};
use crate::types::{ErrorCode, Instant};

/// Measure throughput and latency of any Kafka-compatible cluster
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  klamm perf produce bench --duration 10 --size 1024             as fast as it goes
  klamm perf produce bench --rate 50000 --acks all --pid 4711    latency at a steady load
  klamm perf consume bench --consumers 2
  klamm perf latency bench --rate 1000 --duration 10             from produce to consume
  klamm perf produce bench --records 1000000 --format json

A topic that does not exist is created with --partitions. Latency is in milliseconds; with --rate
it counts from the time a record was due.")]
pub struct PerfCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Write records and measure throughput and acknowledgement latency
    Produce(produce::ProduceTest),
    /// Read records from the beginning and measure throughput
    Consume(consume::ConsumeTest),
    /// Write and read at a steady rate and measure the time from produce to consume
    Latency(latency::LatencyTest),
}

pub async fn run(session: &mut Session, command: PerfCommand) -> Result<(), Failure> {
    match command.action {
        Action::Produce(test) => produce::run(session, &test).await,
        Action::Consume(test) => consume::run(session, &test).await,
        Action::Latency(test) => latency::run(session, &test).await,
    }
}

/// The topic of a test.
#[derive(Args, Clone, Debug)]
struct TopicOptions {
    topic: String,
    /// Partitions of the topic when it has to be created
    #[arg(long, value_name = "N", default_value = "1",
        value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Replicas of the topic when it has to be created; the broker's default unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// Delete the topic afterwards
    #[arg(long)]
    delete_after: bool,
}

/// How records are written.
#[derive(Args, Clone, Debug)]
struct ProducerOptions {
    /// Bytes of a record's value
    #[arg(long, value_name = "BYTES", default_value = "100",
        value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    size: u32,
    /// Replicas that must have a record: 0, 1 or all
    #[arg(long, default_value = "all")]
    acks: String,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, short = 'z', default_value = "none")]
    codec: String,
    /// Time a batch waits for more records, in milliseconds
    #[arg(long, value_name = "MS")]
    linger: Option<u32>,
    /// Bytes of a batch
    #[arg(long, value_name = "BYTES")]
    batch: Option<u32>,
    /// Whether retries may never duplicate or reorder; true unless acks is not all
    #[arg(long, value_name = "BOOL")]
    idempotence: Option<bool>,
}

/// How long a test takes and what is watched meanwhile.
#[derive(Args, Clone, Debug)]
struct SpanOptions {
    /// Time measured; 10 unless --records is given
    #[arg(long, value_name = "SECONDS")]
    duration: Option<Seconds>,
    /// Time before the measurement, left out of every figure
    #[arg(long, value_name = "SECONDS", default_value = "1")]
    warmup: Seconds,
    /// Process to watch, the broker's: its CPU time per GB and memory (on this machine)
    #[arg(long)]
    pid: Option<u32>,
}

impl ProducerOptions {
    fn client_config(&self, session: &Session, linger: &str) -> Result<ClientConfig, Failure> {
        let linger = self
            .linger
            .map_or_else(|| linger.to_owned(), |millis| millis.to_string());
        let batch = self.batch.map(|bytes| bytes.to_string());
        let idempotence = self.idempotence.map(|on| on.to_string());
        let largest = (u64::from(self.size) + 1024).max(1 << 20).to_string();
        let needed = [
            ("linger.ms", linger.as_str()),
            ("max.request.size", largest.as_str()),
        ];
        let mut fixed = vec![
            ("acks", self.acks.as_str()),
            ("compression.type", &self.codec),
        ];
        fixed.extend(batch.as_deref().map(|bytes| ("batch.size", bytes)));
        fixed.extend(idempotence.as_deref().map(|on| ("enable.idempotence", on)));
        session.options.client_config(&needed, &fixed)
    }
}

impl TopicOptions {
    /// Makes the topic if it is not there, and answers how many partitions it has.
    async fn prepare(&self, session: &mut Session) -> Result<(Admin, i32), Failure> {
        let admin = session.admin().await?;
        let names = [self.topic.clone()];
        let found = session.call(admin.describe_topics(&names)).await?;
        match found.get(&self.topic) {
            Some(Ok(topic)) => {
                let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                return Ok((admin, count));
            }
            Some(Err(error)) if error.code != ErrorCode::UnknownTopicOrPartition => {
                return Err(Failure::refused(
                    format!("topic '{}'", self.topic),
                    error.clone(),
                ));
            }
            _ => {}
        }
        let spec = TopicSpec {
            partitions: Some(self.partitions),
            replication_factor: self.replication_factor,
            ..TopicSpec::new(&self.topic)
        };
        let results = session.call(admin.create_topics(&[spec], false)).await?;
        session.check_each(&results, |name| format!("creating topic '{name}'"))?;
        session
            .terminal
            .whisper(&format!("Created topic {}.", self.topic));
        let cluster = admin.cluster().clone();
        let count = session
            .partitions_of(&cluster, &self.topic, Duration::from_secs(10))
            .await?;
        Ok((admin, count))
    }

    /// Deletes the topic if that was asked for.
    async fn clean(&self, session: &mut Session, admin: &Admin) -> Result<(), Failure> {
        if !self.delete_after {
            return Ok(());
        }
        let names = [self.topic.clone()];
        let results = session.call(admin.delete_topics(&names)).await?;
        session.check_each(&results, |name| format!("deleting topic '{name}'"))
    }
}

/// When a test begins, when its measurement does, and when it ends.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: Instant,
    /// From here on records count.
    begin: Instant,
    /// From here on no record is due; `None` when a count ends the test.
    stop: Option<Instant>,
}

impl Span {
    fn new(now: Instant, options: &SpanOptions, counted: bool) -> Self {
        // Tasks begin together a moment from now.
        let start = now.plus(Duration::from_millis(20));
        let begin = start.plus(options.warmup.0);
        let stop = match (options.duration, counted) {
            (Some(duration), _) => Some(begin.plus(duration.0)),
            (None, false) => Some(begin.plus(Duration::from_secs(10))),
            (None, true) => None,
        };
        Self { start, begin, stop }
    }
}

/// A load's schedule: record `index` is due at a fixed time.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    start: Instant,
    per_second: f64,
}

impl Schedule {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times of a test are far below 2^53 ns"
    )]
    fn due(&self, index: u64) -> Instant {
        let nanos = index as f64 * 1e9 / self.per_second;
        self.start.plus(Duration::from_nanos(nanos as u64))
    }
}

/// Records a second, above zero.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Rate(f64);

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(rate) if rate > 0.0 && rate <= 1e9 => Ok(Self(rate)),
            _ => Err("expected records per second, above 0".to_owned()),
        }
    }
}

/// Counts that tasks keep while a test runs, for the progress line.
#[derive(Default)]
struct Live {
    records: std::sync::atomic::AtomicU64,
    bytes: std::sync::atomic::AtomicU64,
}

impl Live {
    fn add(&self, records: u64, bytes: u64) {
        use std::sync::atomic::Ordering::Relaxed;
        self.records.fetch_add(records, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        use std::sync::atomic::Ordering::Relaxed;
        (self.records.load(Relaxed), self.bytes.load(Relaxed))
    }
}

/// Shows how a test goes until `work` is done.
async fn watch<T>(
    session: &mut Session,
    live: &Arc<Live>,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let bar = session.terminal.progress(None, false);
    let env = session.env.clone();
    let mut work = std::pin::pin!(work);
    let mut before = live.read();
    loop {
        let tick = session
            .interrupt
            .or(env.timeout(Duration::from_secs(1), work.as_mut()))
            .await;
        match tick {
            Ok(Ok(done)) => {
                bar.finish_and_clear();
                return Ok(done);
            }
            Ok(Err(_)) => {
                let now = live.read();
                let (records, bytes) = (now.0 - before.0, now.1 - before.1);
                bar.set_message(format!(
                    "{records} records/s, {}/s",
                    super::report::size(bytes)
                ));
                bar.tick();
                before = now;
            }
            Err(failure) => {
                bar.finish_and_clear();
                return Err(failure);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_at_even_distances_from_the_start() {
        let schedule = Schedule {
            start: Instant(1_000),
            per_second: 4.0,
        };
        assert_eq!(schedule.due(0), Instant(1_000));
        assert_eq!(schedule.due(6), Instant(1_500_001_000));
    }

    #[test]
    fn a_rate_is_above_zero() {
        assert_eq!("0.5".parse(), Ok(Rate(0.5)));
        for bad in ["0", "-1", "nan", "x", "inf"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
