//! The account of changes that a loss of power may undo.
//!
//! One line a fact, written before the change that it is about is made. A line that was cut short
//! as the process ended is about a change that was not made.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The number of a file in the account. It has a link of that number beside the account, by which
/// it is found whatever became of its name.
pub(super) type FileId = u64;

/// A fact. Its number is its place in the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Fact {
    /// These bytes were at `pos`, up to where the file ended, before as many or more were written.
    Wrote {
        file: FileId,
        pos: u64,
        len: u64,
        /// The file's length.
        before: u64,
        /// Base64.
        old: String,
    },
    /// The file was `before` bytes long, and these were from `to` on.
    Truncated {
        file: FileId,
        to: u64,
        before: u64,
        old: String,
    },
    /// Of this file no fact up to this number need be undone.
    Synced {
        file: FileId,
        up_to: u64,
    },
    /// The file is gone for good.
    Forgot {
        file: FileId,
    },
    Made {
        path: PathBuf,
        is_dir: bool,
    },
    Renamed {
        from: PathBuf,
        to: PathBuf,
        is_dir: bool,
        inode: u64,
        /// The name of a link to the file that was there.
        replaced: Option<String>,
    },
    /// What was there has this name beside the account.
    Removed {
        path: PathBuf,
        is_dir: bool,
        kept: String,
    },
    /// These facts need not be undone.
    SyncedDir {
        facts: Vec<u64>,
    },
}

/// The account while it is written.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    last: u64,
}

pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("facts")
}

/// The link to a file.
pub(super) fn link(folder: &Path, file: FileId) -> PathBuf {
    folder.join(format!("f{file}"))
}

impl Journal {
    /// Goes on with the account in `folder`, which has as many facts.
    pub(super) fn open(folder: &Path, facts: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path(folder))?;
        Ok(Self { file, last: facts })
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Enters a fact and gives its number, which counts from 1.
    pub(super) fn enter(&mut self, fact: &Fact) -> io::Result<u64> {
        let mut line = serde_json::to_vec(fact)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.last += 1;
        Ok(self.last)
    }
}

/// All facts, in order. What is left of a line that was cut short is cut off.
pub(super) fn load(folder: &Path) -> io::Result<Vec<Fact>> {
    let path = path(folder);
    let file = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut facts = Vec::new();
    let mut sound = 0;
    let mut lines = BufReader::new(&file);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        match serde_json::from_slice(&line) {
            Ok(fact) if line.ends_with(b"\n") => facts.push(fact),
            _ => break,
        }
        sound += line.len() as u64;
        line.clear();
    }
    drop(lines);
    file.set_len(sound)?;
    Ok(facts)
}
