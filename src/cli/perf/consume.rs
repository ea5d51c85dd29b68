//! `klamm perf consume`.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::super::failure::Failure;
use super::super::place;
use super::super::report::pairs;
use super::super::session::Session;
use super::figures::{Latencies, Throughput, rounded};
use super::process::{self, Spent};
use super::{Live, watch};
use crate::client::{Admin, ClientError, Consumer};
use crate::env::{Env, Task};
use crate::types::{Instant, Offset, TopicPartition};

/// Longest wait of one poll.
const POLL: Duration = Duration::from_millis(100);

/// Read records from the beginning and measure throughput
#[derive(Args, Debug)]
pub struct ConsumeTest {
    topic: String,
    /// Records to read; all there are unless given
    #[arg(long = "records", short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Longest time to read
    #[arg(long, value_name = "SECONDS")]
    duration: Option<super::Seconds>,
    /// Consumers, each with connections of its own, that share the partitions
    #[arg(long, value_name = "N", default_value = "1",
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    consumers: u16,
    /// Process to watch, the broker's: its CPU time per GB and memory (on this machine)
    #[arg(long)]
    pid: Option<u32>,
}

/// What one consumer has to read.
struct Share {
    partitions: Vec<(TopicPartition, Offset, Offset)>,
    records: Option<u64>,
    stop: Option<Instant>,
}

/// What one consumer read.
struct Read {
    records: u64,
    bytes: u64,
    first: Option<Instant>,
    last: Instant,
    /// How long polls that returned records took.
    polls: Latencies,
}

pub async fn run(session: &mut Session, test: &ConsumeTest) -> Result<(), Failure> {
    let needed = [
        ("max.poll.records", "5000"),
        ("allow.auto.create.topics", "false"),
    ];
    let config = session.options.client_config(&needed, &[])?;
    let admin = Admin::on(session.connect(config.clone()).await?);
    let choice = place::TopicChoice {
        topic: test.topic.clone(),
        partitions: Vec::new(),
    };
    let partitions = place::chosen(session, &admin, &[choice]).await?;
    let isolation = config.isolation_level;
    let spans = place::spans(session, &admin, &partitions, isolation).await?;
    let live = Arc::new(Live::default());
    let mut consumers = Vec::new();
    let count = usize::from(test.consumers).min(partitions.len()).max(1);
    for _ in 0..count {
        consumers.push(Consumer::on(session.connect(config.clone()).await?));
    }
    let before = match test.pid {
        Some(pid) => Some(process::snapshot(&session.env, pid).await?),
        None => None,
    };
    let start = session.env.now();
    let mut running: Vec<(oneshot::Receiver<Result<Read, ClientError>>, Task)> = Vec::new();
    for (index, consumer) in consumers.into_iter().enumerate() {
        let own = spans.iter().skip(index).step_by(count);
        let extra = |records: u64| u64::from((index as u64) < records % count as u64);
        let share = Share {
            partitions: own
                .map(|(p, span)| (p.clone(), span.start, span.end))
                .collect(),
            records: test
                .count
                .map(|records| records / count as u64 + extra(records)),
            stop: test.duration.map(|duration| start.plus(duration.0)),
        };
        let (done, outcome) = oneshot::channel();
        let (env, live) = (session.env.clone(), Arc::clone(&live));
        let task = session.env.spawn("perf-consumer", async move {
            let _ = done.send(read(&env, consumer, share, &live).await);
        });
        running.push((outcome, task));
    }
    let work = async {
        let mut all = Vec::new();
        for (outcome, _task) in running {
            let read = outcome.await;
            all.push(read.map_err(|_| Failure::Failed("a consumer stopped".to_owned()))??);
        }
        Ok::<_, Failure>(all)
    };
    let all = watch(session, &live, work).await??;
    let mut spent = None;
    if let (Some(pid), Some(before)) = (test.pid, before) {
        let after = process::snapshot(&session.env, pid).await?;
        let bytes = all.iter().map(|read| read.bytes).sum();
        spent = Some(Spent::between(pid, before, after, bytes));
    }
    report(session, test, start, &all, spent)
}

async fn read(
    env: &Env,
    mut consumer: Consumer,
    share: Share,
    live: &Live,
) -> Result<Read, ClientError> {
    let assigned: Vec<TopicPartition> = share.partitions.iter().map(|(p, ..)| p.clone()).collect();
    consumer.assign(&assigned)?;
    for (partition, start, _) in &share.partitions {
        consumer.seek(partition, *start)?;
    }
    let mut done = Read {
        records: 0,
        bytes: 0,
        first: None,
        last: env.now(),
        polls: Latencies::new(),
    };
    loop {
        let at_end = share.partitions.iter().all(|(partition, _, end)| {
            consumer
                .position(partition)
                .is_some_and(|position| position >= *end)
        });
        let enough = share.records.is_some_and(|records| done.records >= records);
        let late = share.stop.is_some_and(|stop| env.now() >= stop);
        if at_end || enough || late {
            return Ok(done);
        }
        let began = env.now();
        let records = match consumer.poll(POLL).await {
            Ok(records) => records,
            Err(error) if error.is_retriable() => continue,
            Err(error) => return Err(error),
        };
        if records.is_empty() {
            continue;
        }
        done.last = env.now();
        done.first.get_or_insert(done.last);
        done.polls.record(done.last.since(began));
        let size = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
        let bytes: usize = records.iter().map(|r| size(&r.key) + size(&r.value)).sum();
        done.records += records.len() as u64;
        done.bytes += bytes as u64;
        live.add(records.len() as u64, bytes as u64);
    }
}

fn report(
    session: &mut Session,
    test: &ConsumeTest,
    start: Instant,
    all: &[Read],
    spent: Option<Spent>,
) -> Result<(), Failure> {
    let mut polls = Latencies::new();
    for read in all {
        polls.add(&read.polls);
    }
    let last = all.iter().map(|read| read.last).max().unwrap_or(start);
    let first = all.iter().filter_map(|read| read.first).min();
    let first_ms = first.map(|first| rounded(first.since(start).as_secs_f64() * 1000.0, 3));
    let throughput = Throughput {
        records: all.iter().map(|read| read.records).sum(),
        bytes: all.iter().map(|read| read.bytes).sum(),
        seconds: last.since(start).as_secs_f64(),
    };
    let mut json = throughput.json();
    json["test"] = Value::from("consume");
    json["topic"] = Value::from(test.topic.as_str());
    json["first_record_ms"] = json!(first_ms);
    json["poll_ms"] = polls.json();
    json["process"] = spent.map_or(Value::Null, |spent| spent.json());
    json["settings"] = json!({ "consumers": all.len() });
    let mut lines = vec![
        ("Throughput", throughput.text()),
        (
            "First record",
            first_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms")),
        ),
        ("Polls", polls.text()),
    ];
    lines.extend(spent.map(|spent| ("Process", spent.text())));
    session.answer(&json, &pairs(&lines))
}
