//! What the run itself asks of the broker before and after the clients: it makes the topics, and
//! at the end it reads everything.
//!
//! All of it is recorded under the process `final`, and tried again until it worked or its time is
//! over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use klamm::env::{Env, Rng};
use klamm::types::{Instant, Timestamp};
use klamm::wire::batch::Compression;
use klamm::wire::message::metadata::MetadataRequest;
use klamm_jepsen::history::{ListedAt, Note, Partition, Position, Wanted};

use super::content::{Content, value_of};
use super::fetching::{FetchOptions, Fetching};
use super::line::Line;
use super::produce::{pack, send_once};
use super::{Topics, admin, groups, offsets, partition};
use crate::plan::TopicPlan;
use crate::record::Recorder;

/// The process that all of this is recorded under.
pub const PROCESS: &str = "final";

/// The run's own client.
pub struct Finals {
    line: Line,
    recorder: Recorder,
    deadline: Instant,
    /// Nothing is written to these, nor read.
    left_out: BTreeSet<Partition>,
}

/// Why a partition is not whole.
#[derive(Debug)]
pub struct Lack {
    pub is_led: bool,
    /// For people.
    pub detail: String,
}

/// What was not done in time, and the last error.
pub type Undone<T> = Vec<(T, String)>;

/// More of a partition than a log reads at once, so that answers are of several pieces.
const READ: FetchOptions = FetchOptions {
    max_bytes: 8 << 20,
    partition_max_bytes: 4 << 20,
    session: false,
    committed: false,
};

/// A little at a time, in a session (KIP-227): the broker has more to give than it gave, though
/// nothing else changes any more.
const READ_ON: FetchOptions = FetchOptions {
    max_bytes: 16 << 10,
    partition_max_bytes: 4 << 10,
    session: true,
    committed: false,
};

/// One partition after the other is read so, also where that has to be tried again.
const HOW: [FetchOptions; 2] = [READ_ON, READ];

/// Whether it is a topic that a link keeps beside its mirrors, or a copy of one: what it holds is
/// told by no client.
pub fn is_of_mirror_maker(topic: &str) -> bool {
    topic.ends_with("heartbeats") || topic.ends_with(".internal")
}

impl Finals {
    /// A client that has `within` for all that it is asked to do.
    #[must_use]
    pub fn new(env: &Env, recorder: &Recorder, broker: &str, rng: Rng, within: Duration) -> Self {
        let line = Line::new(env.clone(), recorder.clone(), PROCESS, broker, rng);
        Self {
            line,
            recorder: recorder.clone(),
            deadline: env.now().plus(within),
            left_out: BTreeSet::new(),
        }
    }

    /// Neither writes to these partitions nor reads them.
    #[must_use]
    pub fn leaving_out(mut self, partitions: BTreeSet<Partition>) -> Self {
        self.left_out = partitions;
        self
    }

    fn wanted(&self, topics: &Topics) -> Vec<Partition> {
        let mut wanted = partitions(topics);
        wanted.retain(|of| !self.left_out.contains(of));
        wanted
    }

    /// From now on there is `within` for what is asked.
    pub fn allow(&mut self, within: Duration) {
        self.deadline = self.line.env.now().plus(within);
    }

    fn is_late(&self) -> bool {
        self.line.env.now() >= self.deadline
    }

    /// Makes topics. Those that exist count as made.
    pub async fn create_topics(&mut self, topics: &[TopicPlan]) -> Undone<String> {
        let mut undone = Vec::new();
        for topic in topics {
            let made = loop {
                let (name, config) = (&topic.name, &topic.config);
                let (count, replicas) = (topic.partitions, topic.replicas);
                let made = admin::create_topic(&mut self.line, name, count, replicas, config).await;
                match made {
                    Err(error) if error == "TOPIC_ALREADY_EXISTS" => break Ok(()),
                    Err(_) if !self.is_late() => self.line.wait_a_little().await,
                    done => break done,
                }
            };
            undone.extend(made.err().map(|error| (topic.name.clone(), error)));
        }
        undone
    }

