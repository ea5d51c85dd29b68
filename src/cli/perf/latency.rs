//! `klamm perf latency`: from the time a record was due to the moment a consumer has it.
//!
//! Producer and consumer are in this process and share its clock. Every value carries a mark of
//! this run and its number, from which its due time follows.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::super::failure::Failure;
use super::super::place;
use super::super::report::pairs;
use super::super::session::Session;
use super::figures::{Latencies, Throughput};
use super::payload::Payload;
use super::process::{self, Spent};
use super::sender::{self, Outcome, Plan, Running};
use super::{Live, ProducerOptions, Rate, Schedule, Span, SpanOptions, TopicOptions, watch};
use crate::client::{Admin, ClientConfig, Consumer, Producer};
use crate::env::Env;
use crate::types::Instant;

/// Longest wait of one poll.
const POLL: Duration = Duration::from_millis(100);

/// How long records may take to arrive after the last was acknowledged.
const PATIENCE: Duration = Duration::from_secs(10);

/// Write and read at a steady rate and measure the time from produce to consume
#[derive(Args, Debug)]
pub struct LatencyTest {
    #[command(flatten)]
    topic: TopicOptions,
    #[command(flatten)]
    records: ProducerOptions,
    #[command(flatten)]
    span: SpanOptions,
    /// Records a second
    #[arg(long, value_name = "PER_SECOND", default_value = "1000")]
    rate: Rate,
}

/// Reads what the producer writes.
struct Reader {
    env: Env,
    consumer: Consumer,
    mark: [u8; 8],
    schedule: Schedule,
    begin: Instant,
    /// Records of this run that arrived, the warm-up's included.
    arrived: u64,
    latencies: Latencies,
    last: Instant,
}

pub async fn run(session: &mut Session, test: &LatencyTest) -> Result<(), Failure> {
    if test.records.size < 16 {
        return Err(Failure::Usage(
            "--size must be at least 16 for this test".to_owned(),
        ));
    }
    let config = test.records.client_config(session, "0")?;
    if let Some(pid) = test.span.pid {
        process::snapshot(&session.env, pid).await?;
    }
    let (admin, _) = test.topic.prepare(session).await?;
    let topic = test.topic.topic.as_str();
    let consumer = at_the_end(session, &admin, &config, topic).await?;
    let cluster = session.connect(config).await?;
    session
        .partitions_of(&cluster, topic, session.options.timeout.0)
        .await?;
    let mut random = session.env.entropy.stream("perf-latency");
    let mark: [u8; 8] = random.bytes();
    let span = Span::new(session.env.now(), &test.span, false);
    let schedule = Schedule {
        start: span.start,
        per_second: test.rate.0,
    };
    let plan = Plan {
        topic: Arc::from(topic),
        span,
        schedule: Some(schedule),
        records: None,
        payload: Payload::new(test.records.size as usize, &mut random),
        mark: Some(mark),
    };
    let reader = Reader {
        env: session.env.clone(),
        consumer,
        mark,
        schedule,
        begin: span.begin,
        arrived: 0,
        latencies: Latencies::new(),
        last: span.begin,
    };
    measure(session, test, Producer::on(cluster), plan, reader).await?;
    test.topic.clean(session, &admin).await
}

/// A consumer of all of a topic's partitions, at their ends.
async fn at_the_end(
    session: &mut Session,
    admin: &Admin,
    config: &ClientConfig,
    topic: &str,
) -> Result<Consumer, Failure> {
    let choice = place::TopicChoice {
        topic: topic.to_owned(),
        partitions: Vec::new(),
    };
    let partitions = place::chosen(session, admin, &[choice]).await?;
    let spans = place::spans(session, admin, &partitions, config.isolation_level).await?;
    let mut consumer = Consumer::on(session.connect(config.clone()).await?);
    consumer.assign(&partitions)?;
    for (partition, span) in &spans {
        consumer.seek(partition, span.end)?;
    }
    Ok(consumer)
}

