//! The codec against itself, against another implementation, and at its edges.

mod differential;
mod edges;
