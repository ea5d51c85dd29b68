//! Moving replicas (KIP-455).
//!
//! A partition under reassignment holds the replicas it had and those it shall have; it drops the
//! former once all of the latter are in sync. A new target, or a cancellation, starts from the
//! replicas it had before the reassignment under way.

use std::collections::BTreeSet;

use super::draft::{Draft, Wanted};
use super::{ControllerLedger, Outcome};
use crate::controller::image::TopicImage;
use crate::controller::record::{Cause, PartitionState};
use crate::controller::request::{AlterReassignments, PartitionResult, Refusal, Reply};
use crate::types::{BrokerId, ErrorCode, Timestamp};

fn refuse<T>(code: ErrorCode, text: String) -> Result<T, Refusal> {
    Err(Refusal::new(code, text))
}

impl ControllerLedger {
    pub(super) fn alter_reassignments(
        &self,
        now: Timestamp,
        request: &AlterReassignments,
    ) -> Outcome {
        let mut draft = Draft::new(self, now);
        let mut seen = BTreeSet::new();
        let mut results: Vec<PartitionResult> = Vec::new();
        for (name, partition, target) in &request.partitions {
            let may_resize = request.allow_replication_factor_change;
            let result = match seen.insert((name, *partition)) {
                false => refuse(
                    ErrorCode::InvalidRequest,
                    format!("partition {partition} of topic '{name}' is there more than once"),
                ),
                true => self.find(name, *partition).and_then(|topic| match target {
                    Some(target) => {
                        self.reassign(&mut draft, topic, *partition, target, may_resize)
                    }
                    None => cancel(&mut draft, topic, *partition),
                }),
            };
            results.push((name.clone(), *partition, result));
        }
        Ok((draft.into_records(), Reply::AlterReassignments(results)))
    }

    fn reassign(
        &self,
        draft: &mut Draft<'_>,
        topic: &TopicImage,
        partition: i32,
        target: &[BrokerId],
        may_resize: bool,
    ) -> Result<(), Refusal> {
        self.check_target(&topic.name, partition, target)?;
        let Some(state) = draft.state(topic, partition) else {
            return Ok(());
        };
        let had = settled_replicas(state);
        if !may_resize && had.len() != target.len() {
            let text = format!(
                "partition {partition} of topic '{}' has {} replicas and would have {}",
                topic.name,
                had.len(),
                target.len()
            );
            return refuse(ErrorCode::InvalidReplicationFactor, text);
        }
        let mut wanted = Wanted::new(state.clone(), Cause::Reassignment, None);
        let leaving = had.iter().filter(|id| !target.contains(id)).copied();
        wanted.state.removing = leaving.collect();
        wanted.state.replicas = target.to_vec();
        wanted.state.replicas.extend(&wanted.state.removing);
        let coming = target.iter().filter(|id| !had.contains(id)).copied();
        wanted.state.adding = coming.collect();
        carry_out(draft, topic, partition, wanted)
    }

    fn check_target(
        &self,
        topic: &str,
        partition: i32,
        target: &[BrokerId],
    ) -> Result<(), Refusal> {
        let of = format!("partition {partition} of topic '{topic}'");
        let distinct: BTreeSet<&BrokerId> = target.iter().collect();
        if target.is_empty() || distinct.len() != target.len() {
            let text = format!("{of} needs at least one replica, and each only once");
            return refuse(ErrorCode::InvalidReplicaAssignment, text);
        }
        match target.iter().find(|id| self.image.broker(**id).is_none()) {
            None => Ok(()),
            Some(unknown) => refuse(
                ErrorCode::InvalidReplicaAssignment,
                format!("{of} cannot move to broker {unknown}, which is not known"),
            ),
        }
    }
}

/// The replicas of a partition without those that the reassignment under way adds, those that it
/// keeps first.
fn settled_replicas(state: &PartitionState) -> Vec<BrokerId> {
    let is_settled = |id: &&BrokerId| !state.adding.contains(id);
    state.replicas.iter().filter(is_settled).copied().collect()
}

fn cancel(draft: &mut Draft<'_>, topic: &TopicImage, partition: i32) -> Result<(), Refusal> {
    let Some(state) = draft
        .state(topic, partition)
        .filter(|state| state.is_reassigning())
    else {
        let text = format!(
            "partition {partition} of topic '{}' is not moving",
            topic.name
        );
        return refuse(ErrorCode::NoReassignmentInProgress, text);
    };
    let mut wanted = Wanted::new(state.clone(), Cause::ReassignmentCancelled, None);
    wanted.state.replicas = settled_replicas(state);
    wanted.state.adding.clear();
    wanted.state.removing.clear();
    carry_out(draft, topic, partition, wanted)
}

/// Changes the replicas to `wanted`, unless that takes away all that can lead, or leaves fewer than
/// `min.insync.replicas` with what was acknowledged.
fn carry_out(
    draft: &mut Draft<'_>,
    topic: &TopicImage,
    partition: i32,
    mut wanted: Wanted,
) -> Result<(), Refusal> {
    let min_isr = wanted
        .state
        .min_isr(draft.settings(topic).min_insync_replicas);
    let replicas = wanted.state.replicas.clone();
    let is_kept = |id: &BrokerId| replicas.contains(id);
    let state = &mut wanted.state;
    let kept = state.isr.iter().filter(|id| is_kept(id)).count();
    let is_possible = match state.leader {
        Some(_) => kept > 0 && (kept == state.isr.len() || kept >= min_isr),
        None => {
            let had_none = state.isr.is_empty() && state.elr.is_empty();
            had_none || kept > 0 || state.elr.iter().any(is_kept)
        }
    };
    if !is_possible {
        let text = format!(
            "partition {partition} of topic '{}' would be left with too few in-sync replicas; wait \
             until more of the replicas that stay are in sync",
            topic.name
        );
        return refuse(ErrorCode::InvalidReplicaAssignment, text);
    }
    state.isr.retain(is_kept);
    state.last_known_elr.retain(is_kept);
    draft.change(topic, partition, wanted);
    Ok(())
}
