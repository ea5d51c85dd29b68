//! Unmodified Kafka clients against the broker as users run it.
//!
//! One test a suite of `tests/clients/`: it starts a broker of its own, runs the suite's script
//! against it under a time limit, and fails with the script's output unless that exits with 0. They
//! need toolchains and package registries, so they run only with `KLAMM_CLIENTS=1`:
//!
//! ```text
//! KLAMM_CLIENTS=1 cargo test --test integration real_clients
//! ```
//!
//! A suite whose toolchain is missing is skipped with a visible line, unless
//! `KLAMM_REQUIRE_CLIENTS` names it (`python,kcat`). `KLAMM_CLIENTS_BOOTSTRAP=host:port` runs the
//! suites against a broker that already runs, such as that of `tests/clients/apache-kafka.sh`.
//!
//! `KLAMM_CLUSTER=3` runs them against that many nodes, with three replicas of every topic, and
//! then once more while one node that the clients were not told of, but learn of, is restarted in
//! a loop. `KLAMM_CLUSTER_RESTARTS` says how: `none`, `orderly` (SIGTERM), `kill` (SIGKILL), or
//! `both` in turn, which is the default; `KLAMM_CLUSTER_RESTARTED` says which node, by id: the last
//! unless it is given. Suites learn `NODES` and `REPLICATION_FACTOR`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes"
)]

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::broker_process::{BrokerProcess, wait_for_exit};
use crate::cluster::ClusterProcess;

/// What `setup.sh` exits with when a toolchain is missing or cannot fetch.
const TOOLCHAIN_MISSING: i32 = 3;
const SETUP_LIMIT: Duration = Duration::from_secs(600);
const SUITE_LIMIT: Duration = Duration::from_secs(180);
/// With several nodes, each with a replica of everything, on the same machine.
const CLUSTER_SUITE_LIMIT: Duration = Duration::from_secs(600);
/// While no node is restarted. Otherwise the suites are told so by RESTARTS=1.
const CALM: &str = "undisturbed";
/// How long the node that is restarted runs, and how long it is gone.
const RESTART_PAUSES: (Duration, Duration) = (Duration::from_secs(3), Duration::from_millis(500));
/// A suite that ends before the node was restarted so often is run again.
const RESTARTS_MIN: u32 = 3;

/// The suites measure time-outs of a second or so: they run one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Suite {
    /// What `setup.sh` and `KLAMM_REQUIRE_CLIENTS` call it.
    toolchain: &'static str,
    /// The script below `tests/clients/` and its arguments.
    command: &'static [&'static str],
    overrides: &'static [(&'static str, &'static str)],
}

#[test]
fn kafka_python_works_unmodified() {
    run(&["python/run.sh", "kafka-python"], "python", &[]);
}

#[test]
fn confluent_kafka_works_unmodified() {
    run(&["python/run.sh", "confluent"], "python", &[]);
}

#[test]
fn aiokafka_works_unmodified() {
    run(&["python/run.sh", "aiokafka"], "python", &[]);
}

#[test]
fn kcat_works_unmodified() {
    run(&["kcat/run.sh"], "kcat", &[]);
}

#[test]
fn the_java_clients_work_unmodified() {
    run(&["java/run.sh", "clients"], "java", &[]);
}

#[test]
fn kafkas_console_tools_work_unmodified() {
    run(&["java/run.sh", "tools"], "java", &[]);
}

#[test]
fn the_go_clients_work_unmodified() {
    run(&["go/run.sh"], "go", &[]);
}

#[test]
fn kafkajs_works_unmodified() {
    run(&["node/run.sh"], "node", &[]);
}

#[test]
fn kafka_pythons_own_integration_suite_passes() {
    // What the brokers that the suite starts by itself are set to.
    let overrides = &[
        ("node.id", "0"),
        ("num.partitions", "4"),
        ("group.min.session.timeout.ms", "1000"),
    ];
    run(&["python/own-suite.sh"], "own-suite", overrides);
}

#[test]
fn hostile_input_never_stops_the_broker() {
    run(&["hostile.py"], "hostile", &[]);
}

fn run(
    command: &'static [&'static str],
    toolchain: &'static str,
    overrides: &'static [(&'static str, &'static str)],
) {
    let suite = Suite {
        toolchain,
        command,
        overrides,
    };
    let name = suite.command.join(" ");
    if std::env::var("KLAMM_CLIENTS").is_ok_and(|value| value == "1") {
        // A suite that failed has poisoned nothing the next one uses.
        let _turn = ONE_AT_A_TIME
            .lock()
            .unwrap_or_else(|failed| failed.into_inner());
        suite.run(&name);
    } else {
        visible(&format!("SKIPPED {name}: set KLAMM_CLIENTS=1 to run it"));
    }
}

