//! A plan carried out: from an empty world to a verdict.
//!
//! 1. The broker starts, the topics are made.
//! 2. **Safety**: clients work while faults happen, for as long as the plan says.
//! 3. **Liveness**: faults end and what is broken is healed; from here on everything must work
//!    within bounds: clients end, every partition takes a write, groups settle.
//! 4. **Final**: everything is read from start to end.
//! 5. An idle stretch in which nothing may spin, a stop in order, an audit of the disk, and a
//!    comparison of the disk with what clients were told.
//!
//! Then the checkers judge the history, and a run that proves nothing is said to be vacuous.

mod nemesis;
mod newcomers;
mod server;
mod verdict;
mod white_box;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use klamm::env::{Env, Rng, Task};
use klamm_jepsen::checker::Violation;
use klamm_jepsen::history::{Event, Note, Phase};

use crate::audit::{self, Finding, Mode};
use crate::plan::{DiskOptions, LinkOptions, Plan, Role};
use crate::probe;
use crate::record::Recorder;
use crate::trace::Trace;
use crate::workload::finals::Finals;
use crate::workload::{self, Stop, Topics};
use crate::world::{SimNode, SimWorld, simulate_into};
use nemesis::Nemesis;
use server::{End, Server};

/// The host of the broker, and how clients reach it.
const SERVER: &str = "server";
const BROKER: &str = "server:9092";
/// Longest that clients may take to end what they were doing once all is well.
const CLIENTS_END_WITHIN: Duration = Duration::from_secs(60);
const CREATE_WITHIN: Duration = Duration::from_secs(60);
/// Counts of the disk that say that a call failed.
const FAILED_CALLS: &[&str] = &[
    "failed syncs, pages kept in cache",
    "failed syncs, pages reverted",
    "failed writes",
    "failed reads",
    "refusals for lack of space",
];
const IDLE: Duration = Duration::from_secs(3);
/// Most polls of tasks in an idle second. Timers of retention, cleaners and idle connections are a
/// few dozen.
const IDLE_POLLS_MAX: u64 = 2000;

/// What a run gave.
#[derive(Debug, Default)]
pub struct Outcome {
    pub events: Vec<Event>,
    /// Of checkers, audit and liveness, by time.
    pub violations: Vec<Violation>,
    pub trace_hash: u64,
    pub trace_events: u64,
    /// Every event, if it was asked for.
    pub trace: Vec<String>,
    /// The time that passed in the simulation.
    pub simulated: Duration,
    /// How often each kind of operation ended how.
    pub operations: BTreeMap<String, u64>,
    /// How often each kind of fault took effect.
    pub faults: BTreeMap<String, u64>,
    /// Rare situations that were reached.
    pub probes: BTreeMap<String, u64>,
    /// Why this run proves nothing, if so.
    pub vacuous: Option<String>,
}

/// What the simulation itself brings out.
struct Witnessed {
    events: Vec<Event>,
    findings: Vec<Finding>,
    faults: BTreeMap<String, u64>,
    probes: BTreeMap<String, u64>,
    simulated: Duration,
}

/// Carries out `plan` on a thread of its own. The same plan and code give the same outcome.
///
/// # Panics
/// When the broker panics, or when everything waits for ever.
#[must_use]
pub fn execute(plan: &Plan, keep_trace: bool) -> Outcome {
    let inner = plan.clone();
    let trace = match keep_trace {
        true => Trace::whole(),
        false => Trace::default(),
    };
    let written = trace.clone();
    let run = simulate_into(plan.seed, trace, move |world| scenario(world, inner));
    let seen = run.value;
    let judged = verdict::judge(plan, &seen.events, &seen.findings);
    Outcome {
        violations: judged.violations,
        operations: judged.operations,
        vacuous: judged.vacuous,
        trace_hash: written.hash(),
        trace_events: written.events(),
        trace: if keep_trace { run.trace } else { Vec::new() },
        events: seen.events,
        simulated: seen.simulated,
        faults: seen.faults,
        probes: seen.probes,
    }
}

/// What the phases share.
struct Stage {
    plan: Arc<Plan>,
    world: SimWorld,
    recorder: Recorder,
    observer: Env,
    server: Server,
    root: [u8; 32],
    done: Arc<Mutex<BTreeMap<String, u64>>>,
    /// Counts what the run itself asked for.
    asked: AtomicU64,
    /// Clients' hosts; a dropped node would end them.
    hosts: Vec<SimNode>,
}

