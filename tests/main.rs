//! Integration tests: real sockets, real disks, real clients. One binary, one module a subject.

mod broker_process;
mod client;
mod env_conformance;
mod footprint;
mod kill_rounds;
mod limits;
mod log_recovery;
mod real_clients;
mod tidy;
mod wire;
mod wire_client;
