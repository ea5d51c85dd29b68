//! Reads records: of partitions it is given, or of those a group assigns to it.
//!
//! Records of a partition come in offset order, each once, from the position on; damaged data is
//! an error, never skipped. With a group, offsets are committed only for records that a poll has
//! returned *before* the poll that commits them: a crash repeats records and loses none
//! (at-least-once).
//!
//! One task owns a consumer and calls [`Consumer::poll`] again and again; heartbeats go on in the
//! background between polls, for at most `max.poll.interval.ms`.

pub(crate) mod assignor;
mod buffer;
mod events;
mod fetcher;
mod group;
mod membership;
mod positions;
pub(crate) mod protocol;
mod record;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use self::buffer::PartitionBuffer;
use self::events::Event;
use self::membership::Membership;
use self::positions::Want;
use super::admin::{Admin, CommittedOffset, OffsetSpec};
use super::cluster::Cluster;
use super::config::ClientConfig;
use super::error::ClientError;
use crate::env::{BoxFuture, Env, Timer};
use crate::types::{BrokerId, Instant, LeaderEpoch, Offset, TopicPartition};

pub use self::record::ConsumerRecord;

/// A change of what a member of a group may read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RebalanceEvent {
    /// These were added, in this generation.
    Assigned {
        generation: i32,
        partitions: Vec<TopicPartition>,
    },
    /// These were given up in an orderly way.
    Revoked(Vec<TopicPartition>),
    /// These were taken away: another member may have been reading them already.
    Lost(Vec<TopicPartition>),
}

/// Reads records. See the module's promises.
pub struct Consumer {
    cluster: Cluster,
    partitions: BTreeMap<TopicPartition, Tracked>,
    membership: Option<Membership>,
    under_way: FuturesUnordered<BoxFuture<'static, Event>>,
    /// Brokers with a fetch under way.
    fetching: BTreeSet<BrokerId>,
    finding: bool,
    refreshing: bool,
    refreshed_at: Instant,
    /// Not before this is the cluster asked again for positions or leaders.
    retry_at: Instant,
    failures: u32,
    committing: bool,
    committed_at: Instant,
    /// The partition handed out last; the next poll begins after it.
    cursor: Option<TopicPartition>,
    next_stamp: u64,
    errors: VecDeque<ClientError>,
    events: Vec<RebalanceEvent>,
    timer: Box<dyn Timer>,
}

/// A partition being read.
#[derive(Debug)]
struct Tracked {
    /// Offset of the next record to hand out; `None` until it is found.
    position: Option<Offset>,
    /// Epoch of the last record handed out, or as committed.
    leader_epoch: LeaderEpoch,
    want: Want,
    /// Changes whenever the position is set from outside, so that older answers are known.
    stamp: u64,
    paused: bool,
    buffer: Option<PartitionBuffer>,
    /// Fetched ahead: what follows the buffer.
    ahead: Option<PartitionBuffer>,
    high_watermark: Option<Offset>,
    log_start_offset: Option<Offset>,
    /// The leader has to be looked up first.
    stale: bool,
}

impl Consumer {
    pub fn new(env: &Env, config: ClientConfig) -> Result<Self, ClientError> {
        Ok(Self::on(Cluster::new(env, config)?))
    }

    /// A consumer over connections shared with other parts of this program.
    #[must_use]
    pub fn on(cluster: Cluster) -> Self {
        let now = cluster.env().now();
        let timer = cluster.env().clock.timer();
        Self {
            cluster,
            partitions: BTreeMap::new(),
            membership: None,
            under_way: FuturesUnordered::new(),
            fetching: BTreeSet::new(),
            finding: false,
            refreshing: false,
            refreshed_at: now,
            retry_at: Instant(0),
            failures: 0,
            committing: false,
            committed_at: now,
            cursor: None,
            next_stamp: 0,
            errors: VecDeque::new(),
            events: Vec::new(),
            timer,
        }
    }

    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Reads these partitions from now on, and no others. Positions of those that were read
    /// before are kept; new ones begin where the group (if one is configured) left off, else by
    /// `auto.offset.reset`. Not together with [`Consumer::subscribe`].
    pub fn assign(&mut self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        if self.membership.is_some() {
            return Err(ClientError::Misuse(
                "a consumer that subscribes cannot be assigned",
            ));
        }
        let wanted: BTreeSet<TopicPartition> = partitions.iter().cloned().collect();
        self.partitions.retain(|p, _| wanted.contains(p));
        for partition in wanted {
            self.track(partition);
        }
        Ok(())
    }

    /// Joins the group `group.id` and reads what it assigns of these topics. Calling it again
    /// changes the topics.
    pub fn subscribe(&mut self, topics: &[&str]) -> Result<(), ClientError> {
        let Some(group) = self.cluster.config().group_id.clone() else {
            return Err(ClientError::Misuse("subscribing needs group.id"));
        };
        if self.membership.is_none() && !self.partitions.is_empty() {
            return Err(ClientError::Misuse(
                "a consumer that was assigned cannot subscribe",
            ));
        }
        let topics: BTreeSet<Arc<str>> = topics.iter().map(|topic| Arc::from(*topic)).collect();
        match &mut self.membership {
            Some(membership) => membership.set_topics(topics),
            None => self.membership = Some(Membership::new(&self.cluster, group, topics)),
        }
        Ok(())
    }

