//! The owner of a share of the partitions: one task, its mailboxes, no locks.
//!
//! Everything that changes a partition goes through a mailbox of its shard. What clients append has
//! one of its own, and waits for everything else: what is due by the clock, what followers ask,
//! what the metadata says. A leader with more to append than its disk takes would else put its
//! followers off for as long as the backlog lasts. Within a mailbox the order is that of arrival.
//! One request that touches many partitions costs one message per shard. An idle
//! partition costs no task, no timer and no wake-up.

mod closing;
mod deleting;
mod flushing;
mod replicating;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use self::flushing::FlushEnd;
use self::replicating::FollowRequest;
use super::assignment::{EligibleBrokers, ReplicationSettings};
use super::command::{
    AppendItem, AppendOutcome, AppendRefused, Closing, Command, CompactionRound, Slot,
    WantedDurability,
};
use super::partition::{Doubt, Effect, Event};
use super::replica::Replica;
use crate::env::{BoxFuture, Env, Task};
use crate::log::compaction::Compacted;
use crate::log::{Appended, SavingPoint, Ticket};
use crate::types::{ErrorCode, Instant, Timestamp};

/// Commands each of a shard's mailboxes holds before senders wait.
const MAILBOX_MAX: usize = 1024;

/// Pause before another attempt to recover a log whose storage failed.
const RECOVERY_PAUSE: Duration = Duration::from_secs(2);

/// A log that was appended to notes this much later how far it is durable, unless later appends
/// have done so.
const STAMP_AFTER: Duration = Duration::from_secs(1);

/// Identifies who waits for an append: the request, and the item within it.
pub(super) type Waiter = (u64, usize);

/// The way to a shard.
#[derive(Clone)]
pub struct ShardHandle {
    mailbox: mpsc::Sender<Command>,
    appends: mpsc::Sender<Command>,
    unbounded: mpsc::UnboundedSender<Command>,
}

impl ShardHandle {
    /// Starts a shard. It ends when every handle is gone or the task is dropped. Without `settings`
    /// it may only be given partitions that this broker holds alone.
    pub fn start(env: &Env, settings: Option<ReplicationSettings>) -> (Self, Task) {
        let (mailbox, commands) = mpsc::channel(MAILBOX_MAX);
        let (appends, to_append) = mpsc::channel(MAILBOX_MAX);
        let (unbounded, submitted) = mpsc::unbounded_channel();
        let shard = Shard {
            env: env.clone(),
            replicas: BTreeMap::new(),
            writes: FuturesUnordered::new(),
            requests: BTreeMap::new(),
            follow_requests: BTreeMap::new(),
            next_request: 0,
            eligible: EligibleBrokers::default(),
            settings,
            alarms: BTreeSet::new(),
            starts_due: BTreeSet::new(),
            closing: BTreeMap::new(),
            closings: FuturesUnordered::new(),
            flushes: FuturesUnordered::new(),
            flushes_due: BTreeSet::new(),
            saving: FuturesUnordered::new(),
        };
        let work = shard.run(commands, submitted, to_append);
        let task = env.spawn("partition-shard", work);
        let handle = Self {
            mailbox,
            appends,
            unbounded,
        };
        (handle, task)
    }

    /// Waits for room in the mailbox. `false` when the shard has ended. Appends are ordered with
    /// each other only.
    pub async fn send(&self, command: Command) -> bool {
        let mailbox = match command {
            Command::Append { .. } | Command::MirrorAppend { .. } => &self.appends,
            _ => &self.mailbox,
        };
        mailbox.send(command).await.is_ok()
    }

    /// Gives a command without waiting, for callers that bound how many they have under way (the
    /// coordinators). Not ordered with those of [`Self::send`]. `false` when the shard has ended.
    pub fn submit(&self, command: Command) -> bool {
        self.unbounded.send(command).is_ok()
    }
}

/// A request whose items are not all decided.
struct Request {
    outcomes: Vec<AppendOutcome>,
    undecided: usize,
    reply: oneshot::Sender<Vec<AppendOutcome>>,
}

struct WriteEnd {
    slot: Slot,
    ticket: Ticket,
    incarnation: u64,
    result: io::Result<()>,
}

