//! Bytes of the embedded consumer protocol: what members of a group tell each other through
//! brokers that do not look inside.

use std::sync::Arc;

use bytes::Bytes;

use crate::client::admin::by_topic;
use crate::types::TopicPartition;
use crate::wire::message::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, OwnedPartitions,
};
use crate::wire::{DecodeError, Reader, Str, Version, Wire, Writer};

/// Protocol type of groups of consumers.
pub const PROTOCOL_TYPE: &str = "consumer";

/// Newest version of subscription and assignment this client writes. Readers take newer ones too:
/// fields are only ever added at the end.
const NEWEST: i16 = 3;

/// What a member wants, as its group's leader sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Subscription {
    pub topics: Vec<Arc<str>>,
    /// What it had before this rebalance and still claims.
    pub owned: Vec<TopicPartition>,
    /// The generation `owned` is from; -1 when it does not say.
    pub generation: i32,
}

fn version(number: i16) -> Version {
    Version {
        number,
        flexible: false,
    }
}

fn to_wire(partitions: &[TopicPartition]) -> Vec<OwnedPartitions> {
    let topics = by_topic(partitions.iter().cloned()).into_iter();
    let topics = topics.map(|(topic, partitions)| OwnedPartitions {
        topic: Str::from(&*topic),
        partitions,
        ..Default::default()
    });
    topics.collect()
}

fn from_wire(topics: &[OwnedPartitions]) -> Vec<TopicPartition> {
    let mut partitions = Vec::new();
    for owned in topics {
        let topic: Arc<str> = Arc::from(owned.topic.as_str());
        let all = owned.partitions.iter();
        partitions.extend(all.map(|p| TopicPartition::new(Arc::clone(&topic), *p)));
    }
    partitions.sort();
    partitions.dedup();
    partitions
}

/// Splits the version off; a negative one is refused.
fn read_version(from: &mut Reader) -> Result<i16, DecodeError> {
    match from.i16()? {
        number if number < 0 => Err(DecodeError::Invalid("negative protocol version")),
        number => Ok(number.min(NEWEST)),
    }
}

/// The bytes of a subscription.
#[must_use]
pub fn write_subscription(subscription: &Subscription) -> Bytes {
    let value = ConsumerProtocolSubscription {
        topics: subscription
            .topics
            .iter()
            .map(|topic| Str::from(&**topic))
            .collect(),
        user_data: None,
        owned_partitions: to_wire(&subscription.owned),
        generation_id: subscription.generation,
        ..Default::default()
    };
    let mut to = Writer::default();
    to.i16(NEWEST);
    value.write(&mut to, version(NEWEST));
    to.finish_contiguous()
        .expect("topic names were read from the protocol and fit it")
}

/// Reads a subscription of any version.
pub fn read_subscription(bytes: &Bytes) -> Result<Subscription, DecodeError> {
    let mut from = Reader::new(bytes.clone());
    let number = read_version(&mut from)?;
    let value = ConsumerProtocolSubscription::read(&mut from, version(number))?;
    let topics = value.topics.iter().map(|topic| Arc::from(topic.as_str()));
    let mut topics: Vec<Arc<str>> = topics.collect();
    topics.sort();
    topics.dedup();
    Ok(Subscription {
        topics,
        owned: from_wire(&value.owned_partitions),
        generation: value.generation_id,
    })
}

/// The bytes of an assignment.
#[must_use]
pub fn write_assignment(partitions: &[TopicPartition]) -> Bytes {
    let value = ConsumerProtocolAssignment {
        assigned_partitions: to_wire(partitions),
        user_data: None,
        ..Default::default()
    };
    let mut to = Writer::default();
    to.i16(NEWEST);
    value.write(&mut to, version(NEWEST));
    to.finish_contiguous()
        .expect("topic names were read from the protocol and fit it")
}

/// Reads an assignment of any version; no bytes are an empty one.
pub fn read_assignment(bytes: &Bytes) -> Result<Vec<TopicPartition>, DecodeError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut from = Reader::new(bytes.clone());
    let number = read_version(&mut from)?;
    let value = ConsumerProtocolAssignment::read(&mut from, version(number))?;
    Ok(from_wire(&value.assigned_partitions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let subscription = Subscription {
            topics: vec![Arc::from("a"), Arc::from("b")],
            owned: vec![TopicPartition::new("a", 0), TopicPartition::new("b", 2)],
            generation: 7,
        };
        let bytes = write_subscription(&subscription);
        assert_eq!(read_subscription(&bytes), Ok(subscription.clone()));
        let bytes = write_assignment(&subscription.owned);
        assert_eq!(read_assignment(&bytes), Ok(subscription.owned));
    }

    #[test]
    fn a_subscription_of_version_0_has_no_owned_partitions() {
        let bytes = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff");
        let read = read_subscription(&bytes).expect("valid");
        assert_eq!(read.topics, [Arc::from("t")]);
        assert_eq!((read.owned.len(), read.generation), (0, -1));
    }

    #[test]
    fn hostile_bytes_are_an_error() {
        assert!(read_subscription(&Bytes::from_static(b"\xff\xff\0\0")).is_err());
        assert!(read_assignment(&Bytes::from_static(b"\0\0\x7f\xff\xff\xff")).is_err());
    }
}
