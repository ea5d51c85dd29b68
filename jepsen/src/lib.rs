//! Histories of what clients saw, and the checkers that judge them.
//!
//! A run, simulated or on real processes, writes a [`history`]; [`checker`] says which properties
//! it breaks. Nothing here knows how the history came to be.

pub mod checker;
pub mod history;
