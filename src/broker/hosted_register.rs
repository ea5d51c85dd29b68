//! Which partitions have a log in the data directories, kept apart from the logs themselves.
//!
//! A partition that the metadata names and that has no directory was either never made (the broker
//! ended in between: make it) or has been lost (never start it empty). The register tells the two
//! apart: a partition is entered, durably, after its log was made and before anyone is told.
//!
//! On disk: entries of 28 bytes, each the topic id, the partition, how many entries were durable
//! when it was written, and a CRC-32C of all that. The first names no topic: it vouches for those
//! that were written with it. What nothing vouches for is the last append, which a power loss may
//! have torn before anyone was told. Anything else that cannot be read is damage, and then every
//! partition of the metadata counts as entered: it is refused rather than started empty.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::env::{Disk, Env, File, OpenMode};
use crate::types::{TopicId, Uuid};

const NAME: &str = "hosted-partitions";
const NEW_NAME: &str = "hosted-partitions.tmp";
const ENTRY_BYTES: usize = 28;

/// The first entry of the file.
const HEAD: Entry = (Uuid([0; 16]), -1);

/// A partition by its topic's id.
pub type Entry = (TopicId, i32);

pub struct HostedRegister {
    dir: PathBuf,
    file: Arc<dyn File>,
    /// Entries in the file, all durable, with the head.
    written: u32,
    entries: BTreeSet<Entry>,
}

