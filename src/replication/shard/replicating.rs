//! What a shard does for partitions that several brokers hold.

use tokio::sync::oneshot;

use super::{Alarm, Shard};
use crate::replication::assignment::{
    EligibleBrokers, IsrProposal, ReplicationEvent, ReplicationSettings, UnusableLog,
};
use crate::replication::command::{Command, Slot};
use crate::replication::follower::{
    FollowerAppend, FollowerFetch, FollowerPosition, FollowerTruncate, Served,
};
use crate::replication::following::Copied;
use crate::replication::leader::Proposal;
use crate::replication::mirroring::MirrorAppend;
use crate::replication::partition::{Fetcher, Oldest, Surroundings};
use crate::replication::replica::{Awaiting, Replica};
use crate::types::{BrokerEpoch, BrokerId, ErrorCode, Instant, LeaderEpoch};

/// `replica.lag.time.max.ms` where nobody says so.
const LAG_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(30);

type Positions = Vec<Result<FollowerPosition, ErrorCode>>;

/// A follower's request of which not every item is decided.
pub(super) struct FollowRequest {
    outcomes: Positions,
    undecided: usize,
    reply: oneshot::Sender<Positions>,
}

fn around<'a>(
    eligible: &'a EligibleBrokers,
    settings: Option<&ReplicationSettings>,
    now: Instant,
) -> Surroundings<'a> {
    Surroundings {
        now,
        eligible,
        lag_time_max: settings.map_or(LAG_TIME_MAX, |settings| settings.lag_time_max),
    }
}

fn following(waiter: super::Waiter, leader_epoch: LeaderEpoch) -> Awaiting {
    Awaiting {
        waiter,
        leader_epoch,
        is_mirror: false,
    }
}

fn mirroring(waiter: super::Waiter, leader_epoch: LeaderEpoch) -> Awaiting {
    Awaiting {
        is_mirror: true,
        ..following(waiter, leader_epoch)
    }
}

/// Brokers with their epochs, as listeners are told of them.
fn told(brokers: impl Iterator<Item = (BrokerId, BrokerEpoch)>) -> String {
    let each = brokers.map(|(id, epoch)| format!("{}@{}", id.0, epoch.0));
    each.collect::<Vec<String>>().join(",")
}

/// Passes a proposal on to whoever asks the controller.
pub(super) fn propose(
    settings: Option<&ReplicationSettings>,
    eligible: &EligibleBrokers,
    slot: Slot,
    replica: &Replica,
    proposal: Proposal,
) {
    let identity = replica.log.identity();
    let of = &identity.topic_partition;
    if tracing::enabled!(target: "klamm::replica", tracing::Level::TRACE) {
        let members = told(proposal.isr.iter().copied());
        let eligible = told(eligible.iter().map(|(id, epoch)| (*id, *epoch)));
        tracing::trace!(
            target: "klamm::replica", event = "isr-proposed", topic = &*of.topic,
            partition = of.partition, leader_epoch = proposal.leader_epoch.0,
            partition_epoch = proposal.partition_epoch, members = &*members,
            eligible = &*eligible,
        );
    }
    tracing::trace!(target: "klamm::probe", name = "isr-proposed");
    let Some(settings) = settings else { return };
    // Nobody listens only while the broker stops.
    let _ = settings.events.send(ReplicationEvent::Isr(IsrProposal {
        slot,
        topic_id: identity.topic_id,
        partition: of.partition,
        leader_epoch: proposal.leader_epoch,
        partition_epoch: proposal.partition_epoch,
        isr: proposal.isr,
        recovering: proposal.recovering,
    }));
}

/// Tells that this broker cannot lead a partition in an epoch.
pub(super) fn give_up(
    settings: Option<&ReplicationSettings>,
    slot: Slot,
    replica: &Replica,
    leader_epoch: LeaderEpoch,
) {
    let identity = replica.log.identity();
    tracing::warn!(
        partition = %identity.topic_partition, epoch = leader_epoch.0,
        "this broker does not lead the partition in this epoch: its log is damaged, or may lack \
         what it had given to followers"
    );
    tracing::trace!(target: "klamm::probe", name = "leadership-given-up");
    let Some(settings) = settings else { return };
    // Nobody listens only while the broker stops.
    let _ = settings.events.send(ReplicationEvent::StorageFailed {
        slot,
        topic_id: identity.topic_id,
        partition: identity.topic_partition.partition,
        leader_epoch,
    });
}

/// Asks for the log of a replica to be taken away, and copied anew, if it cannot be used.
pub(super) fn ask_for_another_log(
    settings: Option<&ReplicationSettings>,
    slot: Slot,
    replica: &Replica,
) {
    let wanted = replica.machine.wants_another_log();
    let (Some(settings), Some((leader_epoch, why))) = (settings, wanted) else {
        return;
    };
    let identity = replica.log.identity();
    let unusable = UnusableLog {
        slot,
        topic_id: identity.topic_id,
        partition: identity.topic_partition.partition,
        leader_epoch,
        why,
    };
    // Nobody listens only while the broker stops.
    let _ = settings
        .events
        .send(ReplicationEvent::LogUnusable(unusable));
}

