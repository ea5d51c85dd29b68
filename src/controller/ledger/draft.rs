//! Changes of brokers and partitions that are being decided: later ones see the earlier.

use std::collections::BTreeMap;

use super::ControllerLedger;
use crate::config::{Durability, TopicConfig};
use crate::controller::image::TopicImage;
use crate::controller::next_state::{Leadership, Loss, Rules, next_state};
use crate::controller::record::{
    BrokerRecord, Cause, MetadataRecord, PartitionRecord, PartitionState,
};
use crate::types::{BrokerId, Timestamp, TopicId};

/// Changes on top of the image.
pub(super) struct Draft<'a> {
    ledger: &'a ControllerLedger,
    now: Timestamp,
    brokers: BTreeMap<BrokerId, BrokerRecord>,
    partitions: BTreeMap<(TopicId, i32), PartitionRecord>,
    settings: BTreeMap<TopicId, Settings>,
}

/// Settings of a topic that decide about its partitions.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    pub min_insync_replicas: usize,
    pub unclean_allowed: bool,
    pub durability: Durability,
}

/// A change of a partition that is asked for.
pub(super) struct Wanted {
    /// Replicas, in-sync replicas and so on as they shall be; epochs and leader follow.
    pub state: PartitionState,
    /// A replica that does not hold what it held.
    pub lost: Option<(BrokerId, Loss)>,
    pub leadership: Leadership,
    /// An unclean election is allowed, whatever the settings say.
    pub force: bool,
    pub by: Option<BrokerId>,
}

impl Wanted {
    /// `state` for `cause`, and no leader but where one is needed.
    pub(super) fn new(state: PartitionState, cause: Cause, by: Option<BrokerId>) -> Self {
        Self {
            state: PartitionState { cause, ..state },
            lost: None,
            leadership: Leadership::Stays,
            force: false,
            by,
        }
    }
}

impl<'a> Draft<'a> {
    pub(super) fn new(ledger: &'a ControllerLedger, now: Timestamp) -> Self {
        Self {
            ledger,
            now,
            brokers: BTreeMap::new(),
            partitions: BTreeMap::new(),
            settings: BTreeMap::new(),
        }
    }

    /// Brokers, then partitions.
    pub(super) fn into_records(self) -> Vec<MetadataRecord> {
        let brokers = self.brokers.into_values().map(MetadataRecord::Broker);
        let partitions = self.partitions.into_values();
        brokers
            .chain(partitions.map(MetadataRecord::PartitionChange))
            .collect()
    }

    pub(super) fn broker(&self, id: BrokerId) -> Option<&BrokerRecord> {
        let drafted = self.brokers.get(&id);
        drafted.or_else(|| self.ledger.image.broker(id))
    }

    pub(super) fn set_broker(&mut self, broker: BrokerRecord) {
        self.brokers.insert(broker.id, broker);
    }

    /// Whether `id` may lead, and may be taken into an ISR.
    pub(super) fn may_lead(&self, id: BrokerId) -> bool {
        self.broker(id).is_some_and(BrokerRecord::is_alive)
    }

