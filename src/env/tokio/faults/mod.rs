//! Faults that only the process itself can be given: loss of power, and a wall clock that is off.
//! Only in builds with the feature `faults`, and only in a process that is given a folder for them
//! by the variable `FAULTS_DIR`.
//!
//! **Power.** A kill leaves what was written to the kernel; a loss of power does not. [`disk`] lies
//! above the production disk and writes down, before each change, how to undo it, and after each
//! sync what need not be undone any more. That account outlives the process, and the changes are in
//! its order. A process that starts with `FAULTS_POWER_LOST=seed` first undoes ([`undo`]) what no
//! sync had covered, all of it or a part that the seed draws, within the contract of
//! [`crate::env::Disk`]. What is undone was never promised; all else is what the production disk
//! makes of it.
//!
//! **Clock.** [`clock`] adds to the wall clock the milliseconds that the file `clock` of the folder
//! says.

mod clock;
mod disk;
mod file;
mod journal;
#[cfg(test)]
mod tests;
mod undo;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::tokio::runtime::Handle;

use crate::env::{Clock, Disk};

/// The folder that the process was given, after it has lost what it is to lose.
pub(super) fn folder() -> io::Result<Option<PathBuf>> {
    let Some(folder) = std::env::var_os("FAULTS_DIR").map(PathBuf::from) else {
        return Ok(None);
    };
    tracing::warn!(folder = %folder.display(), "this build can be given faults");
    if let Ok(seed) = std::env::var("FAULTS_POWER_LOST") {
        let seed = seed.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        lose_power(&folder, seed)?;
    }
    Ok(Some(folder))
}

/// Undoes what no sync had covered.
fn lose_power(folder: &Path, seed: u64) -> io::Result<()> {
    let lost = undo::undo(&account(folder), seed)?;
    tracing::warn!(
        writes = lost.writes,
        changes = lost.changes,
        kept = lost.kept,
        "power was lost"
    );
    Ok(())
}

fn account(folder: &Path) -> PathBuf {
    folder.join("undo")
}

pub(super) fn disk(inner: Arc<dyn Disk>, folder: &Path, runtime: Handle) -> io::Result<impl Disk> {
    disk::UndoableDisk::open(inner, &account(folder), runtime)
}

pub(super) fn clock(inner: Arc<dyn Clock>, folder: &Path) -> io::Result<impl Clock> {
    clock::OffsetClock::start(inner, folder.join("clock"))
}
