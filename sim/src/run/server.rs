//! A node under test and who watches over it: as a machine with a supervisor would, it starts the
//! process again whenever it ends and nothing holds it down.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use klamm::broker::Broker;
use klamm::config::BrokerConfig;
use klamm::env::{Env, Task};
use klamm_jepsen::history::{NodeEvent, Note, Partition};
use tokio::sync::Notify;

use crate::audit::{self, Allowance, Finding, Mode};
use crate::plan::{NodePlan, Plan};
use crate::record::Recorder;
use crate::watch::Watch;
use crate::world::SimNode;

/// Counts of the disk that say that a call failed.
const FAILED_CALLS: &[&str] = &[
    "failed syncs, pages kept in cache",
    "failed syncs, pages reverted",
    "failed writes",
    "failed reads",
    "refusals for lack of space",
];
/// Between the end of a process and its next start.
const RESTART_PAUSE: Duration = Duration::from_millis(200);
/// Longest that a process may take to end in order.
const STOP_MAX: Duration = Duration::from_secs(60);

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Kill,
    PowerLoss,
    Stop,
}

/// A node that runs the broker. Cloning shares it.
#[derive(Clone)]
pub(super) struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    node: SimNode,
    config: BrokerConfig,
    id: Option<i32>,
    recorder: Recorder,
    watch: Watch,
    /// Whether there are others that have what it loses.
    is_cluster: bool,
    /// Of a host that has no faults.
    observer: Env,
    /// Of the plan's topics.
    partitions: Vec<Partition>,
    /// See [`Allowance`].
    without_gaps: Option<BTreeSet<String>>,
    /// Topics that links fill.
    mirrors: BTreeSet<String>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// How many faults want it down.
    held: u32,
    /// Whether an operator wants it down.
    parked: bool,
    /// Counts processes.
    life: u64,
    process: Process,
    starts: u64,
    /// Why the last start failed.
    refusal: Option<String>,
    findings: Vec<Finding>,
    /// Damaged files that were told of.
    damaged: BTreeSet<PathBuf>,
    supervisor: Option<Task>,
}

#[derive(Default)]
enum Process {
    #[default]
    None,
    Starting,
    /// With what has it stop, as a signal would.
    Serving(Arc<Notify>),
    Stopping,
}

impl Server {
    /// A node that begins to run at once, unless it is to wait for an operator.
    pub(super) fn new(
        node: SimNode,
        of: &NodePlan,
        plan: &Plan,
        (recorder, watch): (Recorder, Watch),
        observer: Env,
    ) -> Self {
        let mut settings = plan.broker.clone();
        settings.extend(of.settings.clone());
        let loaded = BrokerConfig::load(None, [], settings);
        let state = State {
            parked: of.late,
            ..State::default()
        };
        let server = Self {
            shared: Arc::new(Shared {
                name: node.name().to_owned(),
                node,
                config: loaded.expect("plans have settings that can be used").config,
                id: of.settings.get("node.id").and_then(|id| id.parse().ok()),
                recorder,
                watch,
                is_cluster: plan.is_cluster(),
                observer: observer.clone(),
                partitions: partitions(plan),
                without_gaps: plan.is_cluster().then(|| never_compacted(plan)),
                mirrors: plan.mirrored.iter().map(|of| of.name.clone()).collect(),
                state: Mutex::new(state),
                changed: Notify::new(),
            }),
        };
        let watching = server.clone();
        let supervisor = observer.spawn("supervisor", async move { watching.supervise().await });
        server.state().supervisor = Some(supervisor);
        server
    }

    pub(super) fn name(&self) -> &str {
        &self.shared.name
    }

    pub(super) fn node(&self) -> &SimNode {
        &self.shared.node
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: NodeEvent) {
        self.shared.watch.node(&self.shared.name, &event);
        let note = Note::Node { event };
        self.shared.recorder.note(&self.shared.name, note);
    }

    /// Tells what the node's wall clock shows.
    pub(super) fn note_clock(&self) {
        let wall_ms = self.shared.node.wall().0;
        let note = Note::Clock { wall_ms };
        self.shared.recorder.note(&self.shared.name, note);
    }

    /// Starts it whenever it is neither running nor held down.
    async fn supervise(&self) {
        loop {
            let due = {
                let state = self.state();
                state.held == 0 && !state.parked && matches!(state.process, Process::None)
            };
            if due {
                self.start();
            }
            self.shared.changed.notified().await;
            self.shared.observer.sleep(RESTART_PAUSE).await;
        }
    }

