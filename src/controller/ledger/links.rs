//! Links, and the life of mirrors: made, followed, failed, promoted.
//!
//! **Promises.** A promotion gives every partition of the topic a new leader epoch in the same
//! batch, so nothing that was being copied meanwhile is appended after it. What a mirror partition
//! is said to hold is decided only by who leads it in its newest epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::draft::{Draft, Wanted};
use super::{ControllerLedger, Outcome, PARTITIONS_PER_REQUEST_MAX};
use crate::controller::image::{MirrorImage, TopicImage};
use crate::controller::link::{
    LinkMode, LinkRecord, MirrorFault, MirrorPartition, MirrorState, MirrorTopic, PROVENANCE,
    validate_link_name,
};
use crate::controller::next_state::Leadership;
use crate::controller::record::{Cause, ConfigResource, MetadataRecord, PartitionState};
use crate::controller::request::{
    AlterLink, CreateLink, DeleteLink, EnterEpoch, EpochEntered, FailMirror, LearnSource, NewLink,
    NewTopic, PromoteMirrors, PromotedMirror, Refusal, Reply,
};
use crate::types::{ErrorCode, LeaderEpoch, Timestamp, TopicId};

/// Most addresses, and most patterns, that a link may have.
const ADDRESSES_MAX: usize = 32;
const PATTERNS_MAX: usize = 1000;

/// Longest pattern, as the longest name of a topic.
const PATTERN_LENGTH_MAX: usize = 249;

fn refuse<T>(code: ErrorCode, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(code, text))
}

fn unless(validate_only: bool, records: Vec<MetadataRecord>) -> Vec<MetadataRecord> {
    match validate_only {
        true => Vec::new(),
        false => records,
    }
}

impl ControllerLedger {
    pub(super) fn create_link(&self, request: &CreateLink) -> Outcome {
        let new = &request.link;
        if let Some(made) = self.image.link(new.id)
            && made.name == new.name
        {
            // It was asked before, and the answer was lost.
            return Ok((Vec::new(), Reply::CreateLink(made.id)));
        }
        validate_link_name(&new.name)?;
        if self.image.link_by_name(&new.name).is_some() {
            return refuse(
                ErrorCode::DuplicateResource,
                format!(
                    "there is a link '{}' already; choose another name",
                    new.name
                ),
            );
        }
        if new.id.is_zero() || self.image.link(new.id).is_some() {
            return refuse(ErrorCode::InvalidRequest, "the link's id is not its own");
        }
        let link = record_of(new);
        check_link(&link)?;
        let records = unless(request.validate_only, vec![MetadataRecord::Link(link)]);
        Ok((records, Reply::CreateLink(new.id)))
    }

    pub(super) fn alter_link(&self, request: &AlterLink) -> Outcome {
        let before = self.link_named(&request.name)?;
        let mut link = LinkRecord::clone(before);
        let change = request.change.clone();
        link.paused = change.paused.unwrap_or(link.paused);
        link.bootstrap = change.bootstrap.unwrap_or(link.bootstrap);
        link.topics = change.topics.unwrap_or(link.topics);
        link.groups = change.groups.unwrap_or(link.groups);
        link.bytes_per_second = match change.bytes_per_second {
            Some(limit) => Some(limit).filter(|limit| *limit > 0),
            None => link.bytes_per_second,
        };
        check_link(&link)?;
        let records = match link == **before {
            true => Vec::new(),
            false => vec![MetadataRecord::Link(link)],
        };
        Ok((unless(request.validate_only, records), Reply::AlterLink))
    }

    pub(super) fn delete_link(&self, now: Timestamp, request: &DeleteLink) -> Outcome {
        let link = self.link_named(&request.name)?;
        let left = self.image.mirrors_of(link.id);
        let left: Vec<_> = left
            .filter(|(_, mirror)| mirror.topic.is_read_only())
            .filter_map(|(id, mirror)| Some((self.image.topic_by_id(id)?, mirror)))
            .collect();
        if !left.is_empty() && !request.force {
            return refuse(
                ErrorCode::PolicyViolation,
                format!(
                    "link '{}' fills {} topic{}; promote or delete them first, or have all of \
                     them promoted with the link's deletion (--force)",
                    link.name,
                    left.len(),
                    if left.len() == 1 { "" } else { "s" },
                ),
            );
        }
        check_size(left.iter().map(|(topic, _)| &***topic))?;
        let mut promotion = Promotion::new(self, now);
        for (topic, mirror) in &left {
            promotion.promote(topic, mirror);
        }
        let mut records = promotion.into_records();
        records.push(MetadataRecord::LinkRemoved { id: link.id });
        let names = left.iter().map(|(topic, _)| topic.name.to_string());
        let reply = Reply::DeleteLink(names.collect());
        Ok((unless(request.validate_only, records), reply))
    }

