//! Which partitions have a log in the data directories, kept apart from the logs themselves.
//!
//! A partition that the metadata names and that has no directory was either never made (the broker
//! ended in between: make it) or has been lost (never start it empty). The register tells the two
//! apart: a partition is entered, durably, after its log was made and before anyone is told.
//!
//! On disk: entries of 24 bytes, each the topic id, the partition, and a CRC-32C of both. A torn
//! last entry is one that nobody was told of.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::env::{Env, File, OpenMode};
use crate::types::{TopicId, Uuid};

const NAME: &str = "hosted-partitions";
const NEW_NAME: &str = "hosted-partitions.tmp";
const ENTRY_BYTES: usize = 24;

/// A partition by its topic's id.
pub type Entry = (TopicId, i32);

pub struct HostedRegister {
    file: Arc<dyn File>,
    end: u64,
    entries: BTreeSet<Entry>,
}

impl HostedRegister {
    /// Reads the register in `dir` and drops the entries that `keep` says are of the past.
    pub async fn open(env: &Env, dir: &Path, keep: impl Fn(Entry) -> bool) -> io::Result<Self> {
        let mut entries = match env.disk.open(&dir.join(NAME), OpenMode::Read).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(error),
            Ok(file) => {
                let length = usize::try_from(file.len().await?).unwrap_or(usize::MAX);
                decode(file.read_at(0, length).await?)
            }
        };
        entries.retain(|entry| keep(*entry));
        let content = encode(&entries);
        let end = u64::try_from(content.len()).expect("a length fits");
        let fresh = dir.join(NEW_NAME);
        let file = env.disk.open(&fresh, OpenMode::Create).await?;
        file.truncate(0).await?;
        file.write_at(0, vec![content]).await?;
        file.sync().await?;
        env.disk.rename(&fresh, &dir.join(NAME)).await?;
        env.disk.sync_dir(dir).await?;
        Ok(Self { file, end, entries })
    }

    #[must_use]
    pub fn contains(&self, entry: Entry) -> bool {
        self.entries.contains(&entry)
    }

    /// Enters partitions; durable when it returns.
    pub async fn enter(&mut self, added: &BTreeSet<Entry>) -> io::Result<()> {
        let new: BTreeSet<Entry> = added.difference(&self.entries).copied().collect();
        if new.is_empty() {
            return Ok(());
        }
        let content = encode(&new);
        let length = u64::try_from(content.len()).expect("a length fits");
        self.file.write_at(self.end, vec![content]).await?;
        self.file.sync().await?;
        self.end += length;
        self.entries.extend(new);
        Ok(())
    }
}

fn encode(entries: &BTreeSet<Entry>) -> Bytes {
    let mut content = BytesMut::with_capacity(entries.len() * ENTRY_BYTES);
    for (topic, partition) in entries {
        let start = content.len();
        content.put_slice(&topic.0);
        content.put_i32(*partition);
        let crc = crc32c::crc32c(&content[start..]);
        content.put_u32(crc);
    }
    content.freeze()
}

fn decode(mut content: Bytes) -> BTreeSet<Entry> {
    let mut entries = BTreeSet::new();
    while content.len() >= ENTRY_BYTES {
        let mut entry = content.split_to(ENTRY_BYTES);
        let computed = crc32c::crc32c(&entry[..ENTRY_BYTES - 4]);
        let topic = Uuid(entry[..16].try_into().expect("sixteen bytes"));
        entry.advance(16);
        let partition = entry.get_i32();
        if entry.get_u32() == computed {
            entries.insert((topic, partition));
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_entry_is_left_out_and_the_others_stay() {
        let entries = BTreeSet::from([(Uuid([1; 16]), 0), (Uuid([2; 16]), 7)]);
        let content = encode(&entries);
        assert_eq!(decode(content.clone()), entries);
        let torn = content.slice(..content.len() - 1);
        assert_eq!(decode(torn), BTreeSet::from([(Uuid([1; 16]), 0)]));
    }
}
