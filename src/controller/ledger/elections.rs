//! Elections that somebody asks for, and the balance of leaders.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::draft::{Draft, Wanted};
use super::{ControllerLedger, Outcome};
use crate::controller::image::TopicImage;
use crate::controller::next_state::Leadership;
use crate::controller::record::{Cause, MetadataRecord, PartitionState};
use crate::controller::request::{ElectLeaders, ElectionKind, PartitionResult, Refusal, Reply};
use crate::types::{BrokerId, ErrorCode, Timestamp};

/// Most leaders that one round of balancing moves.
const MOVES_MAX: usize = 1000;

/// Partitions that prefer one broker.
#[derive(Default)]
struct Preference<'a> {
    total: usize,
    /// Those that it does not lead.
    missed: Vec<(&'a TopicImage, i32)>,
}

impl ControllerLedger {
    pub(super) fn elect_leaders(&self, now: Timestamp, request: &ElectLeaders) -> Outcome {
        let mut draft = Draft::new(self, now);
        let mut results: Vec<PartitionResult> = Vec::new();
        match &request.partitions {
            Some(partitions) => {
                for (name, partition) in partitions {
                    let result = match self.find(name, *partition) {
                        Ok(topic) => elect_one(&mut draft, topic, *partition, request.kind),
                        Err(refusal) => Err(refusal),
                    };
                    results.push((name.clone(), *partition, result));
                }
            }
            None => {
                for topic in self.image.topics() {
                    for partition in (0..).take(topic.partitions.len()) {
                        let result = elect_one(&mut draft, topic, partition, request.kind);
                        // Asked for all, Kafka tells only of those that needed one.
                        let code = result.as_ref().err().map(|refusal| refusal.code);
                        if code != Some(ErrorCode::ElectionNotNeeded) {
                            results.push((topic.name.to_string(), partition, result));
                        }
                    }
                }
            }
        }
        Ok((draft.into_records(), Reply::ElectLeaders(results)))
    }

    /// The topic of a partition that exists.
    pub(super) fn find(&self, name: &str, partition: i32) -> Result<&Arc<TopicImage>, Refusal> {
        let topic = self.image.topic(name);
        let topic = topic.filter(|topic| topic.partition(partition).is_some());
        topic.ok_or_else(|| {
            Refusal::new(
                ErrorCode::UnknownTopicOrPartition,
                format!("there is no partition {partition} of topic '{name}'"),
            )
        })
    }

    /// Gives partitions back to their preferred leaders, for those preferred leaders that miss more
    /// than `percentage` of their partitions.
    #[must_use]
    pub fn balance(&self, now: Timestamp, percentage: i32) -> Vec<MetadataRecord> {
        let mut all: BTreeMap<BrokerId, Preference<'_>> = BTreeMap::new();
        for topic in self.image.topics() {
            for (partition, state) in (0..).zip(&topic.partitions) {
                let Some(preferred) = state.replicas.first() else {
                    continue;
                };
                let preference = all.entry(*preferred).or_default();
                preference.total += 1;
                if state.leader != Some(*preferred) {
                    preference.missed.push((topic, partition));
                }
            }
        }
        let mut draft = Draft::new(self, now);
        let share = usize::try_from(percentage).unwrap_or(0);
        let unbalanced = |one: &Preference<'_>| one.missed.len() * 100 > one.total * share;
        let moves = all.into_values().filter(unbalanced);
        let mut moved = 0;
        for (topic, partition) in moves.flat_map(|one| one.missed) {
            let Some(state) = draft.state(topic, partition) else {
                continue;
            };
            if moved < MOVES_MAX && is_ready_to_lead(&draft, state) {
                let mut wanted = Wanted::new(state.clone(), Cause::LeadersBalanced, None);
                wanted.leadership = Leadership::Preferred;
                moved += usize::from(draft.change(topic, partition, wanted));
            }
        }
        draft.into_records()
    }
}

/// Whether the preferred leader of a partition is in sync and alive.
fn is_ready_to_lead(draft: &Draft<'_>, state: &PartitionState) -> bool {
    let preferred = state.replicas.first();
    preferred.is_some_and(|id| state.isr.contains(id) && draft.may_lead(*id))
}

fn elect_one(
    draft: &mut Draft<'_>,
    topic: &TopicImage,
    partition: i32,
    kind: ElectionKind,
) -> Result<(), Refusal> {
    let of = format!("partition {partition} of topic '{}'", topic.name);
    let Some(state) = draft.state(topic, partition) else {
        let text = format!("there is no {of}");
        return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, text));
    };
    let not_needed = match kind {
        ElectionKind::Preferred => state.leader == state.replicas.first().copied(),
        ElectionKind::Unclean => state.leader.is_some(),
    };
    if not_needed {
        let text = format!("{of} has that leader, or one, already");
        return Err(Refusal::new(ErrorCode::ElectionNotNeeded, text));
    }
    let mut wanted = Wanted::new(state.clone(), Cause::PreferredElection, None);
    match kind {
        ElectionKind::Preferred if !is_ready_to_lead(draft, state) => {
            let text = format!("the preferred leader of {of} is not alive, or not in sync");
            return Err(Refusal::new(ErrorCode::PreferredLeaderNotAvailable, text));
        }
        ElectionKind::Preferred => wanted.leadership = Leadership::Preferred,
        ElectionKind::Unclean => {
            wanted.state.cause = Cause::UncleanElection;
            wanted.force = true;
        }
    }
    match draft.change(topic, partition, wanted) {
        true => Ok(()),
        false => Err(Refusal::new(
            ErrorCode::EligibleLeadersNotAvailable,
            format!("no replica of {of} is alive"),
        )),
    }
}
