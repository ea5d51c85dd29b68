//! Reads what a broker left on its disk, and says what is not as the formats promise.
//!
//! A reader of its own, written from `docs/storage.md` and `docs/metadata-records.md`: of the
//! broker's code it uses only the wire format of record batches, so that a mistake of the log is
//! not shared by who judges it. The data directory must be at rest: after an orderly stop
//! ([`Mode::Stopped`], where nothing may be unfinished) or after the process ended in any other
//! way and before the next start ([`Mode::Crashed`], where what no sync had covered may be torn).
//!
//! In a log that was never compacted, nor copied from one that was, there are no gaps. What the
//! nodes of a cluster have is compared by [`compare_replicas`].
//!
//! | property | what is looked at |
//! | --- | --- |
//! | R8 | leader epochs: the checkpoint is what the batches imply; epochs never go back |
//! | R10 | the log's start lies in the log |
//! | R11 | producer snapshots are what a model makes of the batches below them |
//! | R12 | segments, pages and slots, batches one after another, index entries, recovery points |
//! | R15 | the marker of an orderly stop says how the logs ended |
//! | R16 | no batch of a producer is there twice, none is missing between two |
//! | P15 | batches are as they were written |
//! | K1 | below the clean point every key is there once |
//! | K4 | the active segment was never compacted |
//! | K8 | nothing unfinished is left behind, except by a compaction that a stop cut short |
//! | K9 | offsets relative to a segment fit 31 bits |
//! | K10 | timestamps of the index are those of the batches, and grow |
//! | M6 | the metadata log is whole |
//! | CG2, CG7 | the group log can be read, generations grow, a group lives on one partition |

mod bytes_reader;
mod checkpoint;
mod contents;
mod epochs;
mod groups;
mod index;
mod marker;
mod metadata;
mod partition;
mod producers;
mod recovery_point;
mod replicas;
mod segment;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use klamm_jepsen::history::Partition;

pub use contents::{Stored, log_contents};
pub use groups::{CommittedAt, committed_offsets};
pub use replicas::{Replica, compare_replicas};

/// Where the metadata log lies in the first data directory.
const METADATA_DIR: &str = "__cluster_metadata-0";

/// The topic of the groups' log.
const GROUP_TOPIC: &str = "__consumer_offsets";

/// How the broker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In order.
    Stopped,
    /// Killed, or the power went.
    Crashed,
}

