//! `klamm link compare`: where the records of a topic here and at a link's source part.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::failure::Failure;
use crate::cli::report::{Table, counted};
use crate::cli::session::{Session, out_of_time};
use crate::client::admin::OffsetSpec;
use crate::client::{
    Admin, ClientConfig, ClientError, Consumer, ConsumerRecord, Isolation, Topics,
};
use crate::types::{Offset, TopicPartition};

/// Longest time without a record from either side.
const SILENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
#[command(after_help = "\
Reads topics here and at the source of a link, record by record from the first that both have, and
tells for each partition up to which offset they are the same, and what only one of them has beyond.
Records that compaction or retention took from one side do not count.

Before a failback: link the old cluster to the new one, and compare. What only the old one has was
never copied (--show prints it). Once that is not needed, delete the topic there: the link makes a
mirror of it.")]
pub struct CompareOptions {
    /// The link
    #[arg(value_name = "NAME")]
    link: String,
    /// All that the link's patterns name and both clusters have, unless given
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Print so many records of each partition that only this cluster has
    #[arg(long, value_name = "N", default_value = "0")]
    show: usize,
}

/// The two sides of one partition, and what came of comparing them.
struct Compared {
    of: TopicPartition,
    /// The first offset that is not the same: everything below is, as far as both have it.
    same_to: Offset,
    here_end: Offset,
    there_end: Offset,
    /// The first that only this cluster has.
    shown: Vec<ConsumerRecord>,
}

impl Compared {
    fn only_here(&self) -> i64 {
        self.here_end.since(self.same_to).max(0)
    }

    fn only_there(&self) -> i64 {
        self.there_end.since(self.same_to).max(0)
    }

    /// Neither has gone on without the other, or only one of them has.
    fn is_prefix(&self) -> bool {
        self.only_here() == 0 || self.only_there() == 0
    }
}

pub async fn run(
    session: &mut Session,
    admin: &Admin,
    options: CompareOptions,
) -> Result<(), Failure> {
    let names = [options.link.clone()];
    let all = session.call(admin.describe_links(Some(&names))).await?;
    let link = all.links.values().next();
    let link =
        link.ok_or_else(|| Failure::Failed(format!("there is no link '{}'", options.link)))?;
    let config = session
        .options
        .client_config(&[("allow.auto.create.topics", "false")], &[])?;
    let source = ClientConfig {
        bootstrap_servers: link.bootstrap.clone(),
        ..config.clone()
    };
    let there = Admin::on(session.connect(source.clone()).await?);
    let mirrors = all.mirrors.values();
    let names = mirrors.map(|mirror| (mirror.topic.clone(), mirror.source_topic.clone()));
    let wanted = (&*link.topics, &*options.topics);
    let all = partitions(session, (admin, &there), &names.collect(), wanted).await?;
    let here_bounds = bounds(session, admin, all.iter().map(|of| &of.here)).await?;
    let there_bounds = bounds(session, &there, all.iter().map(|of| &of.there)).await?;
    let total: i64 = all
        .iter()
        .map(|of| here_bounds[&of.here].1.min(there_bounds[&of.there].1).0)
        .sum();
    let bar = session
        .terminal
        .progress(Some(u64::try_from(total).unwrap_or(0)), false);
    let mut compared = Vec::with_capacity(all.len());
    for of in all {
        bar.set_message(of.here.to_string());
        let sides = (&config, &source);
        let ends = (here_bounds[&of.here], there_bounds[&of.there]);
        let one = compare(session, sides, of, ends, options.show).await?;
        bar.inc(u64::try_from(one.same_to.0).unwrap_or(0));
        compared.push(one);
    }
    bar.finish_and_clear();
    answer(session, &compared)
}

/// A partition here, and the one of the source that it is compared with.
struct Pair {
    here: TopicPartition,
    there: TopicPartition,
}

