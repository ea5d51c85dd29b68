//! Settings from environment variables, named as Kafka's container image names them.

use super::setting::broker_setting;

/// Variables that begin with `KAFKA_` and are no settings: they steer a Java process.
const NOT_SETTINGS: &[&str] = &[
    "KAFKA_VERSION",
    "KAFKA_HEAP_OPTS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_OPTS",
    "KAFKA_JMX_OPTS",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
    "KAFKA_JMX_HOSTNAME",
    "KAFKA_JMX_PORT",
];

/// The setting that variable `name` gives, if it gives one.
///
/// `KAFKA_` is taken off, the rest put in lower case, then `_` becomes `.`, then `...` becomes `-`,
/// then `..` becomes `_`: so `__` spells `_` and `___` spells `-`. Beyond that, `CLUSTER_ID` is
/// `cluster.id`, `KAFKA_LOG4J_ROOT_LOGLEVEL` is `klamm.log.level`, and `KLAMM_X_Y` is the setting
/// `klamm.x.y` if there is one.
#[must_use]
pub fn from_environment(name: &str) -> Option<String> {
    match name {
        "CLUSTER_ID" => return Some("cluster.id".to_owned()),
        "KAFKA_LOG4J_ROOT_LOGLEVEL" => return Some("klamm.log.level".to_owned()),
        _ if NOT_SETTINGS.contains(&name) => return None,
        _ => {}
    }
    if name.starts_with("KLAMM_") {
        let key = spelled(name);
        return broker_setting(&key).map(|setting| setting.name.to_owned());
    }
    let rest = name.strip_prefix("KAFKA_")?;
    (!rest.is_empty()).then(|| spelled(rest))
}

fn spelled(variable: &str) -> String {
    variable
        .to_ascii_lowercase()
        .replace('_', ".")
        .replace("...", "-")
        .replace("..", "_")
}
