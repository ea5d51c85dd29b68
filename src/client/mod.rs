//! A Kafka client over [`Env`](crate::env::Env): producer, consumer and admin calls for any
//! cluster that speaks the Kafka protocol. Versions are negotiated with each broker.
//!
//! ```text
//! Cluster  connections, metadata, leaders, coordinators, retries
//!   Admin      topics, configs, groups, offsets, log directories
//!   Producer   batches, sequences, delivery
//!   Consumer   fetches, positions, group membership
//! ```
//!
//! What is decided (batching, sequences, assignment, positions) is decided in pure machines; tasks
//! and sockets only carry it out. Given the same `Env` a client does the same things in the same
//! order.

pub mod admin;
mod backoff;
mod cluster;
pub mod config;
mod connection;
mod consumer;
mod error;
mod input;
mod metadata;
mod producer;
mod socket;

pub use admin::Admin;
pub use backoff::Backoff;
pub use cluster::{Cluster, Lane, Topics};
pub use config::{Acks, ClientConfig, ConfigError, Isolation, OffsetReset, Strategy};
pub use connection::{ApiRanges, Connection, ConnectionOptions, PendingCall};
pub use consumer::{Consumer, ConsumerRecord, RebalanceEvent};
pub use error::{ApiError, ClientError};
pub use metadata::{BrokerView, ClusterView, PartitionView, TopicView};
pub use producer::{
    Delivery, DeliveryError, Outcome, Producer, ProducerRecord, RecordMetadata, murmur2,
    partition_of_key,
};
