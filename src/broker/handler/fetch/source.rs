//! Where the partitions of a fetch are read from, and by whom: a consumer reads committed records,
//! a follower whatever the leader has.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Fetch;
use crate::broker::fetch_session::Target;
use crate::broker::handler::leadership::{self, Named};
use crate::broker::metrics::TopicCounters;
use crate::broker::partitions::{Hosted, Table};
use crate::controller::ClusterImage;
use crate::replication::{Command, FetchSignal, FollowerFetch, PartitionView, Served};
use crate::types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset};
use crate::wire::message::fetch::{EpochEndOffset, FetchRequest};

/// First version that names topics by id.
pub const TOPIC_ID_SINCE: i16 = 13;

/// First version whose consumers may be sent to another replica (KIP-392).
const RACK_SINCE: i16 = 11;

/// Who fetches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    Consumer,
    Follower {
        id: BrokerId,
        broker_epoch: BrokerEpoch,
    },
}

impl Reader {
    /// The reader that a request names; before version 15 without its epoch.
    pub fn of(request: &FetchRequest) -> Self {
        let state = &request.replica_state;
        let id = state.replica_id.max(request.replica_id);
        match id {
            ..0 => Self::Consumer,
            id => Self::Follower {
                id: BrokerId(id),
                broker_epoch: BrokerEpoch(state.replica_epoch),
            },
        }
    }
}

/// What serves a target.
#[derive(Clone)]
pub struct Serving {
    pub hosted: Hosted,
    /// In which the partition was looked up; in another one nothing read is worth anything.
    pub leader_epoch: LeaderEpoch,
    /// Another replica that the consumer is to read from.
    pub preferred: Option<BrokerId>,
    pub diverging: Option<EpochEndOffset>,
}

impl Serving {
    pub fn view(&self) -> &PartitionView {
        &self.hosted.view
    }

    /// Whether this broker is still what it was to the partition.
    pub fn is_current(&self) -> bool {
        let view = self.view();
        view.is_online()
            && (view.leader_epoch() == self.leader_epoch
                || crate::mutant!("deposed-leader-serves-consumers"))
    }
}

/// A target with what serves it, or why nothing does.
pub struct Source<'a> {
    pub target: &'a Target,
    pub serving: Result<Serving, ErrorCode>,
    pub counters: Option<Arc<TopicCounters>>,
}

impl<'a> Source<'a> {
    pub fn from(&self) -> Offset {
        Offset(self.target.fetch.fetch_offset)
    }
}

