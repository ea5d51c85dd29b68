//! A node's settings in force.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::cluster::{QuorumConfig, ReplicationConfig};
use super::defaults::{BrokerDefaults, ConfigError, ConfigErrors, Given, Source};
use super::describe::sounds_secret;
use super::environment::from_environment;
use super::kind::Value;
use super::listener::{self, Listener};
use super::properties::parse_properties;
use super::roles::Part;
use super::setting::{Effect, broker_setting};
use super::topic::Durability;
use crate::types::{BrokerId, Uuid};

/// Memory, in KiB, of batches on their way to the disk where nobody says: more than a disk takes
/// between two syncs, and little beside what a node has.
const QUEUED_KIB_MAX: u32 = 32 << 10;

/// A node's settings in force. Spans of time are in milliseconds.
#[derive(Clone, PartialEq, Debug)]
pub struct BrokerConfig {
    pub node_id: BrokerId,
    /// For a cluster that is being made new.
    pub cluster_id: Option<Uuid>,
    pub rack: Option<String>,
    /// Those for clients: at least one on a broker, none on a node that is only a controller.
    pub listeners: Vec<Listener>,
    /// Health checks and metrics; `None` when turned off.
    pub admin_listener: Option<AdminListener>,
    /// At least one.
    pub log_dirs: Vec<PathBuf>,
    /// 0: one per core, which only the binary knows; a broker given 0 uses one.
    pub worker_threads: usize,
    /// Threads that write and sync files; 0: as the environment has it.
    pub disk_threads: usize,
    pub recovery_threads_per_data_dir: usize,
    pub tail_cache_bytes: u64,
    pub recovery_point_interval_bytes: u64,
    pub log_format: LogFormat,
    pub log_level: String,
    pub durability: Durability,
    pub controlled_shutdown_enable: bool,
    pub metadata_snapshot_bytes: u64,
    /// Entries of the metadata log kept besides a snapshot.
    pub metadata_kept_entries: u64,
    pub network: NetworkConfig,
    pub topics: TopicDefaults,
    pub cleaner: CleanerConfig,
    pub group: GroupConfig,
    pub offsets: OffsetsConfig,
    pub quorum: QuorumConfig,
    pub replication: ReplicationConfig,
    defaults: BrokerDefaults,
}

/// Where health checks and metrics are served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdminListener {
    /// Empty: every interface.
    pub host: String,
    pub port: u16,
}

/// Form of the node's own log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    Pretty,
    Json,
}

/// Limits on connections, requests and answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkConfig {
    pub request_max_bytes: usize,
    /// `None`: left to the operating system.
    pub send_buffer_bytes: Option<usize>,
    /// `None`: left to the operating system.
    pub receive_buffer_bytes: Option<usize>,
    pub queued_max_requests: usize,
    /// Memory, in KiB, of batches that were received and are not written yet.
    pub queued_max_kib: u32,
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    /// `None`: never.
    pub connections_max_idle_ms: Option<u64>,
    pub request_timeout_ms: u64,
    pub fetch_session_cache_slots: usize,
    pub fetch_max_bytes: usize,
    pub fetch_piece_bytes: usize,
    pub max_request_partition_size_limit: usize,
}

/// What new topics are like, and the care of all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicDefaults {
    pub num_partitions: i32,
    pub replication_factor: i16,
    pub auto_create_enable: bool,
    pub delete_enable: bool,
    pub retention_check_interval_ms: u64,
    pub producer_id_expiration_ms: i64,
    pub producer_id_expiration_check_interval_ms: u64,
}

/// Compaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CleanerConfig {
    pub enable: bool,
    pub threads: usize,
    pub dedupe_buffer_bytes: u64,
    pub backoff_ms: u64,
}

/// Bounds on consumer groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupConfig {
    pub initial_rebalance_delay_ms: u64,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub max_size: usize,
}

/// Committed offsets and the topic that holds them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetsConfig {
    pub topic_partitions: i32,
    pub topic_replication_factor: i16,
    pub topic_segment_bytes: u64,
    pub commit_timeout_ms: u64,
    pub retention_ms: i64,
    pub retention_check_interval_ms: u64,
    pub metadata_max_bytes: usize,
}

/// Something an operator should know and nobody must act on. Log it once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigWarning(pub String);

/// A configuration that can be used.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    pub config: BrokerConfig,
    pub warnings: Vec<ConfigWarning>,
}