    /// All topics that are not the broker's own; none if it does not tell in time.
    pub async fn topics(&mut self) -> Topics {
        loop {
            let request = MetadataRequest {
                topics: None,
                allow_auto_topic_creation: false,
                ..Default::default()
            };
            self.line.anyone();
            match self.line.call(request, 0).await {
                Ok(answer) => {
                    let own = answer.topics.into_iter().filter(|topic| !topic.is_internal);
                    let counted = own.filter_map(|topic| {
                        let count = i32::try_from(topic.partitions.len()).unwrap_or(0);
                        Some((topic.name?.as_str().to_owned(), count))
                    });
                    return counted
                        .filter(|(name, _)| !is_of_mirror_maker(name))
                        .collect();
                }
                Err(_) if !self.is_late() => self.line.wait_a_little().await,
                Err(_) => return Topics::new(),
            }
        }
    }

    /// Waits until every partition has a leader, and all of its replicas but those of `missing`
    /// nodes are in sync; for those that `is_spoilt` names it does not wait. The others, and what
    /// they lack.
    pub async fn wait_until_whole(
        &mut self,
        missing: usize,
        is_spoilt: impl Fn(&Partition) -> bool,
    ) -> Vec<(Partition, Lack)> {
        loop {
            let lacking = self.lacking(missing).await;
            match lacking {
                Ok(lacking) if lacking.iter().all(|(of, _)| is_spoilt(of)) => return lacking,
                Ok(lacking) if self.is_late() => return lacking,
                Err(error) if self.is_late() => {
                    let detail = format!("nobody tells of it: {error}");
                    let of = partition("__cluster_metadata", 0);
                    return vec![(
                        of,
                        Lack {
                            is_led: false,
                            detail,
                        },
                    )];
                }
                _ => self.line.wait_a_little().await,
            }
        }
    }

