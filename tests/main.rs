//! Integration tests: real sockets, real disks, real clients. One binary, one module a subject.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests look at the world from outside"
)]

mod broker_process;
mod cli;
mod client;
mod cluster;
mod env_conformance;
mod footprint;
mod kill_rounds;
mod limits;
mod links;
mod log_recovery;
mod mirror;
mod real_clients;
mod tidy;
mod torment;
mod wire;
mod wire_client;
