//! A tiny world: every producer of the plan appends numbers to a file of its own, and after a loss
//! of power all that it said were kept must be there. It serves the tests of the runner.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use klamm::env::{Env, OpenMode, Rng};
use klamm_jepsen::checker::Violation;
use klamm_jepsen::history::{Answer, Call, Partition, Written};

use crate::clock::elapsed;
use crate::plan::{
    ClientPlan, ClockOptions, DiskOptions, Fault, LinkOptions, Plan, Role, TimedFault, TopicPlan,
    Versions,
};
use crate::record::Recorder;
use crate::run::Outcome;
use crate::trace::Trace;
use crate::world::{SimWorld, simulate_into};

const SERVER: &str = "server";

/// Bytes of a number in a file.
const NUMBER: usize = 8;

/// A plan with more in it than any failure needs.
pub(crate) fn plan(scenario: &str, seed: u64) -> Plan {
    let mut root = [0; 32];
    root[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = Rng::derived(root, "plan", 0);
    let mut faults: Vec<TimedFault> = (0..4 + rng.below(5))
        .map(|_| TimedFault {
            at_ms: 100 + rng.below(1700),
            fault: fault(&mut rng),
        })
        .collect();
    faults.sort_by_key(|fault| fault.at_ms);
    Plan {
        scenario: scenario.to_owned(),
        seed,
        length_ms: 2000,
        liveness_ms: 1000,
        broker: [("log.segment.bytes", "8192"), ("klamm.worker.threads", "2")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        nodes: Vec::new(),
        link: LinkOptions::default(),
        disk: DiskOptions {
            sync_max_ms: 9,
            ..DiskOptions::default()
        },
        clock: ClockOptions { drift_ppm: 20 },
        topics: vec![TopicPlan {
            name: "ledger".to_owned(),
            partitions: 3,
            replicas: 1,
            config: BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]),
        }],
        clients: (0..2 + rng.below(3))
            .map(|at| client(at, &mut rng))
            .collect(),
        faults,
        ..Plan::default()
    }
}

fn fault(rng: &mut Rng) -> Fault {
    let node = SERVER.to_owned();
    match rng.below(4) {
        0 => Fault::PowerLoss { node, down_ms: 50 },
        1 => Fault::Kill { node, down_ms: 50 },
        2 => Fault::Pause { node, for_ms: 40 },
        _ => Fault::Full { node, for_ms: 100 },
    }
}

fn client(at: u64, rng: &mut Rng) -> ClientPlan {
    let topic = "ledger".to_owned();
    let role = if at == 1 {
        Role::Lister { topic, pause_ms: 9 }
    } else {
        Role::Producer {
            topic,
            acks: -1,
            idempotent: true,
            in_flight: 3,
            batch_records: 4,
            value_bytes: 100,
            keys: 5,
            tombstone_percent: 10,
            compression: "lz4".to_owned(),
            pause_ms: 4 + rng.below(9),
            repeat_percent: 10,
            retries: true,
            library: false,
        }
    };
    ClientPlan {
        after_promotion: false,
        name: format!("client-{at}"),
        start_ms: 10 * at,
        versions: Versions::Mixed,
        role,
    }
}

/// What was said to be kept, by file.
type Kept = Arc<Mutex<BTreeMap<PathBuf, u64>>>;

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries out a plan: `planted-loss` says that numbers are kept before they are synced, and
/// `planted-panic` panics at the first loss of power; any other scenario is sound.
pub(crate) fn execute(plan: &Plan, keep_trace: bool) -> Outcome {
    let carried_out = plan.clone();
    let trace = Trace::keeping(keep_trace);
    let written = trace.clone();
    let run = simulate_into(plan.seed, trace, |world| carry_out(world, carried_out));
    let mut outcome = run.value;
    (outcome.trace_hash, outcome.trace_events) = (written.hash(), written.events());
    if keep_trace {
        outcome.trace = run.trace;
    }
    outcome
}