impl BrokerConfig {
    /// Settings from `overrides` (command line), `environment`, the text of a properties `file`
    /// and defaults, in this order of strength. Everything wrong is reported at once.
    pub fn load(
        file: Option<&str>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigErrors> {
        let fixed = layered(file, environment, overrides)?;
        let mut warnings = Vec::new();
        for (name, given) in &fixed {
            warnings.extend(warning(name, &given[0].source));
        }
        let (config, notes) = Self::typed(BrokerDefaults::fixed(fixed))?;
        warnings.extend(notes.into_iter().map(ConfigWarning));
        Ok(Loaded { config, warnings })
    }

    /// The same node after administrators changed `cluster` for all brokers and `broker` for this
    /// one. What cannot be used is ignored: it was checked when it was accepted.
    #[must_use]
    pub fn with_dynamic(
        &self,
        cluster: std::sync::Arc<BTreeMap<String, String>>,
        broker: std::sync::Arc<BTreeMap<String, String>>,
    ) -> Self {
        let defaults = self.defaults.with_dynamic(cluster, broker);
        match Self::typed(defaults.clone()) {
            Ok((config, _)) => config,
            Err(_) => Self {
                defaults,
                ..self.clone()
            },
        }
    }

    /// What was given for each setting: the base of topics' settings, and what can be described.
    #[must_use]
    pub fn defaults(&self) -> &BrokerDefaults {
        &self.defaults
    }

    /// The value in force for the setting `name`, given or default, with its origin.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<(&str, Source)> {
        self.defaults.effective(name)
    }

    fn typed(defaults: BrokerDefaults) -> Result<(Self, Vec<String>), ConfigErrors> {
        let mut typed = Typed {
            defaults: &defaults,
            errors: Vec::new(),
            notes: Vec::new(),
        };
        typed.check_all();
        let config = typed.config();
        let Typed { errors, notes, .. } = typed;
        match errors.is_empty() {
            true => Ok((config, notes)),
            false => Err(ConfigErrors(errors)),
        }
    }
}

/// What was given, by name, strongest first.
fn layered(
    file: Option<&str>,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, Vec<Given>>, ConfigErrors> {
    let mut layers = BTreeMap::new();
    let mut layer = |values: Vec<(String, Given)>| {
        // Within a layer the last of a name counts.
        let values: BTreeMap<String, Given> = values.into_iter().collect();
        for (name, given) in values {
            layers.entry(name).or_insert_with(Vec::new).push(given);
        }
    };
    let flag = |value| Given {
        value,
        source: Source::Flag,
    };
    layer(
        overrides
            .into_iter()
            .map(|(name, value)| (name, flag(value)))
            .collect(),
    );
    // In the order of their names, so that the outcome does not depend on the system's.
    let environment: BTreeMap<String, String> = environment.into_iter().collect();
    let mut variables = Vec::new();
    for (variable, value) in environment {
        if let Some(name) = from_environment(&variable) {
            let source = Source::Environment { variable };
            variables.push((name, Given { value, source }));
        }
    }
    layer(variables);
    let properties = parse_properties(file.unwrap_or_default()).map_err(|errors| {
        let unreadable = |error: super::PropertiesError| ConfigError {
            name: String::new(),
            value: String::new(),
            source: Source::File { line: error.line },
            reason: error.reason,
            fix: "correct the line".to_owned(),
        };
        ConfigErrors(errors.into_iter().map(unreadable).collect())
    })?;
    let given = |one: super::Property| {
        let source = Source::File { line: one.line };
        (
            one.name,
            Given {
                value: one.value,
                source,
            },
        )
    };
    layer(properties.into_iter().map(given).collect());
    Ok(layers)
}

/// At least one KiB: a batch that is larger than what may wait is let through alone.
fn queued_kib(bytes: u64) -> u32 {
    let most = u32::MAX >> 4;
    u32::try_from(bytes.div_ceil(1024)).map_or(most, |kib| kib.clamp(1, most))
}

fn warning(name: &str, source: &Source) -> Option<ConfigWarning> {
    let text = match broker_setting(name).map(|setting| setting.effect) {
        None => format!("{name} ({source}) is not a known setting; it has no effect"),
        Some(Effect::NotYet) => {
            format!("{name} ({source}) is accepted and has no effect in this version")
        }
        Some(Effect::Works | Effect::Silent) => return None,
    };
    Some(ConfigWarning(text))
}

/// Reads values in their types, keeping what is wrong instead of stopping at it.
pub(super) struct Typed<'a> {
    defaults: &'a BrokerDefaults,
    errors: Vec<ConfigError>,
    notes: Vec<String>,
}

