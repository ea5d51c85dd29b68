//! The names that MirrorMaker 2 gives to topics, so that what was built around it finds its way
//! here (KIP-382, KIP-690, KIP-716).

use serde::{Deserialize, Serialize};

const HEARTBEATS: &str = "heartbeats";

/// Longest text between an alias and a name.
const SEPARATOR_LENGTH_MAX: usize = 16;

/// How the mirrors of topics are named, as `replication.policy.class` says there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[repr(u8)]
pub enum ReplicationPolicy {
    /// `DefaultReplicationPolicy`: the source's alias, the separator, and the name there.
    #[default]
    Default = 0,
    /// `IdentityReplicationPolicy`: the name that it has there; but for heartbeats.
    Identity = 1,
}

impl ReplicationPolicy {
    #[must_use]
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Default),
            1 => Some(Self::Identity),
            _ => None,
        }
    }

    /// Its name for people and in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Identity => "identity",
        }
    }
}

/// What a link of that mode is told beyond others. The source's alias is the name of the link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MirrorMaker {
    pub policy: ReplicationPolicy,
    /// `replication.policy.separator`.
    pub separator: String,
    /// What this cluster is called: the target's alias.
    pub alias: String,
    /// Whether heartbeats are written to the source too, from where they come back as a mirror:
    /// the only thing that a link ever writes there.
    pub source_heartbeats: bool,
}

impl MirrorMaker {
    /// What is wrong with it, for a link of that name.
    pub(in crate::controller) fn check(&self, link: &str) -> Result<(), String> {
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let length = self.separator.len();
        if length == 0 || length > SEPARATOR_LENGTH_MAX || !self.separator.bytes().all(is_of_name) {
            return Err(format!(
                "'{}' cannot stand between an alias and a topic's name: give 1 to \
                 {SEPARATOR_LENGTH_MAX} of the characters that names of topics have, such as '.'",
                self.separator.escape_debug()
            ));
        }
        super::validate_link_name(&self.alias)
            .map_err(|refusal| format!("this cluster's alias is not good: {}", refusal.text))?;
        if self.alias == link {
            return Err(format!(
                "'{link}' is the link's name, by which the source is known, and this cluster's \
                 alias; give them different ones"
            ));
        }
        Ok(())
    }

    /// What the source's `topic` is called here, where the source is called `source`.
    #[must_use]
    pub fn remote_topic(&self, source: &str, topic: &str) -> String {
        match self.policy {
            ReplicationPolicy::Identity if !self.is_heartbeats(topic) => topic.to_owned(),
            _ => [source, &self.separator, topic].concat(),
        }
    }

    /// Whether it is the topic of heartbeats of some cluster. These are always copied.
    #[must_use]
    pub fn is_heartbeats(&self, topic: &str) -> bool {
        topic
            .strip_suffix(HEARTBEATS)
            .is_some_and(|source| source.is_empty() || source.ends_with(&self.separator))
    }

    /// Whether it is one that brokers, connectors or links keep for themselves.
    #[must_use]
    pub fn is_internal(&self, topic: &str) -> bool {
        let marked = |mark: &str| {
            let rest = topic.strip_suffix("internal");
            rest.is_some_and(|rest| rest.ends_with(mark))
        };
        topic.starts_with("__")
            || topic.starts_with('.')
            || [".", "-", &self.separator].into_iter().any(marked)
    }

    /// Whether its name says that it has come through this cluster.
    #[must_use]
    pub fn is_cycle(&self, topic: &str) -> bool {
        let mut rest = topic;
        if self.policy == ReplicationPolicy::Identity && !self.is_heartbeats(topic) {
            return false;
        }
        while let Some((source, upstream)) = rest.split_once(&self.separator) {
            if source == self.alias {
                return true;
            }
            rest = upstream;
        }
        false
    }

