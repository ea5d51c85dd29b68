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

mod cluster;
mod endings;
mod links;
mod nemesis;
mod newcomers;
mod operator;
mod server;
mod verdict;
mod white_box;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use klamm::env::{Env, Rng, Task};
use klamm_jepsen::checker::Violation;
use klamm_jepsen::history::{Event, Note, Partition, Phase};

use crate::plan::{DiskOptions, LinkOptions, NodePlan, Plan, Role};
use crate::probe;
use crate::record::Recorder;
use crate::trace::Trace;
use crate::watch::Watch;
use crate::workload::finals::Finals;
use crate::workload::{self, Stop, Topics};
use crate::world::{SimNode, SimWorld, simulate_into};
use cluster::Cluster;
use nemesis::Nemesis;
use operator::Operators;
use server::{End, Server};

/// Longest that clients may take to end what they were doing once all is well.
const CLIENTS_END_WITHIN: Duration = Duration::from_secs(60);
const CREATE_WITHIN: Duration = Duration::from_secs(60);
/// Longest that a node may take to come back before the next one is restarted.
const RESTART_WITHIN: Duration = Duration::from_secs(20);

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
    /// Of all clusters.
    events: Vec<Event>,
    /// Of each cluster.
    clusters: Vec<verdict::Seen>,
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
    let judged = verdict::judge(&seen.events, &seen.clusters);
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

/// What the phases of a cluster share.
struct Stage {
    plan: Arc<Plan>,
    /// How clients reach the brokers.
    broker: String,
    operators: Operators,
    world: SimWorld,
    recorder: Recorder,
    observer: Env,
    cluster: Cluster,
    root: [u8; 32],
    done: Arc<Mutex<BTreeMap<String, u64>>>,
    /// Counts what the run itself asked for.
    asked: AtomicU64,
    /// Partitions that faults took away for good, which the run does not ask for any more.
    spoilt: Mutex<BTreeSet<Partition>>,
    /// Clients' hosts; a dropped node would end them.
    hosts: Vec<SimNode>,
    /// Set once what the cluster copies from others was promoted.
    promoted: Stop,
    /// Whether there are other clusters.
    is_linked: bool,
}

/// Clients that work, and faults that happen to them.
struct UnderWay {
    clients: Vec<Task>,
    stop: Stop,
    faults: Vec<Task>,
}

/// The nodes of a cluster before anything runs on them, and who is told of them.
struct Laid {
    plan: Arc<Plan>,
    recorder: Recorder,
    watch: Watch,
    nodes: Vec<(SimNode, NodePlan)>,
}

async fn scenario(world: SimWorld, plan: Plan) -> Witnessed {
    let recorder = Recorder::new(world.trace());
    let plans = plan.of_clusters().into_iter().map(Arc::new);
    let clusters: Vec<(Arc<Plan>, Recorder, Watch)> = plans
        .map(|plan| {
            let recorder = recorder.of_cluster(plan.cluster.as_deref());
            let watch = Watch::new(&plan, recorder.clone());
            (plan, recorder, watch)
        })
        .collect();
    let heard = clusters.iter().flat_map(|(plan, recorder, watch)| {
        let nodes = plan.all_nodes().into_iter();
        nodes.map(|node| (node.name, (recorder.clone(), watch.clone())))
    });
    let probes = probe::install_for(heard.collect(), world.trace());
    world.network().set_default(plan.link);
    let laid = clusters.into_iter().map(|told| lay(&world, told));
    let laid: Vec<Laid> = laid.collect();
    if let Some(options) = plan.wide {
        world.network().set_wide(sides(&laid), options);
    }
    let observer_host = world.node("observer");
    let observer = observer_host.start();
    let begun = observer.now();
    let stages = laid.into_iter().enumerate();
    let stages = stages.map(|(number, laid)| Stage::new(&world, &observer, number, laid));
    let mut stages: Vec<Stage> = stages.collect();
    let is_linked = stages.len() > 1;
    stages
        .iter_mut()
        .for_each(|stage| stage.is_linked = is_linked);
    carry_out(&world, &mut stages, &observer, plan.length_ms).await;
    let witnessed = Witnessed {
        faults: faults(&world, &stages),
        probes: every_probe(&probes),
        simulated: observer.now().since(begun),
        events: recorder.events(),
        clusters: stages.into_iter().map(Stage::seen).collect(),
    };
    drop(observer_host);
    witnessed
}

/// Makes the nodes of a cluster.
fn lay(world: &SimWorld, (plan, recorder, watch): (Arc<Plan>, Recorder, Watch)) -> Laid {
    let nodes = plan.all_nodes().into_iter().map(|of| {
        let node = world.node(&of.name);
        node.disk().set_options(plan.disk);
        node.set_drift(plan.clock.drift_ppm);
        (node, of)
    });
    Laid {
        nodes: nodes.collect(),
        plan,
        recorder,
        watch,
    }
}

/// Which cluster each node is of.
fn sides(laid: &[Laid]) -> BTreeMap<String, usize> {
    let each = laid.iter().enumerate().flat_map(|(cluster, laid)| {
        let nodes = laid.nodes.iter();
        nodes.map(move |(node, _)| (node.name().to_owned(), cluster))
    });
    each.collect()
}

