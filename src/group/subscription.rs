//! What consumers subscribe to, read from the metadata that is opaque to everything else.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::state::GroupMetadata;
use crate::wire::message::consumer_protocol::ConsumerProtocolSubscription;
use crate::wire::{Reader, Str, Version, Wire};

/// The protocol type whose metadata is a subscription.
pub(super) const CONSUMER: &str = "consumer";

/// Newest version of the subscription format that is known. Newer ones only add fields at the end.
const SUBSCRIPTION_VERSION_MAX: i16 = 3;

/// The topics a consumer subscribes to; `None` when the bytes are not a subscription.
pub(super) fn topics(metadata: &Bytes) -> Option<BTreeSet<Str>> {
    let mut from = Reader::new(metadata.clone());
    let number = from.i16().ok().filter(|number| *number >= 0)?;
    let version = Version {
        number: number.min(SUBSCRIPTION_VERSION_MAX),
        flexible: false,
    };
    let subscription = ConsumerProtocolSubscription::read(&mut from, version).ok()?;
    Some(subscription.topics.into_iter().collect())
}

/// The topics that any member of a consumer group subscribes to; `None` when that cannot be known.
pub(super) fn group_topics(metadata: &GroupMetadata) -> Option<BTreeSet<Str>> {
    if metadata.protocol_type != *CONSUMER || metadata.protocol.is_none() {
        return None;
    }
    let mut all = BTreeSet::new();
    for member in metadata.members.values() {
        all.append(&mut topics(&member.subscription)?);
    }
    Some(all)
}

/// Whether a static member that came back wants what it wanted before. Consumers are compared by
/// topics, since the rest of the metadata (partitions still owned) changes with every restart;
/// other protocol types are opaque and taken as unchanged, as in Kafka.
pub(super) fn is_unchanged(protocol_type: &str, before: &Bytes, after: &Bytes) -> bool {
    protocol_type != CONSUMER || before == after || {
        let (before, after) = (topics(before), topics(after));
        before.is_some() && before == after
    }
}
