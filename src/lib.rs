//! Klamm: a Kafka-compatible event-streaming platform in one binary.
//!
//! Modules in layer order; each may use only those above it in this list (and see
//! `docs/architecture.md`).

pub mod types;

pub mod env;

pub mod wire;

pub mod client;
