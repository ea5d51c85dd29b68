//! Torments a cluster of real processes on a real kernel, and judges what its clients saw.
//!
//! A run: nodes start, each in a network namespace of its own ([`network`]); clients write and read
//! ([`clients`]) while a nemesis carries out a plan drawn from a seed ([`nemesis`]); then all is
//! healed, the cluster has to become whole and take writes, and everything is read ([`finals`]).
//! What clients saw is judged by the checkers that judge simulated runs.
//!
//! Everything lies in one folder: `history.jsonl`, `plan.txt`, `report.txt`, the nodes' logs, and
//! their data where the run was not good.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes, files, sockets and time"
)]

pub mod binary;
pub mod clients;
pub mod cluster;
pub mod content;
pub mod finals;
pub mod nemesis;
pub mod network;
pub mod node;
pub mod progress;
pub mod recorder;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::checker;
use crate::history::{History, Library, Note, Phase};
use crate::judge::{Judgement, Verdict, judge};
use crate::report;

use clients::{Crew, Language, Membered, Producing, Shared, Spoken, Worker};
use cluster::{Cluster, Settings};
use finals::Finals;
use nemesis::{Kind, Nemesis, Plan};
use progress::Progress;
use recorder::Recorder;

/// How long clients may take to get their last answers.
const CLIENTS_END: Duration = Duration::from_secs(40);
/// How long a group may keep members of which nothing was heard: many sessions.
const LEFT_LIMIT: Duration = Duration::from_secs(40);
const SHOW_EVERY: Duration = Duration::from_millis(500);
/// Records acknowledged and read below which a run proves nothing.
const ENOUGH: u64 = 50;
/// Groups whose members speak the protocol themselves. All members of the last are static, and come
/// back before their sessions end, mostly into the generation that they had left.
const SPOKEN: [&str; 3] = ["spoken-1", "spoken-2", STATIC];
const STATIC: &str = "spoken-static";

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// Send, poll, assign, subscribe.
    Log,
    /// Members that commit, leave, vanish and sleep too long.
    Groups,
    /// Topics and their settings.
    Registers,
}

/// A run that is wanted.
#[derive(Debug, Clone)]
pub struct Options {
    pub nodes: usize,
    pub time: Duration,
    pub seed: u64,
    pub workloads: BTreeSet<Workload>,
    pub kinds: Vec<Kind>,
    pub languages: Vec<Language>,
    /// Where clients in other languages are, and where their sources.
    pub clients: (PathBuf, PathBuf),
    pub binary: PathBuf,
    pub mutant: Option<String>,
    pub network: Option<String>,
    pub folder: PathBuf,
    pub overrides: Vec<(String, String)>,
    /// Keep the nodes' data also of a good run.
    pub keep: bool,
}

/// What became of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub verdict: Verdict,
    pub judgement: Judgement,
    /// How often each kind of fault struck.
    pub hits: BTreeMap<&'static str, u64>,
    /// For people, a line each.
    pub told: String,
}

