//! Kafka's client settings by Kafka's names (`bootstrap.servers`, `linger.ms`, ...), with Kafka's
//! defaults.
//!
//! One [`ClientConfig`] serves producers, consumers and admin calls alike, as it does for most
//! users' files. A name that is not known is an error that suggests the nearest known one: a
//! misspelt setting that is silently ignored is how data gets lost.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::wire::batch::Compression;

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("'{name}' is not a client setting{}", suggestion(.nearest.as_deref()))]
    Unknown {
        name: String,
        nearest: Option<String>,
    },
    #[error("{name}={value}: {reason}")]
    BadValue {
        name: String,
        value: String,
        reason: String,
    },
    #[error("'{0}' is not of the form name=value")]
    NotAPair(String),
    #[error("{0}")]
    Conflict(String),
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean '{name}'?"))
}

/// How many replicas must have a record before it counts as written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// No answer is awaited: records may be lost without notice, offsets are not known.
    None,
    /// The leader has it.
    Leader,
    /// All in-sync replicas have it.
    All,
}

impl Acks {
    #[must_use]
    pub fn to_wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// Where a consumer starts without a usable offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetReset {
    Earliest,
    Latest,
    /// Fail instead.
    None,
}

/// Which records of transactions a consumer sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

impl Isolation {
    #[must_use]
    pub fn to_wire(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// How the leader of a group shares partitions out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strategy {
    Range,
    RoundRobin,
    CooperativeSticky,
}

impl Strategy {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }
}

/// One setting, for lists and help texts.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub default: &'static str,
    pub doc: &'static str,
    set: fn(&mut ClientConfig, &str) -> Result<(), String>,
}