    fn start(&self) {
        let shared = &self.shared;
        self.look_at_the_disk();
        let life = {
            let mut state = self.state();
            state.life += 1;
            state.starts += 1;
            state.process = Process::Starting;
            state.life
        };
        self.note(NodeEvent::Start);
        self.note_clock();
        let env = shared.node.start();
        let (server, inner) = (self.clone(), env.clone());
        let serving = env.spawn("broker", async move { server.serve(inner, life).await });
        serving.detach();
    }

    /// The process: serves until it is told to stop or gives up.
    async fn serve(&self, env: Env, life: u64) {
        let started = Broker::start(env, self.shared.config.clone(), None).await;
        let broker = match started {
            Ok(broker) => broker,
            Err(error) => {
                self.look_at_the_refusal(&error.to_string());
                self.note(NodeEvent::Failed(error.to_string()));
                self.ended(life, Some(error.to_string()));
                return;
            }
        };
        let signal = Arc::new(Notify::new());
        {
            let mut state = self.state();
            if state.life == life && matches!(state.process, Process::Starting) {
                state.process = Process::Serving(Arc::clone(&signal));
                self.shared.node.disk().spare_segments(false);
                state.refusal = None;
            }
        }
        self.note(NodeEvent::Ready);
        self.shared.changed.notify_waiters();
        tokio::select! {
            biased;
            () = signal.notified() => {}
            () = broker.draining() => {}
        }
        broker.stop().await;
        self.note(NodeEvent::Stop);
        self.ended(life, None);
    }

    /// Whoever refuses to start on metadata that was damaged says so.
    fn look_at_the_refusal(&self, error: &str) {
        let damaged = self.shared.node.disk().damaged();
        let mut parts = damaged.iter().flat_map(|path| path.iter());
        let of_metadata =
            parts.any(|part| part.to_string_lossy().starts_with("__cluster_metadata"));
        if self.shared.is_cluster && of_metadata && !error.contains("damaged") {
            let detail = format!("its metadata was damaged, and it refuses to start with: {error}");
            self.broken("M7", &detail);
        }
    }

    fn ended(&self, life: u64, refusal: Option<String>) {
        {
            let mut state = self.state();
            if state.life != life {
                return;
            }
            state.process = Process::None;
            state.refusal = refusal;
        }
        // From here on the process is gone: nothing of it may touch the disk while the next starts.
        self.shared.node.kill();
        self.shared.changed.notify_one();
    }

    /// Ends the process if it runs, and keeps it down until [`Server::release`].
    pub(super) async fn hold(&self, how: End) {
        self.state().held += 1;
        match how {
            End::Stop => self.stop().await,
            End::Kill | End::PowerLoss => self.cut_short(how),
        }
    }

    fn cut_short(&self, how: End) {
        {
            let mut state = self.state();
            state.life += 1;
            state.process = Process::None;
        }
        self.shared.node.resume();
        if how == End::PowerLoss {
            self.note(NodeEvent::PowerLoss);
            self.shared.node.lose_power();
        } else {
            self.note(NodeEvent::Kill);
            self.shared.node.kill();
        }
    }

    async fn stop(&self) {
        let signal = {
            let mut state = self.state();
            match std::mem::take(&mut state.process) {
                Process::Serving(signal) => {
                    state.process = Process::Stopping;
                    signal
                }
                other => {
                    state.process = other;
                    return;
                }
            }
        };
        let life = self.state().life;
        // `serve` hears of it and does the rest.
        let stopping = async {
            signal.notify_one();
            while self.state().life == life && !matches!(self.state().process, Process::None) {
                self.shared.observer.sleep(Duration::from_millis(20)).await;
            }
        };
        let stopped = self.shared.observer.timeout(STOP_MAX, stopping).await;
        if stopped.is_err() && self.state().life == life {
            self.broken("V6", "the broker did not stop within a minute");
            self.cut_short(End::Kill);
        }
    }

    /// Ends the process if it runs, and keeps it down until [`Server::unpark`].
    pub(super) async fn park(&self, how: End) {
        self.state().parked = true;
        self.hold(how).await;
        self.release();
    }

    /// Undoes [`Server::park`].
    pub(super) fn unpark(&self) {
        self.state().parked = false;
        self.shared.changed.notify_one();
    }

    pub(super) fn is_parked(&self) -> bool {
        self.state().parked
    }

    /// Its id, among others.
    pub(super) fn id(&self) -> Option<i32> {
        self.shared.id
    }

    /// Undoes one [`Server::hold`].
    pub(super) fn release(&self) {
        {
            let mut state = self.state();
            state.held = state.held.saturating_sub(1);
        }
        self.shared.changed.notify_one();
    }

