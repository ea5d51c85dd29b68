//! What members of a group tell each other through a broker that does not look inside: the embedded
//! protocol of consumers in its first version, and who gets what.
//!
//! For clients that speak the protocol of groups themselves, simulated or not.

use std::collections::BTreeMap;

use bytes::Bytes;
use klamm::wire::message::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, OwnedPartitions,
};
use klamm::wire::message::join_group::JoinGroupResponseMember;
use klamm::wire::message::sync_group::SyncGroupRequestAssignment;
use klamm::wire::{Reader, Str, Version, Wire, Writer};

use crate::history::Partition;

const VERSION: Version = Version {
    number: 0,
    flexible: false,
};

fn embed(value: &impl Wire) -> Bytes {
    let mut to = Writer::default();
    to.i16(VERSION.number);
    value.write(&mut to, VERSION);
    to.finish_contiguous().unwrap_or_default()
}

fn unpack<T: Wire>(bytes: &Bytes) -> Option<T> {
    let mut from = Reader::new(bytes.clone());
    from.i16().ok()?;
    T::read(&mut from, VERSION).ok()
}

/// A member's wish for these topics.
#[must_use]
pub fn write_subscription(topics: &[String]) -> Bytes {
    let topics = topics.iter().map(|topic| Str::from(topic.as_str()));
    embed(&ConsumerProtocolSubscription {
        topics: topics.collect(),
        ..Default::default()
    })
}

/// The topics of a subscription; none if it cannot be read.
fn read_subscription(bytes: &Bytes) -> Vec<String> {
    let read: Option<ConsumerProtocolSubscription> = unpack(bytes);
    let topics = read.map(|read| read.topics).unwrap_or_default();
    topics
        .iter()
        .map(|topic| topic.as_str().to_owned())
        .collect()
}

fn write_assignment(partitions: &[Partition]) -> Bytes {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for of in partitions {
        topics.entry(&of.topic).or_default().push(of.partition);
    }
    let owned = topics
        .into_iter()
        .map(|(topic, partitions)| OwnedPartitions {
            topic: topic.into(),
            partitions,
            ..Default::default()
        });
    embed(&ConsumerProtocolAssignment {
        assigned_partitions: owned.collect(),
        ..Default::default()
    })
}

/// The partitions of an assignment; none if it is empty or cannot be read.
#[must_use]
pub fn read_assignment(bytes: &Bytes) -> Vec<Partition> {
    let read: Option<ConsumerProtocolAssignment> = unpack(bytes);
    let topics = read.map(|read| read.assigned_partitions);
    let topics = topics.unwrap_or_default();
    let each = topics.iter().flat_map(|topic| {
        let numbers = topic.partitions.iter();
        numbers.map(|number| Partition {
            topic: topic.topic.as_str().to_owned(),
            partition: *number,
        })
    });
    each.collect()
}

/// Deals the partitions of each topic out, one after another, to those who want it. `counts` are
/// the partitions of each topic.
pub fn share_out<'a>(
    members: &[JoinGroupResponseMember],
    counts: impl IntoIterator<Item = (&'a str, i32)>,
) -> Vec<SyncGroupRequestAssignment> {
    let mut takers: Vec<(&str, &Str, Vec<String>)> = members
        .iter()
        .map(|member| {
            let instance = member.group_instance_id.as_deref().unwrap_or_default();
            let wanted = read_subscription(&member.metadata);
            (instance, &member.member_id, wanted)
        })
        .collect();
    takers.sort();
    let mut shares: BTreeMap<usize, Vec<Partition>> = BTreeMap::new();
    let mut turn = 0;
    for (topic, count) in counts {
        for number in 0..count {
            let order = (0..takers.len()).map(|step| (turn + step) % takers.len());
            let wants = |at: &usize| takers[*at].2.iter().any(|wanted| wanted == topic);
            if let Some(at) = order.into_iter().find(wants) {
                shares.entry(at).or_default().push(Partition {
                    topic: topic.to_owned(),
                    partition: number,
                });
                turn = at + 1;
            }
        }
    }
    let each = takers.iter().enumerate();
    each.map(|(at, (_, member_id, _))| SyncGroupRequestAssignment {
        member_id: (*member_id).clone(),
        assignment: write_assignment(shares.get(&at).map_or(&[], Vec::as_slice)),
        ..Default::default()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use klamm::wire::message::join_group::JoinGroupResponseMember;

    use super::{read_assignment, share_out, write_subscription};

    fn member(id: &str, topics: &[&str]) -> JoinGroupResponseMember {
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        JoinGroupResponseMember {
            member_id: id.into(),
            metadata: write_subscription(&topics),
            ..Default::default()
        }
    }

    #[test]
    fn every_partition_goes_to_one_of_those_who_want_it() {
        let members = [member("a", &["t", "u"]), member("b", &["t"])];
        let shares = share_out(&members, [("t", 3), ("u", 2), ("v", 1)]);
        let told: Vec<(&str, Vec<String>)> = shares
            .iter()
            .map(|share| {
                let given = read_assignment(&share.assignment).into_iter();
                let given = given.map(|of| format!("{}-{}", of.topic, of.partition));
                (share.member_id.as_str(), given.collect())
            })
            .collect();
        let a = ["t-0", "t-2", "u-0", "u-1"].map(str::to_owned).to_vec();
        assert_eq!(told, [("a", a), ("b", vec!["t-1".to_owned()])]);
    }
}
