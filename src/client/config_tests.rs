//! Client settings: what is taken, refused and suggested.

use super::*;

#[test]
fn defaults_are_kafkas() {
    let config = ClientConfig::default();
    assert_eq!(config.acks, Acks::All);
    assert!(config.enable_idempotence);
    assert_eq!(config.linger, Duration::from_millis(5));
    assert_eq!(config.batch_size, 16384);
    assert_eq!(config.session_timeout, Duration::from_secs(45));
    assert_eq!(config.auto_offset_reset, OffsetReset::Latest);
    assert_eq!(config.check(), Ok(()));
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest_known_one() {
    let mut config = ClientConfig::default();
    let error = config.set("linger_ms", "5").expect_err("not the name");
    assert_eq!(
        error.to_string(),
        "'linger_ms' is not a client setting; did you mean 'linger.ms'?"
    );
    let error = config.set("zookeeper", "x").expect_err("no such setting");
    assert_eq!(error.to_string(), "'zookeeper' is not a client setting");
}

#[test]
fn a_bad_value_names_the_setting_and_the_reason() {
    for (name, value) in [
        ("acks", "2"),
        ("bootstrap.servers", "no-port"),
        ("bootstrap.servers", ""),
        ("linger.ms", "-1"),
        ("batch.size", "0"),
        ("security.protocol", "SSL"),
        ("partition.assignment.strategy", "mine"),
    ] {
        let error = ClientConfig::from_pairs([(name, value)]).expect_err(name);
        assert!(
            error.to_string().starts_with(&format!("{name}={value}: ")),
            "{error}"
        );
    }
}

#[test]
fn idempotence_gives_way_unless_it_was_asked_for() {
    let config = ClientConfig::from_pairs([("acks", "1")]).expect("valid");
    assert!(!config.enable_idempotence);
    let asked = ClientConfig::from_pairs([("acks", "1"), ("enable.idempotence", "true")]);
    assert!(matches!(asked, Err(ConfigError::Conflict(_))));
}

#[test]
fn java_class_names_of_assignors_are_understood() {
    let name = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
    let config =
        ClientConfig::from_pairs([("partition.assignment.strategy", name)]).expect("valid");
    assert_eq!(
        config.partition_assignment_strategy,
        [Strategy::CooperativeSticky]
    );
}

#[test]
fn a_pair_is_split_at_the_first_equals_sign() {
    assert_eq!(ClientConfig::split_pair("a=b=c"), Ok(("a", "b=c")));
    assert!(ClientConfig::split_pair("=x").is_err());
    assert!(ClientConfig::split_pair("x").is_err());
}
