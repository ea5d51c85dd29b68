//! Copies the partitions this broker follows from the brokers that lead them.
//!
//! One task per broker to copy from (and per `num.replica.fetchers`) asks it with Kafka's Fetch,
//! naming this broker and its epoch. The fetch offset of a partition is the end of what is safe
//! here, so it tells the leader what it may count on. What comes is given to the shard that owns
//! the log; nothing else is fetched of the partition until the shard has said that it is safe.
//!
//! [`plan`] decides and has no IO; [`task`] carries out.

mod plan;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Broker;
use crate::controller::ClusterImage;
use crate::env::Task;
use crate::types::BrokerId;

use plan::{FetchLimits, FetchPlan};
pub use plan::{Followed, Key};
use task::{Change, Fetcher};

/// A partition's place in the copying: under whom it is followed, if at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    pub key: Key,
    pub to: Option<(BrokerId, Followed)>,
}

struct Handle {
    changes: mpsc::UnboundedSender<Vec<Change>>,
    address: String,
    /// Partitions copied by it.
    count: usize,
    /// Ends when dropped.
    _task: Task,
}

/// A broker to copy from, and which of its fetchers.
type Source = (BrokerId, usize);

/// All fetchers of a broker; they end when this is dropped.
pub struct ReplicaFetchers {
    broker: Arc<Broker>,
    fetchers: BTreeMap<Source, Handle>,
    followed: BTreeMap<Key, Source>,
}

impl ReplicaFetchers {
    #[must_use]
    pub fn new(broker: Arc<Broker>) -> Self {
        Self {
            broker,
            fetchers: BTreeMap::new(),
            followed: BTreeMap::new(),
        }
    }

    /// Partitions that change their leader, or begin or end to be followed. What is followed must
    /// have been assigned to its shard before.
    pub fn apply(&mut self, image: &ClusterImage, moves: Vec<Move>) {
        let mut changes: BTreeMap<Source, Vec<Change>> = BTreeMap::new();
        for Move { key, to } in moves {
            let before = self.followed.remove(&key);
            let after = to.map(|(leader, _)| (leader, self.index(key)));
            if let Some(source) = before.filter(|source| Some(*source) != after) {
                changes.entry(source).or_default().push(Change::Leave(key));
                self.count(source, -1);
            }
            if let (Some(source), Some((_, followed))) = (after, to) {
                self.followed.insert(key, source);
                changes
                    .entry(source)
                    .or_default()
                    .push(Change::Follow(key, followed));
                if before != after {
                    self.start(image, source);
                    self.count(source, 1);
                }
            }
        }
        for (source, changes) in changes {
            if let Some(handle) = self.fetchers.get(&source) {
                let _ = handle.changes.send(changes);
            }
        }
        self.fetchers.retain(|_, handle| handle.count > 0);
    }

    /// Tells the fetchers where the brokers of `image` are reached.
    pub fn follow_addresses(&mut self, image: &ClusterImage) {
        for ((id, _), handle) in &mut self.fetchers {
            if let Some(address) = address_of(&self.broker, image, *id)
                && handle.address != address
            {
                handle.address.clone_from(&address);
                let _ = handle.changes.send(vec![Change::Address(address)]);
            }
        }
    }

    fn index(&self, (_, partition): Key) -> usize {
        let count = self.broker.config.replication.fetchers.max(1);
        usize::try_from(partition).unwrap_or(0) % count
    }

    fn count(&mut self, source: Source, by: isize) {
        if let Some(handle) = self.fetchers.get_mut(&source) {
            handle.count = handle.count.saturating_add_signed(by);
        }
    }

    fn start(&mut self, image: &ClusterImage, source: Source) {
        if self.fetchers.contains_key(&source) {
            return;
        }
        let broker = &self.broker;
        let settings = &broker.config.replication;
        let limits = FetchLimits {
            wait_max: settings.fetch_wait_max,
            min_bytes: settings.fetch_min_bytes,
            max_bytes: settings.fetch_response_max_bytes,
            partition_max_bytes: settings.fetch_max_bytes,
            pause_longest: settings.fetch_backoff,
        };
        let address = address_of(broker, image, source.0).unwrap_or_default();
        let (sender, changes) = mpsc::unbounded_channel();
        let fetcher = Fetcher {
            broker: broker.clone(),
            source: source.0,
            address: address.clone(),
            plan: FetchPlan::new(broker.config.node_id, limits),
            changes,
            connection: None,
            failures: 0,
            random: broker.env.entropy.stream("replica-fetcher"),
        };
        let task = broker.env.spawn("replica-fetcher", fetcher.run());
        let handle = Handle {
            changes: sender,
            address,
            count: 0,
            _task: task,
        };
        self.fetchers.insert(source, handle);
    }
}

/// `host:port` by which brokers reach broker `id`.
fn address_of(broker: &Broker, image: &ClusterImage, id: BrokerId) -> Option<String> {
    let quorum = &broker.config.quorum;
    let record = image.broker(id)?;
    let named = |name: &String| {
        let mut endpoints = record.endpoints.iter();
        endpoints.find(|endpoint| endpoint.listener == *name)
    };
    let endpoint = named(&quorum.inter_broker_listener).or(record.endpoints.first())?;
    let host = match endpoint.host.as_str() {
        // It advertises whatever it was dialled by: as a controller it is dialled by this name.
        "" => &quorum.voters.iter().find(|voter| voter.id == id)?.host,
        host => host,
    };
    Some(match host.contains(':') {
        true => format!("[{host}]:{}", endpoint.port),
        false => format!("{host}:{}", endpoint.port),
    })
}
