//! Putting compacted segments in place of their sources, whatever moment the power goes.
//!
//! A round leaves each group's output, durable, under its final name and [`CLEANED_SUFFIX`]. Then
//!
//! 1. [`commit`] makes a checkpoint that lists the groups: from here on the outputs count;
//! 2. [`apply`] removes the sources, renames the outputs, makes that durable, and removes the list.
//!
//! Every step of the second part may be repeated, so recovery calls [`apply`] too, before it looks
//! at the segments. Found with a list, it finishes the swap; without one, it throws away outputs
//! nobody committed to. Either way no leftover of the swap remains, and what does is the sources
//! of all groups, or the outputs of all.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Group;
use crate::env::Disk;
use crate::log::checkpoint::{self, CheckpointError};
use crate::types::Offset;

/// The checkpoint that lists the groups being put in place.
pub const FILE_NAME: &str = "compaction-swap";

/// What follows the final name of an output that is not in place.
pub const CLEANED_SUFFIX: &str = ".cleaned";

/// What a segment's files are called after its base offset: its batches, then what is made from
/// them and would no longer match.
const LOG_SUFFIX: &str = ".log";
const INDEX_SUFFIXES: [&str; 2] = [".index", ".timeindex"];

const VERSION: u16 = 1;

/// Where a group's output is written.
#[must_use]
pub fn cleaned_path(dir: &Path, base_offset: Offset) -> PathBuf {
    dir.join(format!("{:020}{LOG_SUFFIX}{CLEANED_SUFFIX}", base_offset.0))
}

fn path(dir: &Path, base_offset: Offset, suffix: &str) -> PathBuf {
    dir.join(format!("{:020}{suffix}", base_offset.0))
}

/// Decides for the outputs of `groups`, whose files are durable and closed. `groups` leaves out
/// those without an output. After an error either decision may be the durable one: the log must be
/// opened anew.
pub async fn commit(disk: &dyn Disk, dir: &Path, groups: &[Group]) -> Result<(), CheckpointError> {
    // The list must never be durable before the names it speaks of.
    disk.sync_dir(dir).await.map_err(at(dir))?;
    checkpoint::write(disk, dir, FILE_NAME, encode(groups)).await
}

/// Finishes what [`commit`] decided in `dir`, or removes the outputs of a round that never got so
/// far. Returns the groups that were put in place. Not while a round is writing. After an error
/// the log must be opened anew.
pub async fn apply(disk: &dyn Disk, dir: &Path) -> Result<Vec<Group>, CheckpointError> {
    let committed = match checkpoint::read(disk, dir, FILE_NAME).await? {
        Some(body) => {
            let decoded = decode(body);
            decoded.map_err(|reason| CheckpointError::damaged(dir, FILE_NAME, reason))?
        }
        None => Vec::new(),
    };
    let entries = disk.list(dir).await.map_err(at(dir))?;
    let is_there = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        entries
            .iter()
            .any(|entry| Some(entry.name.as_str()) == name)
    };
    let mut changed = false;
    for group in &committed {
        for source in &group.sources {
            let also_log = (*source != group.base_offset()).then_some(LOG_SUFFIX);
            for suffix in INDEX_SUFFIXES.into_iter().chain(also_log) {
                let old = path(dir, *source, suffix);
                if is_there(&old) {
                    disk.remove(&old).await.map_err(at(&old))?;
                    changed = true;
                }
            }
        }
        let output = cleaned_path(dir, group.base_offset());
        if is_there(&output) {
            let place = path(dir, group.base_offset(), LOG_SUFFIX);
            disk.rename(&output, &place).await.map_err(at(&output))?;
            changed = true;
        }
    }
    let placed = |name: &str| {
        let outputs = committed
            .iter()
            .map(|group| cleaned_path(dir, group.base_offset()));
        outputs.into_iter().any(|output| output == dir.join(name))
    };
    for entry in &entries {
        if entry.name.ends_with(CLEANED_SUFFIX) && !placed(&entry.name) {
            let output = dir.join(&entry.name);
            disk.remove(&output).await.map_err(at(&output))?;
            changed = true;
        }
    }
    if changed {
        disk.sync_dir(dir).await.map_err(at(dir))?;
    }
    let list = dir.join(FILE_NAME);
    if is_there(&list) {
        disk.remove(&list).await.map_err(at(&list))?;
        // A list that came back would act on segments that were made since.
        disk.sync_dir(dir).await.map_err(at(dir))?;
    }
    Ok(committed)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io { path, source }
}

fn encode(groups: &[Group]) -> Bytes {
    let count = |length: usize| u32::try_from(length).expect("far fewer segments fit a disk");
    let mut to = BytesMut::new();
    to.put_u16(VERSION);
    to.put_u32(count(groups.len()));
    for group in groups {
        to.put_i64(group.end.0);
        to.put_u32(count(group.sources.len()));
        for source in &group.sources {
            to.put_i64(source.0);
        }
    }
    to.freeze()
}