    async fn lacking(&mut self, missing: usize) -> Result<Vec<(Partition, Lack)>, String> {
        let request = MetadataRequest {
            topics: None,
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        self.line.anyone();
        let answer = self.line.call(request, 1).await?;
        let mut lacking = Vec::new();
        for topic in answer.topics {
            let Some(name) = topic.name else { continue };
            for found in topic.partitions {
                let is_led = found.leader_id >= 0;
                if is_led && found.isr_nodes.len() + missing >= found.replica_nodes.len() {
                    continue;
                }
                let detail = format!(
                    "has leader {} and {:?} in sync, of replicas {:?}",
                    found.leader_id, found.isr_nodes, found.replica_nodes
                );
                let of = partition(&name, found.partition_index);
                lacking.push((of, Lack { is_led, detail }));
            }
        }
        Ok(lacking)
    }

    /// Sends one record to each partition with acks=all until that worked.
    pub async fn send_everywhere(&mut self, topics: &Topics) -> Undone<Partition> {
        let mut undone = Vec::new();
        for of in self.wanted(topics) {
            let sent = loop {
                let timestamp = self.line.env.wall();
                let parcel = self.parcel(&of, timestamp);
                match send_once(&mut self.line, &parcel).await {
                    Err(_) if !self.is_late() => self.line.wait_a_little().await,
                    done => break done,
                }
            };
            undone.extend(sent.err().map(|error| (of, error)));
        }
        undone
    }

    /// A batch of one new record.
    fn parcel(&self, to: &Partition, timestamp: Timestamp) -> super::produce::Parcel {
        let id = self.recorder.next_id();
        let content = Content {
            id,
            key: Some(format!("final-{id}")),
            value: Some(value_of(id, 32)),
            timestamp,
        };
        pack(to.clone(), -1, Compression::None, None, &[content])
    }

    /// Asks where each partition of a topic ends now.
    pub async fn end(&mut self, of: &Partition) -> Result<i64, String> {
        loop {
            match offsets::list(&mut self.line, of, ListedAt::Latest).await {
                Err(_) if !self.is_late() => self.line.wait_a_little().await,
                done => return done,
            }
        }
    }

    /// Asks for the partitions and these settings of a topic, so that the history has them.
    pub async fn describe_topic(&mut self, topic: &str, keys: &[&str]) {
        while admin::describe_topic(&mut self.line, topic).await.is_err() && !self.is_late() {
            self.line.wait_a_little().await;
        }
        for key in keys {
            while !self.is_late() {
                match admin::describe_config(&mut self.line, topic, key).await {
                    Ok(()) => break,
                    Err(_) => self.line.wait_a_little().await,
                }
            }
        }
    }

    /// Reads every partition from its start to what was its end when it was asked, and notes the
    /// two ends once it has read all between.
    pub async fn read_to_end(&mut self, topics: &Topics) -> Undone<Partition> {
        let mut undone = Vec::new();
        for (of, how) in self.wanted(topics).into_iter().zip(HOW.into_iter().cycle()) {
            let read = loop {
                match self.read_partition(&of, how).await {
                    Err(_) if !self.is_late() => self.line.wait_a_little().await,
                    done => break done,
                }
            };
            undone.extend(read.err().map(|error| (of, error)));
        }
        undone
    }

    async fn read_partition(&mut self, of: &Partition, how: FetchOptions) -> Result<(), String> {
        let line = &mut self.line;
        let start = offsets::list(line, of, ListedAt::Earliest).await?;
        let end = offsets::list(line, of, ListedAt::Latest).await?;
        let position = Position {
            of: of.clone(),
            offset: start,
        };
        offsets::assign(line, vec![position.clone()]);
        let mut fetching = Fetching::new(how);
        fetching.assign(&[position]);
        let mut failures = 0;
        while fetching.position(of).is_some_and(|next| next < end) {
            let before = fetching.position(of);
            let fetched = fetching.fetch(line, 0).await;
            let error = match fetched {
                Err(error) => Some(error),
                Ok(parts) => parts.into_iter().find_map(|part| part.error),
            };
            if error.as_deref() == Some("OFFSET_OUT_OF_RANGE") {
                return Err("OFFSET_OUT_OF_RANGE".to_owned());
            }
            if error.is_some() || fetching.position(of) == before {
                failures += 1;
                if failures > 20 || line.env.now() >= self.deadline {
                    return Err(error.unwrap_or_else(|| "NO_PROGRESS".to_owned()));
                }
                line.wait_a_little().await;
            }
        }
        let ends = Wanted {
            of: of.clone(),
            log_start_offset: start,
            log_end_offset: end,
        };
        self.recorder.note(PROCESS, Note::Ends { ends });
        Ok(())
    }

    /// Asks what each group has committed for all partitions.
    pub async fn fetch_committed_all(
        &mut self,
        groups: &[String],
        topics: &Topics,
    ) -> Undone<String> {
        let of = partitions(topics);
        let mut undone = Vec::new();
        for group in groups {
            let fetched = loop {
                match groups::fetch_committed(&mut self.line, group, &of).await {
                    Err(_) if !self.is_late() => self.line.wait_a_little().await,
                    done => break done,
                }
            };
            undone.extend(fetched.err().map(|error| (group.clone(), error)));
        }
        undone
    }

    /// The states of these groups, as the protocol spells them. A group that is not known is
    /// `Dead`.
    pub async fn describe_groups(&mut self, groups: &[String]) -> BTreeMap<String, String> {
        let mut states = BTreeMap::new();
        for group in groups {
            let state = loop {
                match groups::describe(&mut self.line, group).await {
                    Ok(state) => break state,
                    Err(error) if error == "GROUP_ID_NOT_FOUND" => break "Dead".to_owned(),
                    Err(_) if !self.is_late() => self.line.wait_a_little().await,
                    Err(error) => break error,
                }
            };
            states.insert(group.clone(), state);
        }
        states
    }

    /// Waits until none of these groups is in the middle of a rebalance. The others, and their
    /// states.
    pub async fn wait_until_stable(&mut self, groups: &[String]) -> Undone<String> {
        loop {
            let states = self.describe_groups(groups).await.into_iter();
            let settled = ["Stable", "Empty", "Dead"];
            let unsettled = states.filter(|(_, state)| !settled.contains(&state.as_str()));
            let unsettled: Undone<String> = unsettled.collect();
            if unsettled.is_empty() || self.is_late() {
                return unsettled;
            }
            self.line.env.sleep(Duration::from_millis(250)).await;
        }
    }
}

fn partitions(topics: &Topics) -> Vec<Partition> {
    let each = topics.iter();
    each.flat_map(|(topic, count)| (0..*count).map(|number| partition(topic, number)))
        .collect()
}
