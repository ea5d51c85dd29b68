//! The vocabulary: a type for every number that must not be mistaken for another.
//!
//! Nothing here has behaviour beyond arithmetic, ordering and display. All types are plain values
//! that tests can build freely.

mod epoch;
mod error_code;
mod id;
mod offset;
mod time;

pub use epoch::{BrokerEpoch, LeaderEpoch, ProducerEpoch};
pub use error_code::ErrorCode;
pub use id::{BrokerId, ProducerId, TopicId, TopicPartition, Uuid, UuidError};
pub use offset::{FilePos, Offset, Sequence};
pub use time::{Instant, Timestamp};