    fn link_named(&self, name: &str) -> Result<&Arc<LinkRecord>, Refusal> {
        self.image.link_by_name(name).ok_or_else(|| {
            let names: Vec<&str> = self.image.links().map(|link| &*link.name).collect();
            let known = match names.is_empty() {
                true => "there are none".to_owned(),
                false => format!("there are: {}", names.join(", ")),
            };
            let text = format!("there is no link '{}'; {known}", name.escape_debug());
            Refusal::new(ErrorCode::ResourceNotFound, text)
        })
    }

    pub(super) fn learn_source(&self, request: &LearnSource) -> Outcome {
        let Some(link) = self.image.link(request.link) else {
            let text = format!("there is no link with id {}", request.link);
            return refuse(ErrorCode::ResourceNotFound, text);
        };
        let found = &request.cluster_id;
        if self.image.cluster_id().map(|id| id.to_string()).as_ref() == Some(found) {
            return refuse(
                ErrorCode::InconsistentClusterId,
                format!(
                    "link '{}' leads to this very cluster, {found}; change its addresses",
                    link.name
                ),
            );
        }
        match &link.source_cluster {
            Some(known) if known == found => Ok((Vec::new(), Reply::LearnSource)),
            Some(known) => refuse(
                ErrorCode::InconsistentClusterId,
                format!(
                    "link '{}' copies from cluster {known} and its addresses are now those of \
                     cluster {found}; change the addresses back, or make another link",
                    link.name
                ),
            ),
            None => {
                let mut link = LinkRecord::clone(link);
                link.source_cluster = Some(found.clone());
                Ok((vec![MetadataRecord::Link(link)], Reply::LearnSource))
            }
        }
    }

    /// What makes a new topic a mirror, if it is to be one. Only then it may say where its records
    /// come from.
    pub(super) fn new_mirror(
        &self,
        topic: &NewTopic,
        settings: &BTreeMap<String, String>,
    ) -> Result<Option<MirrorTopic>, Refusal> {
        let Some(mirror) = &topic.mirror else {
            return match settings.contains_key(PROVENANCE) {
                true => refuse(
                    ErrorCode::InvalidConfig,
                    format!("{PROVENANCE} is set by links alone; leave it out"),
                ),
                false => Ok(None),
            };
        };
        if self.image.link(mirror.link).is_none() {
            let text = format!("there is no link with id {}", mirror.link);
            return refuse(ErrorCode::ResourceNotFound, text);
        }
        Ok(Some(MirrorTopic {
            link: mirror.link,
            source_name: mirror.source_name.clone(),
            source_id: mirror.source_id,
            state: MirrorState::Active,
            since: Vec::new(),
        }))
    }

    pub(super) fn enter_epochs(&self, request: &[EnterEpoch]) -> Outcome {
        let mut seen = BTreeSet::new();
        let mut records = Vec::new();
        let mut results: Vec<EpochEntered> = Vec::with_capacity(request.len());
        for asked in request {
            let result = match seen.insert((asked.topic_id, asked.partition)) {
                true => self.enter_epoch(asked),
                false => refuse(ErrorCode::InvalidRequest, "a partition is named twice"),
            };
            results.push(result.map(|(before, after)| {
                if before.as_ref() != Some(&after) {
                    records.push(MetadataRecord::MirrorPartition {
                        topic_id: asked.topic_id,
                        partition: asked.partition,
                        state: after.clone(),
                    });
                }
                after
            }));
        }
        Ok((records, Reply::EnterEpochs(results)))
    }

