//! Undoes what no sync covered.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::journal::{self, Fact, FileId};
use crate::env::Rng;

/// Of a write that no sync covered any of these may survive.
const SECTOR_BYTES: u64 = 512;

/// What a loss of power took.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    /// Writes and truncations of files, of which at least a part was undone.
    pub writes: u64,
    /// Files and directories made, renamed or removed.
    pub changes: u64,
    /// Of both, what no sync had covered and stayed all the same.
    pub kept: u64,
}

/// Facts that no sync covers.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// By file, in order.
    pub(super) files: BTreeMap<FileId, Vec<Fact>>,
    /// In order, with their numbers. Paths are those of now.
    pub(super) changes: Vec<(u64, Fact)>,
    /// The highest number of a file.
    pub(super) last_file: FileId,
}

impl Pending {
    pub(super) fn of(facts: Vec<Fact>) -> Self {
        let mut pending = Self::default();
        let mut numbered: BTreeMap<FileId, Vec<(u64, Fact)>> = BTreeMap::new();
        for (at, fact) in facts.into_iter().enumerate() {
            let number = at as u64 + 1;
            match fact {
                Fact::Wrote { file, .. } | Fact::Truncated { file, .. } => {
                    pending.last_file = pending.last_file.max(file);
                    numbered.entry(file).or_default().push((number, fact));
                }
                Fact::Synced { file, up_to } => {
                    if let Some(of_it) = numbered.get_mut(&file) {
                        of_it.retain(|(number, _)| *number > up_to);
                    }
                }
                Fact::Forgot { file } => drop(numbered.remove(&file)),
                Fact::SyncedDir { facts } => drop(pending.retire(&facts)),
                other => pending.changes.push((number, other)),
            }
        }
        let bare = |facts: Vec<(u64, Fact)>| facts.into_iter().map(|(_, fact)| fact).collect();
        let files = numbered
            .into_iter()
            .map(|(file, facts)| (file, bare(facts)));
        pending.files = files.collect();
        pending
    }

    /// These changes are durable. What lies in a directory that was renamed for good, and was
    /// changed before, is called by its new name from now on.
    pub(super) fn retire(&mut self, numbers: &[u64]) -> Vec<Fact> {
        let mut gone = Vec::new();
        for number in numbers {
            let Some(at) = self.changes.iter().position(|(known, _)| known == number) else {
                continue;
            };
            let (_, fact) = self.changes.remove(at);
            if let Fact::Renamed {
                from,
                to,
                is_dir: true,
                ..
            } = &fact
            {
                for (_, earlier) in &mut self.changes[..at] {
                    move_paths(earlier, from, to);
                }
            }
            gone.push(fact);
        }
        gone
    }
}

fn move_paths(fact: &mut Fact, from: &Path, to: &Path) {
    let moved = |path: &mut PathBuf| {
        if let Ok(rest) = path.strip_prefix(from)
            && !rest.as_os_str().is_empty()
        {
            *path = to.join(rest);
        }
    };
    match fact {
        Fact::Made { path, .. } | Fact::Removed { path, .. } => moved(path),
        Fact::Renamed { from, to, .. } => {
            moved(from);
            moved(to);
        }
        _ => {}
    }
}

/// Undoes what the account in `folder` has that no sync covered, as `seed` draws it, and ends the
/// account: what is there then is durable.
pub(super) fn undo(folder: &Path, seed: u64) -> io::Result<Lost> {
    let mut root = [0; 32];
    root[..8].copy_from_slice(&seed.to_be_bytes());
    let mut rng = Rng::derived(root, "power", 0);
    let pending = Pending::of(journal::load(folder)?);
    let mut lost = Lost::default();
    for (id, facts) in &pending.files {
        let path = journal::link(folder, *id);
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => undo_file(&file, facts, &mut rng, &mut lost)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let count = pending.changes.len();
    let kept = drawn_prefix(&mut rng, count);
    for (_, fact) in pending.changes.iter().skip(kept).rev() {
        undo_change(folder, fact)?;
    }
    lost.changes += (count - kept) as u64;
    lost.kept += kept as u64;
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(lost),
    }
}

/// How many of `count` survive: most often none.
fn drawn_prefix(rng: &mut Rng, count: usize) -> usize {
    match rng.below(4) {
        0 => usize::try_from(rng.below(count as u64 + 1)).unwrap_or(0),
        _ => 0,
    }
}

fn undo_file(file: &File, facts: &[Fact], rng: &mut Rng, lost: &mut Lost) -> io::Result<()> {
    let only_writes = facts.iter().all(|fact| matches!(fact, Fact::Wrote { .. }));
    let mut survivors = Vec::new();
    let mut kept = 0;
    if only_writes && rng.below(3) == 0 {
        survivors = draw_sectors(file, facts, rng)?;
    } else {
        kept = drawn_prefix(rng, facts.len());
    }
    for fact in facts.iter().skip(kept).rev() {
        let (pos, before, old) = match fact {
            Fact::Wrote {
                pos, before, old, ..
            } => (*pos, *before, old),
            Fact::Truncated {
                to, before, old, ..
            } => (*to, *before, old),
            _ => continue,
        };
        let old = BASE64
            .decode(old)
            .map_err(|error| io::Error::other(error.to_string()))?;
        file.write_all_at(&old, pos)?;
        file.set_len(before)?;
    }
    for (pos, bytes) in survivors {
        file.write_all_at(&bytes, pos)?;
    }
    lost.writes += (facts.len() - kept) as u64;
    lost.kept += kept as u64;
    Ok(())
}

/// Sectors of these writes as they are now, each as likely as not.
fn draw_sectors(file: &File, facts: &[Fact], rng: &mut Rng) -> io::Result<Vec<(u64, Vec<u8>)>> {
    let mut drawn = Vec::new();
    for fact in facts {
        let Fact::Wrote { pos, len, .. } = fact else {
            continue;
        };
        let (mut at, end) = (*pos, pos + len);
        while at < end {
            let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
            if rng.below(2) == 0 {
                let mut bytes = vec![0; usize::try_from(next - at).unwrap_or(0)];
                // The write may not have been carried out when the process ended.
                if file.read_exact_at(&mut bytes, at).is_ok() {
                    drawn.push((at, bytes));
                }
            }
            at = next;
        }
    }
    Ok(drawn)
}

/// A change that was not made any more when the process ended is left as it is.
fn undo_change(folder: &Path, fact: &Fact) -> io::Result<()> {
    let done = match fact {
        Fact::Made { path, is_dir: true } => fs::remove_dir_all(path),
        Fact::Made { path, .. } => fs::remove_file(path),
        Fact::Renamed {
            from,
            to,
            inode,
            replaced,
            ..
        } => {
            if fs::metadata(to).map(|found| found.ino()).ok() != Some(*inode) {
                return Ok(());
            }
            fs::rename(to, from).and_then(|()| match replaced {
                Some(kept) => fs::hard_link(folder.join(kept), to),
                None => Ok(()),
            })
        }
        Fact::Removed { path, .. } if path.exists() => Ok(()),
        Fact::Removed { path, is_dir, kept } => match is_dir {
            true => fs::rename(folder.join(kept), path),
            false => fs::hard_link(folder.join(kept), path),
        },
        _ => Ok(()),
    };
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