macro_rules! settings {
    ($(
        #[doc = $doc:literal]
        $field:ident: $ty:ty = $name:literal $default:literal $parse:expr;
    )*) => {
        /// All settings of a client.
        #[derive(Clone, PartialEq, Debug)]
        pub struct ClientConfig {
            $( #[doc = $doc] pub $field: $ty, )*
        }

        /// Every setting, in the order of the tables in the documentation.
        pub const SETTINGS: &[Setting] = &[
            $( Setting {
                name: $name,
                default: $default,
                doc: $doc,
                set: |config, text| {
                    config.$field = $parse(text.trim())?;
                    Ok(())
                },
            }, )*
        ];

        impl Default for ClientConfig {
            fn default() -> Self {
                Self {
                    $( $field: $parse($default).expect("every default can be parsed"), )*
                }
            }
        }
    };
}

settings! {
    /// `host:port` pairs to learn the cluster from, separated by commas.
    bootstrap_servers: Vec<String> = "bootstrap.servers" "localhost:9092" servers;
    /// Name of this client in the brokers' logs and quotas.
    client_id: String = "client.id" "klamm" text;
    /// Longest wait for the answer to one request.
    request_timeout: Duration = "request.timeout.ms" "30000" millis;
    /// Longest time for an operation with all its retries.
    default_api_timeout: Duration = "default.api.timeout.ms" "60000" millis;
    /// Shortest pause before a request is tried again.
    retry_backoff: Duration = "retry.backoff.ms" "100" millis;
    /// Longest pause before a request is tried again.
    retry_backoff_max: Duration = "retry.backoff.max.ms" "1000" millis;
    /// Shortest pause before a broker is dialled again.
    reconnect_backoff: Duration = "reconnect.backoff.ms" "50" millis;
    /// Longest pause before a broker is dialled again.
    reconnect_backoff_max: Duration = "reconnect.backoff.max.ms" "1000" millis;
    /// Longest wait for a connection to be set up.
    connection_setup_timeout: Duration = "socket.connection.setup.timeout.ms" "10000" millis;
    /// Age from which what is known of the cluster is asked for anew.
    metadata_max_age: Duration = "metadata.max.age.ms" "300000" millis;
    /// Only PLAINTEXT so far.
    security_protocol: String = "security.protocol" "PLAINTEXT" plaintext;
    /// Largest response accepted from a broker, in bytes.
    receive_message_max_bytes: usize = "receive.message.max.bytes" "104857600" positive;

    /// Replicas that must have a record: 0, 1 or all.
    acks: Acks = "acks" "all" acks;
    /// No duplicates and no reordering within a partition; needs acks=all.
    enable_idempotence: bool = "enable.idempotence" "true" boolean;
    /// Time a batch waits for more records.
    linger: Duration = "linger.ms" "5" millis;
    /// Size a batch of one partition is closed at, in bytes.
    batch_size: usize = "batch.size" "16384" positive;
    /// Bytes of records that may wait in the producer; beyond them a send waits.
    buffer_memory: usize = "buffer.memory" "33554432" positive;
    /// Longest wait of a send for space or for the topic to be known.
    max_block: Duration = "max.block.ms" "60000" millis;
    /// Largest request, and so largest record, in bytes.
    max_request_size: usize = "max.request.size" "1048576" positive;
    /// Codec: none, gzip, snappy, lz4 or zstd.
    compression_type: Compression = "compression.type" "none" compression;
    /// Longest time from a send to its success or failure.
    delivery_timeout: Duration = "delivery.timeout.ms" "120000" millis;
    /// Requests without an answer yet on one connection; at most 5 with idempotence.
    max_in_flight: usize = "max.in.flight.requests.per.connection" "5" positive;
    /// Attempts after the first.
    retries: u32 = "retries" "2147483647" number;

    /// Group to join or to keep offsets for.
    group_id: Option<String> = "group.id" "" optional;
    /// Lasting name of this member: its restart causes no rebalance.
    group_instance_id: Option<String> = "group.instance.id" "" optional;
    /// earliest, latest or none.
    auto_offset_reset: OffsetReset = "auto.offset.reset" "latest" offset_reset;
    /// Commit what was polled, every so often.
    enable_auto_commit: bool = "enable.auto.commit" "true" boolean;
    /// Time between automatic commits.
    auto_commit_interval: Duration = "auto.commit.interval.ms" "5000" millis;
    /// Silence after which a member counts as gone.
    session_timeout: Duration = "session.timeout.ms" "45000" millis;
    /// Time between heartbeats.
    heartbeat_interval: Duration = "heartbeat.interval.ms" "3000" millis;
    /// Longest time between polls before the member leaves its group.
    max_poll_interval: Duration = "max.poll.interval.ms" "300000" millis;
    /// Most records one poll returns.
    max_poll_records: usize = "max.poll.records" "500" positive;
    /// Bytes a broker waits for before it answers a fetch.
    fetch_min_bytes: i32 = "fetch.min.bytes" "1" number;
    /// Most bytes of one fetch.
    fetch_max_bytes: i32 = "fetch.max.bytes" "52428800" number;
    /// Longest time a broker waits for `fetch.min.bytes`.
    fetch_max_wait: Duration = "fetch.max.wait.ms" "500" millis;
    /// Most bytes of one partition in one fetch.
    max_partition_fetch_bytes: i32 = "max.partition.fetch.bytes" "1048576" number;
    /// read_uncommitted or read_committed.
    isolation_level: Isolation = "isolation.level" "read_uncommitted" isolation;
    /// Assignors in order of preference: range, roundrobin, cooperative-sticky.
    partition_assignment_strategy: Vec<Strategy> =
        "partition.assignment.strategy" "range,cooperative-sticky" strategies;
    /// Let brokers create topics that are asked for.
    allow_auto_create_topics: bool = "allow.auto.create.topics" "true" boolean;
}

impl ClientConfig {
    /// Settings for the cluster at `servers` (`host:port,...`), the rest by default.
    pub fn for_servers(servers: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        config.set("bootstrap.servers", servers)?;
        Ok(config)
    }

    /// Defaults overridden by `pairs`, later ones winning, and checked as a whole.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let mut idempotence_asked = false;
        for (name, value) in pairs {
            config.set(name, value)?;
            idempotence_asked |= name == "enable.idempotence" && config.enable_idempotence;
        }
        if !idempotence_asked {
            config.drop_idempotence_where_impossible();
        }
        config.check()?;
        Ok(config)
    }

    /// Splits `name=value`, as given with `-X`.
    pub fn split_pair(pair: &str) -> Result<(&str, &str), ConfigError> {
        pair.split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()))
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| ConfigError::NotAPair(pair.to_owned()))
    }

    /// Sets one setting by its Kafka name.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let setting = SETTINGS
            .iter()
            .find(|setting| setting.name == name)
            .ok_or_else(|| ConfigError::Unknown {
                name: name.to_owned(),
                nearest: nearest(name),
            })?;
        (setting.set)(self, value).map_err(|reason| ConfigError::BadValue {
            name: name.to_owned(),
            value: value.to_owned(),
            reason,
        })
    }

    /// Idempotence that was not asked for gives way to settings that exclude it, as Kafka's
    /// clients do.
    pub fn drop_idempotence_where_impossible(&mut self) {
        if self.acks != Acks::All || self.retries == 0 || self.max_in_flight > 5 {
            self.enable_idempotence = false;
        }
    }

    /// Checks what no single setting can show.
    pub fn check(&self) -> Result<(), ConfigError> {
        let conflict = |text: &str| Err(ConfigError::Conflict(text.to_owned()));
        if self.enable_idempotence && self.acks != Acks::All {
            return conflict("enable.idempotence=true needs acks=all");
        }
        if self.enable_idempotence && self.max_in_flight > 5 {
            return conflict(
                "enable.idempotence=true needs max.in.flight.requests.per.connection of at most 5",
            );
        }
        if self.enable_idempotence && self.retries == 0 {
            return conflict("enable.idempotence=true needs retries above 0");
        }
        if self.delivery_timeout < self.linger + self.request_timeout {
            return conflict(
                "delivery.timeout.ms must be at least linger.ms plus request.timeout.ms",
            );
        }
        if self.heartbeat_interval >= self.session_timeout {
            return conflict("heartbeat.interval.ms must be below session.timeout.ms");
        }
        if self.bootstrap_servers.is_empty() {
            return conflict("bootstrap.servers is empty");
        }
        Ok(())
    }
}

