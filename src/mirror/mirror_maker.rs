//! What MirrorMaker 2 notes in topics of its own, for whoever wants to know what it did: the
//! formats are those of `Checkpoint`, `Heartbeat` and `OffsetSync` in Kafka's `connect/mirror` and
//! `connect/mirror-client` (KIP-382), in which numbers are big-endian and a string is an `INT16`
//! of its length before its bytes.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::types::{Offset, Timestamp, TopicPartition};

/// Of a checkpoint's and of a heartbeat's value. An offset sync has none.
const VERSION: i16 = 0;

/// A record to write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    pub key: Bytes,
    pub value: Bytes,
}

/// A consumer group and a mirror partition.
pub type GroupPartition = (String, TopicPartition);

/// What a group committed at the source, and what that is here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translated {
    pub upstream: Offset,
    pub downstream: Offset,
}

/// Nothing if the text is longer than a string of this format can be; no name or id is.
fn put_text(to: &mut BytesMut, text: &str) {
    let length = i16::try_from(text.len()).unwrap_or(0);
    to.put_i16(length);
    to.put_slice(&text.as_bytes()[..usize::from(length.unsigned_abs())]);
}

fn bytes(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut to = BytesMut::new();
    write(&mut to);
    to.freeze()
}

/// The link from `source` to `target` was at work at that time.
#[must_use]
pub fn heartbeat(source: &str, target: &str, at: Timestamp) -> Note {
    Note {
        key: bytes(|to| {
            put_text(to, source);
            put_text(to, target);
        }),
        value: bytes(|to| {
            to.put_i16(VERSION);
            to.put_i64(at.0);
        }),
    }
}

/// What a group's offset at the source is here. The partition is the mirror's.
#[must_use]
pub fn checkpoint((group, partition): &GroupPartition, offset: Translated) -> Note {
    Note {
        key: bytes(|to| {
            put_text(to, group);
            put_text(to, &partition.topic);
            to.put_i32(partition.partition);
        }),
        value: bytes(|to| {
            to.put_i16(VERSION);
            to.put_i64(offset.upstream.0);
            to.put_i64(offset.downstream.0);
            put_text(to, "");
        }),
    }
}

/// Everything below `end` is here, at the offsets that it has at the source. The partition is the
/// source's.
#[must_use]
pub fn offset_sync(partition: &TopicPartition, end: Offset) -> Note {
    Note {
        key: bytes(|to| {
            put_text(to, &partition.topic);
            to.put_i32(partition.partition);
        }),
        value: bytes(|to| {
            to.put_i64(end.0);
            to.put_i64(end.0);
        }),
    }
}

/// What is different in `now` from what was told before.
pub fn news<'a, K: Ord, V: PartialEq>(
    told: &'a BTreeMap<K, V>,
    now: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    now.iter()
        .filter(|(key, value)| told.get(key) != Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &Bytes) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn notes_are_in_mirror_makers_formats() {
        let note = heartbeat("west", "east", Timestamp(0x0102));
        assert_eq!(hex(&note.key), "000477657374000465617374");
        assert_eq!(hex(&note.value), "00000000000000000102");
        let partition = TopicPartition::new("w.o", 3);
        let offset = Translated {
            upstream: Offset(9),
            downstream: Offset(7),
        };
        let note = checkpoint(&("g".to_owned(), partition.clone()), offset);
        assert_eq!(hex(&note.key), "0001670003772e6f00000003");
        assert_eq!(hex(&note.value), "0000000000000000000900000000000000070000");
        let note = offset_sync(&partition, Offset(5));
        assert_eq!(hex(&note.key), "0003772e6f00000003");
        assert_eq!(hex(&note.value), "00000000000000050000000000000005");
    }

    #[test]
    fn only_what_changed_is_news() {
        let told = BTreeMap::from([("a", 1), ("b", 2), ("gone", 3)]);
        let now = BTreeMap::from([("a", 1), ("b", 3), ("new", 4)]);
        let found: Vec<_> = news(&told, &now).collect();
        assert_eq!(found, [(&"b", &3), (&"new", &4)]);
    }
}