impl Typed<'_> {
    /// Notes every value that is not of its setting's type.
    fn check_all(&mut self) {
        for name in self.defaults.names() {
            let Some((value, _)) = self.defaults.given(name) else {
                continue;
            };
            let Some(setting) = broker_setting(name) else {
                continue;
            };
            if let Err(error) = setting.kind.parse(value) {
                self.refuse(name, &error.reason, &error.fix);
            }
        }
    }

    pub(super) fn refuse(&mut self, name: &str, reason: &str, fix: &str) {
        let (value, source) = self
            .defaults
            .effective(name)
            .unwrap_or(("", Source::Default));
        let secret = broker_setting(name).map_or_else(
            || sounds_secret(name),
            |setting| setting.kind.is_sensitive(),
        );
        self.errors.push(ConfigError {
            name: name.to_owned(),
            value: if secret {
                "***".to_owned()
            } else {
                value.to_owned()
            },
            source,
            reason: reason.to_owned(),
            fix: fix.to_owned(),
        });
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Where the value of `name` was given, if it was.
    pub(super) fn source(&self, name: &str) -> Option<Source> {
        self.defaults.given(name).map(|(_, source)| source)
    }

    /// The value in force; the default in place of a malformed one, which `check_all` noted.
    fn value(&self, name: &str) -> Option<Value> {
        let setting = broker_setting(name)?;
        let given = self
            .defaults
            .given(name)
            .and_then(|(value, _)| setting.kind.parse(value).ok());
        given.or_else(|| setting.kind.parse(setting.default?).ok())
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::List(elements)) => elements,
            _ => Vec::new(),
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.value(name) {
            Some(Value::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    pub(super) fn boolean(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Boolean(true)))
    }

    /// A number in any type that holds it; the type's zero when it does not fit, which the
    /// setting's bounds rule out.
    pub(super) fn number<T: TryFrom<i64> + Default>(&self, name: &str) -> T {
        let number = self
            .value(name)
            .and_then(|value| value.integer())
            .unwrap_or(0);
        T::try_from(number).unwrap_or_default()
    }

    /// A number of which negative ones mean "none".
    fn limit<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        let number = self.value(name)?.integer()?;
        (number >= 0).then(|| T::try_from(number).ok()).flatten()
    }

    fn config(&mut self) -> BrokerConfig {
        let part = Part::of(self);
        let listeners = listener::listeners(self, &part);
        BrokerConfig {
            node_id: self.node_id(),
            cluster_id: self.cluster_id(),
            rack: self.text("broker.rack"),
            quorum: self.quorum(part, &listeners),
            listeners: listeners.clients,
            admin_listener: self.admin_listener(),
            log_dirs: self.log_dirs(),
            worker_threads: self.number("klamm.worker.threads"),
            disk_threads: self.number("klamm.disk.threads"),
            recovery_threads_per_data_dir: self.number("num.recovery.threads.per.data.dir"),
            tail_cache_bytes: self.number("klamm.tail.cache.bytes"),
            recovery_point_interval_bytes: self.number("klamm.log.recovery.point.interval.bytes"),
            log_format: match self.text("klamm.log.format").as_deref() {
                Some("json") => LogFormat::Json,
                _ => LogFormat::Pretty,
            },
            log_level: self
                .text("klamm.log.level")
                .unwrap_or_else(|| "info".to_owned()),
            durability: match self.text("klamm.durability").as_deref() {
                Some("replicated") => Durability::Replicated,
                _ => Durability::Fsync,
            },
            controlled_shutdown_enable: self.boolean("controlled.shutdown.enable"),
            metadata_snapshot_bytes: self.number("metadata.log.max.record.bytes.between.snapshots"),
            metadata_kept_entries: self.number("klamm.metadata.log.kept.entries"),
            network: self.network(),
            topics: self.topics(),
            cleaner: CleanerConfig {
                enable: self.boolean("log.cleaner.enable"),
                threads: self.number("log.cleaner.threads"),
                dedupe_buffer_bytes: self.number("log.cleaner.dedupe.buffer.size"),
                backoff_ms: self.number("log.cleaner.backoff.ms"),
            },
            group: self.group(),
            offsets: self.offsets(),
            replication: self.replication(),
            defaults: self.defaults.clone(),
        }
    }

    fn network(&self) -> NetworkConfig {
        NetworkConfig {
            request_max_bytes: self.number("socket.request.max.bytes"),
            send_buffer_bytes: self.limit("socket.send.buffer.bytes"),
            receive_buffer_bytes: self.limit("socket.receive.buffer.bytes"),
            queued_max_requests: self.number("queued.max.requests"),
            queued_max_kib: self
                .limit("queued.max.request.bytes")
                .map_or(QUEUED_KIB_MAX, queued_kib),
            max_connections: self.number("max.connections"),
            max_connections_per_ip: self.number("max.connections.per.ip"),
            connections_max_idle_ms: self.limit("connections.max.idle.ms"),
            request_timeout_ms: self.number("request.timeout.ms"),
            fetch_session_cache_slots: self.number("max.incremental.fetch.session.cache.slots"),
            fetch_max_bytes: self.number("fetch.max.bytes"),
            fetch_piece_bytes: self.number("klamm.fetch.piece.bytes"),
            max_request_partition_size_limit: self.number("max.request.partition.size.limit"),
        }
    }

    fn topics(&self) -> TopicDefaults {
        TopicDefaults {
            num_partitions: self.number("num.partitions"),
            replication_factor: self.number("default.replication.factor"),
            auto_create_enable: self.boolean("auto.create.topics.enable"),
            delete_enable: self.boolean("delete.topic.enable"),
            retention_check_interval_ms: self.number("log.retention.check.interval.ms"),
            producer_id_expiration_ms: self.number("producer.id.expiration.ms"),
            producer_id_expiration_check_interval_ms: self
                .number("producer.id.expiration.check.interval.ms"),
        }
    }

    fn group(&mut self) -> GroupConfig {
        let min_session_timeout_ms = self.number("group.min.session.timeout.ms");
        let max_session_timeout_ms = self.number("group.max.session.timeout.ms");
        if min_session_timeout_ms > max_session_timeout_ms {
            self.refuse(
                "group.min.session.timeout.ms",
                &format!("it exceeds group.max.session.timeout.ms ({max_session_timeout_ms})"),
                "lower it or raise the other",
            );
        }
        GroupConfig {
            initial_rebalance_delay_ms: self.number("group.initial.rebalance.delay.ms"),
            min_session_timeout_ms,
            max_session_timeout_ms,
            max_size: self.number("group.max.size"),
        }
    }

    fn offsets(&self) -> OffsetsConfig {
        OffsetsConfig {
            topic_partitions: self.number("offsets.topic.num.partitions"),
            topic_replication_factor: self.number("offsets.topic.replication.factor"),
            topic_segment_bytes: self.number("offsets.topic.segment.bytes"),
            commit_timeout_ms: self.number("offsets.commit.timeout.ms"),
            retention_ms: self.number::<i64>("offsets.retention.minutes") * 60_000,
            retention_check_interval_ms: self.number("offsets.retention.check.interval.ms"),
            metadata_max_bytes: self.number("offset.metadata.max.bytes"),
        }
    }

    pub(super) fn node_id(&self) -> BrokerId {
        let older: i32 = self.number("broker.id");
        let given = self.source("node.id").is_some();
        match !given && self.source("broker.id").is_some() && older >= 0 {
            true => BrokerId(older),
            false => BrokerId(self.number("node.id")),
        }
    }

    fn cluster_id(&mut self) -> Option<Uuid> {
        let text = self.text("cluster.id")?;
        match text.parse() {
            Ok(id) => Some(id),
            Err(_) => {
                let reason = "it is not 22 characters of URL-safe base64";
                self.refuse("cluster.id", reason, "leave it out to have one made");
                None
            }
        }
    }

    fn admin_listener(&mut self) -> Option<AdminListener> {
        let text = self.text("klamm.admin.listener")?;
        match listener::host_and_port(&text) {
            Ok((host, port)) => Some(AdminListener { host, port }),
            Err(reason) => {
                let fix = "write host:port, :port for every interface, or nothing to turn it off";
                self.refuse("klamm.admin.listener", &reason, fix);
                None
            }
        }
    }

    fn log_dirs(&mut self) -> Vec<PathBuf> {
        let dirs = self.list("log.dirs");
        match dirs.is_empty() {
            false => dirs.into_iter().map(PathBuf::from).collect(),
            true => self
                .text("log.dir")
                .into_iter()
                .map(PathBuf::from)
                .collect(),
        }
    }
}
