//! Finding where to read from: committed offsets first, then the reset policy.

use std::collections::BTreeMap;

use crate::client::admin::{Admin, OffsetSpec};
use crate::client::cluster::Cluster;
use crate::client::config::OffsetReset;
use crate::client::error::{ApiError, ClientError};
use crate::types::{ErrorCode, LeaderEpoch, Offset, TopicPartition};

/// How a position is to be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Want {
    /// Where the group left off, else by policy.
    Committed,
    /// By `auto.offset.reset`, after the position went out of range.
    Policy,
    /// Where the caller said.
    Spec(OffsetSpec),
}

/// A position that was found, or why it was not.
pub(super) type Found = Result<(Offset, LeaderEpoch), ClientError>;

/// Finds positions of partitions. The outer error says that nothing was learnt.
pub(super) async fn find(
    cluster: &Cluster,
    wants: &BTreeMap<TopicPartition, Want>,
) -> Result<BTreeMap<TopicPartition, Found>, ClientError> {
    let admin = Admin::on(cluster.clone());
    let mut found: BTreeMap<TopicPartition, Found> = BTreeMap::new();
    if let Some(group) = &cluster.config().group_id {
        let committed = wants.iter().filter(|(_, want)| **want == Want::Committed);
        let committed: Vec<TopicPartition> = committed.map(|(p, _)| p.clone()).collect();
        if !committed.is_empty() {
            let offsets = admin.group_offsets(group, Some(&committed)).await?;
            for (partition, offset) in offsets {
                let offset = offset.map(|at| (at.offset, at.leader_epoch));
                let offset = offset
                    .map_err(|error| ClientError::refused("reading the group's offsets", error));
                found.insert(partition, offset);
            }
        }
    }
    let mut specs = BTreeMap::new();
    for (partition, want) in wants {
        if found.contains_key(partition) {
            continue;
        }
        match by_policy(*want, cluster.config().auto_offset_reset) {
            Some(spec) => {
                specs.insert(partition.clone(), spec);
            }
            None => {
                found.insert(partition.clone(), Err(no_policy(partition)));
            }
        }
    }
    if !specs.is_empty() {
        let isolation = cluster.config().isolation_level;
        let mut listed = admin.list_offsets(&specs, isolation).await?;
        // Nothing at or after a time: continue at the end.
        let beyond: BTreeMap<_, _> = listed
            .iter()
            .filter(|(_, result)| matches!(result, Ok(at) if at.offset.is_none()))
            .map(|(partition, _)| (partition.clone(), OffsetSpec::Latest))
            .collect();
        if !beyond.is_empty() {
            listed.extend(admin.list_offsets(&beyond, isolation).await?);
        }
        for (partition, result) in listed {
            let what = "finding an offset to start from";
            let position = result
                .map(|at| (at.offset.unwrap_or(Offset::ZERO), at.leader_epoch))
                .map_err(|error| ClientError::refused(what, error));
            found.insert(partition, position);
        }
    }
    Ok(found)
}

fn by_policy(want: Want, policy: OffsetReset) -> Option<OffsetSpec> {
    match (want, policy) {
        (Want::Spec(spec), _) => Some(spec),
        (_, OffsetReset::Earliest) => Some(OffsetSpec::Earliest),
        (_, OffsetReset::Latest) => Some(OffsetSpec::Latest),
        (_, OffsetReset::None) => None,
    }
}

fn no_policy(partition: &TopicPartition) -> ClientError {
    let error = ApiError {
        code: ErrorCode::OffsetOutOfRange,
        text: Some("no usable offset, and auto.offset.reset=none".to_owned()),
    };
    ClientError::refused(format!("reading {partition}"), error)
}
