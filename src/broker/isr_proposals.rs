//! Carries what leaders here want of the controller: other in-sync replicas, or to lead no more.
//!
//! Proposals that come while a request is under way go out together in the next. Every proposal is
//! answered; one whose outcome is not known is answered so, and its partition proposes again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use super::Broker;
use super::hosting::assignment;
use crate::controller::{AlterPartition, IsrChange, IsrChanged, Refusal, Reply, Request};
use crate::replication::{Command, IsrOutcome, IsrProposal, ReplicationEvent};
use crate::types::{BrokerEpoch, ErrorCode, LeaderEpoch, TopicId};

/// Partitions in one request.
const PROPOSALS_MAX: usize = 1000;

/// Runs until the shards are gone.
pub async fn run(broker: Arc<Broker>, mut events: mpsc::UnboundedReceiver<ReplicationEvent>) {
    let mut batch = Vec::new();
    while events.recv_many(&mut batch, PROPOSALS_MAX).await > 0 {
        let mut proposals = Vec::new();
        for event in batch.drain(..) {
            match event {
                ReplicationEvent::Isr(proposal) => proposals.push(proposal),
                ReplicationEvent::StorageFailed {
                    topic_id,
                    partition,
                    leader_epoch,
                    ..
                } => resign(&broker, (topic_id, partition), leader_epoch).await,
            }
        }
        if !proposals.is_empty() {
            propose(&broker, &proposals).await;
        }
    }
}

async fn propose(broker: &Broker, proposals: &[IsrProposal]) {
    let broker_epoch = BrokerEpoch(broker.broker_epoch.load(Ordering::Acquire));
    let request = AlterPartition {
        broker: broker.config.node_id,
        broker_epoch,
        changes: proposals.iter().map(change).collect(),
    };
    let answered = broker
        .controller
        .ask(Request::AlterPartition(request))
        .await;
    let mut results = match answered {
        Ok(Reply::AlterPartition(results)) => results,
        Ok(other) => {
            tracing::error!(?other, "the controller answered another question");
            Vec::new()
        }
        Err(refusal) => {
            tracing::debug!(%refusal, "proposed in-sync replicas were not taken");
            let outcome = all_refused(&refusal);
            for proposal in proposals {
                answer(broker, proposal, outcome.clone());
            }
            return;
        }
    };
    for proposal in proposals {
        let key = (proposal.topic_id, proposal.partition);
        let at = results
            .iter()
            .position(|(topic, partition, _)| (*topic, *partition) == key);
        let outcome = match at {
            Some(at) => outcome(broker, results.swap_remove(at)),
            None => IsrOutcome::Unknown,
        };
        answer(broker, proposal, outcome);
    }
}

/// Asks for in-sync replicas without this broker, whose log cannot be used, so that one of the
/// others leads.
async fn resign(broker: &Broker, key: (TopicId, i32), leader_epoch: LeaderEpoch) {
    let image = broker.controller.image();
    let me = broker.config.node_id;
    let Some(topic) = image.topic_by_id(key.0) else {
        return;
    };
    let Some(state) = topic.partition(key.1) else {
        return;
    };
    if state.leader != Some(me) || state.leader_epoch != leader_epoch {
        return;
    }
    let others = state.isr.iter().filter(|id| **id != me);
    let isr: Vec<_> = others
        .filter_map(|id| image.broker(*id).map(|broker| (*id, broker.epoch)))
        .collect();
    if isr.is_empty() {
        tracing::warn!(
            topic = %topic.name, partition = key.1,
            "nobody else is in sync: the partition cannot be led until its storage is back"
        );
        return;
    }
    tracing::trace!(target: "klamm::probe", name = "leader-resigned");
    let change = IsrChange {
        topic_id: key.0,
        partition: key.1,
        leader_epoch,
        partition_epoch: state.partition_epoch,
        isr,
        recovering: state.recovering,
    };
    let request = AlterPartition {
        broker: me,
        broker_epoch: BrokerEpoch(broker.broker_epoch.load(Ordering::Acquire)),
        changes: vec![change],
    };
    let answered = broker
        .controller
        .ask(Request::AlterPartition(request))
        .await;
    let refused = match answered {
        Ok(Reply::AlterPartition(results)) => results.into_iter().find_map(|one| one.2.err()),
        Ok(_) => None,
        Err(refusal) => Some(refusal),
    };
    if let Some(refusal) = refused {
        tracing::warn!(topic = %topic.name, partition = key.1, %refusal, "not resigned");
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
