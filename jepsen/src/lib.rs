//! Histories of what clients saw, and the checkers that judge them.
//!
//! A run, simulated or on real processes, writes a [`history`]; [`checker`] says which properties
//! it breaks, [`judge`] what that makes of the run, and [`report`] tells people. Nothing of these
//! knows how the history came to be. [`cli`] is the command line.

pub mod checker;
pub mod cli;
pub mod history;
pub mod judge;
pub mod report;