impl Outcome {
    /// The broken properties, with how often each was, or the verdict.
    #[must_use]
    pub fn properties(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for violation in &self.judgement.violations {
            *counts.entry(violation.property).or_default() += 1;
        }
        if counts.is_empty() {
            return self.verdict.name().to_owned();
        }
        let each = counts
            .iter()
            .map(|(property, count)| format!("{property} x{count}"));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// Does a run from its beginning to its verdict. `Err` says why there was none.
pub fn run(options: &Options) -> Result<Outcome, String> {
    for language in &options.languages {
        language.prepare(&options.clients.0, &options.clients.1)?;
    }
    if options.folder.to_string_lossy().contains(',') {
        let folder = options.folder.display();
        return Err(format!(
            "{folder}: a comma parts data directories: take a folder without"
        ));
    }
    std::fs::create_dir_all(&options.folder)
        .map_err(|error| format!("{}: {error}", options.folder.display()))?;
    let plan = Plan::draw(options.seed, options.nodes, options.time, &options.kinds);
    write(options, "plan.txt", &plan.to_string())?;
    let recorder = Arc::new(Recorder::new());
    let mut cluster = Cluster::new(options.settings())?;
    eprintln!("seed {}; {}", options.seed, cluster.network_kind);
    eprintln!("results in {}", options.folder.display());
    eprint!("{plan}");
    let ran = torment(options, &plan, &mut cluster, &recorder);
    let events = recorder.finish();
    let path = options.folder.join("history.jsonl");
    recorder::write_file(&path, &events).map_err(|error| format!("{}: {error}", path.display()))?;
    let hits = ran?;
    let lost = lost_by_power(&cluster);
    let kind = cluster.network_kind.clone();
    drop(cluster);
    let history = History::from_events(events).map_err(|error| error.to_string())?;
    let mut outcome = options.judge(&history, hits);
    let _ = writeln!(outcome.told, "{kind}; {}{lost}", faults_text(&outcome.hits));
    let text = format!("{}\n{}", outcome.told, report::text(&outcome.judgement));
    for (name, content) in report::files(&history, &outcome.judgement) {
        write(options, &name, &content)?;
    }
    write(options, "run.txt", &text)?;
    if outcome.verdict == Verdict::Good && !options.keep {
        for id in 1..=options.nodes {
            // Nobody needs it: the history is kept.
            let _ = std::fs::remove_dir_all(options.folder.join(format!("node-{id}")));
        }
    }
    Ok(outcome)
}

impl Options {
    fn settings(&self) -> Settings {
        let small = self.kinds.contains(&Kind::DiskFull);
        Settings {
            nodes: self.nodes,
            binary: self.binary.clone(),
            mutant: self.mutant.clone(),
            folder: self.folder.clone(),
            disk_megabytes: small.then_some(192),
            network: self.network.clone(),
            overrides: self.overrides.clone(),
        }
    }

    fn judge(&self, history: &History, hits: BTreeMap<&'static str, u64>) -> Outcome {
        let promises = checker::Options {
            replicated: true,
            weak_acks_one: true,
            retention: false,
            sources_may_lose: false,
        };
        let mut judgement = judge(history, promises);
        if judgement.vacuous.is_none() {
            judgement.vacuous = self.vacuous(history, &judgement, &hits);
        }
        Outcome {
            verdict: judgement.verdict(),
            judgement,
            hits,
            told: String::new(),
        }
    }

    /// Why a run in which clients got answers proves nothing all the same.
    fn vacuous(
        &self,
        history: &History,
        told: &Judgement,
        hits: &BTreeMap<&'static str, u64>,
    ) -> Option<String> {
        let summary = &told.summary;
        if !self.kinds.is_empty() && hits.is_empty() {
            return Some("no fault befell a node".to_owned());
        }
        for language in &self.languages {
            let name = language.name();
            let mut operations = history.operations.iter();
            if !operations.any(|op| op.process.starts_with(name) && op.answer().is_some()) {
                return Some(format!("no operation of the {name} clients worked"));
            }
        }
        if summary.records_acknowledged < ENOUGH || summary.records_read < ENOUGH {
            return Some(format!(
                "only {} records were acknowledged and {} read",
                summary.records_acknowledged, summary.records_read
            ));
        }
        None
    }
}

fn write(options: &Options, name: &str, content: &str) -> Result<(), String> {
    let path = options.folder.join(name);
    std::fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))
}

/// The run itself: how often each kind of fault struck.
fn torment(
    options: &Options,
    plan: &Plan,
    cluster: &mut Cluster,
    recorder: &Arc<Recorder>,
) -> Result<BTreeMap<&'static str, u64>, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("no threads: {error}"))?;
    let _entered = runtime.enter();
    let env = klamm::env::tokio::env(klamm::env::tokio::Options::default());
    let shared = Shared {
        env: env.map_err(|error| error.to_string())?,
        servers: cluster.bootstrap(),
        recorder: Arc::clone(recorder),
        seed: options.seed,
        stage: Arc::default(),
        topics: vec![("log".to_owned(), 4), ("log-two".to_owned(), 2)],
    };
    let progress = Arc::new(Progress::new(options.time));
    progress.set_stage("start");
    start(options, cluster, recorder)?;
    let replicas = i16::try_from(options.nodes.min(3)).unwrap_or(3);
    let finals = Finals::new(&shared);
    runtime.block_on(finals.create_topics(replicas, replicas / 2 + 1))?;
    let crew = options.crew(&shared)?;
    let phase = Phase::Safety;
    recorder.note("run", Note::Phase { phase });
    progress.set_stage("torment");
    let shown = runtime.spawn(show(Arc::clone(&progress), Arc::clone(recorder)));
    let handle = runtime.handle().clone();
    let mut nemesis = Nemesis::new(cluster, &shared, handle, &progress);
    nemesis.run(plan, Instant::now(), options.time)?;
    progress.set_stage("heal");
    nemesis.heal()?;
    let hits = std::mem::take(&mut nemesis.hits);
    for node in &cluster.nodes {
        node.set_clock(0)?;
    }
    let ready = cluster.await_ready(recorder);
    if let Err(why) = &ready {
        recorder.broken("run", "K8", why.clone());
    }
    let phase = Phase::Liveness;
    recorder.note("run", Note::Phase { phase });
    if ready.is_ok() {
        runtime.block_on(last_words(options, &finals, crew, &shared, &progress));
    }
    shown.abort();
    progress.show(recorder);
    progress.end();
    let forced = cluster.stop(&cluster.ids(), recorder);
    if ready.is_ok() && !forced.is_empty() {
        recorder.broken(
            "run",
            "V6",
            format!("nodes {forced:?} did not stop in order"),
        );
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(hits)
}