    pub(super) fn state<'s>(
        &'s self,
        topic: &'s TopicImage,
        partition: i32,
    ) -> Option<&'s PartitionState> {
        match self.partitions.get(&(topic.id, partition)) {
            Some(drafted) => Some(&drafted.state),
            None => topic.partition(partition).map(|state| &**state),
        }
    }

    pub(super) fn settings(&mut self, topic: &TopicImage) -> Settings {
        let ledger = self.ledger;
        *self.settings.entry(topic.id).or_insert_with(|| {
            let overrides = ledger.image.topic_overrides(&topic.name);
            let config = TopicConfig::resolve(&ledger.broker_defaults(), &overrides);
            match config {
                Ok(config) => Settings {
                    min_insync_replicas: config.min_insync_replicas,
                    unclean_allowed: config.unclean_leader_election_enable,
                    durability: config.durability,
                },
                // Settings that cannot be read promise nothing.
                Err(_) => Settings {
                    min_insync_replicas: usize::MAX,
                    unclean_allowed: false,
                    durability: Durability::Replicated,
                },
            }
        })
    }

    /// Changes a partition as far as `wanted` comes to a change, and says whether it does.
    pub(super) fn change(&mut self, topic: &TopicImage, partition: i32, wanted: Wanted) -> bool {
        let settings = self.settings(topic);
        let Some(before) = self.state(topic, partition) else {
            return false;
        };
        let may_lead = |id| self.may_lead(id);
        let rules = Rules {
            may_lead: &may_lead,
            min_insync_replicas: settings.min_insync_replicas,
            unclean_allowed: settings.unclean_allowed || wanted.force,
        };
        let Wanted {
            state,
            lost,
            leadership,
            by,
            ..
        } = wanted;
        let Some(state) = next_state(before, state, lost, leadership, &rules) else {
            return false;
        };
        let record = PartitionRecord {
            topic_id: topic.id,
            partition,
            state,
            at: self.now,
            by,
            history: Vec::new(),
        };
        self.partitions.insert((topic.id, partition), record);
        true
    }

    /// Takes brokers that may lead nothing any more out of every ISR at once: while all of them
    /// were in sync, all of them had everything, so that none of them is eligible for the others.
    pub(super) fn remove_brokers(&mut self, ids: &[BrokerId], cause: Cause) {
        let ledger = self.ledger;
        for topic in ledger.image.topics() {
            for partition in (0..).take(topic.partitions.len()) {
                let Some(state) = self.state(topic, partition) else {
                    continue;
                };
                let is_gone = |one: &BrokerId| ids.contains(one);
                let by = state.isr.iter().copied().find(is_gone);
                if by.is_none() {
                    continue;
                }
                let mut wanted = Wanted::new(state.clone(), cause, by);
                wanted.state.isr.retain(|one| !is_gone(one));
                self.change(topic, partition, wanted);
            }
        }
    }

    /// Takes broker `id`, which may lead nothing any more, out of every ISR, and out of what it is
    /// no longer good for after `loss`.
    pub(super) fn remove_broker(&mut self, id: BrokerId, cause: Cause, loss: Loss) {
        let ledger = self.ledger;
        for topic in ledger.image.topics() {
            for partition in (0..).take(topic.partitions.len()) {
                let Some(state) = self.state(topic, partition) else {
                    continue;
                };
                let lists = [&state.isr, &state.elr, &state.last_known_elr];
                if !lists.iter().any(|list| list.contains(&id)) {
                    continue;
                }
                let mut wanted = Wanted::new(state.clone(), cause, Some(id));
                wanted.state.isr.retain(|one| *one != id);
                if self.is_lost(topic, loss) {
                    wanted.lost = Some((id, loss));
                }
                if loss == Loss::Everything {
                    wanted.state.last_known_elr.retain(|one| *one != id);
                }
                self.change(topic, partition, wanted);
            }
        }
    }

    /// Whether a replica of `topic` lacks something that counts after `loss`.
    fn is_lost(&mut self, topic: &TopicImage, loss: Loss) -> bool {
        if crate::mutant!("last-replica-trusted") {
            return false;
        }
        match loss {
            Loss::Nothing => false,
            Loss::Unsynced => self.settings(topic).durability != Durability::Fsync,
            Loss::Everything => true,
        }
    }

    /// Elects leaders of partitions that have none, now that broker `id` is there.
    pub(super) fn add_broker(&mut self, id: BrokerId) {
        let ledger = self.ledger;
        for topic in ledger.image.topics() {
            for partition in (0..).take(topic.partitions.len()) {
                let Some(state) = self.state(topic, partition) else {
                    continue;
                };
                if state.leader.is_none() && state.replicas.contains(&id) {
                    let wanted = Wanted::new(state.clone(), Cause::BrokerStarted, Some(id));
                    self.change(topic, partition, wanted);
                }
            }
        }
    }
}
