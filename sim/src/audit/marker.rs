//! `.klamm_cleanshutdown`: a checkpoint of the data directory's id (16 bytes), and for each log its
//! directory's name (after its length, u16), end offset (i64) and length of its files (u64).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::bytes_reader::BytesReader;
use super::partition::Checked;
use super::{Allowance, Findings, checkpoint, partition_of};

const NAME: &str = ".klamm_cleanshutdown";

/// Without these no log can be judged.
const IDENTIFYING: [&str; 2] = ["partition.metadata", "log-start-offset"];

/// After an orderly stop every data directory has a marker, and it says how the logs in it ended.
pub(super) fn check(
    files: &[(PathBuf, Bytes)],
    logs: &BTreeMap<PathBuf, Checked>,
    allowance: &Allowance,
    findings: &mut Findings,
) {
    for (path, _) in files {
        let is_data = path
            .file_name()
            .is_some_and(|name| name == "meta.properties");
        let Some(dir) = path.parent().filter(|_| is_data) else {
            continue;
        };
        let marker = dir.join(NAME);
        let content = files.iter().find(|(path, _)| *path == marker);
        if allowance.is_damaged(&marker) {
            continue;
        }
        let Some((_, content)) = content else {
            if of_partition(dir, allowance) {
                // A log that went offline is not closed well, and no directory gets a marker.
                continue;
            }
            let detail = format!("{} is missing after an orderly stop", marker.display());
            findings.add("R15", None, detail);
            continue;
        };
        match checkpoint::body(content, NAME).and_then(|body| decode(BytesReader(body))) {
            Ok(ends) => compare(dir, &ends, logs, allowance, findings),
            Err(reason) => {
                findings.add("R15", None, format!("{}: {reason}", marker.display()));
            }
        }
    }
}

/// End offset and bytes of files, by the name of a log's directory.
type Ends = BTreeMap<String, (i64, u64)>;

fn decode(mut from: BytesReader) -> Result<Ends, String> {
    let read = (|| {
        from.take(16)?;
        let mut ends = Ends::new();
        while !from.is_empty() {
            let length = usize::from(from.u16()?);
            let name = String::from_utf8(from.take(length)?.to_vec()).ok()?;
            ends.insert(name, (from.i64()?, from.u64()?));
        }
        Some(ends)
    })();
    read.ok_or_else(|| "it cannot be read".to_owned())
}

/// Whether a file of any partition's directory in `dir` was damaged.
fn of_partition(dir: &Path, allowance: &Allowance) -> bool {
    allowance.damaged.iter().any(|path| {
        let partition = path.parent().filter(|log| log.parent() == Some(dir));
        partition.is_some_and(|log| partition_of(log).is_some())
    })
}

fn compare(
    dir: &Path,
    ends: &Ends,
    logs: &BTreeMap<PathBuf, Checked>,
    allowance: &Allowance,
    findings: &mut Findings,
) {
    for (name, told) in ends {
        let path = dir.join(name);
        let Some(log) = logs.get(&path) else {
            if IDENTIFYING
                .iter()
                .any(|name| allowance.is_damaged(&path.join(name)))
            {
                // It is there, and cannot be judged.
                continue;
            }
            findings.add(
                "R15",
                None,
                format!("{NAME} names {name}, which is not there"),
            );
            continue;
        };
        let is = (log.end, log.file_bytes);
        if *told != is && !log.is_damaged {
            let detail = format!("{NAME} says (end, bytes) {told:?} of {name}, which has {is:?}");
            findings.add("R15", None, detail);
        }
    }
}
