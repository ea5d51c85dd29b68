//! The task that owns shards: one mailbox, one timer, and the bytes of their partitions.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::ledger::{KeyValue, Ledger, Moment, ReplyTo};
use super::shard::{Effect, Shard};
use crate::env::{BoxFuture, Env, Task, Timer};
use crate::types::{ErrorCode, LeaderEpoch, Offset, Timestamp};

/// Commands that may wait for a task; senders wait when there are more.
const MAILBOX_MAX: usize = 1024;

/// One record of an internal topic as read for replay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadedRecord {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
}

/// Records in offset order, of the span from the offset asked for up to `next`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadedBatch {
    pub records: Vec<LoadedRecord>,
    /// Where the next read begins. Greater than the offset asked for unless `end`.
    pub next: Offset,
    /// `next` is the log end offset.
    pub end: bool,
}

/// The partition of an internal topic that a shard lives on, while this broker leads it. The shard
/// is its only writer.
pub trait ShardLog: Send + Sync + 'static {
    /// Appends records of consecutive offsets, in one or more batches. They are submitted by the
    /// call itself, in the order of calls, whether or not the future is polled. The future resolves
    /// to the offset of the first record once all are durable and below the high watermark. An
    /// error leaves it unknown whether some or all of them are in the log.
    fn append(&self, records: Vec<KeyValue>) -> BoxFuture<'static, Result<Offset, ErrorCode>>;

    /// Reads a span of records beginning at `from` (at the log start offset when that is greater),
    /// of bounded size. Control records are left out. `end` is said only once all that was
    /// appended before this call is included, durable, and below the high watermark.
    fn read(&self, from: Offset) -> BoxFuture<'static, Result<LoadedBatch, ErrorCode>>;
}

enum Command<L: Ledger> {
    Load(i32, LeaderEpoch, Arc<dyn ShardLog>),
    Unload(i32, LeaderEpoch),
    Request(
        i32,
        L::Request,
        oneshot::Sender<Result<L::Reply, ErrorCode>>,
    ),
}

/// Handle on a task that owns shards. The task ends when the handle is dropped.
pub struct ShardTask<L: Ledger> {
    mailbox: mpsc::Sender<Command<L>>,
    _task: Task,
}

impl<L: Ledger> ShardTask<L> {
    /// Starts a task without shards. `blank` is copied (see [`Ledger::blank`]) for each shard.
    #[must_use]
    pub fn start(env: &Env, name: &'static str, blank: L) -> Self
    where
        L: Sync,
    {
        let (mailbox, commands) = mpsc::channel(MAILBOX_MAX);
        let owner = Owner {
            env: env.clone(),
            timer: env.clock.timer(),
            blank,
            commands,
            hosted: BTreeMap::new(),
            epochs: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next_reply: 0,
            effects: Vec::new(),
        };
        let task = env.spawn(name, owner.run());
        Self {
            mailbox,
            _task: task,
        }
    }

    /// This broker leads `partition` since `leader_epoch`: replay `log`, then serve. Ignored when a
    /// later epoch of the partition was seen.
    pub async fn load(&self, partition: i32, leader_epoch: LeaderEpoch, log: Arc<dyn ShardLog>) {
        let command = Command::Load(partition, leader_epoch, log);
        let _ = self.mailbox.send(command).await;
    }

    /// This broker stopped leading `partition` at `leader_epoch`. Ignored when a later epoch of
    /// the partition was seen.
    pub async fn unload(&self, partition: i32, leader_epoch: LeaderEpoch) {
        let command = Command::Unload(partition, leader_epoch);
        let _ = self.mailbox.send(command).await;
    }

    /// Asks the ledger of `partition`. Errors: `NOT_COORDINATOR` when the partition is led
    /// elsewhere, `COORDINATOR_LOAD_IN_PROGRESS` while it is replayed, `COORDINATOR_NOT_AVAILABLE`
    /// when the outcome is unknown.
    pub async fn request(
        &self,
        partition: i32,
        request: L::Request,
    ) -> Result<L::Reply, ErrorCode> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Request(partition, request, reply);
        match self.mailbox.send(command).await {
            Ok(()) => answer
                .await
                .unwrap_or(Err(ErrorCode::CoordinatorNotAvailable)),
            Err(_) => Err(ErrorCode::CoordinatorNotAvailable),
        }
    }
}

struct Hosted<L: Ledger> {
    shard: Shard<L>,
    log: Arc<dyn ShardLog>,
    /// In the order they were submitted. Only the oldest is polled.
    appends: VecDeque<BoxFuture<'static, Result<Offset, ErrorCode>>>,
    read: Option<BoxFuture<'static, Result<LoadedBatch, ErrorCode>>>,
}

enum Event<L: Ledger> {
    Appended(i32, Result<Offset, ErrorCode>),
    Read(i32, Result<LoadedBatch, ErrorCode>),
    Due,
    Command(Command<L>),
    Closed,
}