impl Fetch<'_> {
    /// The sources of `targets`. Followers are announced to the owners of the logs.
    pub(super) async fn sources<'a>(&self, targets: &'a [Target]) -> Vec<Source<'a>> {
        let table = self.broker.partitions.table();
        let image = self.broker.controller.image();
        let mut sources: Vec<Source<'a>> = targets
            .iter()
            .map(|target| self.source(&table, &image, target))
            .collect();
        if let Reader::Follower { id, broker_epoch } = self.reader {
            self.announce(id, broker_epoch, &mut sources).await;
        }
        sources
    }

    fn source<'a>(&self, table: &Table, image: &ClusterImage, target: &'a Target) -> Source<'a> {
        let key = &target.key;
        let topic = match self.context.version >= TOPIC_ID_SINCE {
            true => table
                .topic_by_id(key.topic_id)
                .ok_or(ErrorCode::UnknownTopicId),
            false => table
                .topic(&key.topic)
                .ok_or(ErrorCode::UnknownTopicOrPartition),
        };
        let counters = topic.ok().map(|topic| topic.counters.clone());
        let serving = topic
            .and_then(|topic| topic.find(key.partition))
            .map_err(|code| {
                let named = Named::of(
                    self.context.version,
                    TOPIC_ID_SINCE,
                    &key.topic,
                    key.topic_id,
                );
                named.missing(image, key.partition, code)
            })
            .and_then(|hosted| self.serving(image, hosted, target));
        Source {
            target,
            serving,
            counters,
        }
    }

    /// Whether what epoch a follower names is left to the owner of the log, which may not look.
    fn is_of_any_epoch(&self) -> bool {
        matches!(self.reader, Reader::Follower { .. })
            && (crate::mutant!("fetch-epoch-not-checked")
                || crate::mutant!("fetch-epoch-checked-late"))
    }

    fn serving(
        &self,
        image: &ClusterImage,
        hosted: &Hosted,
        target: &Target,
    ) -> Result<Serving, ErrorCode> {
        let view = &hosted.view;
        let mut believed = target.fetch.current_leader_epoch;
        if self.is_of_any_epoch() {
            believed = LeaderEpoch::NONE.0;
        }
        let has_rack = self.context.version >= RACK_SINCE && !self.request.rack_id.is_empty();
        let (leader_epoch, is_leader) = match leadership::check_leader(view, believed) {
            Ok(leadership) => (leadership.leader_epoch, true),
            Err(ErrorCode::NotLeaderOrFollower) if has_rack && self.reader == Reader::Consumer => {
                (view.leader_epoch(), false)
            }
            Err(code) => return Err(code),
        };
        let mut serving = Serving {
            hosted: hosted.clone(),
            leader_epoch,
            preferred: None,
            diverging: None,
        };
        if self.reader == Reader::Consumer {
            serving.diverging = divergence(view, target);
            if has_rack && is_leader {
                serving.preferred = self.nearer(image, target);
            }
        }
        Ok(serving)
    }

    /// An in-sync replica in the consumer's rack, where this broker is in another one.
    fn nearer(&self, image: &ClusterImage, target: &Target) -> Option<BrokerId> {
        let config = &self.broker.config;
        if !config.replication.rack_aware_reads {
            return None;
        }
        let rack = Some(self.request.rack_id.as_str());
        if config.rack.as_deref() == rack {
            return None;
        }
        let key = &target.key;
        let named = Named::of(
            self.context.version,
            TOPIC_ID_SINCE,
            &key.topic,
            key.topic_id,
        );
        let state = named.state(image, key.partition)?;
        let is_near = |id: &&BrokerId| {
            let known = image.broker(**id);
            known.is_some_and(|known| {
                known.rack.as_deref() == rack && !known.fenced && !known.shutting_down
            })
        };
        let near: Vec<_> = state.isr.iter().filter(is_near).collect();
        let at = usize::try_from(key.partition).unwrap_or(0) % near.len().max(1);
        near.get(at).map(|id| **id)
    }

    /// Tells the owners of the logs how far the follower is; they say what it may be served.
    async fn announce(
        &self,
        follower: BrokerId,
        broker_epoch: BrokerEpoch,
        sources: &mut [Source<'_>],
    ) {
        let mut by_shard: BTreeMap<usize, (Vec<usize>, Vec<FollowerFetch>)> = BTreeMap::new();
        for (at, source) in sources.iter().enumerate() {
            let Ok(serving) = &source.serving else {
                continue;
            };
            let fetch = &source.target.fetch;
            let (places, partitions) = by_shard.entry(serving.hosted.shard).or_default();
            places.push(at);
            partitions.push(FollowerFetch {
                slot: serving.hosted.slot,
                leader_epoch: match self.is_of_any_epoch() {
                    true => LeaderEpoch(fetch.current_leader_epoch),
                    false => serving.leader_epoch,
                },
                fetch_offset: Offset(fetch.fetch_offset),
                last_fetched_epoch: LeaderEpoch(fetch.last_fetched_epoch),
                log_start_offset: Offset(fetch.log_start_offset),
            });
        }
        let mut asked = Vec::with_capacity(by_shard.len());
        for (shard, (places, partitions)) in by_shard {
            let (reply, answer) = oneshot::channel();
            let command = Command::FollowerFetch {
                follower,
                broker_epoch,
                partitions,
                reply,
            };
            self.broker.partitions.shards()[shard].send(command).await;
            asked.push((places, answer));
        }
        for (places, answer) in asked {
            let served = answer.await.unwrap_or_default();
            let gone = std::iter::repeat(Err(ErrorCode::NotLeaderOrFollower));
            for (at, served) in places.into_iter().zip(served.into_iter().chain(gone)) {
                sources[at].be_served(served);
            }
        }
    }

    /// Exclusive end of what this reader may be given.
    pub(super) fn visible(&self, serving: &Serving) -> Offset {
        let view = serving.view();
        match self.reader {
            Reader::Follower { .. } => view.log_end_offset(),
            Reader::Consumer if crate::mutant!("serve-beyond-durable-end") => {
                view.reader().log_end_offset()
            }
            Reader::Consumer
                if crate::mutant!("follower-serves-its-log-end") && !view.is_leader() =>
            {
                view.reader().log_end_offset()
            }
            Reader::Consumer => view.high_watermark(),
        }
    }

    pub(super) fn register(&self, serving: &Serving, signal: &Arc<FetchSignal>) {
        match self.reader {
            Reader::Follower { .. } => serving.view().register_follower(signal),
            Reader::Consumer => serving.view().register(signal),
        }
    }
}

impl Source<'_> {
    fn be_served(&mut self, served: Result<Served, ErrorCode>) {
        match served {
            Ok(served) => {
                if let Ok(serving) = &mut self.serving {
                    serving.diverging = served.diverging.map(|(epoch, end)| EpochEndOffset {
                        epoch: epoch.0,
                        end_offset: end.0,
                        ..Default::default()
                    });
                }
            }
            // Where its log begins is told with the error: the follower goes on from there.
            Err(ErrorCode::OffsetOutOfRange) => {}
            Err(code) => self.serving = Err(code),
        }
    }
}

/// Where the consumer's log and ours part, when its last epoch is not ours at that offset
/// (KIP-595).
fn divergence(view: &PartitionView, target: &Target) -> Option<EpochEndOffset> {
    let last = LeaderEpoch(target.fetch.last_fetched_epoch);
    if last.0 < 0 {
        return None;
    }
    let (epoch, end) = view.reader().end_of_epoch(last);
    let agrees = epoch == last && end.0 >= target.fetch.fetch_offset;
    (!agrees).then(|| EpochEndOffset {
        epoch: epoch.0,
        end_offset: end.0,
        ..Default::default()
    })
}