/// What is to be done at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    /// Another attempt to recover this partition's log.
    Recover(Slot),
    /// `flush.ms` has passed since the first append that was not synced.
    Sync(Slot),
    /// See [`STAMP_AFTER`].
    Stamp(Slot),
    /// In-sync replicas may have to change.
    Isr(Slot),
}

struct Shard {
    env: Env,
    replicas: BTreeMap<Slot, Replica>,
    writes: FuturesUnordered<BoxFuture<'static, WriteEnd>>,
    requests: BTreeMap<u64, Request>,
    follow_requests: BTreeMap<u64, FollowRequest>,
    next_request: u64,
    /// Brokers that may join in-sync replicas.
    eligible: EligibleBrokers,
    /// None where every partition is held by this broker alone.
    settings: Option<ReplicationSettings>,
    alarms: BTreeSet<(Instant, Alarm)>,
    /// Partitions whose logs are to begin later than they do.
    starts_due: BTreeSet<Slot>,
    /// Partitions to be let go of once their writes have ended.
    closing: BTreeMap<Slot, Closing>,
    closings: FuturesUnordered<BoxFuture<'static, ()>>,
    /// Logs being synced beside their appends, and those that wait for it.
    flushes: FuturesUnordered<BoxFuture<'static, FlushEnd>>,
    flushes_due: BTreeSet<Slot>,
    /// Recovery points being saved.
    saving: FuturesUnordered<SavingPoint>,
}

