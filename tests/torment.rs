//! The harness of real processes, for a moment: the whole of it works, and the broker stands it.
//!
//! Longer runs are `klamm-jepsen test` (docs/jepsen-harness.md).

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes and files"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use klamm_jepsen::harness::nemesis::Kind;
use klamm_jepsen::harness::{Options, Workload, run};
use klamm_jepsen::judge::Verdict;

use crate::cluster;

#[test]
fn three_nodes_that_are_killed_keep_what_they_acknowledged() {
    let _turn = cluster::turn();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("torment");
    // There is none to remove the first time.
    let _ = std::fs::remove_dir_all(&folder);
    let options = Options {
        nodes: 3,
        time: Duration::from_secs(15),
        seed: 11,
        workloads: BTreeSet::from([Workload::Log]),
        kinds: vec![Kind::Kill],
        languages: Vec::new(),
        clients: (PathBuf::new(), PathBuf::new()),
        binary: PathBuf::from(env!("CARGO_BIN_EXE_klamm")),
        mutant: None,
        network: None,
        folder: folder.clone(),
        overrides: Vec::new(),
        keep: false,
    };
    let outcome = run(&options).expect("a run that can be judged");
    let folder = folder.display();
    let violations = &outcome.judgement.violations;
    assert_eq!(outcome.verdict, Verdict::Good, "{folder}: {violations:?}");
    assert!(outcome.hits.contains_key("kill"), "nobody was killed");
}
