//! `klamm consume`: reads records and prints them.
//!
//! With `--group` the offsets of what was printed are committed as reading goes on and at the
//! end, also after an interrupt; a record may be printed again after a crash, never skipped.

mod template;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;

use self::template::Template;
use super::failure::Failure;
use super::place::{self, FORMS, Place, Span};
use super::session::Session;
use crate::client::{Admin, ClientConfig, Cluster, Consumer, ConsumerRecord};
use crate::types::{Offset, TopicPartition};

/// Longest wait of one poll: how soon the end of all partitions is noticed.
const POLL: Duration = Duration::from_millis(100);

/// How long leaving a group may take.
const CLOSE: Duration = Duration::from_secs(5);

/// Read records and print them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  klamm consume orders                        from the beginning, then wait for more
  klamm consume orders -e                     stop at the end
  klamm consume orders --from end             only new records
  klamm consume orders --from -10 -e          the last ten of each partition
  klamm consume orders --from @-1h -n 5       five records of the last hour
  klamm consume orders --group billing        as a member of a group
  klamm consume orders -f '%t/%p@%o %T{utc} %k=%v %h\\n'
  klamm consume orders -e --format json | jq .value

Formats: %v value, %k key, %h headers, %t topic, %p partition, %o offset, %T timestamp in ms,
%S size of the value, %K size of the key, %H count of headers, %e leader epoch, %% a percent sign,
\\n \\t \\r \\0 \\\\. After %v and %k: {hex}, {base64} or {json}; after %T: {utc}.")]
pub struct ConsumeOptions {
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Where to begin. Counts of +N and -N are from the beginning and the end of each partition.
    /// In a group it says only where to begin without committed offsets: earliest or latest
    #[arg(long, value_name = "PLACE", default_value = "earliest", allow_hyphen_values = true,
        help = format!("Where to begin: {FORMS}"))]
    from: Place,
    /// Only these partitions
    #[arg(long, short = 'p', value_delimiter = ',', conflicts_with = "group",
        value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    /// Read as a member of this group, and commit what was printed
    #[arg(long, short = 'g')]
    group: Option<String>,
    /// Stop after so many records
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Stop where the partitions end now
    #[arg(long, short = 'e')]
    exit_at_end: bool,
    /// How to print a record; see below
    #[arg(long, short = 'f', value_name = "FORMAT", default_value = "%v\\n")]
    print: String,
    /// Leave out records of transactions that were aborted or are open
    #[arg(long)]
    read_committed: bool,
}

struct Run<'a> {
    session: &'a mut Session,
    consumer: Consumer,
    /// `None`: JSON.
    template: Option<Template>,
    limit: Option<u64>,
    printed: u64,
    /// Where to stop; empty when reading does not end.
    ends: BTreeMap<TopicPartition, Offset>,
    exit_at_end: bool,
    bar: ProgressBar,
}

pub async fn run(session: &mut Session, options: ConsumeOptions) -> Result<(), Failure> {
    let template = match session.is_json() {
        true => None,
        false => Some(options.print.parse::<Template>().map_err(Failure::Usage)?),
    };
    let cluster = session.connect(client_config(session, &options)?).await?;
    let admin = Admin::on(cluster.clone());
    let partitions = partitions(session, &admin, &options).await?;
    let isolation = cluster.config().isolation_level;
    let spans = place::spans(session, &admin, &partitions, isolation).await?;
    let consumer = match options.group {
        Some(_) => {
            let mut consumer = Consumer::on(cluster);
            let topics: Vec<&str> = options.topics.iter().map(String::as_str).collect();
            consumer.subscribe(&topics)?;
            consumer
        }
        None => assigned(session, &admin, cluster, options.from, &spans).await?,
    };
    let ends = spans
        .iter()
        .map(|(partition, span)| (partition.clone(), span.end))
        .collect();
    let total = options.count.filter(|_| !options.exit_at_end);
    let bar = session.terminal.progress(total, true);
    let mut run = Run {
        session,
        consumer,
        template,
        limit: options.count,
        printed: 0,
        ends,
        exit_at_end: options.exit_at_end,
        bar,
    };
    let read = run.read().await;
    run.bar.finish_and_clear();
    let Run {
        session, consumer, ..
    } = run;
    let finished = session.terminal.finish();
    let closed = session.env.timeout(CLOSE, consumer.close()).await;
    read.and(finished)?;
    match closed {
        Ok(closed) => closed.map_err(Failure::from),
        Err(_) => Err(Failure::OutOfTime(
            "leaving the group took too long".to_owned(),
        )),
    }
}

