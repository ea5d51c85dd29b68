//! Founding the cluster and registering brokers.

use super::{ControllerLedger, Outcome};
use crate::config::TopicConfig;
use crate::controller::election::elect;
use crate::controller::image::TopicImage;
use crate::controller::record::{
    BrokerRecord, Cause, MetadataRecord, PartitionRecord, PartitionState,
};
use crate::controller::request::{Refusal, RegisterBroker, Reply};
use crate::types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Uuid};

impl ControllerLedger {
    pub(super) fn found(&self, cluster_id: Uuid) -> Outcome {
        match self.image.cluster_id() {
            None => {
                let record = MetadataRecord::Cluster { cluster_id };
                Ok((vec![record], Reply::Found(cluster_id)))
            }
            Some(known) if known == cluster_id => Ok((Vec::new(), Reply::Found(known))),
            Some(known) => Err(Refusal::new(
                ErrorCode::InconsistentClusterId,
                format!("the metadata is of cluster {known}, not {cluster_id}"),
            )),
        }
    }

    pub(super) fn register_broker(&self, request: &RegisterBroker) -> Outcome {
        if request.id.0 < 0 || request.endpoints.is_empty() {
            return Err(Refusal::new(
                ErrorCode::InvalidRegistration,
                format!("broker {} has no id or no listener", request.id),
            ));
        }
        if let Some(known) = self.image.broker(request.id)
            && known.incarnation == request.incarnation
        {
            return Ok((Vec::new(), Reply::RegisterBroker(known.epoch)));
        }
        let epoch = BrokerEpoch(self.image.last_broker_epoch().0 + 1);
        let mut records = vec![MetadataRecord::Broker(BrokerRecord {
            id: request.id,
            epoch,
            incarnation: request.incarnation,
            endpoints: request.endpoints.clone(),
            rack: request.rack.clone(),
            fenced: false,
            shutting_down: false,
        })];
        for topic in self.image.topics() {
            self.elect_after_start(topic, request, &mut records);
        }
        Ok((records, Reply::RegisterBroker(epoch)))
    }

    /// New leaders for the partitions of `topic` that the start of a broker changes.
    fn elect_after_start(
        &self,
        topic: &TopicImage,
        request: &RegisterBroker,
        records: &mut Vec<MetadataRecord>,
    ) {
        let mut unclean_allowed = None;
        for (partition, state) in (0..).zip(&topic.partitions) {
            let cause = match state.leader {
                Some(leader) if leader == request.id && !request.after_clean_shutdown => {
                    Cause::LeaderRestarted
                }
                None if state.replicas.contains(&request.id) => Cause::BrokerStarted,
                _ => continue,
            };
            let unclean_allowed =
                *unclean_allowed.get_or_insert_with(|| self.may_elect_uncleanly(&topic.name));
            records.extend(
                self.elected(state, request.id, unclean_allowed, cause)
                    .map(|state| {
                        MetadataRecord::PartitionChange(PartitionRecord {
                            topic_id: topic.id,
                            partition,
                            state,
                        })
                    }),
            );
        }
    }

    fn may_elect_uncleanly(&self, topic: &str) -> bool {
        let overrides = self.image.topic_overrides(topic);
        TopicConfig::resolve(&self.broker_defaults(), &overrides)
            .is_ok_and(|config| config.unclean_leader_election_enable)
    }

    /// The state after an election in which `started` takes part; `None` if nobody can lead and
    /// nobody did.
    fn elected(
        &self,
        state: &PartitionState,
        started: BrokerId,
        unclean_allowed: bool,
        cause: Cause,
    ) -> Option<PartitionState> {
        let is_alive = |id| id == started || self.image.alive().any(|alive| alive == id);
        let election = elect(state, is_alive, unclean_allowed);
        if election.leader.is_none() && state.leader.is_none() {
            return None;
        }
        Some(PartitionState {
            leader: election.leader,
            isr: election.isr,
            elr: if election.unclean {
                Vec::new()
            } else {
                state.elr.clone()
            },
            leader_epoch: LeaderEpoch(state.leader_epoch.0 + 1),
            partition_epoch: state.partition_epoch + 1,
            recovering: election.unclean,
            cause: if election.unclean {
                Cause::UncleanElection
            } else {
                cause
            },
            ..state.clone()
        })
    }
}
