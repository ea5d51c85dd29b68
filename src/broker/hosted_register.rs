//! Which partitions have a log in the data directories, kept apart from the logs themselves.
//!
//! A partition that the metadata names and that has no directory was either never made (the broker
//! ended in between: make it) or has been lost (never start it empty). The register tells the two
//! apart: a partition is entered, durably, after its log was made and before anyone is told.
//!
//! It also tells whose logs were made whole: what a process that was killed has left of one may be
//! in the cache alone, and would have to be synced before anything is written to it. Where a log is
//! made in the place of one that was lost or damaged, that is entered first, and no longer holds
//! once the partition is entered again.
//!
//! On disk: entries of 28 bytes, each the topic id, the partition, how many entries were durable
//! when it was written, and a CRC-32C of all that. The first names no topic: it vouches for those
//! that were written with it. One that says that a log is made anew has all bits of the partition
//! turned over. What nothing vouches for is the last append, which a power loss may
//! have torn before anyone was told. Anything else that cannot be read is damage, and then every
//! partition of the metadata counts as entered: it is refused rather than started empty.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::env::{Disk, File, OpenMode};
use crate::types::{TopicId, Uuid};

const NAME: &str = "hosted-partitions";
const NEW_NAME: &str = "hosted-partitions.tmp";
const ENTRY_BYTES: usize = 28;

/// The first entry of the file.
const HEAD: Entry = (Uuid([0; 16]), -1);

/// A partition by its topic's id.
pub type Entry = (TopicId, i32);

pub struct HostedRegister {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: Arc<dyn File>,
    /// Entries in the file, all durable, with the head.
    written: u32,
    entries: Entries,
    /// An append failed, or its future was dropped: nobody knows what it has left in the file.
    is_in_doubt: bool,
}

/// The partitions entered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Entries {
    all: BTreeSet<Entry>,
    /// Those of them whose log was being made anew, when last heard of.
    unmade: BTreeSet<Entry>,
}

impl Entries {
    /// Takes in what the file says next.
    fn read(&mut self, (topic, number): Entry) {
        let is_made = number >= 0;
        let entry = (topic, if is_made { number } else { !number });
        self.all.insert(entry);
        match is_made {
            true => self.unmade.remove(&entry),
            false => self.unmade.insert(entry),
        };
    }

    /// As a file begins with them.
    fn to_write(&self) -> impl Iterator<Item = Entry> {
        let unmade = self.unmade.iter().map(|(topic, number)| (*topic, !number));
        self.all.iter().copied().chain(unmade)
    }

    fn kept(&self, is_kept: impl Fn(&Entry) -> bool) -> Self {
        let kept = |of: &BTreeSet<Entry>| of.iter().copied().filter(&is_kept).collect();
        Self {
            all: kept(&self.all),
            unmade: kept(&self.unmade),
        }
    }
}