impl Shard {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut submitted: mpsc::UnboundedReceiver<Command>,
        mut to_append: mpsc::Receiver<Command>,
    ) {
        let mut timer = self.env.clock.timer();
        let mut set_for = None;
        loop {
            let next = self.alarms.first().map(|(at, _)| *at);
            if next != set_for {
                set_for = next;
                match next {
                    Some(at) => timer.reset(at),
                    None => timer.clear(),
                }
            }
            tokio::select! {
                biased;
                Some(end) = self.writes.next(), if !self.writes.is_empty() => {
                    self.on_write_end(end).await;
                }
                Some(()) = self.closings.next(), if !self.closings.is_empty() => {}
                Some(end) = self.flushes.next(), if !self.flushes.is_empty() => {
                    self.on_flush_end(end).await;
                }
                Some(_) = self.saving.next(), if !self.saving.is_empty() => {}
                () = std::future::poll_fn(|cx| timer.poll_fired(cx)) => {
                    // Cleared, or it would stay fired.
                    timer.clear();
                    set_for = None;
                    self.on_timer().await;
                }
                Some(command) = commands.recv() => self.on_command(command).await,
                Some(command) = submitted.recv() => self.on_command(command).await,
                command = to_append.recv() => match command {
                    Some(command) => self.on_command(command).await,
                    None => return,
                },
            }
            self.move_starts().await;
            self.flush_due().await;
        }
    }

    async fn on_command(&mut self, command: Command) {
        match command {
            Command::Host {
                slot,
                log,
                assignment,
                durability,
                past,
                reply,
            } => {
                let now = self.env.now();
                let replica = Replica::new(*log, &assignment, durability, past, now);
                let view = replica.view.clone();
                self.replicas.insert(slot, replica);
                self.begin_at_first(slot).await;
                let _ = reply.send(view);
            }
            Command::Append { items, reply } => self.append(items, reply).await,
            Command::DeleteRecords {
                slot,
                before,
                reply,
            } => {
                self.delete_records(slot, before, reply);
            }
            Command::Configure {
                slot,
                config,
                durability,
            } => {
                if let Some(replica) = self.replicas.get_mut(&slot) {
                    replica.log.set_config(*config);
                    replica.durability = durability;
                    self.begin_at_first(slot).await;
                }
            }
            Command::Maintain { now } => self.maintain(now).await,
            Command::PlanCompaction {
                slot,
                now,
                map_bytes,
                reply,
            } => {
                let _ = reply.send(self.plan_compaction(slot, now, map_bytes).await);
            }
            Command::InstallCompacted {
                slot,
                compacted,
                reply,
            } => {
                let _ = reply.send(self.install_compacted(slot, *compacted).await);
            }
            Command::Close { slot, closing } => self.close(slot, closing),
            command => self.on_replication(command).await,
        }
    }

    async fn append(
        &mut self,
        items: Vec<AppendItem>,
        reply: Option<oneshot::Sender<Vec<AppendOutcome>>>,
    ) {
        let id = self.next_request;
        self.next_request += 1;
        let wanted = reply.is_some();
        let mut outcomes = Vec::with_capacity(items.len());
        let mut undecided = 0;
        let mut touched = Vec::with_capacity(items.len());
        for (at, item) in items.into_iter().enumerate() {
            let waiter = wanted.then_some((id, at));
            let outcome = self.append_one(&item, waiter).await;
            if outcome.is_ok() {
                undecided += 1;
                touched.push(item.slot);
            }
            outcomes.push(outcome);
        }
        if let Some(reply) = reply {
            if undecided == 0 {
                let _ = reply.send(outcomes);
                return;
            }
            self.requests.insert(
                id,
                Request {
                    outcomes,
                    undecided,
                    reply,
                },
            );
        }
        for slot in touched {
            self.carry_out(slot);
        }
    }

    async fn append_one(&mut self, item: &AppendItem, waiter: Option<Waiter>) -> AppendOutcome {
        let now = self.env.wall();
        let Some(replica) = self.replicas.get_mut(&item.slot) else {
            return Err(AppendRefused::not_here());
        };
        if self.closing.contains_key(&item.slot) {
            tracing::trace!(target: "klamm::probe", name = "append-refused-closing");
            return Err(AppendRefused::not_here());
        }
        let started = replica.append(item, now, waiter).await?;
        let Some((appended, incarnation)) = started.write else {
            return Ok(started.placed);
        };
        let placed = started.placed;
        self.await_write(item.slot, appended, incarnation, item.budget.clone());
        Ok(placed)
    }

    /// Waits for a write beside the mailbox, and sees to what is due after one. `budget` is held
    /// until it ends.
    fn await_write(
        &mut self,
        slot: Slot,
        appended: Appended,
        incarnation: u64,
        budget: Option<Arc<OwnedSemaphorePermit>>,
    ) {
        let Some(replica) = self.replicas.get_mut(&slot) else {
            return;
        };
        let (ticket, done) = (appended.ticket, appended.done);
        if !std::mem::replace(&mut replica.stamp_due, true) {
            self.alarms
                .insert((self.env.now().plus(STAMP_AFTER), Alarm::Stamp(slot)));
        }
        if let WantedDurability::Replicated {
            flush: Some(span), ..
        } = replica.durability
            && !std::mem::replace(&mut replica.sync_due, true)
        {
            self.alarms
                .insert((self.env.now().plus(span), Alarm::Sync(slot)));
        }
        self.writes.push(Box::pin(async move {
            let end = WriteEnd {
                slot,
                ticket,
                incarnation,
                result: done.await,
            };
            drop(budget);
            end
        }));
    }

    async fn on_write_end(&mut self, end: WriteEnd) {
        let Some(replica) = self.replicas.get_mut(&end.slot) else {
            return;
        };
        if let Err(error) = replica.completed(end.ticket, end.incarnation, end.result) {
            if error.kind() == io::ErrorKind::StorageFull {
                tracing::trace!(target: "klamm::probe", name = "disk-full-append");
            }
            tracing::error!(
                partition = %replica.topic_partition(), %error,
                "a log write failed: appends are refused until the log is cut back to what is \
                 durable"
            );
            self.recover(end.slot).await;
        }
        self.carry_out(end.slot);
        self.finish_close(end.slot);
    }

    async fn recover(&mut self, slot: Slot) {
        let Some(replica) = self.replicas.get_mut(&slot) else {
            return;
        };
        let mut is_recovered = replica.recover(self.env.now()).await.is_ok();
        if is_recovered && let Err(error) = replica.begin_at_first().await {
            let partition = replica.topic_partition();
            tracing::error!(%partition, %error, "the mirror cannot begin where its source does");
            replica
                .machine
                .step(Event::StorageFailed, &mut replica.effects);
            is_recovered = false;
        }
        if !is_recovered {
            tracing::trace!(target: "klamm::probe", name = "log-offline");
            replicating::ask_for_another_log(self.settings.as_ref(), slot, replica);
            self.alarms
                .insert((self.env.now().plus(RECOVERY_PAUSE), Alarm::Recover(slot)));
        }
    }

    /// Carries out what the machine decided, in its order.
    fn carry_out(&mut self, slot: Slot) {
        let Some(replica) = self.replicas.get_mut(&slot) else {
            return;
        };
        replica.tell_assignment();
        replica.tell_epochs();
        replica.tell_state();
        for effect in replica.take_effects() {
            match effect {
                Effect::BeginEpoch { epoch, start } => replica.begin_epoch(epoch, start),
                Effect::Expose(high_watermark) => replica.view.expose(high_watermark),
                Effect::Acknowledge(waiter) => decide(&mut self.requests, waiter, None),
                Effect::Refuse(waiter, doubt) => {
                    decide(&mut self.requests, waiter, Some(in_doubt(doubt)));
                }
                Effect::Propose(proposal) => {
                    let settings = self.settings.as_ref();
                    replicating::propose(settings, &self.eligible, slot, replica, proposal);
                }
                Effect::GiveUp(epoch) => {
                    replicating::give_up(self.settings.as_ref(), slot, replica, epoch);
                }
            }
        }
        replica.show();
        self.saving.extend(replica.log.save_recovery_point());
        if replica.is_flush_due() {
            self.flushes_due.insert(slot);
        }
        self.after_step(slot);
    }

    async fn plan_compaction(
        &mut self,
        slot: Slot,
        now: Timestamp,
        map_bytes: usize,
    ) -> Option<CompactionRound> {
        let replica = self.replicas.get_mut(&slot)?;
        if replica.is_storage_failed() {
            return None;
        }
        let end = match crate::mutant!("compacts-beyond-high-watermark") {
            true => replica.log.log_end_offset(),
            false => replica.high_watermark(),
        };
        match replica.log.compaction_plan(now, end, map_bytes).await {
            Ok(job) => {
                let job = job?;
                replica.tell_compacting(job.end);
                let io = replica.log.compaction_io();
                Some(CompactionRound { job, io })
            }
            Err(error) => {
                let partition = replica.topic_partition();
                tracing::error!(%partition, %error, "compaction could not be planned");
                None
            }
        }
    }

    async fn install_compacted(&mut self, slot: Slot, compacted: Compacted) -> bool {
        let Some(replica) = self.replicas.get_mut(&slot) else {
            return false;
        };
        match replica.log.install_compacted(compacted).await {
            Ok(_) => true,
            Err(error) => {
                let partition = replica.topic_partition();
                tracing::error!(%partition, %error, "compacted segments could not be put in place");
                false
            }
        }
    }

    async fn on_timer(&mut self) {
        let now = self.env.now();
        while let Some((at, alarm)) = self.alarms.first().copied() {
            if at > now {
                return;
            }
            self.alarms.pop_first();
            match alarm {
                Alarm::Recover(slot) => {
                    if self
                        .replicas
                        .get(&slot)
                        .is_some_and(Replica::is_storage_failed)
                    {
                        self.recover(slot).await;
                        self.carry_out(slot);
                    }
                }
                Alarm::Sync(slot) => self.sync(slot).await,
                Alarm::Stamp(slot) => self.stamp(slot).await,
                Alarm::Isr(slot) => self.on_isr_alarm(slot),
            }
        }
    }
}

fn in_doubt(doubt: Doubt) -> AppendRefused {
    match doubt {
        Doubt::Storage => AppendRefused::storage("the write or its sync failed"),
        Doubt::NotLeader => AppendRefused::not_here(),
        Doubt::TooFewInSync => AppendRefused {
            code: ErrorCode::NotEnoughReplicasAfterAppend,
            reason: "replicas left the in-sync ones while the batch was copied".to_owned(),
        },
    }
}

fn decide(requests: &mut BTreeMap<u64, Request>, waiter: Waiter, refused: Option<AppendRefused>) {
    let (id, item) = waiter;
    let Some(request) = requests.get_mut(&id) else {
        return;
    };
    if let Some(refused) = refused {
        request.outcomes[item] = Err(refused);
    }
    request.undecided -= 1;
    if request.undecided == 0
        && let Some(request) = requests.remove(&id)
    {
        let _ = request.reply.send(request.outcomes);
    }
}

#[cfg(test)]
mod tests;
