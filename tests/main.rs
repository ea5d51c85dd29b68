//! Integration tests: real sockets, real disks, real clients. One binary, one module a subject.

mod broker_process;
mod real_clients;