fn decode(mut from: Bytes) -> Result<Vec<Group>, String> {
    let cut_short = || "it is cut short".to_owned();
    let version = from.try_get_u16().map_err(|_| cut_short())?;
    if version != VERSION {
        return Err(format!(
            "its version is {version}, this program knows {VERSION}"
        ));
    }
    let count = from.try_get_u32().map_err(|_| cut_short())?;
    let mut groups: Vec<Group> = Vec::new();
    for _ in 0..count {
        let end = Offset(from.try_get_i64().map_err(|_| cut_short())?);
        let mut sources = Vec::new();
        for _ in 0..from.try_get_u32().map_err(|_| cut_short())? {
            sources.push(Offset(from.try_get_i64().map_err(|_| cut_short())?));
        }
        let ascending = sources.windows(2).all(|pair| pair[0] < pair[1])
            && sources.last().is_some_and(|last| *last < end)
            && groups.last().is_none_or(|last| last.end <= sources[0]);
        if !ascending {
            return Err("its segments are not in order".to_owned());
        }
        groups.push(Group { sources, end });
    }
    match from.has_remaining() {
        true => Err("bytes follow its last group".to_owned()),
        false => Ok(groups),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::env::OpenMode;
    use crate::log::test_disk::{TestDisk, coin};

    fn now<T>(work: impl Future<Output = T>) -> T {
        futures_util::FutureExt::now_or_never(work).expect("a test disk answers at once")
    }

    fn dir() -> &'static Path {
        Path::new("/data/t-0")
    }

    fn put(disk: &TestDisk, path: &Path, content: &str) {
        let file = now(disk.open(path, OpenMode::Create)).expect("the disk works");
        let bytes = Bytes::copy_from_slice(content.as_bytes());
        now(file.write_at(0, vec![bytes])).expect("the disk works");
        now(file.sync()).expect("the disk works");
    }

    fn content(disk: &TestDisk) -> BTreeMap<String, String> {
        let entries = now(disk.list(dir())).expect("a directory");
        let read = |name: &str| {
            let file = now(disk.open(&dir().join(name), OpenMode::Read)).expect("listed");
            let bytes = now(file.read_at(0, 1 << 20)).expect("the disk works");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let names = entries.into_iter().map(|entry| entry.name);
        names.map(|name| (name.clone(), read(&name))).collect()
    }

    fn group(sources: &[i64], end: i64) -> Group {
        Group {
            sources: sources.iter().copied().map(Offset).collect(),
            end: Offset(end),
        }
    }

    fn groups() -> Vec<Group> {
        vec![group(&[0, 10, 20], 30), group(&[40], 50)]
    }

    /// Segments 0 to 50, the outputs of [`groups`] beside them, all durable.
    fn prepared() -> TestDisk {
        let disk = TestDisk::default();
        now(disk.create_dir(dir())).expect("the disk works");
        for base in [0, 10, 20, 30, 40, 50] {
            for suffix in [".log", ".index", ".timeindex"] {
                put(&disk, &path(dir(), Offset(base), suffix), "old");
            }
        }
        now(disk.sync_dir(dir())).expect("the disk works");
        for group in groups() {
            put(&disk, &cleaned_path(dir(), group.base_offset()), "new");
        }
        disk
    }

    fn named(files: &[(i64, &str, &str)]) -> BTreeMap<String, String> {
        let name = |(base, suffix, content): &(i64, &str, &str)| {
            (format!("{base:020}{suffix}"), (*content).to_owned())
        };
        files.iter().map(name).collect()
    }

    fn sources() -> BTreeMap<String, String> {
        let mut files = Vec::new();
        for base in [0, 10, 20, 30, 40, 50] {
            files.extend([".log", ".index", ".timeindex"].map(|suffix| (base, suffix, "old")));
        }
        named(&files)
    }

    fn outputs() -> BTreeMap<String, String> {
        let mut files = vec![(0, ".log", "new"), (40, ".log", "new")];
        for base in [30, 50] {
            files.extend([".log", ".index", ".timeindex"].map(|suffix| (base, suffix, "old")));
        }
        named(&files)
    }

    #[test]
    fn a_swap_leaves_the_outputs_and_nothing_of_the_sources() {
        let disk = prepared();
        now(commit(&disk, dir(), &groups())).expect("the disk works");
        assert_eq!(now(apply(&disk, dir())).expect("the disk works"), groups());
        assert_eq!(content(&disk), outputs());
        disk.power_loss(coin(1));
        assert_eq!(content(&disk), outputs());
    }

    #[test]
    fn outputs_that_were_not_committed_are_removed() {
        let disk = prepared();
        assert_eq!(now(apply(&disk, dir())).expect("the disk works"), []);
        assert_eq!(content(&disk), sources());
    }

    #[test]
    fn power_loss_at_any_step_leaves_all_sources_or_all_outputs() {
        let (mut old, mut new) = (0, 0);
        for step in 1..30 {
            for seed in 0..40 {
                let disk = prepared();
                disk.power_off_after(step);
                let swapped = match now(commit(&disk, dir(), &groups())) {
                    Ok(()) => now(apply(&disk, dir())).map(|_| ()),
                    Err(error) => Err(error),
                };
                disk.power_loss(coin(seed));
                // Power may go again while recovery finishes the swap.
                disk.power_off_after(seed % 12 + 1);
                let _ = now(apply(&disk, dir()));
                disk.power_loss(coin(seed + 1000));
                now(apply(&disk, dir())).expect("the disk works");

                let mut found = content(&disk);
                found.retain(|name, _| !name.ends_with(checkpoint::TEMPORARY_SUFFIX));
                let is_new = found == outputs();
                assert!(is_new || found == sources(), "{step} {seed}: {found:?}");
                assert!(is_new || swapped.is_err(), "{step} {seed}");
                old += usize::from(!is_new);
                new += usize::from(is_new);
            }
        }
        assert!(old > 20 && new > 20, "both ends happened: {old}, {new}");
    }

    #[test]
    fn a_list_that_is_none_is_refused() {
        let good = encode(&groups());
        assert_eq!(decode(good.clone()), Ok(groups()));
        for length in 0..good.len() {
            assert!(decode(good.slice(..length)).is_err(), "{length}");
        }
        assert!(decode(encode(&[group(&[10, 0], 30)])).is_err());
        assert!(decode(encode(&[group(&[], 30)])).is_err());
        assert!(decode(encode(&[group(&[0, 10], 30), group(&[20], 40)])).is_err());
    }
}
