//! Epochs: numbers that only grow and fence whoever holds an older one.

use serde::{Deserialize, Serialize};

/// Term of a partition's leader, given by the controller. `-1` on the wire means "none known".
#[derive(
    Serialize, Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default,
)]
pub struct LeaderEpoch(pub i32);

impl LeaderEpoch {
    pub const NONE: Self = Self(-1);
}

/// Incarnation of a registered broker.
#[derive(
    Serialize, Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default,
)]
pub struct BrokerEpoch(pub i64);

/// Incarnation of a producer id. `-1` on the wire means "not idempotent".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ProducerEpoch(pub i16);

impl ProducerEpoch {
    pub const NONE: Self = Self(-1);
}