    /// What is known of a partition before and after it enters an epoch.
    fn enter_epoch(
        &self,
        asked: &EnterEpoch,
    ) -> Result<(Option<MirrorPartition>, MirrorPartition), Refusal> {
        let at = (asked.partition, asked.leader_epoch);
        let mirror = self.copied_by(asked.topic_id, at)?;
        let before = mirror.partition(asked.partition).cloned();
        let known = before.clone().unwrap_or_default();
        if let Some(fault) = &known.fault {
            let text = format!("nothing is copied into it any more: {fault}");
            return refuse(ErrorCode::InvalidRequest, text);
        }
        if asked.start < crate::types::Offset::ZERO || asked.source_epoch < LeaderEpoch::NONE {
            return refuse(ErrorCode::InvalidRequest, "an offset or epoch is negative");
        }
        let after = known.entering(asked.source_epoch, asked.start);
        let after = after.map_err(|text| Refusal::new(ErrorCode::InvalidRequest, text))?;
        Ok((before, after))
    }

    /// The mirror whose partition the one who asks leads in its newest epoch.
    fn copied_by(
        &self,
        topic: TopicId,
        (partition, leader_epoch): (i32, LeaderEpoch),
    ) -> Result<&Arc<MirrorImage>, Refusal> {
        let mirror = self.active_mirror(topic)?;
        let state = self.image.topic_by_id(topic);
        let state = state.and_then(|topic| topic.partition(partition));
        let Some(state) = state else {
            let text = format!("topic {topic} has no partition {partition}");
            return refuse(ErrorCode::UnknownTopicOrPartition, text);
        };
        match state.leader_epoch == leader_epoch {
            true => Ok(mirror),
            false => refuse(
                ErrorCode::FencedLeaderEpoch,
                format!(
                    "partition {partition} of topic {topic} is led in epoch {}, not {}",
                    state.leader_epoch.0, leader_epoch.0
                ),
            ),
        }
    }

    fn active_mirror(&self, topic: TopicId) -> Result<&Arc<MirrorImage>, Refusal> {
        match self.image.mirror(topic) {
            None => refuse(
                ErrorCode::UnknownTopicId,
                format!("there is no mirror with id {topic}"),
            ),
            Some(mirror) if mirror.topic.state == MirrorState::Active => Ok(mirror),
            Some(mirror) => refuse(
                ErrorCode::InvalidRequest,
                format!(
                    "nothing is copied into topic {topic} any more: it is {}",
                    mirror.topic.state.name()
                ),
            ),
        }
    }

    pub(super) fn fail_mirror(&self, request: &FailMirror) -> Outcome {
        let topic_id = request.topic_id;
        let fault = || request.fault.clone();
        let record = match request.partition {
            Some((partition, leader_epoch)) => {
                let mirror = self.copied_by(topic_id, (partition, leader_epoch))?;
                let mut state = mirror.partition(partition).cloned().unwrap_or_default();
                // The first fault is the one that explains.
                if state.fault.is_some() {
                    return Ok((Vec::new(), Reply::FailMirror));
                }
                state.fault = Some(fault());
                MetadataRecord::MirrorPartition {
                    topic_id,
                    partition,
                    state,
                }
            }
            None => {
                if let Some(mirror) = self.image.mirror(topic_id)
                    && matches!(mirror.topic.state, MirrorState::Failed { .. })
                {
                    return Ok((Vec::new(), Reply::FailMirror));
                }
                let mut mirror = self.active_mirror(topic_id)?.topic.clone();
                mirror.state = failed(&fault());
                MetadataRecord::MirrorTopic { topic_id, mirror }
            }
        };
        Ok((vec![record], Reply::FailMirror))
    }

