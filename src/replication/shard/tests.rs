//! Claims about what of a shard's work comes first.
//!
//! All of it is on one thread: what is given to the shard lies there whole before the shard looks.
#![allow(
    clippy::disallowed_methods,
    reason = "the clock of the tests' environment stands still"
)]

use std::future::Future;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::task::{Context, Poll};

use super::*;
use crate::env::{Clock, Timer};
use crate::log::{Log, LogConfig, LogIdentity, OpenOptions, TailCache};
use crate::replication::assignment::{Assignment, ReplicationEvent};
use crate::replication::command::{Past, WantedAcks};
use crate::replication::follower::{FollowerFetch, Served};
use crate::replication::mirroring::MirrorAppend;
use crate::replication::view::PartitionView;
use crate::types::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicId, TopicPartition};
use crate::wire::batch::{BatchBuilder, Compression};

const ME: BrokerId = BrokerId(1);
const FOLLOWER: BrokerId = BrokerId(2);
const SLOT: Slot = 7;
/// Appends that wait: as many as a task of tokio sends in one go.
const BACKLOG: i64 = 60;
const LAG_TIME_MAX: Duration = Duration::from_secs(10);

/// It stands still but for [`TestClock::pass`], and notes where the log ended whenever an alarm
/// went off.
#[derive(Default)]
struct TestClock {
    now: AtomicU64,
    view: OnceLock<Arc<PartitionView>>,
    ends: Mutex<Vec<Offset>>,
}

impl TestClock {
    fn pass(&self, span: Duration) {
        let nanos = Instant(0).plus(span).0;
        self.now.fetch_add(nanos, Ordering::SeqCst);
    }
}

struct Shared(Arc<TestClock>);

struct TestTimer {
    clock: Arc<TestClock>,
    at: Option<Instant>,
}

impl Timer for TestTimer {
    fn reset(&mut self, at: Instant) {
        self.at = Some(at);
    }

    fn clear(&mut self) {
        self.at = None;
    }

    fn poll_fired(&mut self, _: &mut Context<'_>) -> Poll<()> {
        let now = Instant(self.clock.now.load(Ordering::SeqCst));
        if self.at.is_none_or(|at| at > now) {
            return Poll::Pending;
        }
        if let Some(view) = self.clock.view.get() {
            let mut ends = self.clock.ends.lock().unwrap();
            ends.push(view.log_end_offset());
        }
        Poll::Ready(())
    }
}

