//! Scenarios of the whole node under simulation.
#![allow(clippy::disallowed_methods, reason = "variables choose seeds and logs")]

mod audit;
mod broker;
mod conformance;
mod disk;
mod net;
mod node;
mod workload;