    pub(super) fn promote_mirrors(&self, now: Timestamp, request: &PromoteMirrors) -> Outcome {
        let link = match &request.link {
            Some(name) => Some(self.link_named(name)?.id),
            None => None,
        };
        let is_meant = |mirror: &MirrorImage| link.is_none_or(|link| mirror.topic.link == link);
        let names: Vec<String> = match &request.topics {
            Some(names) => names.clone(),
            None => {
                let all = self.image.mirrors();
                let wanted =
                    all.filter(|(_, mirror)| mirror.topic.is_read_only() && is_meant(mirror));
                let topics = wanted.filter_map(|(id, _)| self.image.topic_by_id(id));
                topics.map(|topic| topic.name.to_string()).collect()
            }
        };
        let mut promotion = Promotion::new(self, now);
        let mut seen = BTreeSet::new();
        let mut results: Vec<PromotedMirror> = Vec::with_capacity(names.len());
        check_size(
            names
                .iter()
                .filter_map(|name| Some(&**self.image.topic(name)?)),
        )?;
        for name in names {
            let result = match seen.insert(name.clone()) {
                true => self.mirror_named(&name, is_meant),
                false => refuse(
                    ErrorCode::InvalidRequest,
                    format!("topic '{name}' is named more than once"),
                ),
            };
            let result = result.map(|(topic, mirror)| promotion.promote(topic, mirror));
            results.push((name, result));
        }
        let records = unless(request.validate_only, promotion.into_records());
        Ok((records, Reply::PromoteMirrors(results)))
    }

    fn mirror_named(
        &self,
        name: &str,
        is_meant: impl Fn(&MirrorImage) -> bool,
    ) -> Result<(&Arc<TopicImage>, &Arc<MirrorImage>), Refusal> {
        let Some(topic) = self.image.topic(name) else {
            return refuse(
                ErrorCode::UnknownTopicOrPartition,
                format!("there is no topic '{}'", name.escape_debug()),
            );
        };
        match self.image.mirror(topic.id) {
            Some(mirror) if is_meant(mirror) => Ok((topic, mirror)),
            Some(_) => refuse(
                ErrorCode::InvalidRequest,
                format!("topic '{name}' is a mirror of another link"),
            ),
            None => refuse(
                ErrorCode::InvalidRequest,
                format!("topic '{name}' is no mirror: clients write to it already"),
            ),
        }
    }
}

/// Mirrors that are becoming writable.
struct Promotion<'a> {
    ledger: &'a ControllerLedger,
    draft: Draft<'a>,
    mirrors: Vec<MetadataRecord>,
}

impl<'a> Promotion<'a> {
    fn new(ledger: &'a ControllerLedger, now: Timestamp) -> Self {
        Self {
            ledger,
            draft: Draft::new(ledger, now),
            mirrors: Vec::new(),
        }
    }

    /// By partition, the leader epoch from which on clients write. One that was promoted before
    /// stays what it is.
    fn promote(&mut self, topic: &TopicImage, mirror: &MirrorImage) -> Vec<LeaderEpoch> {
        if !mirror.topic.is_read_only() {
            return mirror.topic.since.clone();
        }
        let mut since = Vec::with_capacity(topic.partitions.len());
        for (partition, state) in (0..).zip(&topic.partitions) {
            let renewed = PartitionState::clone(state);
            let mut wanted = Wanted::new(renewed, Cause::MirrorPromoted, None);
            wanted.leadership = Leadership::Renewed;
            if !crate::mutant!("mirror-promoted-in-the-same-epoch") {
                self.draft.change(topic, partition, wanted);
            }
            let after = self.draft.state(topic, partition);
            since.push(after.map_or(state.leader_epoch, |after| after.leader_epoch));
        }
        // From here on this cluster is where its records come from: also for the one that they came
        // from, which may become its mirror.
        let settings = self.ledger.image.topic_overrides(&topic.name);
        if settings.contains_key(PROVENANCE) {
            self.mirrors.push(MetadataRecord::Config {
                resource: ConfigResource::topic(&*topic.name),
                name: PROVENANCE.to_owned(),
                value: None,
            });
        }
        self.mirrors.push(MetadataRecord::MirrorTopic {
            topic_id: topic.id,
            mirror: MirrorTopic {
                state: MirrorState::Promoted,
                since: since.clone(),
                ..mirror.topic.clone()
            },
        });
        since
    }

    fn into_records(self) -> Vec<MetadataRecord> {
        let mut records = self.draft.into_records();
        records.extend(self.mirrors);
        records
    }
}

fn failed(fault: &MirrorFault) -> MirrorState {
    MirrorState::Failed {
        reason: fault.to_string(),
    }
}

