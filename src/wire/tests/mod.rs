//! The codec against itself, against another implementation, and at its edges.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

pub(super) mod arbitrary;
mod differential;
mod edges;