async fn scenario(world: SimWorld, plan: Plan) -> Witnessed {
    let plan = Arc::new(plan);
    let recorder = Recorder::new(world.trace());
    let probes = probe::install(recorder.clone(), world.trace());
    world.network().set_default(plan.link);
    let node = world.node(SERVER);
    node.disk().set_options(plan.disk);
    node.set_drift(plan.clock.drift_ppm);
    let observer_host = world.node("observer");
    let observer = observer_host.start();
    let begun = observer.now();
    let server = Server::new(node, &plan, recorder.clone(), observer.clone());
    let mut root = [0; 32];
    root[..8].copy_from_slice(&plan.seed.to_le_bytes());
    let mut stage = Stage {
        world,
        recorder,
        observer,
        server,
        root,
        done: Arc::default(),
        asked: AtomicU64::new(0),
        hosts: vec![observer_host],
        plan,
    };
    stage.recorder.note("run", phase(Phase::Safety));
    let undone = stage
        .finals(CREATE_WITHIN)
        .create_topics(&stage.plan.topics)
        .await;
    for (topic, error) in undone {
        let detail = format!("topic {topic} could not be made on a healthy node: {error}");
        stage.server.broken("V2", &detail);
    }
    stage.safety().await;
    stage.liveness().await;
    stage.finale().await;
    Witnessed {
        findings: stage.server.take_findings(),
        faults: stage.faults(),
        probes: every_probe(&probes),
        simulated: stage.observer.now().since(begun),
        events: stage.recorder.events(),
    }
}

/// Counts of all probes: those never met with 0, so that a sweep tells of them.
fn every_probe(probes: &probe::Probes) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<String, u64> = probe::NAMES
        .iter()
        .map(|name| ((*name).to_owned(), 0))
        .collect();
    counts.extend(probes.counts());
    counts
}

/// The same disk, as fast as one usually is.
fn usual(disk: DiskOptions) -> DiskOptions {
    let usual = DiskOptions::default();
    DiskOptions {
        latency_max_ms: usual.latency_max_ms,
        sync_max_ms: usual.sync_max_ms,
        ..disk
    }
}

fn phase(phase: Phase) -> Note {
    Note::Phase { phase }
}

impl Stage {
    /// Clients and faults.
    async fn safety(&mut self) {
        let stop = Stop::default();
        let topics = self.plan.topics.iter();
        let topics: Topics = topics
            .map(|topic| (topic.name.clone(), topic.partitions))
            .collect();
        let topics = Arc::new(topics);
        let plan = Arc::clone(&self.plan);
        let clients: Vec<Task> = plan
            .clients
            .iter()
            .map(|client| {
                let host = self.world.node(&client.name);
                let env = host.start();
                self.hosts.push(host);
                let body = workload::run(workload::Client {
                    env: env.clone(),
                    plan: client.clone(),
                    recorder: self.recorder.clone(),
                    rng: Rng::derived(self.root, &client.name, 1),
                    broker: BROKER.to_owned(),
                    topics: Arc::clone(&topics),
                    stop: stop.clone(),
                });
                env.spawn("client", body)
            })
            .collect();
        let nemesis = Nemesis {
            server: self.server.clone(),
            network: self.world.network(),
            recorder: self.recorder.clone(),
            observer: self.observer.clone(),
            rng: Arc::new(Mutex::new(Rng::derived(self.root, "nemesis", 0))),
            done: Arc::clone(&self.done),
        };
        let faults = nemesis.begin(&plan);
        let length = Duration::from_millis(plan.length_ms);
        self.observer.sleep(length).await;
        drop(faults);
        self.heal().await;
        self.recorder.note("run", phase(Phase::Liveness));
        stop.set();
        self.clients_end(clients).await;
    }

    /// Ends every fault, and makes links and disk as good as others: the bounds that follow are of
    /// time, and what piled up on a slow plan would not end within them. A log that went offline
    /// for an error of its disk comes back with the process, as its operator would see to.
    async fn heal(&self) {
        let network = self.world.network();
        network.heal_all();
        network.set_default(LinkOptions::default());
        let disk = self.server.node().disk();
        disk.heal();
        disk.set_options(usual(self.plan.disk));
        self.server.node().resume();
        self.server.node().set_wall_right();
        self.server.note_clock();
        self.server.note_damage();
        if disk.is_power_out() {
            // It went at a call, and the fault ended before it took the process along.
            self.server.hold(End::PowerLoss).await;
        }
        self.server.release_all();
        if self.errors_of_disk() {
            if self.server.is_serving() {
                self.server.hold(End::Stop).await;
                self.server.release();
            } else if self.server.is_starting() {
                // What it has met already would stay offline with it.
                self.server.hold(End::Kill).await;
                self.server.release();
            }
        }
    }

    /// Whether a call of the disk failed by a fault.
    fn errors_of_disk(&self) -> bool {
        let counts = self.server.node().disk().counts();
        FAILED_CALLS
            .iter()
            .any(|kind| counts.get(kind).is_some_and(|count| *count > 0))
    }

