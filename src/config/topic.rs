//! A topic's settings in force.

use std::collections::BTreeMap;

use super::defaults::BrokerDefaults;
use super::kind::Value;
use super::setting::{Setting, topic_setting, topic_settings};

/// What happens to old records. Both, or neither, are possible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cleanup {
    pub delete: bool,
    pub compact: bool,
}

/// The codec a topic's batches are kept in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Whatever the producer chose.
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Whose time a record carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// When an `acks=all` write may be acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// The in-sync replicas have it on disk.
    Fsync,
    /// The in-sync replicas have it in memory.
    Replicated,
}

/// A topic's setting that cannot be accepted. The text names it and the fix.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidConfig(pub String);

/// A topic's settings in force. Spans of time are in milliseconds; [`i64::MAX`] is "never".
#[derive(Clone, PartialEq, Debug)]
pub struct TopicConfig {
    pub cleanup: Cleanup,
    pub compression: Compression,
    pub delete_retention_ms: i64,
    pub durability: Durability,
    pub file_delete_delay_ms: i64,
    pub flush_messages: i64,
    pub flush_ms: i64,
    pub index_interval_bytes: u64,
    pub max_compaction_lag_ms: i64,
    pub max_message_bytes: usize,
    pub message_timestamp_after_max_ms: i64,
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_type: TimestampType,
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    pub min_insync_replicas: usize,
    /// `None`: no limit.
    pub retention_bytes: Option<u64>,
    /// `None`: no limit.
    pub retention_ms: Option<i64>,
    pub segment_bytes: u64,
    pub segment_jitter_ms: i64,
    pub segment_ms: i64,
    pub unclean_leader_election_enable: bool,
}

/// Whether `value` may be set for the topic setting `name`.
pub fn validate_topic_value(name: &str, value: &str) -> Result<Value, InvalidConfig> {
    let setting = topic_setting(name).ok_or_else(|| unknown(name))?;
    checked(setting, value)
}

fn unknown(name: &str) -> InvalidConfig {
    InvalidConfig(format!(
        "Unknown topic config name: {name}; DescribeConfigs of any topic lists the known ones"
    ))
}

fn checked(setting: &Setting, value: &str) -> Result<Value, InvalidConfig> {
    setting.kind.parse(value).map_err(|error| {
        InvalidConfig(format!(
            "Invalid value {value} for configuration {}: {error}",
            setting.name
        ))
    })
}

impl TopicConfig {
    /// The settings of a topic with `overrides`, for the rest the broker's. The first override
    /// that is unknown, malformed or at odds with the others is the error.
    ///
    /// A broker's own malformed value (never accepted when it was given) falls back to the default.
    pub fn resolve(
        defaults: &BrokerDefaults,
        overrides: &BTreeMap<String, String>,
    ) -> Result<Self, InvalidConfig> {
        if let Some(name) = overrides.keys().find(|name| topic_setting(name).is_none()) {
            return Err(unknown(name));
        }
        let mut values = BTreeMap::new();
        for setting in topic_settings() {
            let value = match overrides.get(setting.name) {
                Some(value) => checked(setting, value)?,
                None => fallback(setting, defaults),
            };
            values.insert(setting.name, value);
        }
        let config = Self::typed(&Values(values));
        if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
            return Err(InvalidConfig(format!(
                "min.compaction.lag.ms ({}) is larger than max.compaction.lag.ms ({}); lower the \
                 first or raise the second",
                config.min_compaction_lag_ms, config.max_compaction_lag_ms
            )));
        }
        Ok(config)
    }

    fn typed(values: &Values) -> Self {
        let limit = |number: i64| (number >= 0).then_some(number);
        Self {
            cleanup: Cleanup {
                delete: values.has("cleanup.policy", "delete"),
                compact: values.has("cleanup.policy", "compact"),
            },
            compression: match values.text("compression.type") {
                "uncompressed" => Compression::Uncompressed,
                "gzip" => Compression::Gzip,
                "snappy" => Compression::Snappy,
                "lz4" => Compression::Lz4,
                "zstd" => Compression::Zstd,
                _ => Compression::Producer,
            },
            delete_retention_ms: values.integer("delete.retention.ms"),
            durability: match values.text("klamm.durability") {
                "replicated" => Durability::Replicated,
                _ => Durability::Fsync,
            },
            file_delete_delay_ms: values.integer("file.delete.delay.ms"),
            flush_messages: values.integer("flush.messages"),
            flush_ms: values.integer("flush.ms"),
            index_interval_bytes: values.size("index.interval.bytes"),
            max_compaction_lag_ms: values.integer("max.compaction.lag.ms"),
            max_message_bytes: usize::try_from(values.size("max.message.bytes"))
                .unwrap_or(usize::MAX),
            message_timestamp_after_max_ms: values.integer("message.timestamp.after.max.ms"),
            message_timestamp_before_max_ms: values.integer("message.timestamp.before.max.ms"),
            message_timestamp_type: match values.text("message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: values.double("min.cleanable.dirty.ratio"),
            min_compaction_lag_ms: values.integer("min.compaction.lag.ms"),
            min_insync_replicas: usize::try_from(values.size("min.insync.replicas"))
                .unwrap_or(usize::MAX),
            retention_bytes: limit(values.integer("retention.bytes"))
                .and_then(|bytes| u64::try_from(bytes).ok()),
            retention_ms: limit(values.integer("retention.ms")),
            segment_bytes: values.size("segment.bytes"),
            segment_jitter_ms: values.integer("segment.jitter.ms"),
            segment_ms: values.integer("segment.ms"),
            unclean_leader_election_enable: values.boolean("unclean.leader.election.enable"),
        }
    }
}

fn fallback(setting: &Setting, defaults: &BrokerDefaults) -> Value {
    let (value, _) = defaults.for_topic(setting);
    value
        .and_then(|value| setting.kind.parse(&value).ok())
        .or_else(|| setting.kind.parse(setting.default?).ok())
        .unwrap_or(Value::Text(String::new()))
}

/// Values by name, each of the type its setting has; the wrong type reads as its zero.
struct Values(BTreeMap<&'static str, Value>);

impl Values {
    fn integer(&self, name: &str) -> i64 {
        self.0.get(name).and_then(Value::integer).unwrap_or(0)
    }

    fn size(&self, name: &str) -> u64 {
        u64::try_from(self.integer(name)).unwrap_or(0)
    }

    fn double(&self, name: &str) -> f64 {
        match self.0.get(name) {
            Some(Value::Double(number)) => *number,
            _ => 0.0,
        }
    }

    fn boolean(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(Value::Boolean(true)))
    }

    fn text(&self, name: &str) -> &str {
        match self.0.get(name) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    fn has(&self, name: &str, element: &str) -> bool {
        match self.0.get(name) {
            Some(Value::List(elements)) => elements.iter().any(|one| one == element),
            _ => false,
        }
    }
}
