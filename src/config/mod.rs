//! Settings: from text to typed values, with the origin of each kept.
//!
//! One [table](Setting) lists every setting with its type, default and meaning. A node's settings
//! come from flags, environment, file and defaults, in this order of strength
//! ([`BrokerConfig::load`]); what administrators changed since, kept in the cluster's metadata, is
//! stronger than all of them ([`BrokerDefaults::with_dynamic`]). A topic's settings fall back to
//! the broker's ([`TopicConfig::resolve`]).
//!
//! Nothing here reads a file, the environment or a clock: texts come in, values go out. Every bad
//! value is reported at once, each with its name, its origin and the fix.

mod broker;
mod cluster;
mod defaults;
mod describe;
mod environment;
mod kind;
mod listener;
mod meta;
mod properties;
mod roles;
mod setting;
mod table;
#[cfg(test)]
mod tests;
mod topic;

pub use broker::{
    AdminListener, BrokerConfig, CleanerConfig, ConfigWarning, GroupConfig, Loaded, LogFormat,
    NetworkConfig, OffsetsConfig, TopicDefaults,
};
pub use cluster::{QuorumConfig, ReplicationConfig, Voter, address};
pub use defaults::{BrokerDefaults, ConfigError, ConfigErrors, Given, Source};
pub use describe::{
    ConfigEntry, ConfigSource, ConfigSynonym, Explanation, describe_broker, describe_topic,
};
pub use environment::from_environment;
pub use kind::{Kind, Value, ValueError};
pub use listener::{Advertised, Listener};
pub use meta::{DirEntryKind, DirState, LogDirError, Membership, MetaProperties, check_log_dir};
pub use properties::{PropertiesError, Property, parse_properties};
pub use setting::{
    Effect, Setting, Synonym, Update, broker_setting, broker_settings, topic_setting,
    topic_settings,
};
pub use topic::{
    Cleanup, Compression, Durability, InvalidConfig, TimestampType, TopicConfig,
    validate_topic_value,
};
