//! Integration tests: real sockets, real disks, real clients. One binary, one module a subject.

mod broker_process;
mod env_conformance;
mod log_recovery;
mod tidy;
mod wire;