    async fn clients_end(&self, clients: Vec<Task>) {
        let ending = async {
            for client in clients {
                client.join().await;
            }
        };
        let ended = self.observer.timeout(CLIENTS_END_WITHIN, ending).await;
        if ended.is_err() {
            let detail = "a client did not end within a minute of all being well";
            self.server.broken("V10", detail);
        }
    }

    /// A client for what the run itself asks, with a time for it.
    fn finals(&self, within: Duration) -> Finals {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let rng = Rng::derived(self.root, "finals", asked);
        Finals::new(&self.observer, &self.recorder, BROKER, rng, within)
    }

    /// Everything works again, within the plan's bound.
    async fn liveness(&mut self) {
        let within = Duration::from_millis(self.plan.liveness_ms);
        let deadline = self.observer.now().plus(within);
        while !self.server.is_serving() && self.observer.now() < deadline {
            self.observer.sleep(Duration::from_millis(100)).await;
        }
        if !self.server.is_serving() {
            let why = self.server.refusal();
            let why = why.unwrap_or_else(|| "it is neither up nor refusing".to_owned());
            self.server
                .broken("V1", &format!("the broker does not start: {why}"));
            return;
        }
        let left = deadline.since(self.observer.now());
        self.newcomers(left).await;
        let left = deadline.since(self.observer.now());
        let mut finals = self.finals(left);
        let topics = finals.topics().await;
        for (of, error) in finals.send_everywhere(&topics).await {
            let (topic, partition) = (of.topic, of.partition);
            let detail = format!("{topic}-{partition} takes no write: {error}");
            self.server.broken("V2", &detail);
        }
        let groups = self.groups_of(|_| true);
        for (group, state) in finals.wait_until_stable(&groups).await {
            let detail = format!("group {group} stays {state}");
            self.server.broken("V4", &detail);
        }
    }

    /// Every group of a client whose role is one of these.
    fn groups_of(&self, wanted: impl Fn(&Role) -> bool) -> Vec<String> {
        let clients = self.plan.clients.iter();
        let groups = clients.filter_map(|client| match &client.role {
            role if !wanted(role) => None,
            Role::Member { group, .. } | Role::Committer { group, .. } => Some(group.clone()),
            _ => None,
        });
        groups.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Reads everything, then looks at what is left when nobody asks for anything.
    async fn finale(&self) {
        self.recorder.note("run", phase(Phase::Final));
        let mode = match self.server.is_serving() {
            true => Mode::Stopped,
            // It refuses to start: the disk is as the last process left it.
            false => Mode::Crashed,
        };
        if self.server.is_serving() {
            let mut finals = self.finals(Duration::from_millis(self.plan.liveness_ms));
            let topics = finals.topics().await;
            let undone = finals.read_to_end(&topics).await;
            // A deletion whose end nobody learnt of may have its effect only now.
            let topics = finals.topics().await;
            for (of, error) in undone {
                let (topic, partition) = (of.topic, of.partition);
                if !topics.contains_key(&topic) {
                    continue;
                }
                let detail = format!("{topic}-{partition} cannot be read to its end: {error}");
                self.server.broken("V4", &detail);
            }
            for (group, error) in finals
                .fetch_committed_all(&self.groups_of(|_| true), &topics)
                .await
            {
                let detail = format!("the offsets of group {group} cannot be fetched: {error}");
                self.server.broken("V4", &detail);
            }
            self.idle().await;
            self.server.hold(End::Stop).await;
        }
        let disk = self.server.node().disk();
        let (files, damaged) = (disk.files(), disk.damaged());
        self.server
            .add_findings(audit::audit(&files, mode, &damaged));
        if damaged.is_empty() && mode == Mode::Stopped {
            let told = white_box::compare(&self.recorder.events(), &files);
            self.server.add_findings(told);
        }
    }

    /// V8: a broker nobody talks to does next to nothing.
    async fn idle(&self) {
        self.observer.sleep(IDLE).await;
        let before = self.server.node().polls();
        self.observer.sleep(IDLE).await;
        let polls = self.server.node().polls() - before;
        let seconds = IDLE.as_secs();
        if polls > IDLE_POLLS_MAX * seconds {
            let detail = format!("{polls} polls in {seconds} idle seconds");
            self.server.broken("V8", &detail);
        }
    }

    /// How often each fault took effect.
    fn faults(&self) -> BTreeMap<String, u64> {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let mut faults = done.clone();
        let counted = self.world.network().counts();
        let counted = counted
            .into_iter()
            .chain(self.server.node().disk().counts());
        for (kind, count) in counted {
            *faults.entry(kind.to_owned()).or_default() += count;
        }
        faults.insert("start".to_owned(), self.server.starts());
        faults
    }
}
