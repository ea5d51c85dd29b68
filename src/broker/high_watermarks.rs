//! The high watermarks that this broker knew when it ended, kept in each data directory.
//!
//! A replica that starts knows its log and not how much of it is committed. What it finds here is
//! at most the truth, so that it never shows what may still be truncated; and close to the truth,
//! so that one which comes to lead at once can show most of it. Entries name topics by id: those of
//! a deleted topic say nothing of a new one with its name.
//!
//! On disk: a checkpoint in the form of [`crate::log::checkpoint`]; its content is, as Kafka's file
//! of this name, lines of text: the version (0), the number of entries, and the entries, each
//! topic id, partition and offset.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use super::Broker;
use super::log_dir::LogDir;
use super::partitions::Table;
use crate::env::Env;
use crate::log::checkpoint::{self, CheckpointError};
use crate::types::{Offset, TopicId};

const NAME: &str = "replication-offset-checkpoint";
const VERSION: &str = "0";

/// High watermarks by topic id and partition.
pub type HighWatermarks = BTreeMap<(TopicId, i32), Offset>;

/// What the data directories hold. One that cannot be read is as one that was never written.
pub async fn read(env: &Env, dirs: &[LogDir]) -> HighWatermarks {
    let mut all = HighWatermarks::new();
    for dir in dirs {
        let found = match checkpoint::read(&*env.disk, &dir.path, NAME).await {
            Ok(None) => continue,
            Ok(Some(body)) => decode(&body),
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(found) => all.extend(found),
            Err(reason) => tracing::warn!(
                dir = %dir.path.display(), reason,
                "high watermarks are not known: leaders have to find them again"
            ),
        }
    }
    all
}

/// Writes them down at every interval, for ever.
pub async fn run(broker: Arc<Broker>) {
    let interval = broker.config.replication.high_watermark_checkpoint_interval;
    let mut written = BTreeMap::new();
    loop {
        broker.env.sleep(interval.max(MILLISECOND)).await;
        write_changed(&broker, &mut written).await;
    }
}

const MILLISECOND: std::time::Duration = std::time::Duration::from_millis(1);

/// Writes them down once.
pub async fn write(broker: &Broker) {
    write_changed(broker, &mut BTreeMap::new()).await;
}

async fn write_changed(broker: &Broker, written: &mut BTreeMap<usize, HighWatermarks>) {
    let table = broker.partitions.table();
    for (at, dir) in broker.log_dirs.iter().enumerate() {
        let present = present(&table, dir);
        if written.get(&at) == Some(&present) {
            continue;
        }
        match save(&broker.env, dir, &present).await {
            Ok(()) => {
                written.insert(at, present);
            }
            Err(error) => tracing::warn!(%error, "high watermarks were not written down"),
        }
    }
}

fn present(table: &Table, dir: &LogDir) -> HighWatermarks {
    let mut present = HighWatermarks::new();
    for topic in table.topics() {
        for (partition, hosted) in &topic.partitions {
            if hosted.dir.starts_with(&dir.path) {
                present.insert((topic.id, *partition), hosted.view.high_watermark());
            }
        }
    }
    present
}

async fn save(env: &Env, dir: &LogDir, present: &HighWatermarks) -> Result<(), CheckpointError> {
    checkpoint::write(&*env.disk, &dir.path, NAME, encode(present)).await
}

fn encode(present: &HighWatermarks) -> Bytes {
    let mut text = format!("{VERSION}\n{}\n", present.len());
    for ((topic, partition), offset) in present {
        writeln!(text, "{topic} {partition} {offset}").expect("writing to a string never fails");
    }
    text.into()
}

fn decode(body: &[u8]) -> Result<HighWatermarks, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let mut lines = text.lines();
    if lines.next() != Some(VERSION) {
        return Err("its version is unknown".to_owned());
    }
    let count = lines.next().and_then(|count| count.parse::<usize>().ok());
    let mut found = HighWatermarks::new();
    for line in lines {
        let entry = entry(line).ok_or_else(|| format!("'{line}' is no entry"))?;
        found.insert(entry.0, entry.1);
    }
    match count == Some(found.len()) {
        true => Ok(found),
        false => Err("entries are missing".to_owned()),
    }
}

fn entry(line: &str) -> Option<((TopicId, i32), Offset)> {
    let mut words = line.split(' ');
    let topic = words.next()?.parse().ok()?;
    let partition = words.next()?.parse().ok()?;
    let offset = words.next()?.parse().ok()?;
    words
        .next()
        .is_none()
        .then_some(((topic, partition), Offset(offset)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Uuid;

    #[test]
    fn what_is_written_is_read() {
        let present = HighWatermarks::from([
            ((Uuid([3; 16]), 0), Offset(17)),
            ((Uuid([3; 16]), 1), Offset(0)),
            ((Uuid([9; 16]), 12), Offset(i64::MAX)),
        ]);
        assert_eq!(decode(&encode(&present)), Ok(present));
    }

    #[test]
    fn a_file_with_a_missing_entry_is_not_believed() {
        assert!(decode(b"0\n2\nAwMDAwMDAwMDAwMDAwMDAw 0 17\n").is_err());
        assert!(decode(b"1\n0\n").is_err());
        assert!(decode(b"0\n1\nAwMDAwMDAwMDAwMDAwMDAw 0 x\n").is_err());
    }
}
