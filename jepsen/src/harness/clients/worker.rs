//! Clients in other languages, each a process of its own.
//!
//! A worker reads one JSON object, its [`Task`], from its first line of input, and later lines
//! `end writing` and `end`. It writes events as JSON lines, its own stamps on them: an event of the
//! history format, whose `op` is its own count and whose `time` is what the machine's monotonic
//! clock showed. Anything else goes to stderr, which is kept in a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Shared;
use crate::harness::recorder::Recorder;
use crate::history::{Call, Event, What};

/// What a worker is told.
#[derive(Debug, Clone, Serialize)]
pub struct Task {
    /// What its process is called in the history.
    name: String,
    bootstrap: String,
    /// Names and counts of partitions.
    topics: Vec<(String, i32)>,
    /// Ids of its records begin here.
    first_id: u64,
    seed: u64,
    /// The group that its subscriber is a member of.
    group: String,
}

/// A client library that others wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    /// confluent-kafka, and so librdkafka.
    Confluent,
    /// Apache Kafka's own.
    Java,
}

impl Language {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Confluent => "confluent",
            Self::Java => "java",
        }
    }

    /// Makes what its worker needs, before a run for whose time that would be too slow.
    pub fn prepare(self, clients: &Path, sources: &Path) -> Result<(), String> {
        self.command(clients, sources).map(drop)
    }

    /// The command that runs its worker, if what it needs is there. `clients` is where
    /// `tests/clients/setup.sh` put it.
    fn command(self, clients: &Path, sources: &Path) -> Result<Command, String> {
        let exists = |path: PathBuf| match path.exists() {
            true => Ok(path),
            false => Err(format!(
                "{} is missing: run tests/clients/setup.sh",
                path.display()
            )),
        };
        match self {
            Self::Confluent => {
                let mut command = Command::new(exists(clients.join("venv/bin/python"))?);
                command.arg(exists(sources.join("confluent_worker.py"))?);
                Ok(command)
            }
            Self::Java => {
                let libraries = exists(clients.join("java/lib"))?.join("*");
                let source = exists(sources.join("JavaWorker.java"))?;
                let classes = clients.join("java/jepsen");
                compile(&libraries, &source, &classes)?;
                let mut path = libraries.into_os_string();
                path.push(":");
                path.push(&classes);
                let mut command = Command::new("java");
                command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
                command.arg("-cp").arg(path).arg("JavaWorker");
                Ok(command)
            }
        }
    }
}

/// Compiles a source of Java unless that was done since it was changed.
fn compile(libraries: &Path, source: &Path, classes: &Path) -> Result<(), String> {
    let changed = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    let class = classes.join("JavaWorker.class");
    if changed(&class).is_some_and(|made| changed(source).is_some_and(|at| at < made)) {
        return Ok(());
    }
    let mut javac = Command::new("javac");
    javac
        .arg("-cp")
        .arg(libraries)
        .arg("-d")
        .arg(classes)
        .arg(source);
    let done = javac.output().map_err(|error| format!("javac: {error}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    reader: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts worker `number` of the run.
    pub fn start(
        shared: &Shared,
        language: Language,
        number: u64,
        (clients, sources): (&Path, &Path),
        folder: &Path,
    ) -> Result<Self, String> {
        let name = format!("{}-{number}", language.name());
        let fail = |error: std::io::Error| format!("{name}: {error}");
        let task = Task {
            name: name.clone(),
            bootstrap: shared.servers.clone(),
            topics: shared.topics.clone(),
            first_id: Recorder::ids_of_process(number),
            seed: shared.seed,
            group: format!("{}-readers", language.name()),
        };
        let errors = File::create(folder.join(format!("{name}.log"))).map_err(fail)?;
        let mut child = language
            .command(clients, sources)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(fail)?;
        let mut input = child.stdin.take();
        let task = serde_json::to_string(&task).map_err(|error| error.to_string())?;
        if let Some(input) = &mut input {
            writeln!(input, "{task}").map_err(fail)?;
        }
        let output = child.stdout.take().ok_or("a worker without output")?;
        let recorder = Arc::clone(&shared.recorder);
        let reader = std::thread::spawn(move || take_in(&recorder, BufReader::new(output), &name));
        Ok(Self {
            child,
            input,
            reader: Some(reader),
        })
    }

    pub fn tell(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            // One that has ended needs no telling.
            let _ = writeln!(input, "{line}").and_then(|()| input.flush());
        }
    }

    /// Waits until it has told all. False if it had to be killed.
    pub async fn end(&mut self, within: Duration) -> bool {
        self.tell("end");
        self.input = None;
        let began = Instant::now();
        let mut by_itself = true;
        while !matches!(self.child.try_wait(), Ok(Some(_))) {
            if began.elapsed() > within {
                by_itself = false;
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        by_itself
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Enters what a worker writes into the history.
fn take_in(recorder: &Recorder, output: impl std::io::Read, worker: &str) {
    let mut ops: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let event: Event = match serde_json::from_str(&line) {
            Ok(event) => event,
            Err(error) => {
                recorder.broken(
                    worker,
                    "H5",
                    format!("wrote what is no event: {error}: {line}"),
                );
                continue;
            }
        };
        let time = event.time.saturating_sub(recorder.origin());
        let process = event.process;
        match event.what {
            What::Invoke { op, call } => {
                let is_send = matches!(call, Call::Send { .. });
                let number = recorder.invoke_at(time, &process, call);
                ops.insert(op, (number, is_send));
            }
            What::Ok { op, answer } => {
                if let Some((number, _)) = ops.remove(&op) {
                    recorder.ok_at(time, &process, number, answer);
                }
            }
            What::Fail { op, attempts } | What::Info { op, attempts } => {
                if let Some((number, is_send)) = ops.remove(&op) {
                    let errors = attempts.iter().map(|attempt| attempt.error.as_str());
                    let errors: Vec<&str> = errors.collect();
                    recorder.not_ok_at(time, &process, number, is_send, &errors);
                }
            }
            What::Note { note } => recorder.note(&process, note),
        }
    }
}