    /// Where heartbeats are written.
    #[must_use]
    pub fn heartbeats_topic(&self) -> &'static str {
        HEARTBEATS
    }

    /// Where it is noted what the offsets of groups at the source are here.
    #[must_use]
    pub fn checkpoints_topic(&self, source: &str) -> String {
        let separator = &self.separator;
        format!("{source}{separator}checkpoints{separator}internal")
    }

    /// Where it is noted what offsets at the source are here; kept here
    /// (`offset-syncs.topic.location=target`).
    #[must_use]
    pub fn offset_syncs_topic(&self, source: &str) -> String {
        let separator = &self.separator;
        format!("mm2-offset-syncs{separator}{source}{separator}internal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn east(policy: ReplicationPolicy, separator: &str) -> MirrorMaker {
        MirrorMaker {
            policy,
            separator: separator.to_owned(),
            alias: "east".to_owned(),
            source_heartbeats: false,
        }
    }

    fn default() -> MirrorMaker {
        east(ReplicationPolicy::Default, ".")
    }

    fn identity() -> MirrorMaker {
        east(ReplicationPolicy::Identity, ".")
    }

    #[test]
    fn names_are_those_of_mirror_maker() {
        let of = default();
        assert_eq!(of.remote_topic("west", "orders"), "west.orders");
        assert_eq!(of.remote_topic("west", "north.orders"), "west.north.orders");
        assert_eq!(of.checkpoints_topic("west"), "west.checkpoints.internal");
        assert_eq!(
            of.offset_syncs_topic("west"),
            "mm2-offset-syncs.west.internal"
        );
        let of = east(ReplicationPolicy::Default, "_");
        assert_eq!(of.remote_topic("west", "orders"), "west_orders");
        assert_eq!(of.checkpoints_topic("west"), "west_checkpoints_internal");
        assert!(of.is_internal("west_checkpoints_internal"));
    }

    #[test]
    fn under_one_name_only_heartbeats_are_renamed() {
        let of = identity();
        assert_eq!(of.remote_topic("west", "orders"), "orders");
        assert_eq!(of.remote_topic("west", "heartbeats"), "west.heartbeats");
        let twice = of.remote_topic("west", "north.heartbeats");
        assert_eq!(twice, "west.north.heartbeats");
        assert!(!of.is_cycle("east.orders"));
        assert!(of.is_cycle("east.heartbeats"));
    }

    #[test]
    fn what_came_through_this_cluster_is_known_by_its_name() {
        let of = default();
        for topic in [
            "east.orders",
            "north.east.orders",
            "north.east.south.orders",
        ] {
            assert!(of.is_cycle(topic), "{topic}");
        }
        for topic in [
            "orders",
            "east",
            "orders.east",
            "eastern.orders",
            "north.orders",
        ] {
            assert!(!of.is_cycle(topic), "{topic}");
        }
    }

    #[test]
    fn internal_topics_and_heartbeats_are_known() {
        let of = default();
        for topic in [
            "__consumer_offsets",
            ".hidden",
            "connect-configs-internal",
            "west.checkpoints.internal",
            "mm2-offset-syncs.west.internal",
        ] {
            assert!(of.is_internal(topic), "{topic}");
        }
        for topic in ["internal", "orders", "orders_internal", "internals.orders"] {
            assert!(!of.is_internal(topic), "{topic}");
        }
        assert!(of.is_heartbeats("heartbeats") && of.is_heartbeats("a.b.heartbeats"));
        assert!(!of.is_heartbeats("myheartbeats") && !of.is_heartbeats("heartbeats.a"));
    }

    #[test]
    fn aliases_and_separators_must_be_of_use_in_names() {
        assert_eq!(default().check("west"), Ok(()));
        let refused = |change: fn(&mut MirrorMaker)| {
            let mut of = default();
            change(&mut of);
            of.check("west").unwrap_err()
        };
        assert!(refused(|of| of.separator.clear()).contains("such as '.'"));
        assert!(refused(|of| of.separator = "/".to_owned()).contains("'/'"));
        assert!(refused(|of| of.alias = "a.b".to_owned()).contains("alias"));
        assert!(refused(|of| of.alias = "west".to_owned()).contains("different"));
    }
}
