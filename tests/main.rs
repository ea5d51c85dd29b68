//! Integration tests: real sockets, real disks, real clients. One binary, one module a subject.
mod client;
mod env_conformance;
