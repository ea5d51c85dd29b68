//! Scenarios of the whole node under simulation.

mod conformance;
mod disk;
mod node;