async fn carry_out(world: SimWorld, plan: Plan) -> Outcome {
    let recorder = Recorder::new(world.trace());
    let (kept, mut outcome) = (Kept::default(), Outcome::default());
    let server = world.node(SERVER);
    let mut env = server.start();
    let made = env.disk.create_dir(Path::new("/data")).await;
    made.expect("the disk has no faults");
    let synced = env.disk.sync_dir(Path::new("/")).await;
    synced.expect("the disk has no faults");
    start(&env, &plan, &recorder, &kept).await;
    let began = elapsed();
    for timed in &plan.faults {
        let at = began + Duration::from_millis(timed.at_ms);
        env.sleep(at.saturating_sub(elapsed())).await;
        let kind = match &timed.fault {
            Fault::PowerLoss { .. } => {
                assert!(plan.scenario != "planted-panic", "a planted panic");
                server.lose_power();
                "power-loss"
            }
            Fault::Kill { .. } => {
                server.kill();
                "kill"
            }
            _ => continue,
        };
        *outcome.faults.entry(kind.to_owned()).or_default() += 1;
        env = server.start();
        outcome.violations.extend(check(&env, &kept).await);
        start(&env, &plan, &recorder, &kept).await;
    }
    let end = began + Duration::from_millis(plan.length_ms);
    env.sleep(end.saturating_sub(elapsed())).await;
    let lost = u64::from(!outcome.violations.is_empty());
    outcome.probes.insert("a tail was lost".to_owned(), lost);
    outcome.probes.insert("all disks burnt".to_owned(), 0);
    let numbers = locked(&kept).values().sum();
    outcome.operations.insert("send ok".to_owned(), numbers);
    outcome.events = recorder.events();
    outcome.simulated = elapsed();
    outcome
}

/// Starts a task for each producer, which goes on behind what its file holds.
async fn start(env: &Env, plan: &Plan, recorder: &Recorder, kept: &Kept) {
    for client in &plan.clients {
        let Role::Producer { pause_ms, .. } = client.role else {
            continue;
        };
        let path = Path::new("/data").join(&client.name);
        let held = numbers(&content(env, &path).await);
        locked(kept).insert(path.clone(), held);
        let writer = Writer {
            env: env.clone(),
            path,
            name: client.name.clone(),
            pause: Duration::from_millis(pause_ms.max(1)),
            hasty: plan.scenario == "planted-loss",
            recorder: recorder.clone(),
            kept: Arc::clone(kept),
        };
        env.spawn("writer", writer.write(held)).detach();
    }
}

struct Writer {
    env: Env,
    path: PathBuf,
    name: String,
    pause: Duration,
    hasty: bool,
    recorder: Recorder,
    kept: Kept,
}

impl Writer {
    /// Until the process ends, which shows as an error.
    async fn write(self, mut held: u64) {
        let Ok(file) = self.env.disk.open(&self.path, OpenMode::Create).await else {
            return;
        };
        if self.env.disk.sync_dir(Path::new("/data")).await.is_err() {
            return;
        }
        loop {
            self.env.sleep(self.pause).await;
            let op = self.recorder.invoke(&self.name, call(held));
            let number = Bytes::copy_from_slice(&held.to_le_bytes());
            let written = file.write_at(held * NUMBER as u64, vec![number]).await;
            if written.is_err() || !self.hasty && file.sync().await.is_err() {
                return;
            }
            let answer = Answer::Send {
                base_offset: i64::try_from(held).unwrap_or(i64::MAX),
                log_append_time: -1,
                log_start_offset: 0,
                attempts: Vec::new(),
            };
            self.recorder.ok(&self.name, op, answer);
            held += 1;
            locked(&self.kept).insert(self.path.clone(), held);
        }
    }
}

fn call(number: u64) -> Call {
    Call::Send {
        to: Partition {
            topic: "ledger".to_owned(),
            partition: 0,
        },
        acks: -1,
        records: vec![Written {
            id: number,
            key: None,
            tombstone: false,
            digest: 0,
            timestamp: 0,
        }],
        stamp: None,
        library: None,
    }
}

/// Everything in a file; nothing if there is none.
async fn content(env: &Env, path: &Path) -> Bytes {
    let Ok(file) = env.disk.open(path, OpenMode::Read).await else {
        return Bytes::new();
    };
    let len = file.len().await.expect("the disk has no faults");
    let len = usize::try_from(len).expect("a small file");
    let read = file.read_at(0, len).await;
    read.expect("the disk has no faults")
}

/// How many numbers are there as they were written, up to the first that is not.
fn numbers(bytes: &[u8]) -> u64 {
    let (held, _) = bytes.as_chunks::<NUMBER>();
    let as_written = |(at, number): &(usize, &[u8; NUMBER])| {
        let number = u64::from_le_bytes(**number);
        number == *at as u64
    };
    held.iter().enumerate().take_while(as_written).count() as u64
}

/// What is not there though it was said to be kept.
async fn check(env: &Env, kept: &Kept) -> Vec<Violation> {
    let expected = locked(kept).clone();
    let mut found = Vec::new();
    for (path, expected) in expected {
        let good = numbers(&content(env, &path).await);
        if good < expected {
            found.push(Violation {
                property: "P1",
                time: u64::try_from(elapsed().as_nanos()).unwrap_or(u64::MAX),
                partition: None,
                operations: Vec::new(),
                detail: format!("{}: {good} of {expected} are there", path.display()),
            });
        }
    }
    found
}