/// Refuses more partitions at once than one batch of records should hold.
fn check_size<'a>(topics: impl Iterator<Item = &'a TopicImage>) -> Result<(), Refusal> {
    let count: usize = topics.map(|topic| topic.partitions.len()).sum();
    match count > PARTITIONS_PER_REQUEST_MAX {
        true => refuse(
            ErrorCode::PolicyViolation,
            format!(
                "{count} partitions would be promoted at once, more than \
                 {PARTITIONS_PER_REQUEST_MAX}; promote fewer topics at a time"
            ),
        ),
        false => Ok(()),
    }
}

fn record_of(new: &NewLink) -> LinkRecord {
    LinkRecord {
        id: new.id,
        name: new.name.clone(),
        bootstrap: new.bootstrap.clone(),
        source_cluster: None,
        mode: new.mode.clone(),
        topics: new.topics.clone(),
        groups: new.groups.clone(),
        paused: false,
        bytes_per_second: Some(new.bytes_per_second).filter(|limit| *limit > 0),
        replication_factor: new.replication_factor,
    }
}

fn check_link(link: &LinkRecord) -> Result<(), Refusal> {
    let name = &link.name;
    let invalid = |text: String| refuse(ErrorCode::InvalidRequest, text);
    if link.bootstrap.is_empty() || link.bootstrap.len() > ADDRESSES_MAX {
        return invalid(format!(
            "link '{name}' has {} addresses; give 1 to {ADDRESSES_MAX}, such as west:9092",
            link.bootstrap.len()
        ));
    }
    for address in &link.bootstrap {
        check_address(address)?;
    }
    if let LinkMode::MirrorMaker(of) = &link.mode {
        of.check(name).or_else(invalid)?;
    }
    if link.topics.is_empty() {
        return invalid(format!(
            "link '{name}' would copy nothing; give names of topics, with * for any characters"
        ));
    }
    if link.topics.len() + link.groups.len() > PATTERNS_MAX {
        return invalid(format!(
            "link '{name}' has more than {PATTERNS_MAX} patterns"
        ));
    }
    for pattern in &link.topics {
        check_pattern("topics", pattern, |character| {
            character.is_ascii_alphanumeric() || "._-*".contains(character)
        })?;
    }
    for pattern in &link.groups {
        check_pattern("groups", pattern, |character| !character.is_control())?;
    }
    if link
        .bytes_per_second
        .is_some_and(|limit| i64::try_from(limit).is_err())
    {
        return invalid(format!(
            "the limit of link '{name}' is no number of bytes per second"
        ));
    }
    match link.replication_factor {
        -1 | 1.. => Ok(()),
        count => refuse(
            ErrorCode::InvalidReplicationFactor,
            format!("mirrors of link '{name}' cannot have {count} replicas; give -1, or 1 or more"),
        ),
    }
}

fn check_address(address: &str) -> Result<(), Refusal> {
    let parts = address.rsplit_once(':');
    let is_good = parts.is_some_and(|(host, port)| {
        let is_host = |byte: u8| byte.is_ascii_graphic() && !b",/@".contains(&byte);
        let is_short = !host.is_empty() && host.len() <= 255;
        is_short && host.bytes().all(is_host) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    match is_good {
        true => Ok(()),
        false => refuse(
            ErrorCode::InvalidRequest,
            format!(
                "'{}' is no address of a broker; give host:port, such as west:9092",
                address.chars().take(64).collect::<String>().escape_debug()
            ),
        ),
    }
}

fn check_pattern(kind: &str, pattern: &str, is_good: impl Fn(char) -> bool) -> Result<(), Refusal> {
    if pattern.is_empty() || pattern.len() > PATTERN_LENGTH_MAX {
        return refuse(
            ErrorCode::InvalidRequest,
            format!(
                "a pattern of {kind} has {} characters; give 1 to {PATTERN_LENGTH_MAX}",
                pattern.len()
            ),
        );
    }
    match pattern.chars().find(|character| !is_good(*character)) {
        None => Ok(()),
        Some(bad) => refuse(
            ErrorCode::InvalidRequest,
            format!(
                "'{}' is no pattern of {kind}: no name has {bad:?}; a pattern is a name in which \
                 * stands for any characters",
                pattern.escape_debug()
            ),
        ),
    }
}
