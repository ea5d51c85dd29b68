//! `klamm produce`: writes one record per line of stdin or a file.
//!
//! Records are sent as lines arrive; at most `IN_FLIGHT_MAX` wait for their acknowledgement. An
//! interrupt stops reading and waits for what was sent. What failed is said, with whether it may
//! have been written all the same.

mod lines;
mod parse;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures_util::FutureExt as _;
use indicatif::ProgressBar;
use serde_json::json;

use self::lines::{Chunks, LineError, Lines};
use self::parse::LineFormat;
use super::failure::{Failure, fix_of};
use super::node::Override;
use super::report::{counted, size};
use super::session::Session;
use super::terminal::Terminal;
use crate::client::{Delivery, DeliveryError, Producer, RecordMetadata};
use crate::env::OpenMode;
use crate::types::{Instant, Offset, TopicPartition};

/// Records sent and not acknowledged before reading goes on.
const IN_FLIGHT_MAX: usize = 50_000;

/// How long a broker may take to create a topic that is produced to first.
const CREATION: Duration = Duration::from_secs(5);

/// Failures that are told one by one; the rest is counted.
const TOLD_MAX: u64 = 10;

/// Write records: one per line of stdin or a file
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  echo hello | klamm produce greetings
  echo 'alice:coffee' | klamm produce orders -K :        key alice, value coffee
  klamm produce orders --file orders.txt --codec zstd
  klamm produce orders --key alice -H source=till-3 --verbose
  klamm consume orders -e --format json | klamm produce copy --input json
  yes | klamm produce load --rate 1000                   a thousand records a second")]
pub struct ProduceOptions {
    topic: String,
    /// Read this file instead of stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What a line is: a value, or the JSON object `klamm consume --format json` prints
    #[arg(long, value_enum, default_value = "lines")]
    input: InputForm,
    /// The key of every record
    #[arg(long, short = 'k', conflicts_with = "key_separator")]
    key: Option<String>,
    /// Splits a line into key and value
    #[arg(long, short = 'K', value_name = "TEXT")]
    key_separator: Option<String>,
    /// A header of every record
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE")]
    headers: Vec<Override>,
    /// A key or value that is this text is null; a null value deletes its key in compacted topics
    #[arg(long, value_name = "TEXT")]
    null: Option<String>,
    /// All records to this partition
    #[arg(long, short = 'p', value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, short = 'z', value_name = "CODEC")]
    codec: Option<String>,
    /// Replicas that must have a record: 0, 1 or all
    #[arg(long)]
    acks: Option<String>,
    /// Whether retries may never duplicate or reorder; true unless acks is not all
    #[arg(long, value_name = "BOOL")]
    idempotence: Option<bool>,
    /// At most so many records a second
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Print where each record went
    #[arg(long, short = 'v')]
    verbose: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum InputForm {
    Lines,
    Json,
}

/// What became of the records.
#[derive(Default)]
struct Tally {
    sent: u64,
    written: u64,
    failed: u64,
    bytes: u64,
    /// First and last offset by partition, where they are known.
    offsets: BTreeMap<TopicPartition, (Offset, Offset)>,
}

/// One run.
struct Run<'a> {
    session: &'a mut Session,
    producer: Producer,
    format: LineFormat,
    verbose: bool,
    /// Records per second.
    rate: Option<u32>,
    began: Instant,
    waiting: VecDeque<Delivery>,
    tally: Tally,
    bar: ProgressBar,
}

