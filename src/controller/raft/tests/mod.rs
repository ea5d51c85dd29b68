//! The quorum of several nodes.
