//! Kafka's rules for topic names.

use super::request::Refusal;
use crate::types::ErrorCode;

/// Topics that hold the state of coordinators: made by the node itself.
pub const INTERNAL_TOPICS: &[&str] = &[
    "__consumer_offsets",
    "__transaction_state",
    "__share_group_state",
];

/// The directory name of the metadata log; no topic may have it.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// So that `<name>-<partition>` fits a file name.
const LENGTH_MAX: usize = 249;

/// Whether clients are told that the topic is internal.
#[must_use]
pub fn is_internal_topic(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name)
}

/// Whether a topic may have this name, by itself.
pub fn validate_topic_name(name: &str) -> Result<(), Refusal> {
    let refuse = |text: String| Err(Refusal::new(ErrorCode::InvalidTopicException, text));
    if name.is_empty() {
        return refuse("Topic name is invalid: it is empty; give it a name".to_owned());
    }
    if name == "." || name == ".." {
        return refuse(format!(
            "Topic name '{name}' is invalid: a name is not only dots"
        ));
    }
    if name.len() > LENGTH_MAX {
        return refuse(format!(
            "Topic name is invalid: it has {} characters and may have {LENGTH_MAX}",
            name.chars().count()
        ));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
        return refuse(format!(
            "Topic name '{name}' is invalid: {bad:?} is not allowed; use ASCII letters, digits, \
             '.', '_' and '-'"
        ));
    }
    if name == METADATA_TOPIC {
        return refuse(format!(
            "Topic name '{name}' is reserved for the cluster's metadata"
        ));
    }
    Ok(())
}

/// What two names must not share: metrics of old spelled '.' as '_'.
pub(super) fn collision_key(name: &str) -> String {
    name.replace('.', "_")
}
