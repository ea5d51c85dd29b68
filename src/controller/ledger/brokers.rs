//! Founding the cluster, and a broker's life: it registers, comes alive, stops or dies, leaves.
//!
//! A registration is of one run of a process. In a cluster it begins fenced, and a heartbeat that
//! shows it caught up brings it alive; by then it knows what it no longer leads. Whoever is fenced
//! or stopping is in no ISR and leads nothing.

use super::draft::Draft;
use super::{ControllerLedger, Outcome, Situation};
use crate::controller::next_state::{Leadership, Loss};
use crate::controller::record::{BrokerRecord, Cause, MetadataRecord};
use crate::controller::request::{BrokerHeartbeat, HeartbeatReply, Refusal, RegisterBroker, Reply};
use crate::types::{BrokerEpoch, BrokerId, ErrorCode, Timestamp, Uuid};

use super::draft::Wanted;

impl ControllerLedger {
    pub(super) fn found(&self, cluster_id: Uuid) -> Outcome {
        match self.image.cluster_id() {
            None => {
                let mut records = vec![MetadataRecord::Cluster { cluster_id }];
                records.extend(self.settings_of_all());
                Ok((records, Reply::Found(cluster_id)))
            }
            Some(known) if known == cluster_id => Ok((Vec::new(), Reply::Found(known))),
            Some(known) => Err(Refusal::new(
                ErrorCode::InconsistentClusterId,
                format!("the metadata is of cluster {known}, not {cluster_id}"),
            )),
        }
    }

    pub(super) fn register_broker(&self, now: Timestamp, request: &RegisterBroker) -> Outcome {
        let id = request.id;
        if id.0 < 0 || request.endpoints.is_empty() {
            return Err(Refusal::new(
                ErrorCode::InvalidRegistration,
                format!("broker {id} has no id or no listener"),
            ));
        }
        let known = self.image.broker(id);
        if let Some(known) = known
            && known.incarnation == request.incarnation
            && !crate::mutant!("same-run-new-epoch")
        {
            return Ok((Vec::new(), Reply::RegisterBroker(known.epoch)));
        }
        let epoch = self.next_broker_epoch();
        let broker = BrokerRecord {
            id,
            epoch,
            incarnation: request.incarnation,
            endpoints: request.endpoints.clone(),
            rack: request.rack.clone(),
            directories: request.directories.clone(),
            fenced: self.is_cluster,
            shutting_down: false,
        };
        let mut draft = Draft::new(self, now);
        draft.set_broker(broker);
        match self.is_cluster {
            true => {
                let loss = self.loss(known, request)?;
                draft.remove_broker(id, Cause::BrokerRestarted, loss);
            }
            false => self.elect_after_start(request, &mut draft),
        }
        Ok((draft.into_records(), Reply::RegisterBroker(epoch)))
    }

    /// Larger than every epoch so far, and, as in Kafka, an offset: whoever has replayed up to it
    /// knows of the registration.
    fn next_broker_epoch(&self) -> BrokerEpoch {
        let end = self.image.end().0;
        BrokerEpoch(self.image.last_broker_epoch().0.max(end) + 1)
    }

    /// What the broker may lack that was `known` before. A broker that may still be alive is not
    /// replaced: but for one with the same directories, which no two processes can hold.
    fn loss(
        &self,
        known: Option<&BrokerRecord>,
        request: &RegisterBroker,
    ) -> Result<Loss, Refusal> {
        let Some(known) = known else {
            return Ok(Loss::Everything);
        };
        let has = |id: &Uuid| request.directories.contains(id);
        let has_all = known.directories.iter().all(has);
        let is_same_place = has_all && !known.directories.is_empty();
        if !known.fenced && !is_same_place {
            return Err(Refusal::new(
                ErrorCode::DuplicateBrokerRegistration,
                format!(
                    "broker {} is alive with other data directories; give each node an id of \
                     its own, or try again once that broker is gone",
                    request.id
                ),
            ));
        }
        Ok(match (has_all, request.after_clean_shutdown) {
            (false, _) => Loss::Everything,
            (true, false) => Loss::Unsynced,
            (true, true) => Loss::Nothing,
        })
    }

    /// For a node by itself: what it leads goes on in a new epoch if it did not stop in order.
    fn elect_after_start(&self, request: &RegisterBroker, draft: &mut Draft<'_>) {
        let id = request.id;
        for topic in self.image.topics() {
            for (partition, state) in (0..).zip(&topic.partitions) {
                let (cause, leadership) = match state.leader {
                    Some(leader) if leader == id && !request.after_clean_shutdown => {
                        (Cause::LeaderRestarted, Leadership::Anew)
                    }
                    None if state.replicas.contains(&id) => {
                        (Cause::BrokerStarted, Leadership::Stays)
                    }
                    _ => continue,
                };
                let mut wanted = Wanted::new((**state).clone(), cause, Some(id));
                wanted.leadership = leadership;
                draft.change(topic, partition, wanted);
            }
        }
    }