impl Suite {
    fn run(&self, name: &str) {
        if let Err(why) = self.set_up() {
            let required = std::env::var("KLAMM_REQUIRE_CLIENTS").unwrap_or_default();
            assert!(
                !required.split(',').any(|each| each == self.toolchain),
                "{name} is required: {why}"
            );
            visible(&format!("SKIPPED {name}: {why}"));
            return;
        }
        if let Some(nodes) = cluster_nodes() {
            return self.run_on_cluster(name, nodes);
        }
        let mut command = self.script();
        // Declared before the assertion, so that a failure shows the broker's last lines.
        let mut broker = None;
        match std::env::var("KLAMM_CLIENTS_BOOTSTRAP") {
            Ok(bootstrap) => command.env("BOOTSTRAP", bootstrap),
            Err(_) => {
                let started = broker.insert(BrokerProcess::start_with(self.overrides));
                command
                    .env("BOOTSTRAP", started.bootstrap())
                    .env("BROKER_PID", started.process_id().to_string())
            }
        };
        let outcome = run_with_limit(command, SUITE_LIMIT);
        outcome.assert_passed(name);
        if let Some(broker) = &mut broker {
            assert!(broker.is_running(), "{name} passed, and the broker is gone");
        }
        visible(&format!("PASSED {name}: {}", last_line(&outcome.output)));
    }

    fn script(&self) -> Command {
        let mut command = script(self.command[0]);
        command.args(&self.command[1..]);
        command
    }

    /// Runs the suite against calm nodes, and then while one of them is restarted.
    fn run_on_cluster(&self, name: &str, nodes: usize) {
        if ALONE.contains(&self.toolchain) {
            visible(&format!("SKIPPED {name}: it is about a single node"));
            return;
        }
        let replicas = nodes.min(3).to_string();
        let mut overrides = vec![("default.replication.factor", replicas.as_str())];
        overrides.extend(self.overrides);
        let mut cluster = ClusterProcess::start(nodes, &overrides);
        let restarted = restarted_node(nodes);
        let told = cluster.ids().find(|id| *id != restarted);
        let bootstrap = cluster.node(told.expect("several nodes")).bootstrap();
        let run = |how: &str| {
            let mut command = self.script();
            command.env("RESTARTS", if how == CALM { "0" } else { "1" });
            command.env("BOOTSTRAP", &bootstrap);
            command.env("NODES", nodes.to_string());
            command.env("REPLICATION_FACTOR", &replicas);
            let outcome = run_with_limit(command, CLUSTER_SUITE_LIMIT);
            outcome.assert_passed(&format!("{name}, {nodes} nodes {how}"));
            for line in outcome.output.lines() {
                if line.starts_with("RETRIED ") {
                    visible(line);
                }
            }
            visible(&format!(
                "PASSED {name}, {nodes} nodes {how}: {}",
                last_line(&outcome.output)
            ));
        };
        run(CALM);
        let how = Restarts::wanted();
        if how == Restarts::None {
            return;
        }
        let (ending, restarts) = (AtomicBool::new(false), AtomicU32::new(0));
        let node = cluster.node_mut(restarted);
        thread::scope(|scope| {
            let restarting = scope.spawn(|| how.carry_out(node, &ending, &restarts));
            // A suite that fails panics: the loop must end all the same.
            let again = || restarts.load(Ordering::Acquire) < RESTARTS_MIN;
            let ran = std::panic::catch_unwind(AssertUnwindSafe(|| {
                run("with restarts");
                while again() && !restarting.is_finished() {
                    run("with restarts");
                }
            }));
            ending.store(true, Ordering::Release);
            restarting.join().expect("a node that was stopped starts");
            let restarts = restarts.load(Ordering::Acquire);
            visible(&format!(
                "{name}: node {restarted} was restarted {restarts} times"
            ));
            ran.unwrap_or_else(|why| std::panic::resume_unwind(why));
        });
        for id in cluster.ids() {
            assert!(
                cluster.node_mut(id).is_running(),
                "{name} passed, and node {id} is gone"
            );
        }
    }