fn servers(value: &str) -> Result<Vec<String>, String> {
    let list: Vec<String> = list(value);
    for server in &list {
        let valid = server
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !valid {
            return Err(format!("'{server}' is not host:port"));
        }
    }
    if list.is_empty() {
        return Err("at least one host:port is needed".to_owned());
    }
    Ok(list)
}

fn list(value: &str) -> Vec<String> {
    let parts = value.split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

fn text(value: &str) -> Result<String, String> {
    if value.len() > i16::MAX as usize {
        return Err("longer than 32767 bytes".to_owned());
    }
    Ok(value.to_owned())
}

fn optional(value: &str) -> Result<Option<String>, String> {
    Ok(Some(text(value)?).filter(|value| !value.is_empty()))
}

fn millis(value: &str) -> Result<Duration, String> {
    let millis: u32 = number(value)?;
    Ok(Duration::from_millis(u64::from(millis)))
}

fn number<T: FromStr<Err: fmt::Display>>(value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|error| format!("not a number in range ({error})"))
}

fn positive(value: &str) -> Result<usize, String> {
    match number::<u32>(value)? {
        0 => Err("must be above 0".to_owned()),
        count => Ok(count as usize),
    }
}

fn boolean(value: &str) -> Result<bool, String> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

fn plaintext(value: &str) -> Result<String, String> {
    match value.to_ascii_uppercase().as_str() {
        "PLAINTEXT" => Ok("PLAINTEXT".to_owned()),
        _ => Err("this client speaks PLAINTEXT only".to_owned()),
    }
}

fn acks(value: &str) -> Result<Acks, String> {
    match value {
        "0" => Ok(Acks::None),
        "1" => Ok(Acks::Leader),
        "all" | "-1" => Ok(Acks::All),
        _ => Err("expected 0, 1 or all".to_owned()),
    }
}

fn compression(value: &str) -> Result<Compression, String> {
    match value {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        "snappy" => Ok(Compression::Snappy),
        "lz4" => Ok(Compression::Lz4),
        "zstd" => Ok(Compression::Zstd),
        _ => Err("expected none, gzip, snappy, lz4 or zstd".to_owned()),
    }
}

fn offset_reset(value: &str) -> Result<OffsetReset, String> {
    match value {
        "earliest" => Ok(OffsetReset::Earliest),
        "latest" => Ok(OffsetReset::Latest),
        "none" => Ok(OffsetReset::None),
        _ => Err("expected earliest, latest or none".to_owned()),
    }
}

fn isolation(value: &str) -> Result<Isolation, String> {
    match value {
        "read_uncommitted" => Ok(Isolation::ReadUncommitted),
        "read_committed" => Ok(Isolation::ReadCommitted),
        _ => Err("expected read_uncommitted or read_committed".to_owned()),
    }
}

fn strategies(value: &str) -> Result<Vec<Strategy>, String> {
    let mut strategies = Vec::new();
    for name in list(value) {
        // Java users write class names; the last part says which.
        let strategy = match name.rsplit('.').next().unwrap_or_default() {
            "range" | "RangeAssignor" => Strategy::Range,
            "roundrobin" | "RoundRobinAssignor" => Strategy::RoundRobin,
            "cooperative-sticky" | "CooperativeStickyAssignor" => Strategy::CooperativeSticky,
            _ => {
                return Err(format!(
                    "'{name}': expected range, roundrobin or cooperative-sticky"
                ));
            }
        };
        strategies.push(strategy);
    }
    match strategies.is_empty() {
        true => Err("at least one assignor is needed".to_owned()),
        false => Ok(strategies),
    }
}

/// The known name with the fewest edits to `name`, unless it is quite another word.
fn nearest(name: &str) -> Option<String> {
    let name: String = name.chars().take(64).collect();
    let normal = name.replace(['_', '-'], ".").to_ascii_lowercase();
    let scored = SETTINGS.iter().map(|s| (edits(&normal, s.name), s.name));
    let (distance, found) = scored.min()?;
    (distance <= found.len() / 3).then(|| found.to_owned())
}

/// Levenshtein distance of two short texts.
pub(crate) fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}