impl HostedRegister {
    /// Reads the register in `dir` and drops the entries that are not in `known`, the partitions
    /// that the metadata gives to this broker. `any_log`: whether the data directories hold logs,
    /// which are made only when there is a register.
    pub async fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        known: &BTreeSet<Entry>,
        any_log: bool,
    ) -> io::Result<Self> {
        let path = dir.join(NAME);
        let (content, file) = match disk.open(&path, OpenMode::Existing).await {
            Ok(file) => {
                let length = usize::try_from(file.len().await?).unwrap_or(usize::MAX);
                (Some(file.read_at(0, length).await?), Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None),
            Err(error) => return Err(error),
        };
        let read = content.as_ref().map_or(0, Bytes::len) / ENTRY_BYTES;
        let read = count(read);
        let found = match content {
            Some(content) => decode(content),
            None if any_log => Content::Damaged,
            None => Content::Torn(Entries::default()),
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
                // Of none is it known how far it was made.
                let (all, unmade) = (known.clone(), known.clone());
                (Entries { all, unmade }, false)
            }
        };
        let kept = entries.kept(|entry| known.contains(entry));
        // What is right stays as it is: a write less that may go wrong.
        match file {
            Some(file) if whole && kept == entries => Ok(Self {
                disk,
                dir: dir.to_owned(),
                file,
                written: read,
                entries: kept,
                is_in_doubt: false,
            }),
            _ => Self::write(disk, dir, kept).await,
        }
    }

    async fn write(disk: Arc<dyn Disk>, dir: &Path, entries: Entries) -> io::Result<Self> {
        let listed: Vec<Entry> = std::iter::once(HEAD).chain(entries.to_write()).collect();
        let written = count(listed.len());
        let mut content = BytesMut::with_capacity(listed.len() * ENTRY_BYTES);
        for entry in listed {
            encode(&mut content, entry, written);
        }
        let fresh = dir.join(NEW_NAME);
        let file = disk.open(&fresh, OpenMode::Create).await?;
        file.truncate(0).await?;
        file.write_at(0, vec![content.freeze()]).await?;
        file.sync().await?;
        disk.rename(&fresh, &dir.join(NAME)).await?;
        disk.sync_dir(dir).await?;
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            file,
            written,
            entries,
            is_in_doubt: false,
        })
    }

    #[must_use]
    pub fn contains(&self, entry: Entry) -> bool {
        self.entries.all.contains(&entry)
    }

    /// Whether the making of the partition's log is known to have ended, so that all of it was
    /// durable. Not so where [`HostedRegister::contains`] says that it was never here.
    #[must_use]
    pub fn is_made(&self, entry: Entry) -> bool {
        self.contains(entry) && !self.entries.unmade.contains(&entry)
    }

    /// Takes partitions out that are not this broker's any more; durable when it returns.
    pub async fn leave(&mut self, gone: &BTreeSet<Entry>) -> io::Result<()> {
        let kept = self.entries.kept(|entry| !gone.contains(entry));
        if kept.all.len() == self.entries.all.len() {
            return Ok(());
        }
        *self = Self::write(self.disk.clone(), &self.dir, kept).await?;
        Ok(())
    }

    /// Enters partitions, whose logs are made; durable when it returns.
    pub async fn enter(&mut self, added: &BTreeSet<Entry>) -> io::Result<()> {
        let new = added.iter().copied().filter(|entry| !self.is_made(*entry));
        let new: Vec<Entry> = new.collect();
        self.append(new).await
    }

    /// Says of those partitions that are entered that their logs are to be made anew; durable when
    /// it returns. To be called before that begins.
    pub async fn make_anew(&mut self, lost: &BTreeSet<Entry>) -> io::Result<()> {
        let made = lost.iter().filter(|entry| self.is_made(**entry));
        let unmade = made.map(|(topic, number)| (*topic, !number)).collect();
        self.append(unmade).await
    }

    async fn append(&mut self, said: Vec<Entry>) -> io::Result<()> {
        if said.is_empty() {
            return Ok(());
        }
        if self.is_in_doubt {
            // What an append that failed has left would be read behind this one.
            let entries = self.entries.clone();
            *self = Self::write(self.disk.clone(), &self.dir, entries).await?;
        }
        let mut content = BytesMut::with_capacity(said.len() * ENTRY_BYTES);
        for entry in &said {
            encode(&mut content, *entry, self.written);
        }
        let at = u64::from(self.written) * ENTRY_BYTES as u64;
        self.is_in_doubt = true;
        self.file.write_at(at, vec![content.freeze()]).await?;
        self.file.sync().await?;
        self.is_in_doubt = false;
        self.written += count(said.len());
        for entry in said {
            self.entries.read(entry);
        }
        Ok(())
    }
}

/// What a register's file says.
#[derive(PartialEq, Eq, Debug)]
enum Content {
    /// All of it can be read.
    Whole(Entries),
    /// The last append is not whole.
    Torn(Entries),
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
    let mut entries = Entries::default();
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
                entries.read((topic, partition));
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
    use crate::log::test_disk::TestDisk;

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

