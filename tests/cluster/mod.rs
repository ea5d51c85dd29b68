//! Clusters of real processes on loopback: what survives when nodes are killed, how long writes
//! stop, and what nodes say when they must not start.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes, files and sockets"
)]

mod all_killed;
mod bench;
mod eyes;
mod failover;
mod history;
mod load;
mod process;
mod pulse;
mod refused_nodes;
mod replicas;
mod rolling;
mod trouble;
mod waiting;

pub use process::ClusterProcess;

use std::fmt::Debug;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard};

/// Held by a test while its nodes run: on a small machine the nodes of several tests at once would
/// keep each other from everything that has a time limit.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed has poisoned nothing the next one uses.
    TURN.lock().unwrap_or_else(|failed| failed.into_inner())
}

/// A number from the environment, for longer runs.
pub fn environment<T: FromStr<Err: Debug>>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|error| panic!("{name}={text}: {error:?}")),
    )
}