/// Starts all nodes for the first time.
fn start(options: &Options, cluster: &mut Cluster, recorder: &Recorder) -> Result<(), String> {
    for id in cluster.ids() {
        cluster.start(id, None, recorder)?;
    }
    cluster.await_ready(recorder)?;
    let needs_faults = options.kinds.iter().any(|kind| kind.needs_faults());
    if needs_faults && !cluster.nodes[0].takes_faults() {
        return Err(format!(
            "{} was not built with the feature faults, which clock and power need",
            options.binary.display()
        ));
    }
    Ok(())
}

/// Once all is healed and all nodes serve.
async fn last_words(
    options: &Options,
    finals: &Finals<'_>,
    crew: Crew,
    shared: &Shared,
    progress: &Progress,
) {
    finals.wait_until_whole().await;
    progress.set_stage("end");
    let late = crew.end(&shared.stage, CLIENTS_END).await;
    if late > 0 {
        let text = format!("{late} clients got no answer within {CLIENTS_END:?}");
        shared.recorder.broken("run", "V10", text);
    }
    finals.send_everywhere().await;
    progress.set_stage("read");
    finals.read_back().await;
    finals.fetch_committed(&options.groups()).await;
    if options.workloads.contains(&Workload::Groups) {
        for group in SPOKEN {
            if !clients::is_left(shared, finals::PROCESS, group, LEFT_LIMIT).await {
                let text = format!(
                    "{group} still has members, {LEFT_LIMIT:?} after the last was heard of"
                );
                shared.recorder.broken(finals::PROCESS, "CG8", text);
            }
        }
    }
    if options.workloads.contains(&Workload::Registers) {
        clients::settings_everywhere(shared, finals::PROCESS).await;
    }
}

async fn show(progress: Arc<Progress>, recorder: Arc<Recorder>) {
    loop {
        progress.show(&recorder);
        tokio::time::sleep(SHOW_EVERY).await;
    }
}

impl Options {
    fn groups(&self) -> Vec<String> {
        let mut groups = Vec::new();
        if self.workloads.contains(&Workload::Log) {
            groups.push("log-readers".to_owned());
        }
        if self.workloads.contains(&Workload::Groups) {
            groups.push("rough".to_owned());
            groups.extend(SPOKEN.map(str::to_owned));
        }
        groups
    }

