//! Which offsets that groups committed at the source are to be committed here.
//!
//! **Invariant.** What is committed here is never beyond what is committed of the log here, so a
//! consumer that goes on here leaves nothing out. It goes back where it went back at the source,
//! whoever looks: nothing is remembered but what is committed here. What clients of this cluster
//! committed is theirs, and left alone.

use std::collections::BTreeMap;

use crate::types::{Offset, TopicPartition};

/// Committed offsets, by group and partition.
pub type GroupOffsets = BTreeMap<String, BTreeMap<TopicPartition, Offset>>;

/// An offset that is committed here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetHere {
    pub offset: Offset,
    /// A client of this cluster committed it, and no link.
    pub is_own: bool,
}

/// What is committed here, by group and partition.
pub type OffsetsHere = BTreeMap<String, BTreeMap<TopicPartition, OffsetHere>>;

/// What to commit, given what is committed at the source and here, and the high watermarks here of
/// the partitions that are mirrors. Other partitions are left alone.
#[must_use]
pub fn wanted_offsets(
    source: &GroupOffsets,
    here: &OffsetsHere,
    high_watermarks: &BTreeMap<TopicPartition, Offset>,
) -> GroupOffsets {
    let mut wanted = GroupOffsets::new();
    for (group, offsets) in source {
        for (partition, offset) in offsets {
            let Some(high_watermark) = high_watermarks.get(partition) else {
                continue;
            };
            let target = match crate::mutant!("mirror-group-beyond-copied") {
                true => *offset,
                false => (*offset).min(*high_watermark),
            };
            let known = here.get(group).and_then(|known| known.get(partition));
            if known.is_none_or(|known| !known.is_own && known.offset != target) {
                let group = wanted.entry(group.clone()).or_default();
                group.insert(partition.clone(), target);
            }
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_group<T>(one: T) -> BTreeMap<String, BTreeMap<TopicPartition, T>> {
        let partition = TopicPartition::new("orders", 0);
        BTreeMap::from([("billing".to_owned(), BTreeMap::from([(partition, one)]))])
    }

    fn at(offset: i64) -> GroupOffsets {
        of_group(Offset(offset))
    }

    fn here(offset: i64, is_own: bool) -> OffsetsHere {
        let offset = Offset(offset);
        of_group(OffsetHere { offset, is_own })
    }

    fn ends(offset: i64) -> BTreeMap<TopicPartition, Offset> {
        BTreeMap::from([(TopicPartition::new("orders", 0), Offset(offset))])
    }

    #[test]
    fn an_offset_is_never_beyond_what_was_copied() {
        let none = OffsetsHere::new();
        assert_eq!(wanted_offsets(&at(9), &none, &ends(5)), at(5));
        assert_eq!(wanted_offsets(&at(9), &here(5, false), &ends(7)), at(7));
        let unknown = wanted_offsets(&at(9), &none, &BTreeMap::new());
        assert_eq!(unknown, GroupOffsets::new());
    }

    #[test]
    fn an_offset_goes_back_with_the_source_whoever_looked_before() {
        assert_eq!(wanted_offsets(&at(3), &here(7, false), &ends(9)), at(3));
        let done = wanted_offsets(&at(3), &here(3, false), &ends(9));
        assert_eq!(done, GroupOffsets::new());
    }

    #[test]
    fn what_clients_here_committed_is_left_alone() {
        for offset in [3, 7, 9] {
            let wanted = wanted_offsets(&at(offset), &here(7, true), &ends(9));
            assert_eq!(wanted, GroupOffsets::new());
        }
    }
}
