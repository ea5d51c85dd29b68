//! Links to other clusters, and the topics that they fill.
//!
//! - A *link* names a source cluster and what is copied from it.
//! - A *mirror topic* is a topic of this cluster that a link fills. Until it is promoted, clients
//!   only read it.
//! - The *lineage* of a mirror partition says from which offset on its records are of which leader
//!   epoch of the source: by it a source that has lost or exchanged records is recognised.
//!
//! **Invariant.** Both columns of a lineage ascend. A mirror topic that is not promoted has a link.

mod mirror_maker;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::request::Refusal;
use crate::types::{ErrorCode, LeaderEpoch, Offset, TopicId, Uuid};

pub use self::mirror_maker::{MirrorMaker, ReplicationPolicy};

/// Identity of a link: random, never given again.
pub type LinkId = Uuid;

/// Longest name of a link.
const NAME_LENGTH_MAX: usize = 64;

/// The topic setting that names the clusters, by id, that the records of a mirror have come
/// through, the first of them first. Only links set it.
pub const PROVENANCE: &str = "klamm.mirror.provenance";

/// Settings that a mirror has of its own, whatever the source's topic has.
const OWN_SETTINGS: &[&str] = &[
    "follower.replication.throttled.replicas",
    "klamm.durability",
    "leader.replication.throttled.replicas",
    "min.insync.replicas",
];

/// Whether a mirror's topic setting `name` is as it is at the source, or otherwise for its link
/// alone to set.
#[must_use]
pub fn is_mirrored_setting(name: &str) -> bool {
    !OWN_SETTINGS.contains(&name)
}

/// How a link copies. The batches are the same at the same offsets in each.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum LinkMode {
    /// Into topics of the same name.
    #[default]
    Exact,
    /// Into topics that are named as MirrorMaker 2 would, with its internal topics beside them.
    MirrorMaker(MirrorMaker),
}

impl LinkMode {
    /// Its name for people and in answers.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::MirrorMaker(_) => "mirrormaker",
        }
    }
}

/// A link and all that it is told to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LinkRecord {
    pub id: LinkId,
    pub name: String,
    /// `host:port` of brokers of the source, by which the others are found.
    pub bootstrap: Vec<String>,
    /// The source's cluster id: learnt at the first contact, the same ever after.
    pub source_cluster: Option<String>,
    pub mode: LinkMode,
    /// Which topics are copied ([`pattern_matches`]).
    pub topics: Vec<String>,
    /// Of which groups the committed offsets are copied ([`pattern_matches`]).
    pub groups: Vec<String>,
    pub paused: bool,
    /// Most that each broker fetches; `None`: as much as it can.
    pub bytes_per_second: Option<u64>,
    /// Of the topics that the link makes; -1: `default.replication.factor`.
    pub replication_factor: i16,
}

impl LinkRecord {
    /// Whether the source's topic `name` is to be copied. Internal topics (`__...`) never are.
    #[must_use]
    pub fn wants_topic(&self, name: &str) -> bool {
        let is_named = || matches_any(&self.topics, name);
        match &self.mode {
            LinkMode::Exact => !name.starts_with("__") && is_named(),
            LinkMode::MirrorMaker(of) => {
                !of.is_internal(name) && (of.is_heartbeats(name) || is_named())
            }
        }
    }

    /// What the source's topic `name` is called here.
    #[must_use]
    pub fn name_here(&self, name: &str) -> String {
        match &self.mode {
            LinkMode::Exact => name.to_owned(),
            LinkMode::MirrorMaker(of) => of.remote_topic(&self.name, name),
        }
    }

    /// Whether the name of the source's topic says that its records have come through this cluster.
    #[must_use]
    pub fn is_cycle(&self, name: &str) -> bool {
        match &self.mode {
            LinkMode::Exact => false,
            LinkMode::MirrorMaker(of) => of.is_cycle(name),
        }
    }

    /// Whether the offsets that group `name` committed at the source are to be copied.
    #[must_use]
    pub fn wants_group(&self, name: &str) -> bool {
        matches_any(&self.groups, name)
    }
}

fn matches_any(patterns: &[String], name: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| pattern_matches(pattern, name))
}

