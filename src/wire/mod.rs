//! Bytes to values and back: the Kafka protocol's frames, requests, responses and record batches.
//!
//! No clock, no IO, and no input that panics: every decoder answers [`DecodeError`] for bytes it
//! cannot accept, and never allocates more than the bytes at hand can justify.

pub mod api;
pub mod batch;
pub mod frame;
mod later;
#[macro_use]
mod macros;
pub mod message;
pub mod primitive;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use api::{ApiKey, Request};
pub use later::{Later, Part, Source};
pub use primitive::{Records, Str, Version, Wire};
pub use reader::{DecodeError, ELEMENTS_MAX, Reader};
pub use writer::{EncodeError, Writer};
