//! Settings: the table, texts, layers, listeners, topics, descriptions, data directories.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::types::{BrokerId, Uuid};

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = pairs
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    owned.collect()
}

fn map(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs(values).into_iter().collect()
}

fn loaded(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Loaded {
    BrokerConfig::load(Some(file), pairs(environment), pairs(flags)).unwrap()
}

fn errors(file: &str) -> Vec<ConfigError> {
    BrokerConfig::load(Some(file), Vec::new(), Vec::new())
        .unwrap_err()
        .0
}

/// The properties file that Apache Kafka 4 ships, without its comments.
const STOCK: &str = "\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,\
SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";

#[test]
fn every_default_is_a_value_of_its_setting() {
    for setting in broker_settings().chain(topic_settings()) {
        if let Some(default) = setting.default {
            assert!(
                setting.kind.parse(default).is_ok(),
                "{}={default}",
                setting.name
            );
        }
        assert!(
            setting.doc.ends_with('.'),
            "{}: {}",
            setting.name,
            setting.doc
        );
    }
}

#[test]
fn every_setting_is_listed_once() {
    let mut broker: Vec<_> = broker_settings().map(|setting| setting.name).collect();
    let total = broker.len();
    broker.sort_unstable();
    broker.dedup();
    assert_eq!(broker.len(), total);
    for topic in topic_settings() {
        for synonym in topic.synonyms {
            assert!(
                broker.contains(&synonym.name),
                "{} -> {}",
                topic.name,
                synonym.name
            );
        }
    }
}

/// Otherwise a broker that says nothing would give topics something else than the table says.
#[test]
fn a_topic_default_is_that_of_its_weakest_synonym() {
    for topic in topic_settings() {
        let Some(weakest) = topic.synonyms.last() else {
            continue;
        };
        let broker = broker_setting(weakest.name).unwrap().default.unwrap();
        let broker = match broker.parse::<i64>() {
            Ok(number) if weakest.factor != 1 => (number * weakest.factor).to_string(),
            _ => broker.to_owned(),
        };
        assert_eq!(topic.default, Some(broker.as_str()), "{}", topic.name);
    }
}

#[test]
fn a_node_without_any_setting_runs() {
    let Loaded { config, warnings } = loaded("", &[], &[]);
    assert_eq!(warnings, []);
    assert_eq!(config.node_id, BrokerId(1));
    let listener = Listener {
        name: "PLAINTEXT".to_owned(),
        host: String::new(),
        port: 9092,
        advertised: Advertised::Echo { port: 9092 },
    };
    assert_eq!(config.listeners, [listener]);
    assert_eq!(
        config.admin_listener,
        Some(AdminListener {
            host: String::new(),
            port: 9644
        })
    );
    assert_eq!(config.log_dirs, [std::path::PathBuf::from("klamm-data")]);
    assert_eq!(config.durability, Durability::Fsync);
    assert_eq!(config.network.connections_max_idle_ms, Some(600_000));
    assert_eq!(config.offsets.retention_ms, 7 * 24 * 3600 * 1000);
}

#[test]
fn the_stock_kraft_file_is_accepted_unmodified() {
    let Loaded { config, warnings } = loaded(STOCK, &[], &[]);
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(
        config.listeners[0].advertised,
        Advertised::Fixed {
            host: "localhost".to_owned(),
            port: 9092
        }
    );
    assert_eq!(config.recovery_threads_per_data_dir, 1);
    assert!(
        warnings
            .iter()
            .all(|warning| !warning.0.contains("not a known setting"))
    );
}

#[test]
fn properties_are_read_as_java_reads_them() {
    let text = "# comment \\\n! another\n\n  a = 1\nb:2\nc 3\nd\\ e = f\\=g\nlong = one,\\\n   \
                two,\\\n   three\nempty=\nnothing\ntab=x\\ty\nsnow=\\u2603\npair=\\ud83d\\ude00\n\
                back=c:\\\\dir\\\\\nspaced =  kept at end \nk\\:ey==v\r\nlast=1\rlast=2";
    let read: BTreeMap<String, String> = parse_properties(text)
        .unwrap()
        .into_iter()
        .map(|one| (one.name, one.value))
        .collect();
    let wanted = map(&[
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
        ("d e", "f=g"),
        ("long", "one,two,three"),
        ("empty", ""),
        ("nothing", ""),
        ("tab", "x\ty"),
        ("snow", "☃"),
        ("pair", "😀"),
        ("back", "c:\\dir\\"),
        ("spaced", "kept at end "),
        ("k:ey", "=v"),
        ("last", "2"),
    ]);
    assert_eq!(read, wanted);
}

#[test]
fn a_wrong_escape_is_named_with_its_line() {
    let errors = parse_properties("a=1\npath=C:\\users\nb=\\ud83d\n").unwrap_err();
    assert_eq!(
        errors.iter().map(|error| error.line).collect::<Vec<_>>(),
        [2, 3]
    );
    assert!(errors[0].reason.contains("\\users"), "{}", errors[0].reason);
    let error = BrokerConfig::load(Some("x=\\u12"), Vec::new(), Vec::new()).unwrap_err();
    assert!(error.to_string().contains("line 1 of the file"), "{error}");
}

#[test]
fn a_continued_line_counts_from_its_first_line() {
    let read = parse_properties("\na=1\\\n 2\nb=3").unwrap();
    assert_eq!(read.iter().map(|one| one.line).collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn environment_variables_are_spelled_as_in_kafkas_image() {
    let cases = [
        ("KAFKA_NODE_ID", Some("node.id")),
        (
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE",
            Some("auto.create.topics.enable"),
        ),
        ("KAFKA_A__B", Some("a_b")),
        ("KAFKA_A___B", Some("a-b")),
        ("KAFKA_A____B", Some("a-.b")),
        ("KAFKA_HEAP_OPTS", None),
        ("KAFKA_LOG4J_LOGGERS", None),
        ("KAFKA_LOG4J_ROOT_LOGLEVEL", Some("klamm.log.level")),
        ("CLUSTER_ID", Some("cluster.id")),
        ("KAFKA_KLAMM_DURABILITY", Some("klamm.durability")),
        ("KLAMM_TAIL_CACHE_BYTES", Some("klamm.tail.cache.bytes")),
        ("KLAMM_SOMETHING", None),
        ("PATH", None),
        ("KAFKA_", None),
    ];
    for (variable, setting) in cases {
        assert_eq!(from_environment(variable).as_deref(), setting, "{variable}");
    }
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let file = "num.partitions=2\nlog.segment.bytes=20000\nfetch.max.bytes=3000";
    let environment = [
        ("KAFKA_NUM_PARTITIONS", "3"),
        ("KAFKA_LOG_SEGMENT_BYTES", "30000"),
    ];
    let Loaded { config, .. } = loaded(file, &environment, &[("num.partitions", "4")]);
    assert_eq!(config.raw("num.partitions"), Some(("4", Source::Flag)));
    assert_eq!(config.topics.num_partitions, 4);
    let variable = "KAFKA_LOG_SEGMENT_BYTES".to_owned();
    assert_eq!(
        config.raw("log.segment.bytes"),
        Some(("30000", Source::Environment { variable }))
    );
    assert_eq!(
        config.raw("fetch.max.bytes"),
        Some(("3000", Source::File { line: 3 }))
    );
    assert_eq!(config.raw("group.max.size").unwrap().1, Source::Default);
    let explained = config.defaults().explain("num.partitions").unwrap();
    assert_eq!(explained.value.as_deref(), Some("4"));
    assert_eq!(explained.hidden.len(), 2);
    assert_eq!(explained.default, Some("1"));
}

#[test]
fn every_bad_value_is_reported_at_once_with_its_origin_and_the_fix() {
    let file = "num.partitions=many\nlog.cleanup.policy=erase\nlisteners=SSL://:9092\n\
                advertised.listeners=SSL://0.0.0.0:9092";
    let flags = pairs(&[("message.max.bytes", "-5")]);
    let environment = pairs(&[("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "yes")]);
    let error = BrokerConfig::load(Some(file), environment, flags).unwrap_err();
    let text = error.to_string();
    for part in [
        "num.partitions=many (line 1 of the file): it is not a whole number; give a whole number",
        "log.cleanup.policy=erase (line 2 of the file): 'erase' is none",
        "message.max.bytes=-5 (command line): it is too small",
        "(environment variable KAFKA_AUTO_CREATE_TOPICS_ENABLE): it is neither true nor false",
        "listener SSL asks for SSL, which this version does not speak",
        "no client can connect to the address '0.0.0.0'",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn listeners_that_cannot_work_are_refused() {
    let cases = [
        ("listeners=9092", "not of the form"),
        ("listeners=PLAINTEXT://:99999", "not a port"),
        ("listeners=PLAINTEXT://host", "has no port"),
        ("listeners=PLAINTEXT://::1:9092", "needs brackets"),
        ("listeners=PLAINTEXT://:1,PLAINTEXT://:2", "given twice"),
        ("listeners=INTERNAL://:9092", "has no security protocol"),
        ("listeners=", "no listener for clients is left"),
        (
            "listeners=C://:9093\ncontroller.listener.names=C",
            "no listener for clients is left",
        ),
        (
            "advertised.listeners=OUTSIDE://host:9092",
            "no listener named OUTSIDE",
        ),
        (
            "advertised.listeners=PLAINTEXT://:9092",
            "no client can connect to the address ''",
        ),
        ("advertised.listeners=PLAINTEXT://host:0", "port 0"),
        ("klamm.admin.listener=9644", "has no port"),
        ("process.roles=controller", "needs others"),
        ("cluster.id=abc", "22 characters"),
        (
            "group.min.session.timeout.ms=2000000",
            "exceeds group.max.session.timeout.ms",
        ),
        (
            "listeners=A://:1,B://:1\nlistener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT",
            "port 1 is used by two",
        ),
    ];
    for (file, wanted) in cases {
        let errors = errors(file);
        let found = errors
            .iter()
            .any(|error| error.to_string().contains(wanted));
        assert!(found, "{file}: {errors:?}");
    }
}

#[test]
fn named_listeners_have_their_own_advertised_address() {
    let file = "listeners=INTERNAL://[::1]:19092,EXTERNAL://0.0.0.0:0\n\
                listener.security.protocol.map=INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT";
    let listeners = loaded(file, &[], &[]).config.listeners;
    assert_eq!(
        listeners[0].advertised,
        Advertised::Fixed {
            host: "::1".to_owned(),
            port: 19092
        }
    );
    assert_eq!(listeners[1].advertised, Advertised::Echo { port: 0 });
}

#[test]
fn a_container_that_only_advertises_listens_on_the_same_ports() {
    let environment = [("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://broker:29092")];
    let listeners = loaded("", &environment, &[]).config.listeners;
    assert_eq!((listeners[0].host.as_str(), listeners[0].port), ("", 29092));
    let Advertised::Fixed { host, port } = &listeners[0].advertised else {
        panic!()
    };
    assert_eq!((host.as_str(), *port), ("broker", 29092));
}

#[test]
fn an_unknown_setting_warns_once_and_stays_visible() {
    let environment = [("KAFKA_MY_THING", "1")];
    let Loaded { config, warnings } = loaded(
        "my.thing=2\nmy.password=x\ndelegation.token.secret.key=s",
        &environment,
        &[],
    );
    let about = |name: &str| warnings.iter().filter(|one| one.0.contains(name)).count();
    assert_eq!((about("my.thing"), about("my.password")), (1, 1));
    let entries = describe_broker(config.defaults(), None);
    let find = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap();
    assert_eq!(find("my.thing").value.as_deref(), Some("1"));
    for secret in ["my.password", "delegation.token.secret.key"] {
        let entry = find(secret);
        assert!(entry.sensitive && entry.value.is_none());
        assert!(entry.synonyms.iter().all(|synonym| synonym.value.is_none()));
    }
}

#[test]
fn the_older_name_of_the_node_id_still_counts() {
    assert_eq!(loaded("broker.id=7", &[], &[]).config.node_id, BrokerId(7));
    assert_eq!(
        loaded("broker.id=7\nnode.id=8", &[], &[]).config.node_id,
        BrokerId(8)
    );
}

#[test]
fn the_finer_unit_of_retention_wins() {
    let cases = [
        ("", Some(168 * 3_600_000)),
        ("log.retention.hours=1", Some(3_600_000)),
        (
            "log.retention.hours=1\nlog.retention.minutes=2",
            Some(120_000),
        ),
        (
            "log.retention.hours=1\nlog.retention.minutes=2\nlog.retention.ms=3",
            Some(3),
        ),
        ("log.retention.hours=-1", None),
    ];
    for (file, wanted) in cases {
        let config = loaded(file, &[], &[]).config;
        let topic = TopicConfig::resolve(config.defaults(), &BTreeMap::new()).unwrap();
        assert_eq!(topic.retention_ms, wanted, "{file}");
    }
    let config = loaded("log.roll.hours=1", &[], &[]).config;
    let topic = TopicConfig::resolve(config.defaults(), &map(&[("segment.ms", "5")])).unwrap();
    assert_eq!(topic.segment_ms, 5);
}

#[test]
fn a_topic_without_settings_has_kafkas_defaults() {
    let topic = TopicConfig::resolve(&BrokerDefaults::default(), &BTreeMap::new()).unwrap();
    assert_eq!(
        topic.cleanup,
        Cleanup {
            delete: true,
            compact: false
        }
    );
    assert_eq!(topic.compression, Compression::Producer);
    assert_eq!(topic.max_message_bytes, 1_048_588);
    assert_eq!(topic.segment_bytes, 1 << 30);
    assert_eq!(topic.retention_bytes, None);
    assert_eq!(topic.message_timestamp_after_max_ms, 3_600_000);
    assert_eq!(topic.flush_ms, i64::MAX);
    assert_eq!(topic.min_insync_replicas, 1);
    assert_eq!(topic.durability, Durability::Fsync);
    assert!((topic.min_cleanable_dirty_ratio - 0.5).abs() < f64::EPSILON);
}

#[test]
fn topic_settings_that_cannot_be_are_refused_by_name() {
    let defaults = BrokerDefaults::default();
    let cases = [
        (
            &[("retention.hours", "1")][..],
            "Unknown topic config name: retention.hours",
        ),
        (&[("retention.ms", "soon")], "retention.ms"),
        (&[("cleanup.policy", "delete,delete")], "appears twice"),
        (&[("cleanup.policy", "delete,")], "empty element"),
        (&[("min.insync.replicas", "0")], "too small"),
        (&[("segment.bytes", "1")], "too small"),
        (&[("min.cleanable.dirty.ratio", "1.5")], "out of range"),
        (&[("min.cleanable.dirty.ratio", "NaN")], "out of range"),
        (
            &[("compression.type", "brotli")],
            "none of the possible values",
        ),
        (&[("klamm.durability", "maybe")], "one of fsync, replicated"),
        (
            &[
                ("min.compaction.lag.ms", "10"),
                ("max.compaction.lag.ms", "5"),
            ],
            "larger than max.compaction.lag.ms",
        ),
    ];
    for (overrides, wanted) in cases {
        let error = TopicConfig::resolve(&defaults, &map(overrides)).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
    assert!(validate_topic_value("cleanup.policy", "").is_ok());
    assert!(validate_topic_value("nope", "1").is_err());
}

#[test]
fn describing_a_topic_shows_the_whole_chain() {
    let config = loaded("log.retention.hours=24", &[], &[]).config;
    let cluster = Arc::new(map(&[("log.retention.ms", "1000")]));
    let broker = Arc::new(map(&[("log.retention.ms", "2000")]));
    let defaults = config.defaults().with_dynamic(cluster, broker);
    let overrides = map(&[("retention.ms", "3000")]);
    let entries = describe_topic(&defaults, &overrides, Some(&["retention.ms", "nope"]));
    assert_eq!(entries.len(), 1);
    let entry = &entries[0];
    assert_eq!(
        (entry.value.as_deref(), entry.source),
        (Some("3000"), ConfigSource::Topic)
    );
    let chain: Vec<_> = entry
        .synonyms
        .iter()
        .map(|one| (one.name.as_str(), one.value.as_deref().unwrap(), one.source))
        .collect();
    let wanted = [
        ("retention.ms", "3000", ConfigSource::Topic),
        ("log.retention.ms", "2000", ConfigSource::DynamicBroker),
        (
            "log.retention.ms",
            "1000",
            ConfigSource::DynamicDefaultBroker,
        ),
        ("log.retention.hours", "24", ConfigSource::StaticBroker),
        ("log.retention.hours", "168", ConfigSource::Default),
    ];
    assert_eq!(chain, wanted);
    let inherited = describe_topic(config.defaults(), &map(&[]), Some(&["retention.ms"]));
    assert_eq!(inherited[0].value.as_deref(), Some("86400000"));
    assert_eq!(inherited[0].source, ConfigSource::StaticBroker);
    let all = describe_topic(&defaults, &map(&[]), None);
    assert_eq!(all.len(), topic_settings().count());
    assert!(all.is_sorted_by(|a, b| a.name < b.name));
}

#[test]
fn a_dynamic_change_reaches_the_typed_settings() {
    let config = loaded("log.cleaner.threads=2", &[], &[]).config;
    let changed = config.with_dynamic(
        Arc::new(map(&[("log.cleaner.threads", "5")])),
        Arc::default(),
    );
    assert_eq!((config.cleaner.threads, changed.cleaner.threads), (2, 5));
    let entry = &describe_broker(changed.defaults(), Some(&["log.cleaner.threads"]))[0];
    assert_eq!(entry.source, ConfigSource::DynamicDefaultBroker);
    assert!(!entry.read_only);
    assert_eq!(entry.synonyms.len(), 3);
}

fn entry(name: &str) -> DirEntryKind<'_> {
    DirEntryKind { name, is_dir: true }
}

#[test]
fn a_data_directory_is_taken_only_when_empty_or_ours() {
    let meta = MetaProperties {
        cluster_id: Uuid::from_random([1; 16]),
        node_id: BrokerId(3),
        directory_id: Uuid::from_random([2; 16]),
        membership: Membership::Alone,
    };
    let text = meta.to_string();
    assert_eq!(check_log_dir(&[], None), Ok(DirState::Empty));
    assert_eq!(
        check_log_dir(&[entry("lost+found")], None),
        Ok(DirState::Empty)
    );
    assert_eq!(
        check_log_dir(&[entry("a-0")], Some(&text)),
        Ok(DirState::Ours(meta.clone()))
    );
    let foreign = check_log_dir(&[entry("a-0")], None).unwrap_err();
    assert!(foreign.to_string().contains("'a-0'"), "{foreign}");
    let kafka = "#\nversion=1\ncluster.id=5L6g3nShT-eMCtK--X86sw\nnode.id=1\n\
                 directory.id=5L6g3nShT-eMCtK--X86sw\n";
    assert_eq!(
        check_log_dir(&[], Some(kafka)),
        Err(LogDirError::ApacheKafka)
    );
    assert!(matches!(
        check_log_dir(&[], Some("")),
        Err(LogDirError::Unreadable { .. })
    ));
    for broken in ["node.id=3", "cluster.id", "directory.id"] {
        let cut: String = text
            .lines()
            .filter(|line| !line.contains(broken))
            .collect::<Vec<_>>()
            .join("\n");
        assert!(check_log_dir(&[], Some(&cut)).is_err(), "{broken}");
    }
    let newer = text.replace("klamm.format=1", "klamm.format=2");
    assert_eq!(
        check_log_dir(&[], Some(&newer)),
        Err(LogDirError::Newer("2".to_owned()))
    );
    assert_eq!(meta.validate(None, BrokerId(3)), Ok(()));
    assert!(
        meta.validate(Some(Uuid::from_random([9; 16])), BrokerId(3))
            .is_err()
    );
    assert!(meta.validate(None, BrokerId(4)).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_the_properties_parser_fail_otherwise_than_by_an_error(text in ".{0,200}") {
        let _ = parse_properties(&text);
    }

    #[test]
    fn no_settings_make_loading_fail_otherwise_than_by_an_error(
        file in "[a-z.=:/,0-9\\\\\n]{0,200}",
        listeners in "[A-Z:/\\[\\],.0-9]{0,40}",
    ) {
        let flags = pairs(&[("listeners", &listeners), ("advertised.listeners", &listeners)]);
        let _ = BrokerConfig::load(Some(&file), Vec::new(), flags);
    }

    #[test]
    fn an_escaped_value_survives_the_properties_file(value in "[ -~é☃😀]{1,40}") {
        let mut escaped = String::new();
        for unit in value.encode_utf16() {
            escaped.push_str(&format!("\\u{unit:04x}"));
        }
        let read = parse_properties(&format!("name={escaped}")).unwrap();
        prop_assert_eq!(&read[0].value, &value);
    }
}
