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
mod trouble;

pub use process::ClusterProcess;

use std::fmt::Debug;
use std::str::FromStr;

/// A number from the environment, for longer runs.
fn environment<T: FromStr<Err: Debug>>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|error| panic!("{name}={text}: {error:?}")),
    )
}
