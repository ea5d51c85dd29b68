//! Integration tests: real sockets, real disks, real clients. One binary, one module a subject.
mod env_conformance;
