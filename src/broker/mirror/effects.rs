//! Carries out what the machines of a link's partitions decided: what goes to the logs here, to the
//! controller, and to the source.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Key;
use super::link::{Done, LinkTask, Outcomes};
use crate::client::{ClientError, Cluster, Lane};
use crate::controller::{Controller, EnterEpoch, FailMirror, MirrorFault};
use crate::mirror::{Bounds, Effect, Fault, Position, Turn};
use crate::replication::{Command, FollowerPosition, MirrorAppend, Slot};
use crate::types::{BrokerId, ErrorCode, LeaderEpoch, Offset};
use crate::wire::message::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};

/// Timestamps of ListOffsets that ask for ends of the log.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

/// Longest that the controller is asked for; it is asked again.
const CONTROLLER_PATIENCE: Duration = Duration::from_secs(10);

/// Whose outcomes these will be, in order.
type Askers = Vec<(Key, Turn)>;

/// A partition of the source whose ends are asked for.
struct Probe {
    asker: (Key, Turn),
    topic: String,
    partition: i32,
    leader_epoch: LeaderEpoch,
}

/// Effects, by whom they are for.
#[derive(Default)]
struct Sorted {
    places: BTreeMap<usize, (Askers, Vec<(Slot, LeaderEpoch)>)>,
    appends: BTreeMap<usize, (Askers, Vec<MirrorAppend>)>,
    probes: BTreeMap<BrokerId, Vec<Probe>>,
    entries: (Askers, Vec<EnterEpoch>),
    faults: Vec<((Key, Turn), FailMirror)>,
}

impl LinkTask {
    pub(super) fn carry_out(&mut self, effects: Vec<(Key, Turn, Effect)>) {
        if effects.is_empty() {
            return;
        }
        let mut sorted = Sorted::default();
        for (key, turn, effect) in effects {
            self.sort(key, turn, effect, &mut sorted);
        }
        for (shard, (askers, partitions)) in sorted.places {
            self.ask_shard(shard, askers, |reply| Command::MirrorPosition {
                partitions,
                reply,
            });
        }
        for (shard, (askers, items)) in sorted.appends {
            self.ask_shard(shard, askers, |reply| Command::MirrorAppend {
                items,
                reply,
            });
        }
        for (leader, probes) in sorted.probes {
            self.probe(leader, probes);
        }
        if !sorted.entries.0.is_empty() {
            let (askers, entries) = sorted.entries;
            let controller = self.broker.controller.clone();
            self.under_way
                .push(Box::pin(enter(controller, askers, entries)));
        }
        for (asker, fault) in sorted.faults {
            let controller = self.broker.controller.clone();
            self.under_way
                .push(Box::pin(fail(controller, asker, fault)));
        }
    }

    fn sort(&self, key: Key, turn: Turn, effect: Effect, sorted: &mut Sorted) {
        let Some(copied) = self.copied.get(&key) else {
            return;
        };
        let target = &copied.target;
        let (slot, leader_epoch) = (target.slot, target.leader_epoch);
        let (topic_id, partition) = key;
        match effect {
            Effect::Place => {
                let (askers, asked) = sorted.places.entry(target.shard).or_default();
                askers.push((key, turn));
                asked.push((slot, leader_epoch));
            }
            Effect::Append {
                fetch_offset,
                batches,
                source_log_start_offset,
            } => {
                let (askers, items) = sorted.appends.entry(target.shard).or_default();
                askers.push((key, turn));
                items.push(MirrorAppend {
                    slot,
                    leader_epoch,
                    fetch_offset,
                    batches,
                    source_log_start_offset,
                });
            }
            Effect::Probe {
                leader,
                leader_epoch,
            } => sorted.probes.entry(leader).or_default().push(Probe {
                asker: (key, turn),
                topic: target.source.name.clone(),
                partition,
                leader_epoch,
            }),
            Effect::Enter { epoch, start } => {
                sorted.entries.0.push((key, turn));
                sorted.entries.1.push(EnterEpoch {
                    topic_id,
                    partition,
                    leader_epoch,
                    source_epoch: epoch,
                    start,
                });
            }
            Effect::Fail(fault) => {
                tracing::warn!(
                    link = %self.link.name, topic = %target.source.name, partition, ?fault,
                    "a mirror cannot go on"
                );
                let fault = FailMirror {
                    topic_id,
                    partition: Some((partition, leader_epoch)),
                    fault: told(fault),
                };
                sorted.faults.push(((key, turn), fault));
            }
        }
    }

    fn ask_shard(
        &mut self,
        shard: usize,
        askers: Askers,
        command: impl FnOnce(oneshot::Sender<Vec<Result<FollowerPosition, ErrorCode>>>) -> Command,
    ) {
        let (reply, answer) = oneshot::channel();
        let shard = self.broker.partitions.shards()[shard].clone();
        let command = command(reply);
        self.under_way.push(Box::pin(async move {
            // A shard that has ended drops the command, and with it the reply.
            shard.send(command).await;
            let placed = answer.await.unwrap_or_default().into_iter();
            let gone = std::iter::repeat(Err(ErrorCode::NotLeaderOrFollower));
            let placed = placed.chain(gone).map(|placed| placed.map(position));
            Done::Placed(join(askers, placed))
        }));
    }

