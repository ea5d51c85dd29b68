//! Kafka's own client of MirrorMaker 2 finds its way where a link names its mirrors so.
//!
//! Needs Java and Maven's registry, so it runs with `KLAMM_CLIENTS=1` alone.

use std::path::Path;
use std::process::Command;

use super::klamm;
use crate::broker_process::BrokerProcess;
use crate::cluster::environment;

/// What the script says if it cannot fetch what it needs.
const MISSING: i32 = 3;

#[test]
fn what_was_made_for_mirror_maker_finds_its_way() {
    if environment::<u8>("KLAMM_CLIENTS") != Some(1) {
        eprintln!("skipped: KLAMM_CLIENTS=1 runs it");
        return;
    }
    let often = [("klamm.mirror.discovery.interval.ms", "500")];
    let (west, east) = (
        BrokerProcess::start_with(&[]),
        BrokerProcess::start_with(&often),
    );
    let (source, target) = (west.bootstrap(), east.bootstrap());
    let create = [
        "link",
        "create",
        "west",
        "--from",
        &source,
        "--topics",
        "*",
        "--groups",
        "*",
        "--replication-policy",
        "default",
        "--alias",
        "east",
        "--source-heartbeats",
    ];
    klamm(&target, &create);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/java/run.sh");
    let status = Command::new(script)
        .arg("mirror")
        .env("BOOTSTRAP", &target)
        .env("SOURCE", &source)
        .status()
        .expect("a shell");
    if status.code() == Some(MISSING) {
        eprintln!("skipped: Java or Maven's registry is missing");
        return;
    }
    let told = klamm(&target, &["link", "describe", "west"]);
    assert!(status.success(), "{told}\n{}", east.output());
    assert!(
        told.contains("'west.' before the name at the source"),
        "{told}"
    );
}
