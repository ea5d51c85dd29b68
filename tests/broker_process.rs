//! A broker as users run it: the built `klamm` binary in a process of its own, on loopback, its
//! data in a temporary directory.
//!
//! Promises: a [`BrokerProcess`] never outlives its value (dropping it kills the process), keeps
//! its ports and data across `kill9`, `sigterm` and `restart`, and keeps what the process wrote.
//! When the test that owns it panics, the last lines of that output are printed.
//!
//! `KLAMM_BINARY` names another binary to run, such as that of a release build.

#![allow(
    dead_code,
    reason = "each test uses only the part of the harness that it needs"
)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes and sockets"
)]

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a broker may take from its start to its first readiness.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// How long a broker may take from SIGTERM to its exit.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// What the broker logs when it serves, as Kafka does.
const READY_LINE: &str = "Kafka Server started";
/// How many of the latest lines a failure shows.
const TAIL_LINES: usize = 120;
/// How many of the latest lines are kept at all.
const KEPT_LINES: usize = 20_000;

/// A running (or stopped, and restartable) broker.
pub struct BrokerProcess {
    child: Option<Child>,
    port: u16,
    admin_port: u16,
    arguments: Vec<String>,
    /// The data directory's owner; `None` when the caller owns the directory.
    temporary: Option<TempDir>,
    data_directory: PathBuf,
    output: Arc<Mutex<Output>>,
    /// Threads that collect the output of the process started last.
    readers: Vec<thread::JoinHandle<()>>,
    started: Instant,
    time_to_ready: Duration,
}

#[derive(Default)]
struct Output {
    lines: VecDeque<String>,
    /// Whether the process started last has said that it serves.
    said_ready: bool,
}

impl BrokerProcess {
    /// Starts a broker on free ports with an empty data directory and waits until it serves.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`start`](Self::start), with more configuration: (key, value) pairs, which win over the
    /// harness's own.
    pub fn start_with(overrides: &[(&str, &str)]) -> Self {
        let temporary = tempfile::Builder::new().prefix("klamm-broker-").tempdir();
        let temporary = temporary.expect("a temporary directory can be made");
        let data_directory = temporary.path().join("data");
        let mut broker = Self::new(data_directory, overrides);
        broker.temporary = Some(temporary);
        broker.launch().unwrap_or_else(|why| panic!("{why}"));
        broker
    }

    /// Starts a broker on a directory that outlives it. `Err` says why it does not serve, with what
    /// it wrote, for tests of refusals.
    pub fn try_start_in(directory: &Path, overrides: &[(&str, &str)]) -> Result<Self, String> {
        let mut broker = Self::new(directory.to_path_buf(), overrides);
        broker.launch()?;
        Ok(broker)
    }

    /// A broker on free ports that is not started yet: see [`spawn`](Self::spawn).
    pub fn new(data_directory: PathBuf, overrides: &[(&str, &str)]) -> Self {
        let (port, admin_port) = (free_port(), free_port());
        let own = [
            ("listeners", format!("PLAINTEXT://127.0.0.1:{port}")),
            (
                "advertised.listeners",
                format!("PLAINTEXT://127.0.0.1:{port}"),
            ),
            ("klamm.admin.listener", format!("127.0.0.1:{admin_port}")),
            ("log.dirs", data_directory.display().to_string()),
            ("group.initial.rebalance.delay.ms", "0".to_owned()),
        ];
        let mut broker = Self {
            child: None,
            port,
            admin_port,
            arguments: Vec::new(),
            temporary: None,
            data_directory,
            output: Arc::default(),
            readers: Vec::new(),
            started: Instant::now(),
            time_to_ready: Duration::ZERO,
        };
        for (key, value) in own {
            broker.set(key, &value);
        }
        for (key, value) in overrides {
            broker.set(key, value);
        }
        broker
    }

    /// One more setting for the starts to come; it wins over those given before.
    pub fn set(&mut self, key: &str, value: &str) {
        self.arguments.push("--override".to_owned());
        self.arguments.push(format!("{key}={value}"));
    }

