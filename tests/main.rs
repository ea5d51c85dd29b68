//! Integration tests: real sockets, real disks, real clients. One binary, one module a subject.

mod broker_process;
mod cli;
mod client;
mod env_conformance;
mod log_recovery;
mod real_clients;
mod tidy;
mod wire;