    /// `Err` says why the toolchain cannot be had; a failure to build is the test's.
    fn set_up(&self) -> Result<(), String> {
        if self.toolchain == "hostile" {
            let python = Command::new("python3").arg("--version").output();
            return python
                .map(drop)
                .map_err(|error| format!("no python3: {error}"));
        }
        let mut command = script("setup.sh");
        command.arg(self.toolchain);
        let outcome = run_with_limit(command, SETUP_LIMIT);
        match outcome.status {
            Some(0) => Ok(()),
            Some(TOOLCHAIN_MISSING) => Err(last_line(&outcome.output).to_owned()),
            status => panic!("setup.sh ended with {status:?}\n{}", outcome.output),
        }
    }
}

/// Suites that need a single node: of exact settings, or about its memory.
const ALONE: &[&str] = &["own-suite", "hostile"];

fn cluster_nodes() -> Option<usize> {
    let nodes = std::env::var("KLAMM_CLUSTER").ok()?;
    Some(nodes.parse().expect("KLAMM_CLUSTER is a number of nodes"))
}

/// The node that is restarted; the last one unless told otherwise.
fn restarted_node(nodes: usize) -> i32 {
    let told = std::env::var("KLAMM_CLUSTER_RESTARTED").ok();
    let told = told.map(|id| id.parse().expect("KLAMM_CLUSTER_RESTARTED is a node's id"));
    told.unwrap_or_else(|| i32::try_from(nodes).expect("few nodes"))
}

/// How a node is restarted again and again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Restarts {
    None,
    Orderly,
    Kill,
    Both,
}

impl Restarts {
    fn wanted() -> Self {
        match std::env::var("KLAMM_CLUSTER_RESTARTS").as_deref() {
            Ok("none") => Self::None,
            Ok("orderly") => Self::Orderly,
            Ok("kill") => Self::Kill,
            Ok("both") | Err(_) => Self::Both,
            Ok(other) => panic!("KLAMM_CLUSTER_RESTARTS={other}"),
        }
    }

    /// Restarts a node until told to end, and counts.
    fn carry_out(self, node: &mut BrokerProcess, ending: &AtomicBool, count: &AtomicU32) {
        let (runs, gone) = RESTART_PAUSES;
        for restarts in 0.. {
            thread::sleep(runs);
            if ending.load(Ordering::Acquire) {
                return;
            }
            if self == Self::Orderly || (self == Self::Both && restarts % 2 == 0) {
                let status = node.sigterm();
                assert!(status.success(), "a drain ended with {status}");
            } else {
                node.kill9();
            }
            thread::sleep(gone);
            node.restart();
            count.fetch_add(1, Ordering::AcqRel);
        }
    }
}

struct Outcome {
    /// The exit code; `None` after a signal, the time limit's included.
    status: Option<i32>,
    output: String,
}

impl Outcome {
    #[track_caller]
    fn assert_passed(&self, name: &str) {
        let lines = self.output.lines();
        let failed: Vec<&str> = lines.filter(|line| line.starts_with("FAIL ")).collect();
        assert!(
            self.status == Some(0),
            "{name} ended with {:?}\n{}\n--- failed checks ---\n{}",
            self.status,
            self.output,
            failed.join("\n")
        );
    }
}

fn script(name: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("tests/clients").join(name));
    command.current_dir(root);
    command
}

/// Runs a command, in a process group of its own that is killed as a whole when the limit is over
/// or the command has ended and left something behind.
fn run_with_limit(mut command: Command, limit: Duration) -> Outcome {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let path: PathBuf = directory.path().join("output");
    let output = File::create(&path).expect("a file can be made in it");
    let errors = output.try_clone().expect("a file can be opened twice");
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let mut child = match command.process_group(0).spawn() {
        Ok(child) => child,
        Err(error) => panic!("{command:?} does not run: {error}"),
    };
    let group = Pid::from_child(&child);
    let ended = wait_for_exit(&mut child, limit);
    // An error means that the group is empty, which is what is wanted.
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
    let written = std::fs::read(&path).expect("the output can be read back");
    let mut output = String::from_utf8_lossy(&written).into_owned();
    if ended.is_none() {
        output.push_str(&format!("FAIL: still running after {limit:?}\n"));
    }
    Outcome {
        status: ended.and_then(|status| status.code()),
        output,
    }
}

fn last_line(output: &str) -> &str {
    output.lines().next_back().unwrap_or("no output")
}

/// Prints a line past the test runner's capture: a skipped suite must be seen. The runner may be in
/// the middle of a line of its own.
fn visible(line: &str) {
    let _ = writeln!(std::io::stderr(), "\n{line}");
}