impl Shard {
    pub(super) async fn on_replication(&mut self, command: Command) {
        let now = self.env.now();
        match command {
            Command::Eligible { brokers } => self.eligible = brokers,
            Command::Assign {
                slot,
                assignment,
                reply,
            } => {
                if let Some(replica) = self.replicas.get_mut(&slot) {
                    let around = around(&self.eligible, self.settings.as_ref(), now);
                    let effects = &mut replica.effects;
                    replica.machine.assign(&assignment, around, effects);
                    self.carry_out(slot);
                }
                if let Some(reply) = reply {
                    let _ = reply.send(());
                }
            }
            Command::IsrAnswered {
                slot,
                leader_epoch,
                partition_epoch,
                outcome,
            } => {
                if let Some(replica) = self.replicas.get_mut(&slot) {
                    let around = around(&self.eligible, self.settings.as_ref(), now);
                    let (of, effects) = ((leader_epoch, partition_epoch), &mut replica.effects);
                    replica.machine.answered(of, &outcome, around, effects);
                    self.carry_out(slot);
                }
            }
            Command::Damaged { slot, leader_epoch } => {
                if let Some(replica) = self.replicas.get_mut(&slot) {
                    let around = around(&self.eligible, self.settings.as_ref(), now);
                    let effects = &mut replica.effects;
                    replica.machine.damaged(leader_epoch, around, effects);
                    self.carry_out(slot);
                }
            }
            Command::FollowerFetch {
                follower,
                broker_epoch,
                partitions,
                reply,
            } => {
                let fetcher = Fetcher {
                    id: follower,
                    broker_epoch,
                };
                let served = partitions.iter().map(|fetch| self.fetched(fetcher, fetch));
                let served = served.collect();
                let _ = reply.send(served);
            }
            Command::FollowerAppend { items, reply } => self.copy(items, reply).await,
            Command::FollowerTruncate { items, reply } => self.truncate(items, reply).await,
            Command::FollowerPosition { partitions, reply } => {
                self.positions(partitions, reply, following);
            }
            Command::MirrorAppend { items, reply } => self.mirror(items, reply).await,
            Command::MirrorPosition { partitions, reply } => {
                self.positions(partitions, reply, mirroring);
            }
            // All others are carried out where they come in.
            _ => {}
        }
    }

    fn fetched(&mut self, fetcher: Fetcher, fetch: &FollowerFetch) -> Result<Served, ErrorCode> {
        let replica = self
            .replicas
            .get_mut(&fetch.slot)
            .ok_or(ErrorCode::NotLeaderOrFollower)?;
        let reader = replica.log.reader();
        let epochs = |epoch| reader.end_of_epoch(epoch);
        let around = around(&self.eligible, self.settings.as_ref(), self.env.now());
        let oldest = Oldest {
            log_start_offset: replica.log.log_start_offset(),
            epoch: reader.oldest_epoch(),
        };
        let (machine, effects) = (&mut replica.machine, &mut replica.effects);
        let served = machine.fetched(fetcher, fetch, oldest, epochs, around, effects);
        replica.tell_counted(fetcher.id);
        self.carry_out(fetch.slot);
        served
    }

    fn positions(
        &mut self,
        partitions: Vec<(Slot, LeaderEpoch)>,
        reply: oneshot::Sender<Positions>,
        awaiting: fn(super::Waiter, LeaderEpoch) -> Awaiting,
    ) {
        let id = self.follow_request(partitions.len(), reply);
        for (at, (slot, epoch)) in partitions.into_iter().enumerate() {
            self.await_position(slot, awaiting((id, at), epoch), Ok(()));
        }
    }