pub async fn run(session: &mut Session, options: ProduceOptions) -> Result<(), Failure> {
    let config = client_config(session, &options)?;
    let line_max = config.max_request_size;
    let cluster = session.connect(config).await?;
    session
        .partitions_of(&cluster, &options.topic, CREATION)
        .await?;
    let chunks = open(session, &options).await?;
    if options.file.is_none() && Terminal::stdin_is_terminal() {
        session
            .terminal
            .whisper("One record per line; end with Ctrl-D.");
    }
    let bar = session.terminal.progress(chunks.total(), options.verbose);
    let format = LineFormat {
        topic: Arc::from(options.topic.as_str()),
        json: options.input == InputForm::Json,
        key: options.key.map(Bytes::from),
        key_separator: options.key_separator,
        headers: options
            .headers
            .into_iter()
            .map(|one| (one.key, one.value))
            .collect(),
        null: options.null,
        partition: options.partition,
    };
    let began = session.env.now();
    let mut run = Run {
        producer: Producer::on(cluster),
        format,
        verbose: options.verbose,
        rate: options.rate,
        began,
        waiting: VecDeque::new(),
        tally: Tally::default(),
        bar,
        session,
    };
    let read = run.read(Lines::new(chunks, line_max)).await;
    let settled = run.settle().await;
    run.bar.finish_and_clear();
    let reported = run.report();
    let tally = run.tally;
    read.and(settled).and(reported)?;
    match tally.failed {
        0 => Ok(()),
        failed => Err(Failure::Failed(format!(
            "{failed} of {} records were not written",
            tally.sent
        ))),
    }
}

fn client_config(
    session: &Session,
    options: &ProduceOptions,
) -> Result<crate::client::ClientConfig, Failure> {
    let idempotence = options.idempotence.map(|on| on.to_string());
    let mut fixed = Vec::new();
    fixed.extend(
        options
            .codec
            .as_deref()
            .map(|codec| ("compression.type", codec)),
    );
    fixed.extend(options.acks.as_deref().map(|acks| ("acks", acks)));
    fixed.extend(idempotence.as_deref().map(|on| ("enable.idempotence", on)));
    session.options.client_config(&[], &fixed)
}

async fn open(session: &mut Session, options: &ProduceOptions) -> Result<Chunks, Failure> {
    let Some(path) = &options.file else {
        return Ok(Chunks::Stream(session.input()?));
    };
    let refused = |error| Failure::Usage(format!("{} cannot be read: {error}", path.display()));
    let file = session
        .env
        .disk
        .open(path, OpenMode::Read)
        .await
        .map_err(refused)?;
    let total = file.len().await.map_err(refused)?;
    Ok(Chunks::File {
        file,
        position: 0,
        total,
    })
}