async fn measure(
    session: &mut Session,
    test: &LatencyTest,
    producer: Producer,
    plan: Plan,
    mut reader: Reader,
) -> Result<(), Failure> {
    let before = match test.span.pid {
        Some(pid) => Some((pid, process::snapshot(&session.env, pid).await?)),
        None => None,
    };
    let live = Arc::new(Live::default());
    let running = sender::start(&session.env, producer, plan, &live);
    let outcome = watch(session, &live, reader.read(running)).await??;
    let spent = match before {
        Some((pid, before)) => {
            let after = process::snapshot(&session.env, pid).await?;
            // The warm-up's records went through the process as well.
            let bytes = outcome.sent * u64::from(test.records.size);
            Some(Spent::between(pid, before, after, bytes))
        }
        None => None,
    };
    report(session, test, &reader, &outcome, spent)?;
    let missing = (outcome.sent - outcome.failed).saturating_sub(reader.arrived);
    match (missing, outcome.failed, outcome.first_error) {
        (0, 0, _) => Ok(()),
        (missing, failed, error) => Err(Failure::Failed(format!(
            "{missing} records did not arrive, {failed} were not acknowledged{}",
            error.map_or_else(String::new, |error| format!("; the first: {error}"))
        ))),
    }
}

impl Reader {
    /// Reads until the producer is done and everything it wrote has arrived.
    async fn read(&mut self, mut running: Running) -> Result<Outcome, Failure> {
        let mut sent: Option<(Outcome, Instant)> = None;
        loop {
            if let Some((outcome, deadline)) = sent.take() {
                if self.arrived >= outcome.sent - outcome.failed || self.env.now() >= deadline {
                    return Ok(outcome);
                }
                sent = Some((outcome, deadline));
            }
            let polled = tokio::select! {
                biased;
                polled = self.consumer.poll(POLL) => Some(polled),
                done = &mut running.outcome, if sent.is_none() => {
                    let stopped = || Failure::Failed("the producer stopped".to_owned());
                    let done = done.map_err(|_| stopped())??;
                    sent = Some((done, self.env.now().plus(PATIENCE)));
                    None
                }
            };
            match polled {
                None => {}
                Some(Err(error)) if error.is_retriable() => {}
                Some(records) => {
                    let now = self.env.now();
                    for record in records? {
                        self.take(record.value.as_deref().unwrap_or_default(), now);
                    }
                }
            }
        }
    }

    fn take(&mut self, value: &[u8], now: Instant) {
        let Some((mark, rest)) = value.split_first_chunk::<8>() else {
            return;
        };
        let Some((number, _)) = rest.split_first_chunk::<8>() else {
            return;
        };
        if *mark != self.mark {
            return;
        }
        self.arrived += 1;
        let due = self.schedule.due(u64::from_be_bytes(*number));
        if due >= self.begin {
            self.latencies.record(now.since(due));
            self.last = self.last.max(now);
        }
    }
}

fn report(
    session: &mut Session,
    test: &LatencyTest,
    reader: &Reader,
    outcome: &Outcome,
    spent: Option<Spent>,
) -> Result<(), Failure> {
    let records = reader.latencies.count();
    let throughput = Throughput {
        records,
        bytes: records * u64::from(test.records.size),
        seconds: reader.last.since(reader.begin).as_secs_f64(),
    };
    let mut json = throughput.json();
    json["test"] = Value::from("latency");
    json["topic"] = Value::from(test.topic.topic.as_str());
    json["failed"] = Value::from(outcome.failed);
    json["end_to_end_ms"] = reader.latencies.json();
    json["latency_ms"] = outcome.latencies.json();
    json["send_delay_ms"] = outcome.delays.json();
    json["process"] = spent.map_or(Value::Null, |spent| spent.json());
    json["settings"] = json!({
        "size": test.records.size, "acks": test.records.acks, "codec": test.records.codec,
        "rate": test.rate.0, "warmup_seconds": test.span.warmup.0.as_secs_f64(),
    });
    let mut lines = vec![
        ("Throughput", throughput.text()),
        ("End to end", reader.latencies.text()),
        ("Acknowledged", outcome.latencies.text()),
        ("Sent late by", outcome.delays.text()),
    ];
    lines.extend(spent.map(|spent| ("Process", spent.text())));
    session.answer(&json, &pairs(&lines))
}
