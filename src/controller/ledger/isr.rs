//! In-sync replicas as the leaders propose them (KIP-497, KIP-841, KIP-903).
//!
//! A proposal takes effect only on the very state it was made for: same leader, same leader epoch,
//! same partition epoch. And only brokers that are alive in the run in which the leader saw them in
//! sync come into an ISR: what a later run of the same broker holds is not known yet.

use super::draft::{Draft, Wanted};
use super::{ControllerLedger, Outcome};
use crate::config::Durability;
use crate::controller::image::TopicImage;
use crate::controller::next_state::{Leadership, Loss};
use crate::controller::record::{Cause, PartitionState};
use crate::controller::request::{AlterPartition, IsrChange, Refusal, Reply};
use crate::types::{BrokerEpoch, BrokerId, ErrorCode, Timestamp};

fn refuse<T>(code: ErrorCode, text: String) -> Result<T, Refusal> {
    Err(Refusal::new(code, text))
}

impl ControllerLedger {
    pub(super) fn alter_partition(&self, now: Timestamp, request: &AlterPartition) -> Outcome {
        self.check_broker_epoch(request.broker, request.broker_epoch)?;
        let mut draft = Draft::new(self, now);
        let mut results = Vec::with_capacity(request.changes.len());
        for change in &request.changes {
            let result = self.alter_isr(&mut draft, request.broker, change);
            results.push((change.topic_id, change.partition, result));
        }
        Ok((draft.into_records(), Reply::AlterPartition(results)))
    }

    fn alter_isr(
        &self,
        draft: &mut Draft<'_>,
        proposer: BrokerId,
        change: &IsrChange,
    ) -> Result<PartitionState, Refusal> {
        let Some(topic) = self.image.topic_by_id(change.topic_id) else {
            let text = format!("there is no topic with id {}", change.topic_id);
            return refuse(ErrorCode::UnknownTopicId, text);
        };
        let partition = change.partition;
        let Some(state) = draft.state(topic, partition) else {
            let text = format!("topic '{}' has no partition {partition}", topic.name);
            return refuse(ErrorCode::UnknownTopicOrPartition, text);
        };
        let state = state.clone();
        if change.isr.is_empty() {
            check_leader(topic, &state, proposer, change)?;
            return Ok(resign(draft, topic, partition, state, proposer));
        }
        check_epochs(topic, &state, proposer, change)?;
        check_replicas(topic, &state, change)?;
        check_alive(draft, change)?;
        let mut isr: Vec<BrokerId> = change.isr.iter().map(|(id, _)| *id).collect();
        isr.sort_by_key(|id| state.replicas.iter().position(|one| one == id));
        let mut wanted = Wanted::new(state.clone(), Cause::IsrChanged, Some(proposer));
        wanted.state.recovering = change.recovering;
        // The order of the ISR means nothing.
        if isr.len() != state.isr.len() || isr.iter().any(|id| !state.isr.contains(id)) {
            wanted.state.isr = isr;
        }
        draft.change(topic, partition, wanted);
        Ok(draft.state(topic, partition).cloned().unwrap_or(state))
    }
}

/// Whether the proposal is of the leader, for the state as it is. An epoch from the future means
/// that another controller has become active.
fn check_epochs(
    topic: &TopicImage,
    state: &PartitionState,
    proposer: BrokerId,
    change: &IsrChange,
) -> Result<(), Refusal> {
    check_leader(topic, state, proposer, change)?;
    let of = format!("partition {} of topic '{}'", change.partition, topic.name);
    if change.partition_epoch > state.partition_epoch {
        let text = format!("{of} has not reached this epoch here; a newer controller may lead");
        return refuse(ErrorCode::NotController, text);
    }
    if change.partition_epoch < state.partition_epoch && !crate::mutant!("isr-without-compare") {
        let (is, asked) = (state.partition_epoch, change.partition_epoch);
        let text = format!("{of} is in partition epoch {is}, not {asked}");
        return refuse(ErrorCode::InvalidUpdateVersion, text);
    }
    Ok(())
}