    fn track(&mut self, partition: TopicPartition) {
        let stamp = self.stamp();
        self.partitions.entry(partition).or_insert(Tracked {
            position: None,
            leader_epoch: LeaderEpoch::NONE,
            want: Want::Committed,
            stamp,
            paused: false,
            buffer: None,
            ahead: None,
            high_watermark: None,
            log_start_offset: None,
            stale: false,
        });
    }

    fn stamp(&mut self) -> u64 {
        self.next_stamp += 1;
        self.next_stamp
    }

    fn tracked(&mut self, partition: &TopicPartition) -> Result<&mut Tracked, ClientError> {
        self.partitions
            .get_mut(partition)
            .ok_or_else(|| ClientError::Missing {
                what: format!("{partition} among the partitions of this consumer"),
            })
    }

    /// Continues at `offset`.
    pub fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<(), ClientError> {
        let stamp = self.stamp();
        let tracked = self.tracked(partition)?;
        tracked.position = Some(offset);
        tracked.leader_epoch = LeaderEpoch::NONE;
        tracked.stamp = stamp;
        tracked.drop_buffers();
        Ok(())
    }

    /// Continues at an offset to be found: the earliest, the latest, or by time. Where no record
    /// is that late it continues at the end.
    pub fn seek_to(
        &mut self,
        partition: &TopicPartition,
        spec: OffsetSpec,
    ) -> Result<(), ClientError> {
        let stamp = self.stamp();
        let tracked = self.tracked(partition)?;
        tracked.position = None;
        tracked.leader_epoch = LeaderEpoch::NONE;
        tracked.want = Want::Spec(spec);
        tracked.stamp = stamp;
        tracked.drop_buffers();
        Ok(())
    }

    /// Stops handing out records of a partition; its position stays.
    pub fn pause(&mut self, partition: &TopicPartition) -> Result<(), ClientError> {
        self.tracked(partition)?.paused = true;
        Ok(())
    }

    pub fn resume(&mut self, partition: &TopicPartition) -> Result<(), ClientError> {
        self.tracked(partition)?.paused = false;
        Ok(())
    }