    fn follow_request(&mut self, items: usize, reply: oneshot::Sender<Positions>) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        if items == 0 {
            let _ = reply.send(Vec::new());
            return id;
        }
        let outcomes = vec![Err(ErrorCode::UnknownServerError); items];
        let request = FollowRequest {
            outcomes,
            undecided: items,
            reply,
        };
        self.follow_requests.insert(id, request);
        id
    }

    async fn copy(&mut self, items: Vec<FollowerAppend>, reply: oneshot::Sender<Positions>) {
        let id = self.follow_request(items.len(), reply);
        let now = self.env.wall();
        for (at, item) in items.into_iter().enumerate() {
            let copied = match self.replicas.get_mut(&item.slot) {
                Some(replica) if !self.closing.contains_key(&item.slot) => {
                    replica.copy(&item, now).await
                }
                _ => Copied::refused(ErrorCode::NotLeaderOrFollower),
            };
            let awaiting = following((id, at), item.leader_epoch);
            self.on_copied(item.slot, awaiting, copied).await;
        }
    }

    async fn truncate(&mut self, items: Vec<FollowerTruncate>, reply: oneshot::Sender<Positions>) {
        let id = self.follow_request(items.len(), reply);
        for (at, item) in items.into_iter().enumerate() {
            let copied = match self.replicas.get_mut(&item.slot) {
                Some(replica) if !self.closing.contains_key(&item.slot) => {
                    replica.truncate(&item).await
                }
                _ => Copied::refused(ErrorCode::NotLeaderOrFollower),
            };
            let awaiting = following((id, at), item.leader_epoch);
            self.on_copied(item.slot, awaiting, copied).await;
        }
    }

    async fn mirror(&mut self, items: Vec<MirrorAppend>, reply: oneshot::Sender<Positions>) {
        let id = self.follow_request(items.len(), reply);
        let now = self.env.wall();
        for (at, item) in items.into_iter().enumerate() {
            let copied = match self.replicas.get_mut(&item.slot) {
                Some(replica) if !self.closing.contains_key(&item.slot) => {
                    replica.mirror(&item, now).await
                }
                _ => Copied::refused(ErrorCode::NotLeaderOrFollower),
            };
            let awaiting = mirroring((id, at), item.leader_epoch);
            self.on_copied(item.slot, awaiting, copied).await;
        }
    }

    /// See [`Replica::begin_at_first`].
    pub(super) async fn begin_at_first(&mut self, slot: Slot) {
        let Some(replica) = self.replicas.get_mut(&slot) else {
            return;
        };
        if let Err(error) = replica.begin_at_first().await {
            let partition = replica.topic_partition();
            tracing::error!(%partition, %error, "the mirror cannot begin where its source does");
            self.recover(slot).await;
        }
        self.carry_out(slot);
    }

    async fn on_copied(&mut self, slot: Slot, awaiting: Awaiting, copied: Copied) {
        for (appended, incarnation) in copied.writes {
            self.await_write(slot, appended, incarnation, None);
        }
        if copied.failed {
            self.recover(slot).await;
        }
        self.await_position(slot, awaiting, copied.result);
        self.carry_out(slot);
    }

    /// Answers where the log stands once all of it is safe, or at once that it failed.
    fn await_position(&mut self, slot: Slot, awaiting: Awaiting, result: Result<(), ErrorCode>) {
        let waiter = awaiting.waiter;
        let replica = match (result, self.replicas.get_mut(&slot)) {
            (Ok(()), Some(replica)) => replica,
            (result, _) => {
                let code = result.err().unwrap_or(ErrorCode::NotLeaderOrFollower);
                self.decide_position(waiter, Err(code));
                return;
            }
        };
        let position = match awaiting.is_mirror {
            true => replica.mirror_position(awaiting.leader_epoch),
            false => replica.position(awaiting.leader_epoch),
        };
        match position {
            Ok(None) => {
                replica.awaiting.push(awaiting);
                if replica.start_due().is_some() {
                    self.starts_due.insert(slot);
                }
            }
            Ok(Some(position)) => self.decide_position(waiter, Ok(position)),
            Err(code) => {
                ask_for_another_log(self.settings.as_ref(), slot, replica);
                self.decide_position(waiter, Err(code));
            }
        }
    }

    pub(super) fn decide_position(
        &mut self,
        (id, at): super::Waiter,
        outcome: Result<FollowerPosition, ErrorCode>,
    ) {
        let Some(request) = self.follow_requests.get_mut(&id) else {
            return;
        };
        request.outcomes[at] = outcome;
        request.undecided -= 1;
        if request.undecided == 0
            && let Some(request) = self.follow_requests.remove(&id)
        {
            let _ = request.reply.send(request.outcomes);
        }
    }

    /// Sets the alarm that a partition needs, and answers followers that waited.
    pub(super) fn after_step(&mut self, slot: Slot) {
        self.look_at_start(slot);
        let Some(replica) = self.replicas.get_mut(&slot) else {
            return;
        };
        let lag_time_max = self
            .settings
            .as_ref()
            .map_or(LAG_TIME_MAX, |s| s.lag_time_max);
        if let Some(at) = replica.machine.next_check(lag_time_max)
            && replica.isr_alarm.is_none_or(|set| at < set)
        {
            if let Some(set) = replica.isr_alarm.replace(at) {
                self.alarms.remove(&(set, Alarm::Isr(slot)));
            }
            self.alarms.insert((at, Alarm::Isr(slot)));
        }
        if replica.awaiting.is_empty() {
            return;
        }
        for awaiting in std::mem::take(&mut replica.awaiting) {
            self.await_position(slot, awaiting, Ok(()));
        }
    }

    pub(super) fn on_isr_alarm(&mut self, slot: Slot) {
        let now = self.env.now();
        if let Some(replica) = self.replicas.get_mut(&slot) {
            replica.isr_alarm = None;
            let around = around(&self.eligible, self.settings.as_ref(), now);
            replica.machine.check_isr(around, &mut replica.effects);
            self.carry_out(slot);
        }
    }

    /// Before a partition is let go of: nobody is left waiting.
    pub(super) fn resign(&mut self, slot: Slot) {
        if let Some(replica) = self.replicas.get_mut(&slot) {
            replica.machine.resign(&mut replica.effects);
            self.carry_out(slot);
        }
    }
}