    /// The registered broker `id`, if it is the run with `epoch`.
    pub(super) fn check_broker_epoch(
        &self,
        id: BrokerId,
        epoch: BrokerEpoch,
    ) -> Result<&BrokerRecord, Refusal> {
        let Some(broker) = self.image.broker(id) else {
            return Err(Refusal::new(
                ErrorCode::BrokerIdNotRegistered,
                format!("broker {id} is not registered"),
            ));
        };
        match broker.epoch == epoch {
            true => Ok(broker),
            false => Err(Refusal::new(
                ErrorCode::StaleBrokerEpoch,
                format!(
                    "broker {id} is registered with epoch {}, not {}",
                    broker.epoch.0, epoch.0
                ),
            )),
        }
    }

    pub(super) fn heartbeat(&self, now: Situation, request: &BrokerHeartbeat) -> Outcome {
        let broker = self.check_broker_epoch(request.id, request.epoch)?;
        let is_caught_up = request.metadata_end.0 >= broker.epoch.0;
        let mut draft = Draft::new(self, now.wall);
        let mut reply = HeartbeatReply {
            is_caught_up,
            is_fenced: broker.fenced,
            should_shut_down: false,
            metadata_end: self.image.end(),
        };
        if request.wants_shut_down {
            reply.should_shut_down = self.stop(&mut draft, broker, now.others_know);
            reply.is_fenced |= reply.should_shut_down;
        } else if request.wants_fence {
            self.fence(&mut draft, &[broker]);
            reply.is_fenced = true;
        } else if broker.fenced && is_caught_up {
            tracing::trace!(target: "klamm::probe", name = "broker-unfenced");
            draft.set_broker(BrokerRecord {
                fenced: false,
                shutting_down: false,
                ..broker.clone()
            });
            draft.add_broker(broker.id);
            reply.is_fenced = false;
        }
        Ok((draft.into_records(), Reply::Heartbeat(reply)))
    }

    /// Takes everything from a broker that wants to stop, and says whether it may: all others must
    /// know first that it leads nothing.
    fn stop(&self, draft: &mut Draft<'_>, broker: &BrokerRecord, others_know: bool) -> bool {
        if broker.fenced {
            return true;
        }
        let may_stop = broker.shutting_down && others_know;
        draft.set_broker(BrokerRecord {
            fenced: may_stop,
            shutting_down: true,
            ..broker.clone()
        });
        if !broker.shutting_down {
            tracing::trace!(target: "klamm::probe", name = "broker-shutting-down");
            draft.remove_broker(broker.id, Cause::BrokerShutDown, Loss::Nothing);
        }
        may_stop
    }

    /// Fences brokers as one. Kafka takes them away one by one, so that of two that were all in
    /// sync, where one is enough, only the last stays eligible, although both have everything.
    fn fence(&self, draft: &mut Draft<'_>, brokers: &[&BrokerRecord]) {
        let alive = brokers.iter().filter(|broker| !broker.fenced);
        let alive: Vec<&BrokerRecord> = alive.copied().collect();
        for broker in &alive {
            tracing::trace!(target: "klamm::probe", name = "broker-fenced");
            draft.set_broker(BrokerRecord {
                fenced: true,
                ..(*broker).clone()
            });
        }
        let ids: Vec<BrokerId> = alive.iter().map(|broker| broker.id).collect();
        draft.remove_brokers(&ids, Cause::BrokerFenced);
    }

    /// Fences the brokers whose runs with these epochs are over. Others are left alone: a later run
    /// is not dead because an earlier one is.
    #[must_use]
    pub fn fence_brokers(
        &self,
        now: Timestamp,
        brokers: &[(BrokerId, BrokerEpoch)],
    ) -> Vec<MetadataRecord> {
        let mut draft = Draft::new(self, now);
        let mut fenced = Vec::new();
        for (id, epoch) in brokers {
            fenced.extend(self.check_broker_epoch(*id, *epoch));
        }
        self.fence(&mut draft, &fenced);
        draft.into_records()
    }

    pub(super) fn unregister_broker(&self, id: BrokerId) -> Outcome {
        let Some(broker) = self.image.broker(id) else {
            return Err(Refusal::new(
                ErrorCode::BrokerIdNotRegistered,
                format!("broker {id} is not registered"),
            ));
        };
        if !broker.fenced {
            return Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("broker {id} is alive; stop it before it is unregistered"),
            ));
        }
        let epoch = broker.epoch;
        let record = MetadataRecord::BrokerRemoved { id, epoch };
        Ok((vec![record], Reply::UnregisterBroker))
    }
}
