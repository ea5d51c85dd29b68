//! Names of things.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Number of a broker or controller in its cluster (`node.id`). `-1` on the wire means "none".
#[derive(
    Serialize, Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default,
)]
pub struct BrokerId(pub i32);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of an idempotent or transactional producer, given out once in a cluster's life.
#[derive(
    Serialize, Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default,
)]
pub struct ProducerId(pub i64);

impl ProducerId {
    pub const NONE: Self = Self(-1);
}

/// 128 bits shown as 22 characters of URL-safe base64, Kafka's form for cluster and topic ids.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

/// A topic's identity: never zero for a real topic, never reused, kept through renames of nothing
/// (Kafka has no rename) and gone with the topic (KIP-516).
pub type TopicId = Uuid;

impl Uuid {
    pub const ZERO: Self = Self([0; 16]);

    /// A random (version 4) uuid made of `random`. Kafka refuses ids whose text starts with `-`,
    /// which would read as a flag on a command line, so the first bits are cleared where needed.
    #[must_use]
    pub fn from_random(mut random: [u8; 16]) -> Self {
        random[6] = (random[6] & 0x0f) | 0x40;
        random[8] = (random[8] & 0x3f) | 0x80;
        if random[0] >> 2 == 0b11_1110 {
            random[0] &= 0x7f;
        }
        Self(random)
    }

    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a uuid in Kafka's base64 form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an id: expected 22 characters of URL-safe base64")]
pub struct UuidError(pub String);

impl FromStr for Uuid {
    type Err = UuidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || UuidError(text.chars().take(64).collect());
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|_| refused())?;
        Ok(Self(bytes.try_into().map_err(|_| refused())?))
    }
}

/// A partition of a topic. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_survives_its_text() {
        let id = Uuid::from_random([0xff; 16]);
        assert_eq!(id.to_string().parse::<Uuid>(), Ok(id));
        assert_eq!(id.to_string().len(), 22);
    }

    #[test]
    fn no_random_uuid_reads_as_a_flag() {
        for first in 0..=255 {
            let mut bytes = [7; 16];
            bytes[0] = first;
            assert!(!Uuid::from_random(bytes).to_string().starts_with('-'));
        }
    }
}