/// Partitions of the topics that both clusters have. `names` tells how those are called at the
/// source that are mirrors.
async fn partitions(
    session: &mut Session,
    (here, there): (&Admin, &Admin),
    names: &BTreeMap<String, String>,
    (patterns, topics): (&[String], &[String]),
) -> Result<Vec<Pair>, Failure> {
    let mine = session.call(here.cluster().refresh(&Topics::All)).await?;
    let theirs = session.call(there.cluster().refresh(&Topics::All)).await?;
    let mut wanted = Vec::new();
    for (name, topic) in &mine.topics {
        let source_name: Arc<str> = match names.get(&**name) {
            Some(source_name) => source_name.as_str().into(),
            None => Arc::clone(name),
        };
        let is_named = match topics.is_empty() {
            true => patterns
                .iter()
                .any(|pattern| crate::controller::pattern_matches(pattern, &source_name)),
            false => topics.iter().any(|one| **one == **name),
        };
        if let Some(other) = theirs.topics.get(&source_name).filter(|_| is_named) {
            let count = topic.partitions.len().min(other.partitions.len());
            let count = i32::try_from(count).unwrap_or(i32::MAX);
            wanted.extend((0..count).map(|at| Pair {
                here: TopicPartition::new(Arc::clone(name), at),
                there: TopicPartition::new(Arc::clone(&source_name), at),
            }));
        }
    }
    for name in topics {
        if !wanted.iter().any(|of| *of.here.topic == **name) {
            let text = format!("topic '{name}' is not in both clusters");
            return Err(Failure::Failed(text));
        }
    }
    Ok(wanted)
}

type Bounds = (Offset, Offset);

/// Where partitions begin and end.
async fn bounds(
    session: &mut Session,
    admin: &Admin,
    of: impl Iterator<Item = &TopicPartition> + Clone,
) -> Result<BTreeMap<TopicPartition, Bounds>, Failure> {
    let mut found = Vec::with_capacity(2);
    for spec in [OffsetSpec::Earliest, OffsetSpec::Latest] {
        let wanted = of.clone().map(|of| (of.clone(), spec)).collect();
        let listed = admin.list_offsets(&wanted, Isolation::ReadUncommitted);
        found.push(session.call(listed).await?);
    }
    let mut bounds = BTreeMap::new();
    for of in of {
        let mut each = Vec::with_capacity(2);
        for listed in &found {
            let known = listed[of].clone();
            let known = known.map_err(|error| Failure::refused(of.to_string(), error))?;
            each.push(known.offset.unwrap_or(Offset::ZERO));
        }
        bounds.insert(of.clone(), (each[0], each[1]));
    }
    Ok(bounds)
}

/// Reads a partition of one cluster.
struct Side {
    consumer: Consumer,
    waiting: VecDeque<ConsumerRecord>,
    end: Offset,
}

impl Side {
    fn new(
        session: &Session,
        config: &ClientConfig,
        of: &TopicPartition,
        (start, end): Bounds,
    ) -> Result<Self, ClientError> {
        let mut consumer = Consumer::new(&session.env, config.clone())?;
        consumer.assign(std::slice::from_ref(of))?;
        consumer.seek(of, start)?;
        Ok(Self {
            consumer,
            waiting: VecDeque::new(),
            end,
        })
    }

    /// The next record before the end, if there is one.
    async fn next(
        &mut self,
        session: &mut Session,
        of: &TopicPartition,
    ) -> Result<Option<ConsumerRecord>, Failure> {
        let until = session.env.now().plus(SILENCE);
        loop {
            if let Some(record) = self.waiting.pop_front() {
                return Ok((record.offset < self.end).then_some(record));
            }
            // Compaction may have taken the last ones.
            if self.consumer.position(of).is_some_and(|at| at >= self.end) {
                return Ok(None);
            }
            if session.env.now() >= until {
                return Err(out_of_time("reading", SILENCE));
            }
            let records = session.call(self.consumer.poll(POLL)).await?;
            self.waiting.extend(records);
        }
    }
}