    /// Puts the clients to work.
    fn crew(&self, shared: &Shared) -> Result<Crew, String> {
        let mut crew = Crew::default();
        for (number, how) in producers(&self.workloads).into_iter().enumerate() {
            let name = format!("producer-{}", number + 1);
            crew.writer(clients::produce(shared.clone(), name, how));
        }
        if self.workloads.contains(&Workload::Log) {
            crew.reader(clients::read(shared.clone(), "reader-1".to_owned()));
            for number in 1..=2 {
                let name = format!("lister-{number}");
                crew.reader(clients::list_ends(shared.clone(), name));
            }
            let how = Membered {
                group: "log-readers".to_owned(),
                instance: None,
                leave: 1,
                vanish: 0,
                freeze: 0,
            };
            crew.reader(clients::run_member(
                shared.clone(),
                "subscriber".to_owned(),
                how,
            ));
        }
        if self.workloads.contains(&Workload::Groups) {
            let (name, group) = ("observer".to_owned(), "rough".to_owned());
            crew.reader(clients::observe(shared.clone(), name, group));
            for number in 1..=4 {
                let how = Membered {
                    group: "rough".to_owned(),
                    instance: (number == 4).then(|| "fixed".to_owned()),
                    leave: 2,
                    vanish: 3,
                    freeze: 1,
                };
                let name = format!("member-{number}");
                crew.reader(clients::run_member(shared.clone(), name, how));
            }
        }
        if self.workloads.contains(&Workload::Groups) {
            for group in SPOKEN {
                self.spoken(group, shared, &mut crew);
            }
        }
        if self.workloads.contains(&Workload::Registers) {
            for number in 1..=3 {
                let (name, topic) = (format!("configs-{number}"), shared.topics[0].0.clone());
                crew.writer(clients::configs(shared.clone(), name, topic));
            }
            for number in 1..=3 {
                crew.writer(clients::topics(shared.clone(), format!("topics-{number}")));
            }
        }
        for (at, language) in self.languages.iter().enumerate() {
            let places = (self.clients.0.as_path(), self.clients.1.as_path());
            let number = at as u64 + 1;
            let worker = Worker::start(shared, *language, number, places, &self.folder)?;
            crew.workers.push(worker);
        }
        Ok(crew)
    }
}

impl Options {
    /// Members of a group that speak the protocol themselves, and who looks on.
    fn spoken(&self, group: &str, shared: &Shared, crew: &mut Crew) {
        for number in 1..=3 {
            let rough = Spoken {
                group: group.to_owned(),
                instance: (number == 3).then(|| format!("{group}-fixed")),
                leave: 4,
                vanish: 4,
                freeze: 4,
                absence: clients::SESSION * 2,
            };
            let how = match group {
                STATIC => Spoken {
                    instance: Some(format!("{group}-{number}")),
                    leave: 0,
                    vanish: 20,
                    freeze: 0,
                    absence: clients::SESSION / 3,
                    ..rough
                },
                _ => rough,
            };
            let name = format!("{group}-member-{number}");
            crew.reader(clients::speak(shared.clone(), name, how));
        }
        let name = |what: &str| format!("{group}-{what}");
        let (offsets, group) = (name("offsets"), group.to_owned());
        crew.reader(clients::observe(shared.clone(), offsets, group.clone()));
        crew.reader(clients::watch(shared.clone(), name("state"), group.clone()));
        for node in 1..=self.nodes {
            let name = name(&format!("at-{node}"));
            crew.reader(clients::ask_node(shared.clone(), name, node, group.clone()));
        }
    }
}

fn producers(workloads: &BTreeSet<Workload>) -> Vec<Producing> {
    let usual = Producing {
        acks: -1,
        library: Library::Idempotent,
        in_flight: 4,
        linger_ms: 0,
        pause: Duration::from_millis(8),
        partitions: usize::MAX,
    };
    let mut all = vec![usual];
    if workloads.contains(&Workload::Log) {
        all.push(Producing {
            in_flight: 24,
            linger_ms: 5,
            ..usual
        });
        all.push(Producing {
            in_flight: 5,
            pause: Duration::from_millis(2),
            partitions: 1,
            ..usual
        });
        all.push(Producing {
            library: Library::Repeats,
            ..usual
        });
        all.push(Producing {
            library: Library::Once,
            in_flight: 1,
            ..usual
        });
    }
    all
}

fn faults_text(hits: &BTreeMap<&'static str, u64>) -> String {
    let each = hits.iter().map(|(kind, count)| format!("{kind} {count}"));
    let each: Vec<String> = each.collect();
    format!("faults: {}", each.join(", "))
}

/// What losses of power took, as the nodes tell when they start again.
fn lost_by_power(cluster: &Cluster) -> String {
    let (mut writes, mut changes) = (0, 0);
    for node in &cluster.nodes {
        let (of_writes, of_changes) = node.lost_by_power();
        writes += of_writes;
        changes += of_changes;
    }
    match (writes, changes) {
        (0, 0) => String::new(),
        _ => format!("; power took {writes} writes and {changes} changes of directories"),
    }
}