    fn probe(&mut self, leader: BrokerId, probes: Vec<Probe>) {
        let Some(source) = self.source.clone() else {
            return;
        };
        let within = self.patience();
        self.under_way.push(Box::pin(async move {
            let asked = ask_bounds(&source, leader, &probes, within).await;
            let outcome = |probe: Probe| {
                let ((key, turn), bounds) = match &asked {
                    Ok((starts, ends)) => (probe.asker, bounds_of(&probe, starts, ends)),
                    Err(_) => (probe.asker, Err(ErrorCode::NetworkException)),
                };
                (key, turn, bounds)
            };
            Done::Bounded(probes.into_iter().map(outcome).collect())
        }));
    }
}

fn join<T>(askers: Askers, outcomes: impl Iterator<Item = T>) -> Outcomes<T> {
    let askers = askers.into_iter();
    let joined = askers.zip(outcomes);
    joined
        .map(|((key, turn), outcome)| (key, turn, outcome))
        .collect()
}

fn position(position: FollowerPosition) -> Position {
    Position {
        log_end_offset: position.fetch_offset,
        log_start_offset: position.log_start_offset,
        high_watermark: position.high_watermark,
    }
}

/// As it is kept in the metadata.
fn told(fault: Fault) -> MirrorFault {
    match fault {
        Fault::Truncated { at, source_end } => MirrorFault::Truncated { at, source_end },
        Fault::Expired { at, source_start } => MirrorFault::Expired { at, source_start },
        Fault::Unverified { at } => MirrorFault::Unverified { at },
        Fault::Transactional { at } => MirrorFault::Transactional { at },
        Fault::Damaged { at, reason } => MirrorFault::Damaged { at, reason },
    }
}

async fn enter(controller: Controller, askers: Askers, entries: Vec<EnterEpoch>) -> Done {
    let asked = controller
        .within(CONTROLLER_PATIENCE)
        .enter_epochs(entries)
        .await;
    let (entered, error) = match asked {
        Ok(entered) => (entered, String::new()),
        Err(refusal) => (Vec::new(), refusal.to_string()),
    };
    let entered = entered.into_iter().map(|entered| match entered {
        Ok(state) => Ok(state.lineage),
        Err(refusal) => Err(refusal.to_string()),
    });
    let missing = std::iter::repeat_with(|| Err(error.clone()));
    Done::Entered(join(askers, entered.chain(missing)))
}

async fn fail(controller: Controller, (key, turn): (Key, Turn), fault: FailMirror) -> Done {
    let failed = controller
        .within(CONTROLLER_PATIENCE)
        .fail_mirror(fault)
        .await;
    let outcome = failed.map_err(|refusal| refusal.to_string());
    Done::Failed(vec![(key, turn, outcome)])
}

fn list_offsets(probes: &[Probe], timestamp: i64) -> ListOffsetsRequest {
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for probe in probes {
        let partition = ListOffsetsPartition {
            partition_index: probe.partition,
            current_leader_epoch: probe.leader_epoch.0,
            timestamp,
            ..Default::default()
        };
        topics.entry(&probe.topic).or_default().push(partition);
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| ListOffsetsTopic {
            name: name.into(),
            partitions,
            ..Default::default()
        });
    ListOffsetsRequest {
        topics: topics.collect(),
        ..Default::default()
    }
}

/// Where logs begin and where they end, in this order: the start only moves forward, so what is
/// said to lie beyond an end that was asked for first may be a start.
async fn ask_bounds(
    source: &Cluster,
    leader: BrokerId,
    probes: &[Probe],
    within: Duration,
) -> Result<(ListOffsetsResponse, ListOffsetsResponse), ClientError> {
    let connection = source.connection(leader, Lane::Control).await?;
    let starts = connection
        .call(list_offsets(probes, EARLIEST), within)
        .await?;
    let ends = connection
        .call(list_offsets(probes, LATEST), within)
        .await?;
    Ok((starts, ends))
}

fn bounds_of(
    probe: &Probe,
    starts: &ListOffsetsResponse,
    ends: &ListOffsetsResponse,
) -> Result<Bounds, ErrorCode> {
    Ok(Bounds {
        start: offset_of(probe, starts)?,
        end: offset_of(probe, ends)?,
    })
}

fn offset_of(probe: &Probe, answer: &ListOffsetsResponse) -> Result<Offset, ErrorCode> {
    let topic = answer
        .topics
        .iter()
        .find(|topic| *topic.name == *probe.topic);
    let mut partitions = topic.into_iter().flat_map(|topic| &topic.partitions);
    let found = partitions.find(|found| found.partition_index == probe.partition);
    let found = found.ok_or(ErrorCode::UnknownServerError)?;
    match found.error_code {
        0 if found.offset >= 0 => Ok(Offset(found.offset)),
        0 => Err(ErrorCode::UnknownServerError),
        code => Err(ErrorCode::from_wire(code).unwrap_or(ErrorCode::UnknownServerError)),
    }
}
