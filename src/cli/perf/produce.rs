//! `klamm perf produce`.

use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::super::failure::Failure;
use super::super::report::pairs;
use super::super::session::Session;
use super::figures::{Latencies, Throughput};
use super::payload::Payload;
use super::process::{self, Spent};
use super::sender::{self, Outcome, Plan};
use super::{Live, ProducerOptions, Rate, Schedule, Span, SpanOptions, TopicOptions, watch};
use crate::client::Producer;

/// Write records and measure throughput and acknowledgement latency
#[derive(Args, Debug)]
pub struct ProduceTest {
    #[command(flatten)]
    topic: TopicOptions,
    #[command(flatten)]
    records: ProducerOptions,
    #[command(flatten)]
    span: SpanOptions,
    /// Records to measure, instead of a time
    #[arg(long = "records", short = 'n', value_name = "N", conflicts_with = "duration",
        value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Records a second, of all producers together; as fast as it goes unless given
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<Rate>,
    /// Producers, each with connections of its own
    #[arg(long, value_name = "N", default_value = "1",
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    producers: u16,
}

/// What all producers saw.
struct Total {
    throughput: Throughput,
    failed: u64,
    first_error: Option<String>,
    latencies: Latencies,
    delays: Latencies,
    spent: Option<Spent>,
}

pub async fn run(session: &mut Session, test: &ProduceTest) -> Result<(), Failure> {
    let config = test.records.client_config(session, "5")?;
    if let Some(pid) = test.span.pid {
        process::snapshot(&session.env, pid).await?;
    }
    let (admin, partitions) = test.topic.prepare(session).await?;
    let live = Arc::new(Live::default());
    let mut producers = Vec::new();
    for _ in 0..test.producers {
        let cluster = session.connect(config.clone()).await?;
        session
            .partitions_of(&cluster, &test.topic.topic, session.options.timeout.0)
            .await?;
        producers.push(Producer::on(cluster));
    }
    let span = Span::new(session.env.now(), &test.span, test.count.is_some());
    let mut running = Vec::new();
    for (index, producer) in (0_u16..).zip(producers) {
        let plan = plan(session, test, span, index);
        running.push(sender::start(&session.env, producer, plan, &live));
    }
    let env = session.env.clone();
    let pid = test.span.pid;
    let work = async {
        env.sleep_until(span.begin).await;
        let before = match pid {
            Some(pid) => Some(process::snapshot(&env, pid).await?),
            None => None,
        };
        let mut outcomes = Vec::new();
        for one in running {
            let outcome = one.outcome.await;
            outcomes.push(outcome.map_err(|_| Failure::Failed("a producer stopped".to_owned()))??);
        }
        Ok::<_, Failure>((before, outcomes))
    };
    let (before, outcomes) = watch(session, &live, work).await??;
    let mut total = total(test, span, &outcomes);
    if let (Some(pid), Some(before)) = (pid, before) {
        let after = process::snapshot(&session.env, pid).await?;
        total.spent = Some(Spent::between(pid, before, after, total.throughput.bytes));
    }
    report(session, test, partitions, &total)?;
    test.topic.clean(session, &admin).await?;
    match (total.failed, total.first_error) {
        (0, _) => Ok(()),
        (failed, error) => Err(Failure::Failed(format!(
            "{failed} records were not acknowledged; the first: {}",
            error.unwrap_or_default()
        ))),
    }
}

fn plan(session: &Session, test: &ProduceTest, span: Span, index: u16) -> Plan {
    let count = f64::from(test.producers);
    let schedule = test.rate.map(|rate| {
        // Producers take turns.
        let all = Schedule {
            start: span.start,
            per_second: rate.0,
        };
        Schedule {
            start: all.due(u64::from(index)),
            per_second: rate.0 / count,
        }
    });
    let share = u64::from(test.producers);
    let extra = |records: u64| u64::from(u64::from(index) < records % share);
    let mut random = session.env.entropy.stream("perf-payload");
    Plan {
        topic: Arc::from(test.topic.topic.as_str()),
        span,
        schedule,
        records: test.count.map(|records| records / share + extra(records)),
        payload: Payload::new(test.records.size as usize, &mut random),
        mark: None,
    }
}

fn total(test: &ProduceTest, span: Span, outcomes: &[Outcome]) -> Total {
    let mut latencies = Latencies::new();
    let mut delays = Latencies::new();
    for outcome in outcomes {
        latencies.add(&outcome.latencies);
        delays.add(&outcome.delays);
    }
    let records = outcomes.iter().map(|outcome| outcome.acknowledged).sum();
    let last = outcomes
        .iter()
        .map(|outcome| outcome.last)
        .max()
        .unwrap_or(span.begin);
    let errors = outcomes
        .iter()
        .find_map(|outcome| outcome.first_error.as_ref());
    Total {
        throughput: Throughput {
            records,
            bytes: records * u64::from(test.records.size),
            seconds: last.since(span.begin).as_secs_f64(),
        },
        failed: outcomes.iter().map(|outcome| outcome.failed).sum(),
        first_error: errors.map(ToString::to_string),
        latencies,
        delays,
        spent: None,
    }
}

fn report(
    session: &mut Session,
    test: &ProduceTest,
    partitions: i32,
    total: &Total,
) -> Result<(), Failure> {
    let mut json = total.throughput.json();
    json["test"] = Value::from("produce");
    json["topic"] = Value::from(test.topic.topic.as_str());
    json["failed"] = Value::from(total.failed);
    json["latency_ms"] = total.latencies.json();
    json["send_delay_ms"] = total.delays.json();
    json["process"] = total.spent.map_or(Value::Null, |spent| spent.json());
    json["settings"] = json!({
        "size": test.records.size, "acks": test.records.acks, "codec": test.records.codec,
        "rate": test.rate.map(|rate| rate.0), "producers": test.producers,
        "partitions": partitions, "warmup_seconds": test.span.warmup.0.as_secs_f64(),
    });
    let mut lines = vec![
        ("Throughput", total.throughput.text()),
        ("Latency", total.latencies.text()),
    ];
    if test.rate.is_some() {
        lines.push(("Sent late by", total.delays.text()));
    }
    if total.failed > 0 {
        lines.push(("Failed", total.failed.to_string()));
    }
    lines.extend(total.spent.map(|spent| ("Process", spent.text())));
    session.answer(&json, &pairs(&lines))
}
