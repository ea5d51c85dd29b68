//! The quorum of several nodes: its files, its forms, its leaders, and clusters of it.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests wait and measure on the real clock"
)]

mod cluster;
mod files;
mod forms;
mod harness;
mod leaders;
mod suite;
mod watching;

use crate::types::BrokerId;

/// The library's tests number nodes so.
impl From<u64> for BrokerId {
    fn from(id: u64) -> Self {
        Self(i32::try_from(id).unwrap())
    }
}