/// Something that is not as promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// See the module.
    pub property: &'static str,
    pub partition: Option<Partition>,
    /// The file and what is wrong with it, for people.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.property)?;
        if let Some(of) = &self.partition {
            write!(f, " in {}-{}", of.topic, of.partition)?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// What may be there besides what is promised.
#[derive(Debug, Clone, Default)]
pub struct Allowance {
    /// Files, or directories, that were damaged on purpose. What is wrong with such a file is not
    /// reported, nor what cannot be judged without it.
    pub damaged: Vec<PathBuf>,
    /// Producers may have been forgotten for being idle.
    pub producers_expire: bool,
    /// One node of several, whose metadata is kept by a quorum: its files are not looked at here.
    pub is_replica: bool,
    /// Topics of which nothing but what this node compacted has gaps; of a replica, what its leader
    /// compacted has too. `None`: all.
    pub without_gaps: Option<BTreeSet<String>>,
    /// Topics that a link fills, whose logs may begin beyond offset 0.
    pub mirrors: BTreeSet<String>,
    /// From which leader epoch on the batches of mirrors that were promoted are this cluster's own:
    /// producers from before are others, whatever their ids, and forgotten.
    pub own_since: BTreeMap<Partition, i32>,
}

impl Allowance {
    fn is_damaged(&self, path: &Path) -> bool {
        self.damaged.iter().any(|damaged| path.starts_with(damaged))
    }

    /// Beyond all offsets where there is no such batch.
    fn own_from(&self, of: &Partition, log: &partition::Log) -> i64 {
        let Some(since) = self.own_since.get(of) else {
            return 0;
        };
        let mut batches = log.batches();
        let own = batches.find(|batch| batch.header().leader_epoch.0 >= *since);
        own.map_or(i64::MAX, |batch| batch.base())
    }

    fn may_have_gaps(&self, of: &Partition) -> bool {
        let without = self.without_gaps.as_ref();
        without.is_some_and(|topics| !topics.contains(&of.topic))
    }
}

/// What is wrong with `files`, all files of the node's disk. No producer may have expired.
#[must_use]
pub fn audit(files: &[(PathBuf, Bytes)], mode: Mode, damaged: &[PathBuf]) -> Vec<Finding> {
    let allowance = Allowance {
        damaged: damaged.to_vec(),
        ..Allowance::default()
    };
    audit_with(files, mode, &allowance)
}

/// Like [`audit`].
#[must_use]
pub fn audit_with(files: &[(PathBuf, Bytes)], mode: Mode, allowance: &Allowance) -> Vec<Finding> {
    let mut findings = Findings::default();
    let topics = match allowance.is_replica {
        true => None,
        false => metadata::check(files, mode, allowance, &mut findings),
    };
    let mut ends = BTreeMap::new();
    for directory in directories(files) {
        let checked = partition::check(&directory, mode, allowance, &mut findings);
        if let (Some(checked), Some(topics)) = (&checked, &topics)
            && mode == Mode::Stopped
        {
            metadata::check_identity(topics, &directory, checked.topic_id, &mut findings);
        }
        if let Some(checked) = checked {
            ends.insert(directory.path.clone(), checked);
        }
    }
    if mode == Mode::Stopped {
        marker::check(files, &ends, allowance, &mut findings);
    }
    groups::check(files, &mut findings);
    findings.0
}

/// The damaged files of which a start may take a part for a torn write, and where that begins: the
/// last file of a log, from its newest durable slot on. No node can tell on its own that bytes
/// there were durable once.
#[must_use]
pub fn torn_from(files: &[(PathBuf, Bytes)], damaged: &[PathBuf]) -> Vec<(PathBuf, u64)> {
    let mut last: BTreeMap<&Path, (i64, &PathBuf, &Bytes)> = BTreeMap::new();
    for (path, content) in files {
        let name = path.file_name().and_then(|name| name.to_str());
        let base = name.and_then(|name| {
            let base = number_in(name, ".log");
            let base = base.or_else(|| number_in(name, ".records"));
            base.or_else(|| number_in(name, ".raft"))
        });
        if let (Some(base), Some(dir)) = (base, path.parent()) {
            let known = last.entry(dir).or_insert((base, path, content));
            if known.0 < base {
                *known = (base, path, content);
            }
        }
    }
    let torn = last.into_iter().filter_map(|(dir, (base, path, content))| {
        let is_raft = path.extension().is_some_and(|end| end == "raft");
        let from = match dir.ends_with(METADATA_DIR) {
            true if is_raft => metadata::raft_durable_to(content)?,
            true => metadata::durable_to(content, base)?,
            false => segment::page(content).ok()?.slot?.position,
        };
        damaged.contains(path).then(|| (path.clone(), from))
    });
    torn.collect()
}

/// The directory of a partition.
#[derive(Debug)]
struct Directory<'a> {
    path: PathBuf,
    of: Partition,
    /// By name.
    files: BTreeMap<&'a str, &'a Bytes>,
}

impl Directory<'_> {
    /// What a checkpoint of this name is bound to.
    fn place(&self, name: &str) -> String {
        let directory = self.path.file_name().unwrap_or_default();
        format!("{}/{name}", directory.to_string_lossy())
    }
}

/// The directories of partitions that hold files; not those set aside or being removed, nor the
/// metadata's.
fn directories(files: &[(PathBuf, Bytes)]) -> Vec<Directory<'_>> {
    let mut found: BTreeMap<&Path, Directory<'_>> = BTreeMap::new();
    for (path, content) in files {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            continue;
        };
        let (Some(name), Some(of)) = (name.to_str(), partition_of(parent)) else {
            continue;
        };
        let directory = found.entry(parent).or_insert_with(|| Directory {
            path: parent.to_owned(),
            of,
            files: BTreeMap::new(),
        });
        directory.files.insert(name, content);
    }
    found.into_values().collect()
}

fn partition_of(directory: &Path) -> Option<Partition> {
    let name = directory.file_name()?.to_str()?;
    if name == METADATA_DIR {
        return None;
    }
    let (topic, partition) = name.rsplit_once('-')?;
    Some(Partition {
        topic: topic.to_owned(),
        partition: partition.parse().ok()?,
    })
}

/// The number in a name of 20 digits and `suffix`.
fn number_in(name: &str, suffix: &str) -> Option<i64> {
    let digits = name.strip_suffix(suffix)?;
    let is_number = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, property: &'static str, of: Option<&Partition>, detail: String) {
        self.0.push(Finding {
            property,
            partition: of.cloned(),
            detail,
        });
    }
}