fn client_config(session: &Session, options: &ConsumeOptions) -> Result<ClientConfig, Failure> {
    let mut needed = vec![("allow.auto.create.topics", "false")];
    let mut fixed = Vec::new();
    match (&options.group, options.from) {
        (Some(_), Place::Earliest) => needed.push(("auto.offset.reset", "earliest")),
        (Some(_), Place::Latest) => needed.push(("auto.offset.reset", "latest")),
        (Some(group), _) => {
            return Err(Failure::Usage(format!(
                "--from in a group is earliest or latest; `klamm group seek {group} --to PLACE` \
                 sets where it goes on"
            )));
        }
        // A lone reader that falls behind retention goes on with what there is.
        (None, _) => needed.push(("auto.offset.reset", "earliest")),
    }
    if let Some(group) = &options.group {
        fixed.push(("group.id", group.as_str()));
    }
    if options.read_committed {
        fixed.push(("isolation.level", "read_committed"));
    }
    session.options.client_config(&needed, &fixed)
}

async fn partitions(
    session: &mut Session,
    admin: &Admin,
    options: &ConsumeOptions,
) -> Result<Vec<TopicPartition>, Failure> {
    let choices: Vec<place::TopicChoice> = options
        .topics
        .iter()
        .map(|topic| place::TopicChoice {
            topic: topic.clone(),
            partitions: options.partition.clone(),
        })
        .collect();
    place::chosen(session, admin, &choices).await
}

/// A consumer of these partitions, each where `from` says.
async fn assigned(
    session: &mut Session,
    admin: &Admin,
    cluster: Cluster,
    from: Place,
    spans: &BTreeMap<TopicPartition, Span>,
) -> Result<Consumer, Failure> {
    let base = |_: &TopicPartition, span: Span| match from {
        Place::Shift(count) if count >= 0 => span.start,
        _ => span.end,
    };
    let offsets = place::resolve(session, admin, from, spans, base).await?;
    if let Place::At(wanted) = from {
        for (partition, span) in spans {
            if wanted < span.start || wanted > span.end {
                session.terminal.note(&format!(
                    "klamm: {partition} holds offsets {} to {}: beginning at {}",
                    span.start, span.end, offsets[partition]
                ));
            }
        }
    }
    let mut consumer = Consumer::on(cluster);
    let partitions: Vec<TopicPartition> = offsets.keys().cloned().collect();
    consumer.assign(&partitions)?;
    for (partition, offset) in &offsets {
        consumer.seek(partition, *offset)?;
    }
    Ok(consumer)
}

impl Run<'_> {
    async fn read(&mut self) -> Result<(), Failure> {
        while !self.is_done() {
            let polled = self.consumer.poll(POLL);
            let records = match self.session.interrupt.or(polled).await? {
                Ok(records) => records,
                Err(error) if error.is_retriable() => {
                    tracing::warn!(%error, "trying again");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if let Err(failure) = self.show(&records) {
                // Nobody may have seen them: a group begins with them again.
                self.give_back(&records)?;
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Prints what a poll returned, before the next poll lets it be committed.
    fn show(&mut self, records: &[ConsumerRecord]) -> Result<(), Failure> {
        for (index, record) in records.iter().enumerate() {
            if self.limit.is_some_and(|limit| self.printed >= limit) {
                self.give_back(&records[index..])?;
                break;
            }
            if self.is_beyond_end(record) {
                continue;
            }
            self.print(record)?;
            self.printed += 1;
        }
        if !records.is_empty() {
            self.session.terminal.finish()?;
            self.bar.set_position(self.printed);
            self.bar.set_message(format!("{} records", self.printed));
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        if self.limit.is_some_and(|limit| self.printed >= limit) {
            return true;
        }
        let assignment = self.consumer.assignment();
        let at_end = |partition: &TopicPartition| {
            let position = self.consumer.position(partition);
            let end = self.ends.get(partition);
            position
                .zip(end)
                .is_some_and(|(position, end)| position >= *end)
        };
        self.exit_at_end && !assignment.is_empty() && assignment.iter().all(at_end)
    }

    /// Whether a record was written after the reading began, in a run that stops where the
    /// partitions ended then. A group prints it all the same: it counts as read.
    fn is_beyond_end(&self, record: &ConsumerRecord) -> bool {
        let end = self.ends.get(&record.partition);
        self.exit_at_end
            && self.consumer.cluster().config().group_id.is_none()
            && end.is_some_and(|end| record.offset >= *end)
    }

    /// Sets positions back to records that were polled and not printed.
    fn give_back(&mut self, records: &[ConsumerRecord]) -> Result<(), Failure> {
        let mut first: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
        for record in records {
            first
                .entry(record.partition.clone())
                .or_insert(record.offset);
        }
        for (partition, offset) in first {
            self.consumer.seek(&partition, offset)?;
        }
        Ok(())
    }

    fn print(&mut self, record: &ConsumerRecord) -> Result<(), Failure> {
        let bytes = match &self.template {
            Some(template) => template.render(record),
            None => {
                let mut line = template::json(record).to_string().into_bytes();
                line.push(b'\n');
                line
            }
        };
        self.session.terminal.write(&bytes)
    }
}