fn check_leader(
    topic: &TopicImage,
    state: &PartitionState,
    proposer: BrokerId,
    change: &IsrChange,
) -> Result<(), Refusal> {
    let of = format!("partition {} of topic '{}'", change.partition, topic.name);
    let (asked, is) = (change.leader_epoch, state.leader_epoch);
    if asked < is {
        let text = format!("{of} is in leader epoch {}, not {}", is.0, asked.0);
        return refuse(ErrorCode::FencedLeaderEpoch, text);
    }
    if asked > is {
        let text = format!("{of} has not reached this epoch here; a newer controller may lead");
        return refuse(ErrorCode::NotController, text);
    }
    if state.leader != Some(proposer) {
        let text = format!("broker {proposer} does not lead {of}");
        return refuse(ErrorCode::InvalidRequest, text);
    }
    Ok(())
}

/// Has another in-sync replica lead in place of `leader`, which leaves the ISR and may come back
/// into it; else an eligible one, which has everything committed as well; where there is neither,
/// `leader` itself in a newer epoch.
fn resign(
    draft: &mut Draft<'_>,
    topic: &TopicImage,
    partition: i32,
    state: PartitionState,
    leader: BrokerId,
) -> PartitionState {
    let others = |id: &&BrokerId| **id != leader && draft.may_lead(**id);
    let mut able: Vec<BrokerId> = state.isr.iter().filter(others).copied().collect();
    if able.is_empty() {
        able.extend(state.elr.iter().find(others));
    }
    let mut wanted = Wanted::new(state.clone(), Cause::LeaderResigned, Some(leader));
    match able.is_empty() {
        true => wanted.leadership = Leadership::Anew,
        false => wanted.state.isr = able,
    }
    if draft.settings(topic).durability != Durability::Fsync {
        // What it had in memory only may count, and be gone.
        wanted.lost = Some((leader, Loss::Unsynced));
    }
    draft.change(topic, partition, wanted);
    draft.state(topic, partition).cloned().unwrap_or(state)
}

fn check_replicas(
    topic: &TopicImage,
    state: &PartitionState,
    change: &IsrChange,
) -> Result<(), Refusal> {
    let of = format!("partition {} of topic '{}'", change.partition, topic.name);
    let mut ids: Vec<BrokerId> = change.isr.iter().map(|(id, _)| *id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() != count || ids.iter().any(|id| !state.replicas.contains(id)) {
        let text = format!("the proposed in-sync replicas of {of} are not distinct replicas of it");
        return refuse(ErrorCode::InvalidRequest, text);
    }
    if state.leader.is_none_or(|leader| !ids.contains(&leader)) {
        let text = format!("the proposed in-sync replicas of {of} are without its leader");
        return refuse(ErrorCode::InvalidRequest, text);
    }
    if change.recovering && (!state.recovering || count > 1) {
        let text = format!("{of} is not recovering, or its leader proposes others before it has");
        return refuse(ErrorCode::InvalidRequest, text);
    }
    Ok(())
}

fn check_alive(draft: &Draft<'_>, change: &IsrChange) -> Result<(), Refusal> {
    let is_eligible = |(id, epoch): &(BrokerId, BrokerEpoch)| {
        let is_alive = draft.may_lead(*id) || crate::mutant!("fenced-into-isr");
        let is_run = |broker: &crate::controller::BrokerRecord| {
            broker.epoch == *epoch || crate::mutant!("isr-of-an-earlier-run")
        };
        is_alive && draft.broker(*id).is_some_and(is_run)
    };
    match change.isr.iter().find(|member| !is_eligible(member)) {
        None => Ok(()),
        Some((id, epoch)) => refuse(
            ErrorCode::IneligibleReplica,
            format!(
                "broker {id} with epoch {} is fenced, stopping or gone",
                epoch.0
            ),
        ),
    }
}
