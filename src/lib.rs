//! Klamm: a Kafka-compatible event-streaming platform in one binary.
//!
//! Modules by layer; each uses only lower layers (see `docs/architecture.md`).

// L0: the vocabulary, and bugs to plant.
pub mod mutant;
pub mod types;

pub(crate) use mutant::mutant;

// L1: the world, the wire, the settings.
pub mod config;
pub mod env;
pub mod wire;

// L2: one log on a disk; the protocol from the other side.
pub mod client;
pub mod log;

// L3: machines that decide, and their drivers.
pub mod controller;
pub mod coordinator;
pub mod group;
pub mod mirror;
pub mod replication;

// L4: the parts together.
pub mod broker;

// L5: the command line.
pub mod cli;
