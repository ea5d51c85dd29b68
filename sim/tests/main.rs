//! Scenarios of the whole node under simulation.