    /// The port clients connect to; the same after every restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of `/livez`, `/readyz` and `/metrics`.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// What clients take as `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn data_directory(&self) -> &Path {
        &self.data_directory
    }

    /// From the process's start to its readiness, at the latest start.
    pub fn time_to_ready(&self) -> Duration {
        self.time_to_ready
    }

    pub fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Starts the process again with the same arguments, killing it first if it still runs.
    pub fn restart(&mut self) {
        self.kill9();
        self.launch()
            .unwrap_or_else(|why| panic!("after a restart, {why}"));
    }

    /// As [`restart`](Self::restart), for tests in which the broker may refuse to start.
    pub fn try_restart(&mut self) -> Result<(), String> {
        self.kill9();
        self.launch()
    }

    /// Kills the process where it stands (SIGKILL); nothing happens when it is already gone.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child of ours can be killed");
            child.wait().expect("a killed child can be waited for");
        }
    }

    /// Asks the process to end (SIGTERM), waits for it, and says how it ended.
    pub fn sigterm(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let mut child = self.child.take().expect("signal() saw a running broker");
        match wait_for_exit(&mut child, STOP_LIMIT) {
            Some(status) => status,
            None => {
                self.child = Some(child);
                panic!("the broker still runs {STOP_LIMIT:?} after SIGTERM");
            }
        }
    }

    /// Sends a signal, such as `Signal::STOP` and `Signal::CONT` to pause and resume.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.process_id(), signal).expect("a child of ours can be signalled");
    }

    /// The id of the running process.
    pub fn process_id(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("the broker was started"))
    }

    /// The memory the process holds in RAM (`VmRSS`), in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = self.proc_file("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kibibytes.expect("Linux reports VmRSS of a running process") * 1024
    }

    /// CPU time the process has used, user and system, at the kernel's 10 ms ticks.
    pub fn cpu_time(&self) -> Duration {
        let stat = self.proc_file("stat");
        // The second field is the name in parentheses and may hold blanks; utime and stime are the
        // 14th and 15th, the 12th and 13th after the name.
        let (_, after_name) = stat
            .rsplit_once(')')
            .expect("Linux puts the name in parentheses");
        let fields = after_name.split_whitespace().skip(11).take(2);
        let ticks: u64 = fields
            .map(|field| field.parse::<u64>().expect("ticks are a number"))
            .sum();
        Duration::from_millis(ticks * 10)
    }

    fn proc_file(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.process_id().as_raw_nonzero());
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Everything the process wrote to stdout and stderr since the harness made it, restarts
    /// included, up to the latest 20,000 lines.
    pub fn output(&self) -> String {
        self.tail(KEPT_LINES)
    }

    fn tail(&self, count: usize) -> String {
        let output = self.output.lock().expect("no reader panics");
        let skipped = output.lines.len().saturating_sub(count);
        let mut text = String::new();
        for line in output.lines.iter().skip(skipped) {
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// GETs a path from the admin listener: (status code, body).
    pub fn http_get(&self, path: &str) -> std::io::Result<(u16, String)> {
        http_get(self.admin_port, path)
    }

    fn launch(&mut self) -> Result<(), String> {
        self.spawn()?;
        self.await_ready(READY_LIMIT)
    }

    /// Starts the process and does not wait for anything.
    pub fn spawn(&mut self) -> Result<(), String> {
        self.output.lock().expect("no reader panics").said_ready = false;
        self.started = Instant::now();
        let mut child = Command::new(binary())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("the klamm binary does not run: {error}"))?;
        let stdout = child.stdout.take().expect("stdout was piped");
        let stderr = child.stderr.take().expect("stderr was piped");
        self.readers = vec![self.collect(stdout), self.collect(stderr)];
        self.child = Some(child);
        Ok(())
    }

    /// Waits until the process that was started last serves. `Err` says why it does not, with the
    /// last lines of what it wrote; it does not run any more then.
    pub fn await_ready(&mut self, limit: Duration) -> Result<(), String> {
        loop {
            let exited = self.child.as_mut().map(|child| child.try_wait());
            if let Some(Ok(Some(status))) = exited {
                self.child = None;
                for reader in self.readers.drain(..) {
                    let _ = reader.join();
                }
                let tail = self.tail(TAIL_LINES);
                return Err(format!(
                    "the broker ended before it was ready: {status}\n{tail}"
                ));
            }
            if self.is_ready() {
                self.time_to_ready = self.started.elapsed();
                return Ok(());
            }
            if self.started.elapsed() > limit {
                self.kill9();
                let tail = self.tail(TAIL_LINES);
                return Err(format!("the broker was not ready after {limit:?}\n{tail}"));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// The broker accepts connections and says, in its log or over HTTP, that it serves.
    fn is_ready(&self) -> bool {
        let said_ready = self.output.lock().expect("no reader panics").said_ready;
        let ready = said_ready || matches!(http_get(self.admin_port, "/readyz"), Ok((200, _)));
        ready && TcpStream::connect(loopback(self.port)).is_ok()
    }

    fn collect(&self, stream: impl Read + Send + 'static) -> thread::JoinHandle<()> {
        let output = Arc::clone(&self.output);
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(stream.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                let mut output = output.lock().expect("no reader panics");
                output.said_ready |= text.contains(READY_LINE);
                if output.lines.len() == KEPT_LINES {
                    output.lines.pop_front();
                }
                output.lines.push_back(text);
            }
        })
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!(
                "--- the broker's last lines ---\n{}--- end ---",
                self.tail(TAIL_LINES)
            );
        }
    }
}

/// The program under test.
pub fn binary() -> PathBuf {
    let other = std::env::var_os("KLAMM_BINARY");
    other.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_klamm")), PathBuf::from)
}

/// Waits for a child to end; `None` when it still runs after `limit`.
pub fn wait_for_exit(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child of ours can be waited for") {
            return Some(status);
        }
        if started.elapsed() > limit {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A loopback port that is free now. It lies below the range the kernel gives to outgoing
/// connections, so none of those can take it while a broker is down between two starts.
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run at once begin at different places.
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let step = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + step % COUNT).expect("32,000 fits a port");
        if TcpListener::bind(loopback(port)).is_ok() {
            return port;
        }
    }
    panic!(
        "no loopback port from {FIRST} to {} is free",
        FIRST + COUNT - 1
    );
}

fn http_get(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&loopback(port), limit)?;
    stream.set_read_timeout(Some(limit))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let status = response
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other("not an HTTP response"))?;
    let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}