    fn made<const N: usize>(all: [Entry; N]) -> Entries {
        Entries {
            all: BTreeSet::from(all),
            unmade: BTreeSet::new(),
        }
    }

    #[test]
    fn a_torn_last_append_is_left_out_and_the_others_stay() {
        let content = content(&[&[FIRST], &[SECOND, THIRD]]).freeze();
        assert_eq!(
            decode(content.clone()),
            Content::Whole(made([FIRST, SECOND, THIRD]))
        );
        let torn = content.slice(..content.len() - 1);
        assert_eq!(decode(torn), Content::Torn(made([FIRST, SECOND])));
        let mut hole = BytesMut::from(&content[..]);
        hole[2 * ENTRY_BYTES..3 * ENTRY_BYTES].fill(0);
        assert_eq!(decode(hole.freeze()), Content::Torn(made([FIRST, THIRD])));
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

    #[test]
    fn of_a_log_that_is_made_anew_it_is_not_known_that_it_is_made_until_it_is_entered_again() {
        let anew = (SECOND.0, !SECOND.1);
        let mut groups: Vec<&[Entry]> = vec![&[FIRST, SECOND]];
        let said: &[Entry] = &[anew];
        groups.push(said);
        let mut expected = made([FIRST, SECOND]);
        expected.unmade.insert(SECOND);
        let read = decode(content(&groups).freeze());
        assert_eq!(read, Content::Whole(expected.clone()));
        let rewritten: Vec<Entry> = expected.to_write().collect();
        let read = decode(content(&[&rewritten]).freeze());
        assert_eq!(read, Content::Whole(expected));
        groups.push(&[SECOND]);
        let read = decode(content(&groups).freeze());
        assert_eq!(read, Content::Whole(made([FIRST, SECOND])));
    }

    /// Nothing here ever waits for anything.
    fn now<T>(work: impl Future<Output = T>) -> T {
        futures_util::FutureExt::now_or_never(work).expect("a test disk answers at once")
    }

    fn opened(disk: &TestDisk, any_log: bool) -> HostedRegister {
        let known = BTreeSet::from([FIRST, SECOND, THIRD]);
        let disk = Arc::new(disk.clone());
        let opened = now(HostedRegister::open(
            disk,
            Path::new("/data"),
            &known,
            any_log,
        ));
        opened.expect("a register")
    }

    #[test]
    fn what_a_failed_append_left_is_never_read_behind_a_later_one() {
        let disk = TestDisk::default();
        let mut register = opened(&disk, false);
        disk.power_off_after(2);
        let both = BTreeSet::from([FIRST, SECOND]);
        now(register.enter(&both)).expect_err("not synced");
        // All that was written is there.
        disk.power_loss(|| true);
        assert!(!register.contains(FIRST));
        now(register.enter(&BTreeSet::from([FIRST]))).expect("entered");
        disk.power_loss(|| true);
        let register = opened(&disk, true);
        assert!(register.is_made(FIRST) && !register.contains(SECOND));
    }

    #[test]
    fn a_register_that_is_gone_vouches_for_nothing_until_logs_are_entered_again() {
        let disk = TestDisk::default();
        let mut register = opened(&disk, true);
        assert!(register.contains(FIRST) && !register.is_made(FIRST));
        now(register.enter(&BTreeSet::from([FIRST]))).expect("entered");
        disk.power_loss(|| false);
        let mut register = opened(&disk, true);
        assert!(register.is_made(FIRST));
        assert!(register.contains(SECOND) && !register.is_made(SECOND));
        now(register.make_anew(&BTreeSet::from([FIRST]))).expect("noted");
        disk.power_loss(|| false);
        let register = opened(&disk, true);
        assert!(register.contains(FIRST) && !register.is_made(FIRST));
    }
}
