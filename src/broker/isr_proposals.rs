//! Carries what leaders here want of the controller: other in-sync replicas, or to lead no more.
//!
//! What comes while a request is under way goes out together in the next. Every proposal is
//! answered; one whose outcome is not known is answered so, and its partition proposes again. A
//! resignation is repeated until the metadata has another leader or a newer epoch. What the
//! controller has nothing to say of, a log that cannot be used, is passed on to whoever hosts it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Broker;
use super::hosting::assignment;
use crate::controller::{
    AlterPartition, ClusterImage, IsrChange, IsrChanged, Refusal, Reply, Request,
};
use crate::replication::{Command, IsrOutcome, IsrProposal, ReplicationEvent, UnusableLog};
use crate::types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, TopicId};

/// Partitions in one request.
const PROPOSALS_MAX: usize = 1000;

/// Pause before a resignation is repeated.
const RESIGN_PAUSE: Duration = Duration::from_millis(250);

type Key = (TopicId, i32);

/// Partitions that this broker cannot lead in these epochs.
type Resignations = BTreeMap<Key, LeaderEpoch>;

/// Runs until the shards are gone.
pub async fn run(
    broker: Arc<Broker>,
    mut events: mpsc::UnboundedReceiver<ReplicationEvent>,
    unusable: mpsc::UnboundedSender<UnusableLog>,
) {
    let mut batch = Vec::new();
    let mut resignations = Resignations::new();
    loop {
        let received = match resignations.is_empty() {
            true => Ok(events.recv_many(&mut batch, PROPOSALS_MAX).await),
            false => {
                let more = events.recv_many(&mut batch, PROPOSALS_MAX);
                broker.env.timeout(RESIGN_PAUSE, more).await
            }
        };
        if received == Ok(0) {
            return;
        }
        let mut proposals = Vec::new();
        for event in batch.drain(..) {
            match event {
                ReplicationEvent::Isr(proposal) => proposals.push(proposal),
                ReplicationEvent::LogUnusable(log) => {
                    // Nobody listens only while the broker stops.
                    let _ = unusable.send(log);
                }
                ReplicationEvent::StorageFailed {
                    topic_id,
                    partition,
                    leader_epoch,
                    ..
                } => {
                    resignations.insert((topic_id, partition), leader_epoch);
                }
            }
        }
        let image = broker.controller.image();
        let me = broker.config.node_id;
        resignations.retain(|key, epoch| is_held(&image, me, *key, *epoch));
        propose(&broker, &proposals, &resignations).await;
    }
}

/// Whether `me` still is to lead the partition in this epoch. An epoch that the image has not
/// reached is on its way.
fn is_held(image: &ClusterImage, me: BrokerId, key: Key, epoch: LeaderEpoch) -> bool {
    let topic = image.topic_by_id(key.0);
    let state = topic.and_then(|topic| topic.partition(key.1));
    state.is_some_and(|state| {
        state.leader_epoch < epoch || (state.leader_epoch == epoch && state.leader == Some(me))
    })
}

async fn propose(broker: &Broker, proposals: &[IsrProposal], resignations: &Resignations) {
    let resigned = resignations.iter().take(PROPOSALS_MAX);
    let changes = resigned
        .map(resignation)
        .chain(proposals.iter().map(change));
    let changes: Vec<IsrChange> = changes.collect();
    if changes.is_empty() {
        return;
    }
    let request = AlterPartition {
        broker: broker.config.node_id,
        broker_epoch: BrokerEpoch(broker.broker_epoch.load(Ordering::Acquire)),
        changes,
    };
    match broker
        .controller
        .ask(Request::AlterPartition(request))
        .await
    {
        Ok(Reply::AlterPartition(results)) => {
            let resigned = resignations.len().min(PROPOSALS_MAX);
            let mut results = results.into_iter().skip(resigned);
            for proposal in proposals {
                let result = results.next();
                let outcome = result.map_or(IsrOutcome::Unknown, |one| outcome(broker, one));
                answer(broker, proposal, outcome);
            }
        }
        Ok(other) => {
            tracing::error!(?other, "the controller answered another question");
            for proposal in proposals {
                answer(broker, proposal, IsrOutcome::Unknown);
            }
        }
        Err(refusal) => {
            tracing::debug!(%refusal, "proposed in-sync replicas were not taken");
            for proposal in proposals {
                answer(broker, proposal, all_refused(&refusal));
            }
        }
    }
}

/// No in-sync replicas: the leader cannot lead.
fn resignation((key, leader_epoch): (&Key, &LeaderEpoch)) -> IsrChange {
    tracing::trace!(target: "klamm::probe", name = "leader-resigned");
    IsrChange {
        topic_id: key.0,
        partition: key.1,
        leader_epoch: *leader_epoch,
        partition_epoch: -1,
        isr: Vec::new(),
        recovering: false,
    }
}

fn change(proposal: &IsrProposal) -> IsrChange {
    IsrChange {
        topic_id: proposal.topic_id,
        partition: proposal.partition,
        leader_epoch: proposal.leader_epoch,
        partition_epoch: proposal.partition_epoch,
        isr: proposal.isr.clone(),
        recovering: proposal.recovering,
    }
}

/// What a refusal of the whole request says of each proposal.
fn all_refused(refusal: &Refusal) -> IsrOutcome {
    match refusal.code {
        // Checked before anything is done.
        ErrorCode::StaleBrokerEpoch | ErrorCode::InvalidRequest => {
            IsrOutcome::Refused(refusal.code)
        }
        _ => IsrOutcome::Unknown,
    }
}

fn outcome(broker: &Broker, (topic_id, partition, result): IsrChanged) -> IsrOutcome {
    match result {
        Ok(state) => {
            let table = broker.partitions.table();
            match table.topic_by_id(topic_id) {
                Some(topic) => {
                    let me = broker.config.node_id;
                    IsrOutcome::Accepted(assignment(me, &state, &topic.config))
                }
                None => IsrOutcome::Refused(ErrorCode::UnknownTopicId),
            }
        }
        Err(refusal) => {
            tracing::trace!(target: "klamm::probe", name = "isr-proposal-refused");
            tracing::debug!(%topic_id, partition, %refusal, "proposed in-sync replicas refused");
            IsrOutcome::Refused(refusal.code)
        }
    }
}

fn answer(broker: &Broker, proposal: &IsrProposal, outcome: IsrOutcome) {
    let shard = broker.partitions.shard_of(proposal.slot);
    let _ = broker.partitions.shards()[shard].submit(Command::IsrAnswered {
        slot: proposal.slot,
        leader_epoch: proposal.leader_epoch,
        partition_epoch: proposal.partition_epoch,
        outcome,
    });
}
