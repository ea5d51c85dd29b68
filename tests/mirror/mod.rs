//! Links between real clusters: what a mirror holds is what its source held, record for record,
//! and what a failover promises.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes, files and sockets"
)]

mod failover;
mod from_kafka;
mod mirror_maker;
mod side;

use std::process::Command;
use std::time::{Duration, Instant};

use crate::broker_process::binary;

/// Runs `klamm ARGUMENTS` against a cluster; what it printed. It must succeed.
#[track_caller]
fn klamm(servers: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(binary());
    let command = command
        .env("KLAMM_BOOTSTRAP_SERVERS", servers)
        .args(arguments);
    let output = command.output().expect("the binary runs");
    let (told, complained) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "klamm {} ended with {}\n{told}\n{complained}",
        arguments.join(" "),
        output.status
    );
    told
}

/// As [`klamm`], while the cluster may be in the middle of something: asked again for a minute.
fn klamm_at_last(servers: &str, arguments: &[&str]) -> String {
    let began = Instant::now();
    loop {
        let mut command = Command::new(binary());
        let command = command
            .env("KLAMM_BOOTSTRAP_SERVERS", servers)
            .args(arguments);
        let output = command.output().expect("the binary runs");
        if output.status.success() {
            return String::from_utf8_lossy(&output.stdout).into_owned();
        }
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "klamm {}: {complained}",
            arguments.join(" ")
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}