async fn compare(
    session: &mut Session,
    (here_config, there_config): (&ClientConfig, &ClientConfig),
    of: Pair,
    (here, there): (Bounds, Bounds),
    show: usize,
) -> Result<Compared, Failure> {
    let start = here.0.max(there.0);
    let mut mine = Side::new(session, here_config, &of.here, (start, here.1))?;
    let mut theirs = Side::new(session, there_config, &of.there, (start, there.1))?;
    let both_end = here.1.min(there.1);
    let (mut left, mut right) = (
        mine.next(session, &of.here).await?,
        theirs.next(session, &of.there).await?,
    );
    let same_to = loop {
        let (one, other) = match (&left, &right) {
            (Some(one), Some(other)) if one.offset.min(other.offset) < both_end => (one, other),
            _ => break both_end,
        };
        // What one side has let go of cannot be compared.
        match one.offset.cmp(&other.offset) {
            std::cmp::Ordering::Less => left = mine.next(session, &of.here).await?,
            std::cmp::Ordering::Greater => right = theirs.next(session, &of.there).await?,
            std::cmp::Ordering::Equal if !is_same(one, other) => break one.offset,
            std::cmp::Ordering::Equal => {
                left = mine.next(session, &of.here).await?;
                right = theirs.next(session, &of.there).await?;
            }
        }
    };
    let mut shown = Vec::new();
    while shown.len() < show
        && let Some(record) = left
    {
        if record.offset >= same_to {
            shown.push(record);
        }
        left = mine.next(session, &of.here).await?;
    }
    Ok(Compared {
        of: of.here,
        same_to,
        here_end: here.1,
        there_end: there.1,
        shown,
    })
}

fn is_same(one: &ConsumerRecord, other: &ConsumerRecord) -> bool {
    one.key == other.key
        && one.value == other.value
        && one.headers == other.headers
        && one.timestamp == other.timestamp
}

fn answer(session: &mut Session, compared: &[Compared]) -> Result<(), Failure> {
    let mut table = Table::new(&[
        "topic",
        ">partition",
        ">same up to",
        ">end here",
        ">end there",
        ">only here",
        ">only there",
    ]);
    let mut list = Vec::with_capacity(compared.len());
    let mut records = Vec::new();
    for one in compared {
        table.row(vec![
            one.of.topic.to_string(),
            one.of.partition.to_string(),
            one.same_to.to_string(),
            one.here_end.to_string(),
            one.there_end.to_string(),
            one.only_here().to_string(),
            one.only_there().to_string(),
        ]);
        let shown: Vec<Value> = one.shown.iter().map(record_json).collect();
        records.extend(one.shown.iter().map(record_text));
        list.push(json!({
            "topic": &*one.of.topic, "partition": one.of.partition,
            "same_to": one.same_to.0, "here_end": one.here_end.0, "there_end": one.there_end.0,
            "only_here": one.only_here(), "only_there": one.only_there(),
            "is_prefix": one.is_prefix(), "records_only_here": shown,
        }));
    }
    let here: i64 = compared.iter().map(Compared::only_here).sum();
    let parted = compared.iter().filter(|one| !one.is_prefix()).count();
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let sum = format!(
        "{} compared. Only this cluster has {}; {} went on differently in both clusters.",
        counted(count(compared.len()), "partition"),
        counted(u64::try_from(here).unwrap_or(0), "offset"),
        counted(count(parted), "partition"),
    );
    let mut blocks = vec![table.text(), sum];
    if !records.is_empty() {
        blocks.push(format!("Only here:\n{}", records.join("\n")));
    }
    session.answer(&json!({ "partitions": list }), &blocks.join("\n\n"))
}

fn text(bytes: Option<&bytes::Bytes>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn record_json(record: &ConsumerRecord) -> Value {
    json!({
        "offset": record.offset.0, "timestamp": record.timestamp.0,
        "key": text(record.key.as_ref()), "value": text(record.value.as_ref()),
    })
}

fn record_text(record: &ConsumerRecord) -> String {
    let null = || "null".to_owned();
    let (key, value) = (text(record.key.as_ref()), text(record.value.as_ref()));
    format!(
        "  {} at {}: {} = {}",
        record.partition,
        record.offset,
        key.unwrap_or_else(null),
        value.unwrap_or_else(null)
    )
}
