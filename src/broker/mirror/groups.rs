//! Commits here what groups committed at the source of a link.

use std::collections::BTreeMap;

use crate::client::admin::{Admin, CommittedOffset, Each, OffsetSpec};
use crate::client::{ClientError, Isolation};
use crate::controller::LinkRecord;
use crate::group::Carried;
use crate::mirror::{
    GroupOffsets, GroupPartition, OffsetHere, OffsetsHere, Translated, wanted_offsets,
};
use crate::types::{Offset, TopicPartition};

/// Partitions here, by those of the source that they are filled from.
pub(super) type Mirrored = BTreeMap<TopicPartition, TopicPartition>;

type Committed = Each<TopicPartition, CommittedOffset>;

/// Commits what groups committed at the source, where they have no members here; what these offsets
/// are here. The metadata that `carried` tells of may be old, and mirrors promoted since: who takes
/// the commits knows what they may replace.
pub(super) async fn carry_over(
    link: &LinkRecord,
    (there, here): (&Admin, &Admin),
    mirrored: &Mirrored,
    carried: Carried,
) -> Result<BTreeMap<GroupPartition, Translated>, ClientError> {
    let mut source = GroupOffsets::new();
    for name in there.list_groups(&[]).await?.into_keys() {
        if link.wants_group(&name) {
            let committed = there.group_offsets(&name, None).await?;
            let of_mirrors = offsets(committed, mirrored);
            if !of_mirrors.is_empty() {
                source.insert(name, of_mirrors);
            }
        }
    }
    if source.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ends = ends_of(source.values().flat_map(BTreeMap::keys));
    let high_watermarks = high_watermarks(here, ends).await?;
    let mut known = OffsetsHere::new();
    for name in source.keys() {
        let committed = here.group_offsets(name, None).await?;
        known.insert(name.clone(), offsets_here(committed));
    }
    for (name, wanted) in wanted_offsets(&source, &known, &high_watermarks) {
        commit(here, &name, &wanted, carried).await;
    }
    Ok(translated(&source, &high_watermarks))
}

/// What the groups of the source could go on from here.
fn translated(
    source: &GroupOffsets,
    high_watermarks: &BTreeMap<TopicPartition, Offset>,
) -> BTreeMap<GroupPartition, Translated> {
    let mut all = BTreeMap::new();
    for (group, offsets) in source {
        for (partition, upstream) in offsets {
            if let Some(end) = high_watermarks.get(partition) {
                let offset = Translated {
                    upstream: *upstream,
                    downstream: (*upstream).min(*end),
                };
                all.insert((group.clone(), partition.clone()), offset);
            }
        }
    }
    all
}

/// By the partitions here.
fn offsets(committed: Committed, mirrored: &Mirrored) -> BTreeMap<TopicPartition, Offset> {
    let committed = committed.into_iter();
    let known = committed.filter_map(|(partition, one)| {
        let offset = one.ok()?.offset;
        Some((mirrored.get(&partition)?.clone(), offset))
    });
    known.collect()
}

/// The ends of partitions, to be asked for.
pub(super) fn ends_of<'a>(
    partitions: impl Iterator<Item = &'a TopicPartition>,
) -> BTreeMap<TopicPartition, OffsetSpec> {
    partitions
        .map(|partition| (partition.clone(), OffsetSpec::Latest))
        .collect()
}

/// Those that are known.
pub(super) async fn high_watermarks(
    here: &Admin,
    wanted: BTreeMap<TopicPartition, OffsetSpec>,
) -> Result<BTreeMap<TopicPartition, Offset>, ClientError> {
    let found = here
        .list_offsets(&wanted, Isolation::ReadUncommitted)
        .await?;
    let known = found.into_iter().filter_map(|(partition, found)| {
        let offset = found.ok()?.offset?;
        Some((partition, offset))
    });
    Ok(known.collect())
}

fn offsets_here(committed: Committed) -> BTreeMap<TopicPartition, OffsetHere> {
    let known = committed.into_iter().filter_map(|(partition, one)| {
        let one = one.ok()?;
        let is_own = Carried::of(&one.metadata).is_none();
        let offset = one.offset;
        Some((partition, OffsetHere { offset, is_own }))
    });
    known.collect()
}

/// Commits what can be; the next round looks at what is left. A group that has members here is left
/// to them.
async fn commit(
    here: &Admin,
    group: &str,
    wanted: &BTreeMap<TopicPartition, Offset>,
    carried: Carried,
) {
    let offsets = wanted.iter().map(|(partition, offset)| {
        let committed = CommittedOffset {
            metadata: carried.to_string(),
            ..CommittedOffset::at(*offset)
        };
        (partition.clone(), committed)
    });
    if let Err(error) = here.set_group_offsets(group, &offsets.collect()).await {
        tracing::debug!(%group, %error, "offsets are not carried over");
    }
}
