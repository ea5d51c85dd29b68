//! Histories of what clients saw, and the checkers that judge them.
//!
//! A run, simulated or on real processes, writes a [`history`]; [`checker`] says which properties
//! it breaks, [`judge`] what that makes of the run, and [`report`] tells people. Nothing of these
//! knows how the history came to be. [`harness`] makes histories: it torments real processes.
//! [`embedded`] is what members of groups tell each other. [`cli`] is the command line.

pub mod checker;
pub mod cli;
pub mod embedded;
pub mod harness;
pub mod history;
pub mod judge;
pub mod report;