struct Owner<L: Ledger> {
    env: Env,
    timer: Box<dyn Timer>,
    blank: L,
    commands: mpsc::Receiver<Command<L>>,
    hosted: BTreeMap<i32, Hosted<L>>,
    /// Latest leader epoch seen of each partition.
    epochs: BTreeMap<i32, LeaderEpoch>,
    waiting: BTreeMap<ReplyTo, oneshot::Sender<Result<L::Reply, ErrorCode>>>,
    next_reply: u64,
    effects: Vec<Effect<L::Reply>>,
}

impl<L: Ledger + Sync> Owner<L> {
    async fn run(mut self) {
        loop {
            let due = self
                .hosted
                .values()
                .filter_map(|h| h.shard.deadline())
                .min();
            match due {
                Some(due) => self.timer.reset(due),
                None => self.timer.clear(),
            }
            match poll_fn(|cx| self.poll_event(cx)).await {
                Event::Appended(partition, result) => self.step(partition, |shard, _, effects| {
                    shard.appended(result, effects);
                }),
                Event::Read(partition, result) => self.step(partition, |shard, at, effects| {
                    shard.read(at, result, effects);
                }),
                Event::Due => self.tick(),
                Event::Command(command) => self.obey(command),
                Event::Closed => return,
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event<L>> {
        for (partition, hosted) in &mut self.hosted {
            if let Some(append) = hosted.appends.front_mut()
                && let Poll::Ready(result) = append.as_mut().poll(cx)
            {
                hosted.appends.pop_front();
                return Poll::Ready(Event::Appended(*partition, result));
            }
            if let Some(read) = &mut hosted.read
                && let Poll::Ready(result) = read.as_mut().poll(cx)
            {
                hosted.read = None;
                return Poll::Ready(Event::Read(*partition, result));
            }
        }
        if self.timer.poll_fired(cx).is_ready() {
            return Poll::Ready(Event::Due);
        }
        self.commands.poll_recv(cx).map(|command| match command {
            Some(command) => Event::Command(command),
            None => Event::Closed,
        })
    }

    fn obey(&mut self, command: Command<L>) {
        match command {
            Command::Load(partition, leader_epoch, log) => self.load(partition, leader_epoch, log),
            Command::Unload(partition, leader_epoch) => {
                if self.is_current(partition, leader_epoch) {
                    self.step(partition, |shard, _, effects| shard.resign(effects));
                    self.hosted.remove(&partition);
                }
            }
            Command::Request(partition, request, reply) => {
                if !self.hosted.contains_key(&partition) {
                    let _ = reply.send(Err(ErrorCode::NotCoordinator));
                    return;
                }
                let from = ReplyTo(self.next_reply);
                self.next_reply += 1;
                self.waiting.insert(from, reply);
                self.step(partition, |shard, at, effects| {
                    shard.request(at, from, request, effects);
                });
            }
        }
    }

    fn load(&mut self, partition: i32, leader_epoch: LeaderEpoch, log: Arc<dyn ShardLog>) {
        if !self.is_current(partition, leader_epoch) {
            return;
        }
        self.step(partition, |shard, _, effects| shard.resign(effects));
        let mut effects = Vec::new();
        let hosted = Hosted {
            shard: Shard::load(self.blank.blank(), &mut effects),
            log,
            appends: VecDeque::new(),
            read: None,
        };
        self.hosted.insert(partition, hosted);
        self.step(partition, |_, _, into| into.append(&mut effects));
    }

    /// Whether no later epoch of the partition was seen; remembers this one.
    fn is_current(&mut self, partition: i32, leader_epoch: LeaderEpoch) -> bool {
        let latest = self.epochs.entry(partition).or_insert(leader_epoch);
        *latest = leader_epoch.max(*latest);
        *latest == leader_epoch
    }

    fn tick(&mut self) {
        let now = self.env.now();
        let is_due = |hosted: &Hosted<L>| hosted.shard.deadline().is_some_and(|due| due <= now);
        let due: Vec<_> = self
            .hosted
            .iter()
            .filter(|(_, hosted)| is_due(hosted))
            .map(|(partition, _)| *partition)
            .collect();
        for partition in due {
            self.step(partition, |shard, at, effects| shard.tick(at, effects));
        }
    }

    /// Lets one shard take a step and does what it asks.
    fn step(
        &mut self,
        partition: i32,
        step: impl FnOnce(&mut Shard<L>, Moment, &mut Vec<Effect<L::Reply>>),
    ) {
        let Some(hosted) = self.hosted.get_mut(&partition) else {
            return;
        };
        let at = Moment {
            now: self.env.now(),
            wall: self.env.wall(),
        };
        step(&mut hosted.shard, at, &mut self.effects);
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Read(from) => hosted.read = Some(hosted.log.read(from)),
                Effect::Append(records) => hosted.appends.push_back(hosted.log.append(records)),
                Effect::Reply(to, answer) => {
                    if let Some(reply) = self.waiting.remove(&to) {
                        let _ = reply.send(answer);
                    }
                }
            }
        }
    }
}
