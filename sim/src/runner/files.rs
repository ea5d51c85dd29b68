//! The real disk: plans, histories and traces as files.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the runner is a tool of the real world; what it runs sees only simulated disks"
)]

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use klamm_jepsen::history::{self, Event};

use super::Failed;

/// The whole text of a file.
pub(crate) fn read(path: &Path) -> Result<String, Failed> {
    fs::read_to_string(path).map_err(|error| unusable(path, &error))
}

/// Puts `text` in place of what was in the file.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failed> {
    fs::write(path, text).map_err(|error| unusable(path, &error))
}

pub(crate) fn create_dir(path: &Path) -> Result<(), Failed> {
    fs::create_dir_all(path).map_err(|error| unusable(path, &error))
}

/// Files in a directory whose names end with `extension`, by name. None if there is no directory.
pub(crate) fn list(dir: &Path, extension: &str) -> Result<Vec<PathBuf>, Failed> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unusable(dir, &error))?.path();
        if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

pub(crate) fn write_history(path: &Path, events: &[Event]) -> Result<(), Failed> {
    let write = || {
        let mut file = BufWriter::new(File::create(path)?);
        history::file::write(&mut file, events)?;
        file.flush()
    };
    write().map_err(|error| unusable(path, &error))
}

pub(crate) fn write_lines(path: &Path, lines: &[String]) -> Result<(), Failed> {
    let write = || {
        let mut file = BufWriter::new(File::create(path)?);
        for line in lines {
            // A line of a trace is one line of the file.
            let line = line.replace('\n', "\\n");
            writeln!(file, "{line}")?;
        }
        file.flush()
    };
    write().map_err(|error| unusable(path, &error))
}

pub(crate) fn open(path: &Path) -> Result<BufReader<File>, Failed> {
    let file = File::open(path).map_err(|error| unusable(path, &error))?;
    Ok(BufReader::new(file))
}

fn unusable(path: &Path, error: &std::io::Error) -> Failed {
    Failed(format!("{}: {error}", path.display()))
}

/// A directory that goes when this does.
#[derive(Debug)]
pub(crate) struct TemporaryDir {
    path: PathBuf,
}

impl TemporaryDir {
    pub(crate) fn new() -> Result<Self, Failed> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("klamm-sim-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        create_dir(&path)?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // What stays is a file in the system's directory for files that may be lost.
        let _ = fs::remove_dir_all(&self.path);
    }
}