    /// The partitions being read.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.partitions.keys().cloned().collect()
    }

    /// Offset of the next record to be returned; `None` until it is found.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.partitions.get(partition)?.position
    }

    /// End of the partition as the last fetch told: the high watermark.
    #[must_use]
    pub fn high_watermark(&self, partition: &TopicPartition) -> Option<Offset> {
        self.partitions.get(partition)?.high_watermark
    }

    /// Start of the partition as the last fetch told.
    #[must_use]
    pub fn log_start_offset(&self, partition: &TopicPartition) -> Option<Offset> {
        self.partitions.get(partition)?.log_start_offset
    }

    /// The generation this member is in, if it is in one.
    #[must_use]
    pub fn generation(&self) -> Option<i32> {
        self.membership.as_ref().and_then(Membership::generation)
    }

    /// The id the group's coordinator gave this member; empty before it joined.
    #[must_use]
    pub fn member_id(&self) -> &str {
        self.membership.as_ref().map_or("", |m| m.member_id())
    }

    /// Changes of the assignment since the last call, in order.
    pub fn take_rebalance_events(&mut self) -> Vec<RebalanceEvent> {
        std::mem::take(&mut self.events)
    }

    /// Waits at most `within` for records and returns up to `max.poll.records` of them; none if
    /// there were none. What an earlier poll returned counts as processed, for automatic commits.
    /// An error leaves all positions as they are; polling again tries again. Dropping the future
    /// loses nothing.
    pub async fn poll(&mut self, within: Duration) -> Result<Vec<ConsumerRecord>, ClientError> {
        let env = self.cluster.env().clone();
        let deadline = env.now().plus(within);
        loop {
            let now = env.now();
            self.act(now);
            if let Some(error) = self.errors.pop_front() {
                return Err(error);
            }
            let records = self.hand_out()?;
            if !records.is_empty() {
                self.start_fetches();
                return Ok(records);
            }
            if now >= deadline && !self.any_ready().await {
                return Ok(Vec::new());
            }
            self.wait(deadline).await;
        }
    }

    /// Takes in what has finished already, without waiting.
    async fn any_ready(&mut self) -> bool {
        let under_way = &mut self.under_way;
        let event = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match under_way.poll_next_unpin(cx) {
                std::task::Poll::Ready(event) => event,
                std::task::Poll::Pending => None,
            })
        });
        match event.await {
            Some(event) => {
                self.take_in(event);
                true
            }
            None => false,
        }
    }

    async fn wait(&mut self, deadline: Instant) {
        self.timer.reset(self.next_moment(deadline));
        let pulse = self.membership.as_ref().map(Membership::pulse);
        let changed = async {
            match &pulse {
                Some(pulse) => pulse.changed.notified().await,
                None => std::future::pending().await,
            }
        };
        let (under_way, timer) = (&mut self.under_way, &mut self.timer);
        let event = tokio::select! {
            biased;
            Some(event) = under_way.next(), if !under_way.is_empty() => Some(event),
            () = changed => None,
            () = std::future::poll_fn(|cx| timer.poll_fired(cx)) => None,
        };
        if let Some(event) = event {
            self.take_in(event);
        }
    }

    /// Records from the buffers, beginning after the partition served last.
    fn hand_out(&mut self) -> Result<Vec<ConsumerRecord>, ClientError> {
        let records_max = self.cluster.config().max_poll_records;
        let mut order: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        if let Some(cursor) = &self.cursor {
            let after = order.partition_point(|partition| partition <= cursor);
            order.rotate_left(after);
        }
        let mut records = Vec::new();
        for partition in order {
            let Some(tracked) = self.partitions.get_mut(&partition) else {
                continue;
            };
            if tracked.paused {
                continue;
            }
            let before = records.len();
            if let Err(reason) = tracked.hand_out(records_max, &mut records) {
                tracked.drop_buffers();
                let error = ClientError::Corrupt {
                    partition: partition.to_string(),
                    reason: reason.to_string(),
                };
                match records.is_empty() {
                    true => return Err(error),
                    false => self.errors.push_back(error),
                }
            }
            if records.len() > before {
                self.cursor = Some(partition);
            }
            if records.len() >= records_max {
                break;
            }
        }
        Ok(records)
    }

    /// Positions of all partitions that have one, as commits.
    fn positions(&self) -> BTreeMap<TopicPartition, CommittedOffset> {
        let known = self.partitions.iter().filter_map(|(partition, tracked)| {
            let committed = CommittedOffset {
                offset: tracked.position?,
                leader_epoch: tracked.leader_epoch,
                metadata: String::new(),
            };
            Some((partition.clone(), committed))
        });
        known.collect()
    }

    /// Commits the positions: all that polls have returned counts as processed.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let positions = self.positions();
        self.commit_offsets(&positions).await
    }

    /// Commits these offsets: of each partition the next record to read.
    pub async fn commit_offsets(
        &mut self,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<(), ClientError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let committer = self.committer()?;
        let results = group::commit(&self.cluster, &committer, offsets).await?;
        for (partition, result) in results {
            let what = || format!("committing the offset of {partition}");
            result.map_err(|error| ClientError::refused(what(), error))?;
        }
        Ok(())
    }

    /// What the group has committed for these partitions.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        let Some(group) = &self.cluster.config().group_id else {
            return Err(ClientError::Misuse("committed offsets need group.id"));
        };
        let admin = Admin::on(self.cluster.clone());
        let found = admin.group_offsets(group, Some(partitions)).await?;
        let mut all = BTreeMap::new();
        for (partition, result) in found {
            let what = || format!("reading the committed offset of {partition}");
            let offset = result.map_err(|error| ClientError::refused(what(), error))?;
            all.insert(partition, offset);
        }
        Ok(all)
    }

    /// Commits (where that is automatic), leaves the group, and ends.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let commits = self.cluster.config().enable_auto_commit && self.may_commit();
        let committed = match commits {
            true => self.commit().await,
            false => Ok(()),
        };
        if let Some(membership) = self.membership.take() {
            membership.leave(&self.cluster).await;
        }
        committed
    }
}

impl Tracked {
    fn hand_out(
        &mut self,
        records_max: usize,
        records: &mut Vec<ConsumerRecord>,
    ) -> Result<(), crate::wire::batch::BatchError> {
        while records.len() < records_max {
            let Some(buffer) = &mut self.buffer else {
                break;
            };
            let next = buffer.next_record()?;
            self.position = Some(buffer.position());
            if buffer.leader_epoch() != LeaderEpoch::NONE {
                self.leader_epoch = buffer.leader_epoch();
            }
            match next {
                Some(record) => records.push(record),
                None => {
                    let follows = self.ahead.take();
                    self.buffer = follows.filter(|a| Some(a.position()) == self.position);
                }
            }
        }
        Ok(())
    }

    fn drop_buffers(&mut self) {
        self.buffer = None;
        self.ahead = None;
    }

    /// Where to fetch from next; `None` while enough is fetched.
    fn fetch_from(&self) -> Option<Offset> {
        match (&self.buffer, &self.ahead) {
            (None, _) => self.position,
            (Some(buffer), None) => Some(buffer.end()),
            (Some(_), Some(_)) => None,
        }
    }

    /// Takes in what a fetch from `from` brought; dropped where it does not continue the rest.
    fn put(&mut self, from: Offset, fetched: PartitionBuffer) {
        if fetched.is_empty() {
            return;
        }
        if self.fetch_from() == Some(from) {
            match self.buffer {
                None => self.buffer = Some(fetched),
                Some(_) => self.ahead = Some(fetched),
            }
        }
    }
}