/// All phases, each in every cluster before the next.
async fn carry_out(world: &SimWorld, stages: &mut [Stage], observer: &Env, length_ms: u64) {
    for stage in stages.iter() {
        stage.recorder.note("run", phase(Phase::Safety));
        stage.make_topics().await;
    }
    let mut under_way: Vec<UnderWay> = stages.iter_mut().map(Stage::set_out).collect();
    observer.sleep(Duration::from_millis(length_ms)).await;
    for one in &mut under_way {
        one.faults.clear();
    }
    let network = world.network();
    network.heal_all();
    network.set_default(LinkOptions::default());
    for stage in stages.iter() {
        stage.heal().await;
    }
    for (stage, one) in stages.iter().zip(&under_way) {
        stage.recorder.note("run", phase(Phase::Liveness));
        one.stop.set();
    }
    for (stage, one) in stages.iter().zip(under_way) {
        stage.clients_end(one.clients).await;
        stage.operators_end().await;
    }
    for stage in stages.iter_mut() {
        stage.liveness().await;
    }
    links::catch_up(stages).await;
    for stage in stages.iter() {
        stage.read_finally().await;
    }
    for stage in stages.iter() {
        stage.finale().await;
    }
}

/// How often each fault took effect.
fn faults(world: &SimWorld, stages: &[Stage]) -> BTreeMap<String, u64> {
    let mut faults = BTreeMap::new();
    let of_network = world.network().counts().into_iter();
    let of_network = of_network.map(|(kind, count)| (kind.to_owned(), count));
    let of_clusters = stages.iter().flat_map(Stage::faults);
    for (kind, count) in of_network.chain(of_clusters) {
        *faults.entry(kind).or_default() += count;
    }
    faults
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
    /// The cluster with this number of all, whose nodes begin to run at once.
    fn new(world: &SimWorld, observer: &Env, number: usize, laid: Laid) -> Self {
        let Laid {
            plan,
            recorder,
            watch,
            nodes,
        } = laid;
        let servers = nodes.into_iter().map(|(node, of)| {
            let told = (recorder.clone(), watch.clone());
            Server::new(node, &of, &plan, told, observer.clone())
        });
        let cluster = Cluster::new(servers.collect(), watch.clone());
        let mut root = [0; 32];
        root[..8].copy_from_slice(&plan.seed.to_le_bytes());
        root[8..16].copy_from_slice(&(number as u64).to_le_bytes());
        let broker = plan.bootstrap();
        Self {
            operators: Operators::new(observer.clone(), broker.clone(), root),
            broker,
            world: world.clone(),
            recorder,
            observer: observer.clone(),
            cluster,
            root,
            done: Arc::default(),
            asked: AtomicU64::new(0),
            spoilt: Mutex::default(),
            hosts: Vec::new(),
            promoted: Stop::default(),
            is_linked: false,
            plan,
        }
    }

    async fn make_topics(&self) {
        let mut finals = self.finals(CREATE_WITHIN);
        for (topic, error) in finals.create_topics(&self.plan.topics).await {
            let detail = format!("topic {topic} could not be made on a healthy node: {error}");
            self.cluster.first().broken("V2", &detail);
        }
    }

    /// Begins what clients and faults do.
    fn set_out(&mut self) -> UnderWay {
        let stop = Stop::default();
        let topics = self.plan.all_topics();
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
                    broker: self.broker.clone(),
                    topics: Arc::clone(&topics),
                    stop: stop.clone(),
                    promoted: self.promoted.clone(),
                });
                env.spawn("client", body)
            })
            .collect();
        let nemesis = Nemesis {
            cluster: self.cluster.clone(),
            operators: self.operators.clone(),
            plan: Arc::clone(&self.plan),
            network: self.world.network(),
            recorder: self.recorder.clone(),
            observer: self.observer.clone(),
            rng: Arc::new(Mutex::new(Rng::derived(self.root, "nemesis", 0))),
            done: Arc::clone(&self.done),
        };
        self.begin_links();
        UnderWay {
            clients,
            stop,
            faults: nemesis.begin(&plan),
        }
    }

    /// Once all links are as good as others, makes disks so, and ends what nodes suffer from: the
    /// bounds that follow are of time, and what piled up on a slow plan would not end within them.
    /// A log that went offline for an error of its disk comes back with the process, as its
    /// operator would see to.
    async fn heal(&self) {
        for server in self.cluster.servers() {
            let disk = server.node().disk();
            disk.heal();
            disk.set_options(usual(self.plan.disk));
            server.node().resume();
            server.node().set_wall_right();
            server.note_clock();
            server.note_damage();
            if disk.is_power_out() {
                // It went at a call, and the fault ended before it took the process along.
                server.hold(End::PowerLoss).await;
            }
            server.release_all();
        }
        let cluster = &self.cluster;
        cluster.restart_failed(&self.observer, RESTART_WITHIN).await;
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
            self.cluster.first().broken("V10", detail);
        }
    }

    /// What the cluster brings out beside its history.
    fn seen(self) -> verdict::Seen {
        verdict::Seen {
            findings: self.findings(),
            unclean: self.cluster.watch().unclean(),
            plan: self.plan,
        }
    }

    /// A client for what the run itself asks, with a time for it.
    fn finals(&self, within: Duration) -> Finals {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let rng = Rng::derived(self.root, "finals", asked);
        let spoilt = self.spoilt.lock().unwrap_or_else(PoisonError::into_inner);
        Finals::new(&self.observer, &self.recorder, &self.broker, rng, within)
            .leaving_out(spoilt.clone())
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
}