impl HostedRegister {
    /// Reads the register in `dir` and drops the entries that are not in `known`, the partitions
    /// that the metadata gives to this broker. `any_log`: whether the data directories hold logs,
    /// which are made only when there is a register.
    pub async fn open(
        env: &Env,
        dir: &Path,
        known: &BTreeSet<Entry>,
        any_log: bool,
    ) -> io::Result<Self> {
        let path = dir.join(NAME);
        let (content, file) = match env.disk.open(&path, OpenMode::Existing).await {
            Ok(file) => {
                let length = usize::try_from(file.len().await?).unwrap_or(usize::MAX);
                (Some(file.read_at(0, length).await?), Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None),
            Err(error) => return Err(error),
        };
        let found = match content {
            Some(content) => decode(content),
            None if any_log => Content::Damaged,
            None => Content::Torn(BTreeSet::new()),
        };
        let (entries, whole) = match found {
            Content::Whole(entries) => (entries, true),
            Content::Torn(entries) => (entries, false),
            Content::Damaged => {
                tracing::trace!(target: "klamm::probe", name = "hosted-register-damaged");
                tracing::error!(
                    path = %path.display(),
                    "the register of hosted partitions is damaged or gone: a partition of the \
                     metadata whose log is not here is refused, not started empty"
                );
                (known.clone(), false)
            }
        };
        let kept: BTreeSet<Entry> = entries.intersection(known).copied().collect();
        // What is right stays as it is: a write less that may go wrong.
        match file {
            Some(file) if whole && kept == entries => Ok(Self {
                dir: dir.to_owned(),
                file,
                written: count(kept.len() + 1),
                entries: kept,
            }),
            _ => Self::write(&*env.disk, dir, kept).await,
        }
    }

    async fn write(disk: &dyn Disk, dir: &Path, entries: BTreeSet<Entry>) -> io::Result<Self> {
        let written = count(entries.len() + 1);
        let mut content = BytesMut::new();
        encode(&mut content, HEAD, written);
        for entry in &entries {
            encode(&mut content, *entry, written);
        }
        let fresh = dir.join(NEW_NAME);
        let file = disk.open(&fresh, OpenMode::Create).await?;
        file.truncate(0).await?;
        file.write_at(0, vec![content.freeze()]).await?;
        file.sync().await?;
        disk.rename(&fresh, &dir.join(NAME)).await?;
        disk.sync_dir(dir).await?;
        Ok(Self {
            dir: dir.to_owned(),
            file,
            written,
            entries,
        })
    }

    #[must_use]
    pub fn contains(&self, entry: Entry) -> bool {
        self.entries.contains(&entry)
    }

    /// Takes partitions out that are not this broker's any more; durable when it returns.
    pub async fn leave(&mut self, env: &Env, gone: &BTreeSet<Entry>) -> io::Result<()> {
        let kept: BTreeSet<Entry> = self.entries.difference(gone).copied().collect();
        if kept.len() == self.entries.len() {
            return Ok(());
        }
        *self = Self::write(&*env.disk, &self.dir, kept).await?;
        Ok(())
    }

    /// Enters partitions; durable when it returns.
    pub async fn enter(&mut self, added: &BTreeSet<Entry>) -> io::Result<()> {
        let new: BTreeSet<Entry> = added.difference(&self.entries).copied().collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut content = BytesMut::with_capacity(new.len() * ENTRY_BYTES);
        for entry in &new {
            encode(&mut content, *entry, self.written);
        }
        let at = u64::from(self.written) * ENTRY_BYTES as u64;
        self.file.write_at(at, vec![content.freeze()]).await?;
        self.file.sync().await?;
        self.written += count(new.len());
        self.entries.extend(new);
        Ok(())
    }
}

/// What a register's file says.
#[derive(PartialEq, Eq, Debug)]
enum Content {
    /// All of it can be read.
    Whole(BTreeSet<Entry>),
    /// The last append is not whole.
    Torn(BTreeSet<Entry>),
    /// Entries that were durable cannot be read.
    Damaged,
}

fn count(entries: usize) -> u32 {
    u32::try_from(entries).expect("fewer partitions than 2^32")
}

fn encode(content: &mut BytesMut, (topic, partition): Entry, durable: u32) {
    let start = content.len();
    content.put_slice(&topic.0);
    content.put_i32(partition);
    content.put_u32(durable);
    let crc = crc32c::crc32c(&content[start..]);
    content.put_u32(crc);
}

fn decode(mut content: Bytes) -> Content {
    let mut entries = BTreeSet::new();
    let (mut index, mut vouched, mut unread) = (0, 0, None);
    let mut whole = content.len().is_multiple_of(ENTRY_BYTES);
    while content.len() >= ENTRY_BYTES {
        let mut entry = content.split_to(ENTRY_BYTES);
        let computed = crc32c::crc32c(&entry[..ENTRY_BYTES - 4]);
        let topic = Uuid(entry[..16].try_into().expect("sixteen bytes"));
        entry.advance(16);
        let partition = entry.get_i32();
        let durable = entry.get_u32();
        let right = entry.get_u32() == computed && (index > 0 || (topic, partition) == HEAD);
        if right {
            vouched = vouched.max(durable);
            if index > 0 {
                entries.insert((topic, partition));
            }
        } else {
            whole = false;
            unread.get_or_insert(index);
        }
        index += 1;
    }
    let first_unread = unread.unwrap_or(index);
    if index == 0 || first_unread == 0 || first_unread < vouched {
        return Content::Damaged;
    }
    match whole {
        true => Content::Whole(entries),
        false => Content::Torn(entries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(groups: &[&[Entry]]) -> BytesMut {
        let mut content = BytesMut::new();
        let written = count(groups[0].len() + 1);
        encode(&mut content, HEAD, written);
        for entry in groups[0] {
            encode(&mut content, *entry, written);
        }
        for group in &groups[1..] {
            let durable = count(content.len() / ENTRY_BYTES);
            for entry in *group {
                encode(&mut content, *entry, durable);
            }
        }
        content
    }

    const FIRST: Entry = (Uuid([1; 16]), 0);
    const SECOND: Entry = (Uuid([2; 16]), 7);
    const THIRD: Entry = (Uuid([3; 16]), 1);

    #[test]
    fn a_torn_last_append_is_left_out_and_the_others_stay() {
        let content = content(&[&[FIRST], &[SECOND, THIRD]]).freeze();
        let all = BTreeSet::from([FIRST, SECOND, THIRD]);
        assert_eq!(decode(content.clone()), Content::Whole(all));
        let torn = content.slice(..content.len() - 1);
        assert_eq!(decode(torn), Content::Torn(BTreeSet::from([FIRST, SECOND])));
        let mut hole = BytesMut::from(&content[..]);
        hole[2 * ENTRY_BYTES..3 * ENTRY_BYTES].fill(0);
        assert_eq!(
            decode(hole.freeze()),
            Content::Torn(BTreeSet::from([FIRST, THIRD]))
        );
    }

    #[test]
    fn a_durable_entry_that_cannot_be_read_is_damage() {
        let content = content(&[&[FIRST], &[SECOND], &[THIRD]]);
        for entry in 0..3 {
            let mut damaged = content.clone();
            damaged[entry * ENTRY_BYTES + 5] ^= 1;
            assert_eq!(decode(damaged.freeze()), Content::Damaged, "entry {entry}");
        }
        let content = content.freeze();
        for cut in 0..2 * ENTRY_BYTES {
            assert_eq!(
                decode(content.slice(..cut)),
                Content::Damaged,
                "cut at {cut}"
            );
        }
    }
}
