//! What a process of this machine costs: CPU time and memory, from `/proc`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::failure::Failure;
use super::figures::rounded;
use crate::env::{Env, OpenMode};

/// Ticks of the kernel's CPU accounting; Linux shows them at 100 a second on every machine.
const TICK: Duration = Duration::from_millis(10);

/// A process at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// User and system time since the process began.
    pub cpu: Duration,
    pub resident_bytes: u64,
}

/// The process `pid` now.
pub async fn snapshot(env: &Env, pid: u32) -> Result<Snapshot, Failure> {
    let stat = read(env, pid, "stat").await?;
    let status = read(env, pid, "status").await?;
    let cpu = cpu(&stat);
    let resident_bytes = resident(&status);
    cpu.zip(resident_bytes)
        .map(|(cpu, resident_bytes)| Snapshot {
            cpu,
            resident_bytes,
        })
        .ok_or_else(|| Failure::Failed(format!("process {pid} tells nothing about itself")))
}

async fn read(env: &Env, pid: u32, name: &str) -> Result<String, Failure> {
    let path = PathBuf::from(format!("/proc/{pid}/{name}"));
    let refused = |error| Failure::Failed(format!("process {pid} cannot be watched: {error}"));
    let file = env
        .disk
        .open(&path, OpenMode::Read)
        .await
        .map_err(refused)?;
    let bytes = file.read_at(0, 16 << 10).await.map_err(refused)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// User and system time, the 14th and 15th field. The second is the name in parentheses, which
/// may hold blanks and parentheses.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    TICK.checked_mul(user.checked_add(system)?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// What a process spent between two moments in which `bytes` went through it.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    pub pid: u32,
    pub cpu_seconds: f64,
    pub cpu_seconds_per_gb: Option<f64>,
    pub resident_bytes: u64,
}

impl Spent {
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    pub fn between(pid: u32, before: Snapshot, after: Snapshot, bytes: u64) -> Self {
        let cpu_seconds = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        let per_gb = cpu_seconds / (bytes as f64 / 1e9);
        Self {
            pid,
            cpu_seconds: rounded(cpu_seconds, 2),
            cpu_seconds_per_gb: (bytes > 0).then(|| rounded(per_gb, 3)),
            resident_bytes: after.resident_bytes,
        }
    }

    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "pid": self.pid, "cpu_seconds": self.cpu_seconds,
            "cpu_seconds_per_gb": self.cpu_seconds_per_gb, "rss_bytes": self.resident_bytes,
        })
    }

    #[must_use]
    pub fn text(&self) -> String {
        let per_gb = self
            .cpu_seconds_per_gb
            .map_or_else(String::new, |s| format!(", {s:.2} per GB"));
        let memory = super::super::report::size(self.resident_bytes);
        format!(
            "{:.2} CPU seconds{per_gb}, {memory} resident",
            self.cpu_seconds
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_text_is_read() {
        let stat = "12 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 9 0";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!(resident("Name:\tx\nVmRSS:\t  2048 kB\n"), Some(2 << 20));
        assert_eq!((cpu("nonsense"), resident("")), (None, None));
    }
}