impl Clock for Shared {
    fn now(&self) -> Instant {
        Instant(self.0.now.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Timestamp {
        Timestamp(1_700_000_000_000)
    }

    fn timer(&self) -> Box<dyn Timer> {
        Box::new(TestTimer {
            clock: self.0.clone(),
            at: None,
        })
    }
}

/// A shard that leads one partition with a follower in sync.
struct Bench {
    shard: ShardHandle,
    clock: Arc<TestClock>,
    view: Arc<PartitionView>,
    events: mpsc::UnboundedReceiver<ReplicationEvent>,
    /// Appends of the backlog that were answered.
    stored: Arc<AtomicI64>,
    refused: Arc<AtomicI64>,
    dir: tempfile::TempDir,
    _task: Task,
}

fn assignment(leader: BrokerId, epoch: i32) -> Arc<Assignment> {
    Arc::new(Assignment {
        replicas: vec![ME, FOLLOWER],
        isr: vec![ME, FOLLOWER],
        leader: Some(leader),
        partition_epoch: epoch,
        ..Assignment::alone(ME, LeaderEpoch(epoch))
    })
}

async fn new_log(env: &Env, dir: &std::path::Path) -> Log {
    let options = OpenOptions {
        identity: LogIdentity {
            topic_id: TopicId::from_random([5; 16]),
            topic_partition: TopicPartition::new("orders", 0),
        },
        config: LogConfig::default(),
        clean: None,
        tail_cache: TailCache::new(0),
    };
    Log::create(env, dir, options).await.unwrap()
}

impl Bench {
    async fn start() -> Self {
        let clock = Arc::new(TestClock::default());
        let env = Env {
            clock: Arc::new(Shared(clock.clone())),
            ..crate::env::tokio::env(Default::default()).unwrap()
        };
        let (told, events) = mpsc::unbounded_channel();
        let settings = ReplicationSettings {
            lag_time_max: LAG_TIME_MAX,
            events: told,
        };
        let (shard, task) = ShardHandle::start(&env, Some(settings));
        let dir = tempfile::tempdir().unwrap();
        let log = new_log(&env, &dir.path().join("orders-0")).await;
        let (reply, view) = oneshot::channel();
        let host = Command::Host {
            slot: SLOT,
            log: Box::new(log),
            assignment: assignment(ME, 1),
            durability: WantedDurability::Fsync,
            past: Past {
                high_watermark: None,
                is_new: true,
            },
            reply,
        };
        let brokers = [(ME, BrokerEpoch(1)), (FOLLOWER, BrokerEpoch(3))];
        let brokers = Arc::new(BTreeMap::from(brokers));
        assert!(shard.send(Command::Eligible { brokers }).await);
        assert!(shard.send(host).await);
        let view = view.await.unwrap();
        assert!(view.is_leader());
        let _ = clock.view.set(view.clone());
        Self {
            shard,
            clock,
            view,
            events,
            stored: Arc::default(),
            refused: Arc::default(),
            dir,
            _task: task,
        }
    }

    /// One append, which its answer goes to.
    async fn send_append(&self) -> oneshot::Receiver<Vec<AppendOutcome>> {
        let mut builder = BatchBuilder::new(Offset::ZERO, Compression::None, None);
        builder.push(Timestamp(1), None, Some(b"value"), &[]);
        let item = AppendItem {
            slot: SLOT,
            batch: builder.build(),
            acks: WantedAcks::Leader,
            budget: None,
        };
        let (reply, answer) = oneshot::channel();
        let command = Command::Append {
            items: vec![item],
            reply: Some(reply),
        };
        assert!(self.shard.send(command).await);
        answer
    }

    /// Gives the shard more to append than it has looked at.
    async fn send_backlog(&self) {
        let end = self.view.log_end_offset();
        for _ in 0..BACKLOG {
            let answer = self.send_append().await;
            let (stored, refused) = (self.stored.clone(), self.refused.clone());
            tokio::spawn(async move {
                let counter = match &answer.await.unwrap()[0] {
                    Ok(_) => stored,
                    Err(_) => refused,
                };
                counter.fetch_add(1, Ordering::SeqCst);
            });
        }
        assert_eq!(self.view.log_end_offset(), end, "it was looked at");
    }

    /// How many appends were stored and how many were refused, once all are answered.
    async fn answered(&self) -> (i64, i64) {
        loop {
            let stored = self.stored.load(Ordering::SeqCst);
            let refused = self.refused.load(Ordering::SeqCst);
            if stored + refused == BACKLOG {
                return (stored, refused);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// What lets a log be opened without looking through it is not written for one that is to go.
#[test]
fn a_log_is_closed_cleanly_unless_its_files_are_to_go() {
    for is_doomed in [false, true] {
        run(async {
            let bench = Bench::start().await;
            let stored = bench.send_append().await.await.unwrap();
            assert!(stored[0].is_ok());
            let (reply, end) = oneshot::channel();
            let closing = Closing { is_doomed, reply };
            let command = Command::Close {
                slot: SLOT,
                closing,
            };
            assert!(bench.shard.send(command).await);
            let end = end.await.unwrap();
            assert_eq!(end.is_none(), is_doomed);
            let index = "orders-0/00000000000000000000.index";
            assert_eq!(bench.dir.path().join(index).exists(), !is_doomed);
            let refused = bench.send_append().await.await.unwrap();
            assert!(refused[0].is_err());
        });
    }
}

fn run<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let ended = tokio::time::timeout(Duration::from_secs(60), body).await;
        ended.expect("the test ends in time")
    })
}

#[test]
fn a_follower_is_served_before_what_clients_append() {
    run(async {
        let bench = Bench::start().await;
        bench.send_backlog().await;
        let fetch = FollowerFetch {
            slot: SLOT,
            leader_epoch: LeaderEpoch(1),
            fetch_offset: Offset::ZERO,
            last_fetched_epoch: LeaderEpoch::NONE,
            log_start_offset: Offset::ZERO,
        };
        let (reply, served) = oneshot::channel();
        let command = Command::FollowerFetch {
            follower: FOLLOWER,
            broker_epoch: BrokerEpoch(3),
            partitions: vec![fetch],
            reply,
        };
        assert!(bench.shard.send(command).await);
        let served = served.await.unwrap()[0].unwrap();
        assert_eq!(served.log_end_offset, Offset::ZERO, "it waited for appends");
        assert_eq!(bench.answered().await, (BACKLOG, 0));
    });
}

#[test]
fn a_leader_that_is_deposed_appends_nothing_of_its_backlog() {
    run(async {
        let bench = Bench::start().await;
        bench.send_backlog().await;
        let (reply, done) = oneshot::channel();
        let command = Command::Assign {
            slot: SLOT,
            assignment: assignment(FOLLOWER, 2),
            reply: Some(reply),
        };
        assert!(bench.shard.send(command).await);
        done.await.unwrap();
        assert_eq!(bench.answered().await, (0, BACKLOG));
        assert_eq!(bench.view.log_end_offset(), Offset::ZERO);
    });
}

#[test]
fn what_is_due_by_the_clock_is_done_before_what_clients_append() {
    run(async {
        let mut bench = Bench::start().await;
        let first = bench.send_append().await;
        assert!(first.await.unwrap()[0].is_ok());
        bench.clock.pass(2 * LAG_TIME_MAX);
        bench.send_backlog().await;
        let event = bench.events.recv().await.unwrap();
        let ReplicationEvent::Isr(proposal) = event else {
            panic!("{event:?}");
        };
        let isr: Vec<BrokerId> = proposal.isr.iter().map(|(id, _)| *id).collect();
        assert_eq!(isr, [ME], "the follower was away for too long");
        let ends = bench.clock.ends.lock().unwrap().clone();
        assert_eq!(ends.first(), Some(&Offset(1)), "it waited for appends");
        assert_eq!(bench.answered().await, (BACKLOG, 0));
    });
}

#[test]
fn a_deletion_that_was_asked_of_an_earlier_leadership_is_refused() {
    run(async {
        let bench = Bench::start().await;
        let first = bench.send_append().await;
        assert!(first.await.unwrap()[0].is_ok());
        let fetch = FollowerFetch {
            slot: SLOT,
            leader_epoch: LeaderEpoch(1),
            fetch_offset: Offset(1),
            last_fetched_epoch: LeaderEpoch(1),
            log_start_offset: Offset::ZERO,
        };
        let (reply, served) = oneshot::channel();
        let command = Command::FollowerFetch {
            follower: FOLLOWER,
            broker_epoch: BrokerEpoch(3),
            partitions: vec![fetch],
            reply,
        };
        assert!(bench.shard.send(command).await);
        assert_eq!(served.await.unwrap()[0].unwrap().high_watermark, Offset(1));
        let (reply, mut deleted) = oneshot::channel();
        let command = Command::DeleteRecords {
            slot: SLOT,
            before: Some(Offset(1)),
            reply,
        };
        assert!(bench.shard.send(command).await);
        // It leads on, with another leader in between that it never heard of.
        let (reply, done) = oneshot::channel();
        let command = Command::Assign {
            slot: SLOT,
            assignment: assignment(ME, 3),
            reply: Some(reply),
        };
        assert!(bench.shard.send(command).await);
        done.await.unwrap();
        let outcome = deleted.try_recv().expect("nobody will answer it later");
        assert_eq!(outcome, Err(ErrorCode::NotLeaderOrFollower));
    });
}

fn mirrored(offset: i64, epoch: i32) -> MirrorAppend {
    let mut builder = BatchBuilder::new(Offset(offset), Compression::None, None);
    builder.push(Timestamp(1), None, Some(b"value"), &[]);
    MirrorAppend {
        slot: SLOT,
        leader_epoch: LeaderEpoch(epoch),
        fetch_offset: Offset(offset),
        batches: vec![builder.build()],
        source_log_start_offset: Offset::ZERO,
    }
}

impl Bench {
    async fn mirror(&self, item: MirrorAppend) -> Result<Offset, ErrorCode> {
        let (reply, placed) = oneshot::channel();
        let items = vec![item];
        let command = Command::MirrorAppend { items, reply };
        assert!(self.shard.send(command).await);
        let placed = placed.await.unwrap().remove(0);
        placed.map(|position| position.fetch_offset)
    }

    async fn assign(&self, assignment: Arc<Assignment>) {
        let (reply, done) = oneshot::channel();
        let command = Command::Assign {
            slot: SLOT,
            assignment,
            reply: Some(reply),
        };
        assert!(self.shard.send(command).await);
        done.await.unwrap();
    }

    async fn configure(&self, config: LogConfig) {
        let command = Command::Configure {
            slot: SLOT,
            config: Box::new(config),
            durability: WantedDurability::Fsync,
        };
        assert!(self.shard.send(command).await);
    }

    async fn follower_fetch(&self, fetch_offset: i64, epoch: i32) -> Result<Served, ErrorCode> {
        let fetch = FollowerFetch {
            slot: SLOT,
            leader_epoch: LeaderEpoch(epoch),
            fetch_offset: Offset(fetch_offset),
            last_fetched_epoch: LeaderEpoch::NONE,
            log_start_offset: Offset(fetch_offset),
        };
        let (reply, served) = oneshot::channel();
        let command = Command::FollowerFetch {
            follower: FOLLOWER,
            broker_epoch: BrokerEpoch(3),
            partitions: vec![fetch],
            reply,
        };
        assert!(self.shard.send(command).await);
        served.await.unwrap().remove(0)
    }
}

#[test]
fn a_mirror_is_appended_where_it_was_asked_for_and_in_the_epoch_that_it_was_asked_in() {
    run(async {
        let bench = Bench::start().await;
        assert_eq!(bench.mirror(mirrored(0, 1)).await, Ok(Offset(1)));
        let again = bench.mirror(mirrored(0, 1)).await;
        assert_eq!(again, Err(ErrorCode::OffsetOutOfRange));
        let hole = bench.mirror(mirrored(2, 1)).await;
        assert_eq!(hole, Err(ErrorCode::OffsetOutOfRange));
        let mut gap = mirrored(5, 1);
        gap.fetch_offset = Offset(1);
        assert_eq!(bench.mirror(gap).await, Ok(Offset(6)));
        let mut back = mirrored(6, 1);
        back.batches.push(back.batches[0].clone());
        assert_eq!(bench.mirror(back).await, Err(ErrorCode::CorruptMessage));
        bench.assign(assignment(ME, 2)).await;
        let late = bench.mirror(mirrored(6, 1)).await;
        assert_eq!(late, Err(ErrorCode::FencedLeaderEpoch));
        bench.assign(assignment(FOLLOWER, 3)).await;
        let deposed = bench.mirror(mirrored(6, 3)).await;
        assert_eq!(deposed, Err(ErrorCode::NotLeaderOrFollower));
        assert_eq!(bench.view.log_end_offset(), Offset(6));
    });
}

#[test]
fn a_mirror_is_committed_by_its_followers() {
    run(async {
        let bench = Bench::start().await;
        assert_eq!(bench.mirror(mirrored(0, 1)).await, Ok(Offset(1)));
        assert_eq!(bench.view.high_watermark(), Offset::ZERO);
        bench.follower_fetch(1, 1).await.unwrap();
        assert_eq!(bench.view.high_watermark(), Offset(1));
    });
}

#[test]
fn a_mirror_that_was_never_filled_begins_where_its_settings_say() {
    run(async {
        let bench = Bench::start().await;
        let config = LogConfig {
            first_offset: Offset(500),
            ..LogConfig::default()
        };
        bench.configure(config.clone()).await;
        let refused = bench.follower_fetch(0, 1).await;
        assert_eq!(
            refused,
            Err(ErrorCode::OffsetOutOfRange),
            "it begins later now"
        );
        assert_eq!(bench.view.reader().log_start_offset(), Offset(500));
        assert_eq!(bench.view.log_end_offset(), Offset(500));
        assert_eq!(bench.view.high_watermark(), Offset(500));
        assert_eq!(bench.view.leadership().epoch_start, Offset(500));
        assert_eq!(bench.mirror(mirrored(500, 1)).await, Ok(Offset(501)));
        bench.follower_fetch(501, 1).await.unwrap();
        assert_eq!(bench.view.high_watermark(), Offset(501));
        bench.configure(config).await;
        assert_eq!(bench.mirror(mirrored(501, 1)).await, Ok(Offset(502)));
    });
}

#[test]
fn a_mirror_lets_go_of_what_its_source_has_no_more_once_that_is_committed() {
    run(async {
        let bench = Bench::start().await;
        let mut item = mirrored(0, 1);
        item.batches.push(mirrored(1, 1).batches.remove(0));
        item.source_log_start_offset = Offset(2);
        assert_eq!(bench.mirror(item).await, Ok(Offset(2)));
        bench.follower_fetch(2, 1).await.unwrap();
        assert_eq!(
            bench.view.wanted_start(),
            Offset::ZERO,
            "nothing was committed then"
        );
        let mut told = mirrored(2, 1);
        told.batches.clear();
        told.source_log_start_offset = Offset(1);
        assert_eq!(bench.mirror(told).await, Ok(Offset(2)));
        assert_eq!(bench.view.wanted_start(), Offset(1));
        // The follower says that it begins there, too.
        bench.follower_fetch(2, 1).await.unwrap();
        assert_eq!(bench.view.reader().log_start_offset(), Offset(1));
    });
}
