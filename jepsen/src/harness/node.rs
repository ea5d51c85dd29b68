//! One `klamm` process: started, killed, paused, made to lose power.
//!
//! A node keeps its directory across its lives. What it wrote goes to `node-N.log`.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What a broker logs when it serves, as Kafka does.
const READY_LINE: &str = "Kafka Server started";
/// What a build with the feature `faults` logs as it starts.
const FAULTS_LINE: &str = "this build can be given faults";
/// What such a build logs when power was lost.
const LOST_LINE: &str = "power was lost";

/// A node, running or not.
#[derive(Debug)]
pub struct Node {
    pub id: usize,
    /// What all its lives share.
    settings: Vec<(String, String)>,
    /// Its data and what belongs to it.
    pub home: PathBuf,
    log: PathBuf,
    mutant: Option<String>,
    child: Option<Child>,
    pub is_paused: bool,
    /// Where in the log its present life begins.
    life: u64,
    is_ready: bool,
    started: Instant,
}

/// How a node came to be down that nobody killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    pub status: String,
    /// The line in which it panicked.
    pub panic: Option<String>,
}

/// How a node is to lose power: what was not synced is lost as this seed draws it.
pub type PowerSeed = u64;

impl Node {
    pub fn new(id: usize, home: PathBuf, log: PathBuf, mutant: Option<String>) -> Self {
        Self {
            id,
            settings: Vec::new(),
            home,
            log,
            mutant,
            child: None,
            is_paused: false,
            life: 0,
            is_ready: false,
            started: Instant::now(),
        }
    }

    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.settings.push((key.to_owned(), value.into()));
    }

    /// Starts the process by `command`, which runs the binary where the node is. With `power` it
    /// first loses what its last life had not synced.
    pub fn start(&mut self, mut command: Command, power: Option<PowerSeed>) -> Result<(), String> {
        let fail = |error: std::io::Error| format!("node {} does not start: {error}", self.id);
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.map_err(fail)?;
        self.life = log.metadata().map_err(fail)?.len();
        for (key, value) in &self.settings {
            command.args(["--override", &format!("{key}={value}")]);
        }
        command.env("FAULTS_DIR", self.home.join("faults"));
        command.env_remove("FAULTS_POWER_LOST");
        if let Some(seed) = power {
            command.env("FAULTS_POWER_LOST", seed.to_string());
        }
        if let Some(mutant) = &self.mutant {
            command.env("MUTANT", mutant);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(fail)?)
            .stderr(log)
            .spawn()
            .map_err(fail)?;
        self.child = Some(child);
        self.is_paused = false;
        self.is_ready = false;
        self.started = Instant::now();
        Ok(())
    }

    /// The id of its process, if it was started and nobody ended it.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    #[must_use]
    pub fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// Whether it has been told to run and never said yet that it serves: true once a life.
    pub fn became_ready(&mut self) -> bool {
        if self.is_ready || self.child.is_none() || !self.says(READY_LINE) {
            return false;
        }
        self.is_ready = true;
        true
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_ready && self.child.is_some() && !self.is_paused
    }

    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether its build can be given faults.
    #[must_use]
    pub fn takes_faults(&self) -> bool {
        self.says(FAULTS_LINE)
    }

    fn says(&self, line: &str) -> bool {
        self.output().contains(line)
    }

    /// Writes and changes of directories that losses of power took, in all its lives.
    #[must_use]
    pub fn lost_by_power(&self) -> (u64, u64) {
        let all = std::fs::read_to_string(&self.log).unwrap_or_default();
        let mut lost = (0, 0);
        for line in all.lines().filter(|line| line.contains(LOST_LINE)) {
            let of = |key: &str| {
                let (_, rest) = line.split_once(key)?;
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits.parse::<u64>().ok()
            };
            lost.0 += of("writes=").unwrap_or(0);
            lost.1 += of("changes=").unwrap_or(0);
        }
        lost
    }

    /// What it wrote in its present life, or the last.
    #[must_use]
    pub fn output(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(&self.log)
            && file.seek(SeekFrom::Start(self.life)).is_ok()
        {
            // What cannot be read says nothing.
            let _ = file.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// That it ended by itself, told once.
    pub fn exit(&mut self) -> Option<Exit> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        self.is_ready = false;
        let output = self.output();
        let panic = output.lines().find(|line| line.contains("panicked at"));
        Some(Exit {
            status: status.to_string(),
            panic: panic.map(str::to_owned),
        })
    }

    pub fn signal(&mut self, signal: Signal) {
        if let Some(child) = &self.child {
            // It may have ended since.
            let _ = kill_process(Pid::from_child(child), signal);
        }
        match signal {
            Signal::STOP => self.is_paused = true,
            Signal::CONT => self.is_paused = false,
            _ => {}
        }
    }

    /// Takes note that it was killed, and waits until the process is gone.
    pub fn reap(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.is_paused = false;
        self.is_ready = false;
    }

    /// Tells it to end in order, once: told again, it hurries.
    pub fn tell_to_stop(&mut self) {
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
    }

    /// Waits until it has ended, or ends it by force after `within`. Whether it ended by itself.
    pub fn await_end(&mut self, within: Duration) -> bool {
        let Some(child) = &mut self.child else {
            return true;
        };
        let began = Instant::now();
        while began.elapsed() < within {
            if matches!(child.try_wait(), Ok(Some(_))) {
                self.child = None;
                self.is_paused = false;
                self.is_ready = false;
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.reap();
        false
    }

    /// What its wall clock is off by, from now on.
    pub fn set_clock(&self, offset_ms: i64) -> Result<(), String> {
        let path = self.home.join("faults").join("clock");
        write(&path, offset_ms.to_string().as_bytes())
    }

    /// Takes what is left of its disk, but for a few blocks.
    pub fn fill_disk(&self) -> Result<u64, String> {
        let fail = |error: std::io::Error| format!("node {}: {error}", self.id);
        let path = self.home.join("filler");
        let file = File::create(path).map_err(fail)?;
        let piece = vec![0x5a; 64 << 10];
        let mut len = 0;
        loop {
            match rustix::io::pwrite(&file, &piece, len) {
                Ok(0) | Err(rustix::io::Errno::NOSPC) => return Ok(len),
                Ok(written) => len += written as u64,
                Err(error) => return Err(fail(error.into())),
            }
        }
    }

    pub fn empty_disk(&self) {
        // There is none to remove unless the disk was filled.
        let _ = std::fs::remove_file(self.home.join("filler"));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.reap();
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let next = path.with_extension("next");
    std::fs::write(&next, bytes)
        .and_then(|()| std::fs::rename(&next, path))
        .map_err(|error| format!("{}: {error}", path.display()))
}
