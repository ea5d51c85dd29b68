//! The controller's decisions: a request in, records and an answer out.
//!
//! [`ControllerLedger::handle`] changes nothing; [`ControllerLedger::replay`] is the only thing
//! that does. An answer holds once its records are committed and replayed.

mod brokers;
mod configs;
mod draft;
mod elections;
mod isr;
mod links;
mod partitions;
mod reassignments;
mod topics;

use super::delta::ImageDelta;
use super::image::{ClusterImage, ReplayError};
use super::quorum::Committed;
use super::record::MetadataRecord;
use super::request::{ProducerIdBlock, Refusal, Reply, Request};
use crate::config::BrokerDefaults;
use crate::env::Rng;
use crate::types::{BrokerId, ErrorCode, ProducerId, Timestamp};

/// Producer ids given to a broker at a time, as Kafka does.
const PRODUCER_ID_BLOCK: i64 = 1000;

/// Most new partitions one request may ask for, as in Kafka.
const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

/// The state of the cluster and the rules by which it changes.
#[derive(Clone, Debug)]
pub struct ControllerLedger {
    image: ClusterImage,
    node: BrokerId,
    defaults: BrokerDefaults,
    /// Whether there are other nodes: brokers then begin fenced, and show that they are alive.
    is_cluster: bool,
}

/// What a decision depends on that is not recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Situation {
    /// Written down as the time of what changes.
    pub wall: Timestamp,
    /// The other brokers alive have replayed that the one who asks is about to stop.
    pub others_know: bool,
}

/// Records to commit and the answer for then; or a refusal of the whole request.
type Outcome = Result<(Vec<MetadataRecord>, Reply), Refusal>;

impl ControllerLedger {
    /// An empty cluster, seen from `node`, which was started with `defaults`.
    #[must_use]
    pub fn new(node: BrokerId, defaults: BrokerDefaults) -> Self {
        Self {
            image: ClusterImage::default(),
            node,
            defaults,
            is_cluster: false,
        }
    }

    /// An empty cluster of several nodes, seen from `node`, which was started with `defaults`.
    #[must_use]
    pub fn in_cluster(node: BrokerId, defaults: BrokerDefaults) -> Self {
        Self {
            is_cluster: true,
            ..Self::new(node, defaults)
        }
    }

    #[must_use]
    pub fn node(&self) -> BrokerId {
        self.node
    }

    #[must_use]
    pub fn image(&self) -> &ClusterImage {
        &self.image
    }

    /// What `request` comes to. `entropy` gives new ids and where placement begins.
    pub fn handle(&self, entropy: &mut Rng, now: Situation, request: &Request) -> Outcome {
        if self.image.cluster_id().is_none() && !matches!(request, Request::Found { .. }) {
            return Err(Refusal::new(
                ErrorCode::BrokerNotAvailable,
                "the cluster is not founded yet; try again",
            ));
        }
        let wall = now.wall;
        match request {
            Request::Found { cluster_id } => self.found(*cluster_id),
            Request::RegisterBroker(request) => self.register_broker(wall, request),
            Request::CreateTopics(request) => Ok(self.create_topics(entropy, wall, request)),
            Request::DeleteTopics(request) => Ok(self.delete_topics(request)),
            Request::CreatePartitions(request) => {
                Ok(self.create_partitions(entropy, wall, request))
            }
            Request::IncrementalAlterConfigs(request) => {
                self.with_consequences(wall, self.incremental_alter_configs(request))
            }
            Request::AlterConfigs(request) => {
                self.with_consequences(wall, self.alter_configs(request))
            }
            Request::AllocateProducerIds { broker } => self.allocate_producer_ids(*broker),
            Request::Heartbeat(request) => self.heartbeat(now, request),
            Request::FenceBroker { id, epoch } => {
                let records = self.fence_brokers(wall, &[(*id, *epoch)]);
                Ok((records, Reply::FenceBroker))
            }
            Request::UnregisterBroker { id } => self.unregister_broker(*id),
            Request::AlterPartition(request) => self.alter_partition(wall, request),
            Request::ElectLeaders(request) => self.elect_leaders(wall, request),
            Request::AlterReassignments(request) => self.alter_reassignments(wall, request),
            Request::CreateLink(request) => self.create_link(request),
            Request::AlterLink(request) => self.alter_link(request),
            Request::DeleteLink(request) => self.delete_link(wall, request),
            Request::LearnSource(request) => self.learn_source(request),
            Request::EnterEpochs(request) => self.enter_epochs(request),
            Request::FailMirror(request) => self.fail_mirror(request),
            Request::PromoteMirrors(request) => self.promote_mirrors(wall, request),
        }
    }

    /// Takes over what was committed and says what it changed.
    pub fn replay(&mut self, committed: &Committed) -> Result<ImageDelta, ReplayError> {
        let (image, delta) = match committed {
            Committed::Batch { end, records } => self.image.replay(*end, records)?,
            Committed::Snapshot { end, records } => {
                let image = ClusterImage::from_snapshot(*end, records)?;
                let delta = ImageDelta::between(&self.image, &image);
                (image, delta)
            }
            Committed::Leader { .. } => return Ok(ImageDelta::default()),
        };
        self.image = image;
        Ok(delta)
    }

    /// The broker settings in force on this node, with what administrators changed.
    fn broker_defaults(&self) -> BrokerDefaults {
        self.image.broker_defaults(&self.defaults, self.node)
    }

    /// A number among the broker settings in force.
    fn number(&self, name: &str) -> i64 {
        let value = self.defaults.effective(name);
        value
            .and_then(|(value, _)| value.trim().parse().ok())
            .unwrap_or(1)
    }

    fn is_enabled(&self, name: &str) -> bool {
        let value = self.defaults.effective(name);
        value.is_some_and(|(value, _)| value.trim().eq_ignore_ascii_case("true"))
    }

    fn allocate_producer_ids(&self, broker: BrokerId) -> Outcome {
        let start = self.image.next_producer_id();
        let next = start.0.checked_add(PRODUCER_ID_BLOCK).ok_or_else(|| {
            Refusal::new(
                ErrorCode::UnknownServerError,
                "every producer id was given out",
            )
        })?;
        let next = match crate::mutant!("producer-ids-given-again") {
            true => start,
            false => ProducerId(next),
        };
        let record = MetadataRecord::ProducerIds { next, broker };
        let block = ProducerIdBlock {
            start,
            count: PRODUCER_ID_BLOCK,
        };
        Ok((vec![record], Reply::AllocateProducerIds(block)))
    }
}