impl Run<'_> {
    async fn read(&mut self, mut lines: Lines) -> Result<(), Failure> {
        loop {
            let line = self.session.interrupt.or(lines.next()).await?;
            let line = match line {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(()),
                Err(LineError::Read(error)) => {
                    return Err(Failure::Failed(format!(
                        "the input cannot be read: {error}"
                    )));
                }
                Err(LineError::TooLong { line, limit }) => {
                    return Err(Failure::Failed(format!(
                        "line {line} is longer than {limit} bytes: raise -X max.request.size"
                    )));
                }
            };
            let number = lines.count();
            let record = self
                .format
                .record(line)
                .map_err(|why| Failure::Failed(format!("line {number} is no record: {why}")))?;
            let key = record.key.as_ref().map_or(0, Bytes::len);
            let value = record.value.as_ref().map_or(0, Bytes::len);
            self.pace().await?;
            let sent = self.producer.send(record);
            let delivery = self.session.interrupt.or(sent).await??;
            self.tally.sent += 1;
            self.tally.bytes += (key + value) as u64;
            self.waiting.push_back(delivery);
            self.take_done()?;
            while self.waiting.len() >= IN_FLIGHT_MAX {
                self.take_next().await?;
            }
            if number.is_multiple_of(256) {
                self.bar.set_position(lines.position());
                self.bar
                    .set_message(format!("{} records", self.tally.written));
            }
        }
    }

    /// Waits until the next record is due.
    async fn pace(&mut self) -> Result<(), Failure> {
        let Some(rate) = self.rate else {
            return Ok(());
        };
        let nanos = u128::from(self.tally.sent) * 1_000_000_000 / u128::from(rate);
        let due = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let due = self.began.plus(due);
        if due > self.session.env.now() {
            let pause = self.session.env.sleep_until(due);
            self.session.interrupt.or(pause).await?;
        }
        Ok(())
    }

    /// Takes in acknowledgements that are there, in the order of the sends.
    fn take_done(&mut self) -> Result<(), Failure> {
        while let Some(delivery) = self.waiting.front_mut() {
            let Some(result) = delivery.now_or_never() else {
                break;
            };
            self.waiting.pop_front();
            self.take(result)?;
        }
        Ok(())
    }

    async fn take_next(&mut self) -> Result<(), Failure> {
        if let Some(delivery) = self.waiting.front_mut() {
            let result = self.session.interrupt.or(delivery).await?;
            self.waiting.pop_front();
            self.take(result)?;
        }
        Ok(())
    }

    fn take(&mut self, result: Result<RecordMetadata, DeliveryError>) -> Result<(), Failure> {
        match result {
            Ok(metadata) => {
                self.tally.written += 1;
                if let Some(offset) = metadata.offset {
                    let entry = self.tally.offsets.entry(metadata.partition.clone());
                    let (first, last) = entry.or_insert((offset, offset));
                    *first = offset.min(*first);
                    *last = offset.max(*last);
                }
                if self.verbose {
                    let offset = metadata.offset.map_or(-1, |offset| offset.0);
                    let TopicPartition { topic, partition } = metadata.partition;
                    let json = json!({
                        "topic": &*topic, "partition": partition, "offset": offset,
                        "timestamp": metadata.timestamp.0,
                    });
                    let line = match self.session.is_json() {
                        true => json.to_string(),
                        false => format!("{topic}-{partition}@{offset}"),
                    };
                    self.session.terminal.line(&line)?;
                    self.session.terminal.finish()?;
                }
            }
            Err(error) => {
                self.tally.failed += 1;
                if self.tally.failed <= TOLD_MAX {
                    self.session
                        .terminal
                        .note(&format!("klamm: a record failed: {error}"));
                    if let Some(fix) = error.error.code().and_then(fix_of) {
                        self.session.terminal.note(&format!("  {fix}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits for the acknowledgement of everything sent.
    async fn settle(&mut self) -> Result<(), Failure> {
        let drained = self.producer.drain();
        // After an interrupt the records on their way still count, for a moment.
        let patience = self.session.env.sleep(Duration::from_secs(5));
        let interrupt = &mut self.session.interrupt;
        let heard = async {
            interrupt.heard().await;
            patience.await;
        };
        tokio::select! {
            biased;
            () = drained => {}
            () = heard => {}
        }
        self.take_done()?;
        if !self.waiting.is_empty() {
            let count = self.waiting.len();
            self.tally.failed += count as u64;
            self.session.terminal.note(&format!(
                "klamm: {count} records were not acknowledged; they may have been written"
            ));
            self.waiting.clear();
        }
        Ok(())
    }

    fn report(&mut self) -> Result<(), Failure> {
        let seconds = self.session.env.now().since(self.began).as_secs_f64();
        let tally = &self.tally;
        let partitions: Vec<serde_json::Value> = tally
            .offsets
            .iter()
            .map(|(partition, (first, last))| {
                json!({
                    "partition": partition.partition, "first_offset": first.0,
                    "last_offset": last.0,
                })
            })
            .collect();
        if self.session.is_json() {
            if self.verbose {
                return Ok(());
            }
            let json = json!({
                "topic": &*self.format.topic, "records": tally.written, "failed": tally.failed,
                "bytes": tally.bytes, "seconds": seconds, "partitions": partitions,
            });
            return self.session.answer(&json, "");
        }
        let text = format!(
            "{} ({}) written to {} in {seconds:.2} s",
            counted(tally.written, "record"),
            size(tally.bytes),
            self.format.topic
        );
        self.session.terminal.whisper(&text);
        Ok(())
    }
}