/// Whether all of `name` fits `pattern`, in which `*` stands for any characters, or none, and
/// everything else for itself. Takes no more than the product of both lengths.
#[must_use]
pub fn pattern_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut from) = (0, 0);
    // Behind the last star, and what that star has eaten so far.
    let mut star = None;
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, from));
            }
            Some(byte) if *byte == name[from] => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((after, eaten)) = star else {
                    return false;
                };
                star = Some((after, eaten + 1));
                (at, from) = (after, eaten + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Whether a link may have this name: what it says in a command, a metric and a topic's name.
pub fn validate_link_name(name: &str) -> Result<(), Refusal> {
    let refuse = |text: String| Err(Refusal::new(ErrorCode::InvalidRequest, text));
    if name.is_empty() {
        return refuse("a link needs a name; give it one, such as 'west'".to_owned());
    }
    if name.len() > NAME_LENGTH_MAX {
        return refuse(format!(
            "the name of a link has at most {NAME_LENGTH_MAX} characters, not {}",
            name.len()
        ));
    }
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.starts_with('-') || !name.bytes().all(is_good) {
        return refuse(format!(
            "'{}' cannot name a link: use letters, digits, '_' and '-', and no '-' in front",
            name.escape_debug()
        ));
    }
    Ok(())
}

/// A topic of this cluster that a link fills, or filled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MirrorTopic {
    pub link: LinkId,
    /// Its name at the source.
    pub source_name: String,
    /// Its id at the source; zero where the source has none.
    pub source_id: TopicId,
    pub state: MirrorState,
    /// Of a promoted topic, by partition: the leader epoch from which on clients write. Else empty.
    pub since: Vec<LeaderEpoch>,
}

impl MirrorTopic {
    /// Whether clients may only read it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.state != MirrorState::Promoted
    }

    /// From which leader epoch on clients write to `partition`; `None` where they do not, and where
    /// the partition is newer than the promotion and has nothing of the source.
    #[must_use]
    pub fn promoted_since(&self, partition: i32) -> Option<LeaderEpoch> {
        let at = usize::try_from(partition).ok()?;
        self.since.get(at).copied()
    }
}

/// What is done with a mirror topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MirrorState {
    /// It is copied, or will be once the link is resumed.
    Active,
    /// Nothing of it is copied any more.
    Failed { reason: String },
    /// It is a topic like any other; no link touches it again.
    Promoted,
}

impl MirrorState {
    /// Its name for people and in answers.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Failed { .. } => "FAILED",
            Self::Promoted => "PROMOTED",
        }
    }
}

/// What is known for good of a mirror partition.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MirrorPartition {
    /// Leader epochs of the source, each with the first offset that is its own.
    pub lineage: Vec<(LeaderEpoch, Offset)>,
    /// Why nothing is copied into it any more.
    pub fault: Option<MirrorFault>,
}

impl MirrorPartition {
    /// Whether both columns of its lineage ascend: epochs strictly, and offsets too, for an epoch
    /// without records is not entered.
    #[must_use]
    pub(super) fn is_in_order(&self) -> bool {
        let mut pairs = self.lineage.windows(2);
        pairs.all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1)
    }

    /// Its lineage once records of the source's `epoch` begin at `start`, or why that cannot be.
    /// What was known from `start` on is forgotten: those records are gone.
    pub fn entering(&self, epoch: LeaderEpoch, start: Offset) -> Result<Self, String> {
        let before = self.lineage.iter().copied().filter(|(_, at)| *at < start);
        let mut lineage: Vec<_> = before.collect();
        match lineage.last() {
            Some((last, _)) if *last > epoch => Err(format!(
                "records of the source's leader epoch {} cannot follow those of epoch {}",
                epoch.0, last.0
            )),
            Some((last, _)) if *last == epoch => Ok(Self {
                lineage,
                fault: self.fault.clone(),
            }),
            _ => {
                lineage.push((epoch, start));
                let fault = self.fault.clone();
                Ok(Self { lineage, fault })
            }
        }
    }
}

/// Why nothing is copied into a mirror any more. Somebody has to choose.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MirrorFault {
    /// Records from `source_end` on that were copied, up to `at`, are not those of the source.
    Truncated { at: Offset, source_end: Offset },
    /// Records from `at` on were not copied and the source has them no more.
    Expired { at: Offset, source_start: Offset },
    /// Another topic has the name at the source.
    Recreated { source_id: TopicId },
    /// The source has no such topic any more.
    Deleted,
    /// The next records, at `at`, are of a transaction, which this cluster cannot keep.
    Transactional { at: Offset },
    /// What the source gives for `at` is no batch of records, or not one that fits there.
    Damaged { at: Offset, reason: String },
    /// The source has nothing left of before `at`, and another leader since: whether that had the
    /// records that were copied cannot be told.
    Unverified { at: Offset },
}

