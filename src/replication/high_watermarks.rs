//! The high watermarks of a data directory, as they were some time ago.
//!
//! A replica that starts knows from here what it may show at least; it learns the rest from its
//! leader or its followers. The file is Kafka's (`replication-offset-checkpoint`), text: a version
//! (0), the number of lines that follow, and on each a topic, a partition and an offset.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use bytes::Bytes;

use crate::env::{Disk, OpenMode};
use crate::types::{Offset, TopicPartition};

/// The file in a data directory.
pub const FILE_NAME: &str = "replication-offset-checkpoint";

/// What the file is called until it takes its place.
const TEMPORARY_NAME: &str = "replication-offset-checkpoint.tmp";

/// Most bytes that are read: far more than a directory's partitions take.
const BYTES_MAX: u64 = 256 << 20;

pub type HighWatermarks = BTreeMap<TopicPartition, Offset>;

/// The text of the file.
#[must_use]
pub fn encode(offsets: &HighWatermarks) -> String {
    let mut text = format!("0\n{}\n", offsets.len());
    for (of, offset) in offsets {
        writeln!(text, "{} {} {}", of.topic, of.partition, offset.0)
            .expect("writing to a String does not fail");
    }
    text
}

/// Reads what [`encode`] wrote; the reason when it cannot be that.
pub fn decode(text: &str) -> Result<HighWatermarks, String> {
    let mut lines = text.lines();
    match lines.next() {
        Some("0") => {}
        other => return Err(format!("its version is {other:?}, this program knows 0")),
    }
    let count: usize = lines
        .next()
        .and_then(|line| line.parse().ok())
        .ok_or("its second line is not a number")?;
    let mut offsets = HighWatermarks::new();
    for line in lines {
        let entry = parse(line).ok_or_else(|| format!("a line is {line:?}"))?;
        offsets.insert(entry.0, entry.1);
    }
    match offsets.len() == count {
        true => Ok(offsets),
        false => Err(format!("it has {} entries and says {count}", offsets.len())),
    }
}

fn parse(line: &str) -> Option<(TopicPartition, Offset)> {
    let mut fields = line.split(' ');
    let topic = fields.next().filter(|topic| !topic.is_empty())?;
    let partition = fields
        .next()?
        .parse()
        .ok()
        .filter(|partition| *partition >= 0)?;
    let offset = fields.next()?.parse().ok().filter(|offset| *offset >= 0)?;
    let entry = (TopicPartition::new(topic, partition), Offset(offset));
    fields.next().is_none().then_some(entry)
}

/// Replaces the file in `dir`. Durable when it returns without error; on error the old content or
/// the new is there, whole.
pub async fn write(disk: &dyn Disk, dir: &Path, offsets: &HighWatermarks) -> io::Result<()> {
    let temporary = dir.join(TEMPORARY_NAME);
    let file = disk.open(&temporary, OpenMode::Create).await?;
    file.truncate(0).await?;
    file.write_at(0, vec![Bytes::from(encode(offsets))]).await?;
    file.sync().await?;
    disk.rename(&temporary, &dir.join(FILE_NAME)).await?;
    disk.sync_dir(dir).await
}

/// What the file in `dir` says; nothing where there is none. A damaged one is `InvalidData`: its
/// partitions start from their log starts, which is safe.
pub async fn read(disk: &dyn Disk, dir: &Path) -> io::Result<HighWatermarks> {
    let file = match disk.open(&dir.join(FILE_NAME), OpenMode::Read).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HighWatermarks::new()),
        opened => opened?,
    };
    let damaged = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let bytes = file.len().await?;
    if bytes > BYTES_MAX {
        return Err(damaged(format!("it has {bytes} bytes")));
    }
    let read = file.read_at(0, usize::try_from(bytes).unwrap_or(0)).await?;
    let text = std::str::from_utf8(&read).map_err(|error| damaged(error.to_string()))?;
    decode(text).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_kafkas_and_survives() {
        let offsets = HighWatermarks::from([
            (TopicPartition::new("orders", 0), Offset(7)),
            (TopicPartition::new("orders", 11), Offset(0)),
        ]);
        let text = "0\n2\norders 0 7\norders 11 0\n";
        assert_eq!(encode(&offsets), text);
        assert_eq!(decode(text), Ok(offsets));
    }

    #[test]
    fn what_was_cut_short_or_altered_is_refused() {
        for text in [
            "",
            "1\n0\n",
            "0\n",
            "0\n2\na 0 1\n",
            "0\n1\na 0\n",
            "0\n1\na 0 1 2\n",
        ] {
            assert!(decode(text).is_err(), "{text:?}");
        }
    }
}