    /// Undoes them all.
    pub(super) fn release_all(&self) {
        self.state().held = 0;
        self.shared.changed.notify_one();
    }

    pub(super) fn is_serving(&self) -> bool {
        matches!(self.state().process, Process::Serving(_))
    }

    pub(super) async fn wait_until_serving(&self, observer: &Env) {
        while !self.is_serving() {
            observer.sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether a call of its disk failed by a fault.
    pub(super) fn met_errors(&self) -> bool {
        let counts = self.shared.node.disk().counts();
        FAILED_CALLS
            .iter()
            .any(|kind| counts.get(kind).is_some_and(|count| *count > 0))
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self.state().process, Process::Starting)
    }

    /// Why the last start was refused, while it is.
    pub(super) fn refusal(&self) -> Option<String> {
        self.state().refusal.clone()
    }

    pub(super) fn starts(&self) -> u64 {
        self.state().starts
    }

    /// What was found on the disk so far.
    pub(super) fn take_findings(&self) -> Vec<Finding> {
        std::mem::take(&mut self.state().findings)
    }

    pub(super) fn broken(&self, property: &str, detail: &str) {
        let note = Note::Broken {
            property: property.to_owned(),
            detail: detail.to_owned(),
            of: None,
        };
        self.shared.recorder.note(&self.shared.name, note);
    }

    /// Tells of partitions whose bytes were damaged since the last call. Damage outside of any is
    /// damage to all.
    pub(super) fn note_damage(&self) {
        if self.shared.is_cluster {
            // Others have it whole: no excuse.
            return;
        }
        let paths = self.shared.node.disk().damaged();
        for path in paths {
            if !self.state().damaged.insert(path.clone()) {
                continue;
            }
            let of = match partition_of(&path) {
                Some(of) => vec![of],
                None => self.shared.partitions.clone(),
            };
            for of in of {
                let note = Note::Damaged { of };
                self.shared.recorder.note(&self.shared.name, note);
            }
        }
    }

    /// Whether damage lies on a file of this partition.
    pub(super) fn has_damaged(&self, of: &Partition) -> bool {
        let damaged = self.shared.node.disk().damaged();
        let mut of_partitions = damaged.iter().filter_map(|path| partition_of(path));
        of_partitions.any(|damaged| damaged == *of)
    }

    pub(super) fn add_findings(&self, findings: Vec<Finding>) {
        self.state().findings.extend(findings);
    }

    /// What a crash left must be sound before the broker touches it.
    fn look_at_the_disk(&self) {
        self.note_damage();
        let disk = self.shared.node.disk();
        disk.spare_segments(true);
        // What was damaged where a torn write may be is outside of what one node can notice.
        for (path, from) in audit::torn_from(&disk.files(), &disk.damaged()) {
            disk.repair_from(&path, from);
        }
        self.audit(Mode::Crashed);
    }

    /// Looks at what lies on the disk.
    pub(super) fn audit(&self, mode: Mode) {
        let disk = self.shared.node.disk();
        let allowance = Allowance {
            damaged: disk.damaged(),
            is_replica: self.shared.is_cluster,
            without_gaps: self.shared.without_gaps.clone(),
            mirrors: self.shared.mirrors.clone(),
            own_since: self.shared.watch.own_since(),
            ..Allowance::default()
        };
        let mut findings = audit::audit_with(&disk.files(), mode, &allowance);
        if self.shared.is_cluster {
            for finding in &mut findings {
                finding.detail = format!("{}: {}", self.shared.name, finding.detail);
            }
        }
        self.state().findings.extend(findings);
    }
}

fn partitions(plan: &Plan) -> Vec<Partition> {
    let all = plan.all_topics().flat_map(|topic| {
        (0..topic.partitions).map(|partition| Partition {
            topic: topic.name.clone(),
            partition,
        })
    });
    all.collect()
}

/// Topics that no node of a cluster ever compacts: of the others a replica may copy what another
/// compacted.
fn never_compacted(plan: &Plan) -> BTreeSet<String> {
    let kept = plan.all_topics().filter(|topic| {
        let policy = topic.config.get("cleanup.policy");
        policy.is_none_or(|policy| !policy.contains("compact"))
    });
    kept.map(|topic| topic.name.clone()).collect()
}

/// The partition in whose directory the file is: `.../<topic>-<partition>/<file>`.
fn partition_of(path: &Path) -> Option<Partition> {
    let dir = path.parent()?.file_name()?.to_str()?;
    let (topic, partition) = dir.rsplit_once('-')?;
    Some(Partition {
        topic: topic.to_owned(),
        partition: partition.parse().ok()?,
    })
}
