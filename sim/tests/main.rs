//! Scenarios of the whole node under simulation.

mod broker;
mod conformance;
mod disk;
mod node;
