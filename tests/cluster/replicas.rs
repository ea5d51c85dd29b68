//! That replicas hold the same bytes: every batch, with its offsets and leader epochs.

use std::fs;
use std::path::{Path, PathBuf};

use super::process::ClusterProcess;

/// Compares the partitions of a topic on all nodes of a cluster that does not run; says how many
/// bytes one replica of each holds.
pub fn compare(cluster: &ClusterProcess, topic: &str) -> usize {
    let (mut partition, mut bytes) = (0, 0);
    loop {
        let name = format!("{topic}-{partition}");
        let held: Vec<(i32, Vec<u8>)> = cluster
            .ids()
            .filter_map(|id| {
                let directory = cluster.node(id).data_directory().join(&name);
                directory.exists().then(|| (id, log(&directory)))
            })
            .collect();
        let Some(((first, expected), rest)) = held.split_first() else {
            assert!(partition > 0, "{topic} is on no node");
            return bytes;
        };
        for (id, actual) in rest {
            let differ = expected
                .iter()
                .zip(actual)
                .position(|(one, other)| one != other);
            let shorter = expected.len().min(actual.len());
            assert!(
                expected == actual,
                "{name} differs between nodes {first} ({} bytes) and {id} ({} bytes) from byte {}",
                expected.len(),
                actual.len(),
                differ.unwrap_or(shorter)
            );
        }
        bytes += expected.len();
        partition += 1;
    }
}

/// Where the batches of a segment begin: the page before is about this replica alone.
const HEADER_PAGE_BYTES: usize = 4096;

/// The batches of a log. A replica may begin a segment where another does not.
fn log(directory: &Path) -> Vec<u8> {
    let entries = fs::read_dir(directory).expect("the directory can be read");
    let files = entries.map(|entry| entry.expect("it can be listed").path());
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
    let mut segments: Vec<PathBuf> = files.filter(is_segment).collect();
    segments.sort();
    let mut batches = Vec::new();
    for path in segments {
        let segment = fs::read(path).expect("a segment can be read");
        batches.extend_from_slice(&segment[HEADER_PAGE_BYTES..]);
    }
    batches
}