impl MirrorFault {
    /// Its name in answers.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "TRUNCATED",
            Self::Expired { .. } => "EXPIRED",
            Self::Recreated { .. } => "RECREATED",
            Self::Deleted => "DELETED",
            Self::Transactional { .. } => "TRANSACTIONAL",
            Self::Damaged { .. } => "DAMAGED",
            Self::Unverified { .. } => "UNVERIFIED",
        }
    }

    /// What an operator can do.
    #[must_use]
    pub fn choices(&self) -> &'static str {
        match self {
            Self::Transactional { .. } => {
                "keep what was copied ('klamm link promote TOPIC'), or delete the topic here and \
                 take it out of the link's patterns"
            }
            Self::Deleted => {
                "keep what was copied ('klamm link promote TOPIC'), or delete the topic here"
            }
            _ => {
                "keep what was copied ('klamm link promote TOPIC'), or delete the topic here, and \
                 the link copies it anew"
            }
        }
    }
}

/// What happened, and at which offsets.
impl fmt::Display for MirrorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { at, source_end } => write!(
                f,
                "the source has lost or replaced records that were copied: from offset \
                 {source_end} on, the copy, which ends at {at}, is not what the source has"
            ),
            Self::Expired { at, source_start } => write!(
                f,
                "the source has deleted records that were not copied yet: offsets {at} up to \
                 {source_start}"
            ),
            Self::Recreated { source_id } if source_id.is_zero() => {
                f.write_str("the source's topic was deleted and made anew")
            }
            Self::Recreated { source_id } => write!(
                f,
                "the source's topic was deleted and made anew, with id {source_id}"
            ),
            Self::Deleted => f.write_str("the source's topic was deleted"),
            Self::Transactional { at } => write!(
                f,
                "the records at offset {at} are of a transaction, which this cluster cannot keep"
            ),
            Self::Damaged { at, reason } => write!(
                f,
                "what the source gives for offset {at} cannot be copied: {reason}"
            ),
            Self::Unverified { at } => write!(
                f,
                "the source has deleted all before offset {at}, where the copy ends, and has \
                 another leader since: whether that had the records that were copied cannot be told"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Patterns by their definition; exponential.
    fn matches_slowly(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, _) => name.is_empty(),
            (Some((b'*', rest)), None) => matches_slowly(rest, name),
            (Some((b'*', rest)), Some((_, later))) => {
                matches_slowly(rest, name) || matches_slowly(pattern, later)
            }
            (Some(_), None) => false,
            (Some((byte, rest)), Some((first, later))) => {
                byte == first && matches_slowly(rest, later)
            }
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_its_definition_says(
            pattern in "[ab.*]{0,7}",
            name in "[ab.]{0,9}",
        ) {
            let wanted = matches_slowly(pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(pattern_matches(&pattern, &name), wanted);
        }

        #[test]
        fn a_lineage_stays_in_order(
            steps in prop::collection::vec((0..9_i32, 0..9_i64), 0..12),
        ) {
            let mut partition = MirrorPartition::default();
            for (epoch, start) in steps {
                let Ok(next) = partition.entering(LeaderEpoch(epoch), Offset(start)) else {
                    continue;
                };
                prop_assert!(next.is_in_order());
                let holds = next.lineage.iter().rfind(|(_, at)| *at <= Offset(start));
                prop_assert_eq!(holds.map(|entry| entry.0), Some(LeaderEpoch(epoch)));
                partition = next;
            }
        }
    }

    #[test]
    fn a_dot_in_a_pattern_is_a_dot() {
        assert!(pattern_matches("orders.*", "orders.eu"));
        assert!(pattern_matches("orders.*", "orders."));
        assert!(!pattern_matches("orders.*", "orders-eu"));
        assert!(!pattern_matches("orders.*", "my.orders.eu"));
        let many = "*a".repeat(40);
        assert!(!pattern_matches(&many, &"b".repeat(249)));
    }

    #[test]
    fn an_internal_topic_is_never_wanted() {
        let link = LinkRecord {
            id: Uuid([1; 16]),
            name: "west".to_owned(),
            bootstrap: vec!["west:9092".to_owned()],
            source_cluster: None,
            mode: LinkMode::Exact,
            topics: vec!["*".to_owned()],
            groups: Vec::new(),
            paused: false,
            bytes_per_second: None,
            replication_factor: -1,
        };
        assert!(link.wants_topic("orders"));
        assert!(!link.wants_topic("__consumer_offsets"));
        assert!(!link.wants_group("orders"));
    }

    #[test]
    fn names_of_links_are_words() {
        let longest = "x".repeat(NAME_LENGTH_MAX);
        for good in ["west", "eu-1", "_", "9", &longest] {
            assert_eq!(validate_link_name(good), Ok(()), "{good}");
        }
        let longer = "x".repeat(NAME_LENGTH_MAX + 1);
        for bad in ["", "-x", "a.b", "a b", "ä", "a/b", &longer] {
            assert!(validate_link_name(bad).is_err(), "{bad}");
        }
    }
}
