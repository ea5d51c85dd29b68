//! Links to other clusters and their mirrors. Only Klamm's brokers have them.

use std::collections::BTreeMap;
use std::future::Future;

use super::{Admin, Each};
use crate::client::error::{ApiError, ClientError};
use crate::types::{BrokerId, LeaderEpoch, Offset, Timestamp, Uuid};
use crate::wire::Str;
use crate::wire::message::alter_links::{AlterLinksRequest, AlterLinksResponse};
use crate::wire::message::describe_links::{
    DescribeLinksRequest, DescribeLinksResponse, DescribedLink, DescribedMirror,
    DescribedMirrorPartition,
};

/// A link to make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkSpec {
    pub name: String,
    /// `host:port` of brokers of the source.
    pub bootstrap: Vec<String>,
    /// `None`: exact.
    pub mirror_maker: Option<MirrorMakerSpec>,
    pub topics: Vec<String>,
    pub groups: Vec<String>,
    /// `None`: as much as it can.
    pub bytes_per_second: Option<u64>,
    /// `None`: the cluster's default.
    pub replication_factor: Option<i16>,
}

/// Mirrors are named as MirrorMaker 2 would. The source's alias is the link's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MirrorMakerSpec {
    /// Whether a mirror has the name that its topic has at the source.
    pub identity: bool,
    /// Between the source's alias and a topic's name.
    pub separator: String,
    /// What this cluster is called.
    pub alias: String,
    /// Whether heartbeats are written to the source too.
    pub source_heartbeats: bool,
}

/// What is to be different about a link; `None`: it stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LinkChange {
    pub paused: Option<bool>,
    pub bootstrap: Option<Vec<String>>,
    pub topics: Option<Vec<String>>,
    pub groups: Option<Vec<String>>,
    /// 0: as much as it can.
    pub bytes_per_second: Option<u64>,
}

/// A link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkDescription {
    pub id: Uuid,
    pub name: String,
    pub mode: String,
    /// Of a link that names as MirrorMaker does.
    pub mirror_maker: Option<MirrorMakerSpec>,
    pub bootstrap: Vec<String>,
    /// The source's cluster id, once it is known.
    pub source_cluster: Option<String>,
    pub topics: Vec<String>,
    pub groups: Vec<String>,
    pub paused: bool,
    pub bytes_per_second: Option<u64>,
    /// `None`: the cluster's default.
    pub replication_factor: Option<i16>,
    /// The broker that looks after it.
    pub broker: Option<BrokerId>,
    /// When the source last told which topics it has.
    pub seen_at: Option<Timestamp>,
    /// Why it did not the last time.
    pub error: Option<String>,
    /// Topics that the patterns name and that are not copied, with the reason.
    pub skipped: BTreeMap<String, String>,
}

/// A mirror.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MirrorDescription {
    pub topic: String,
    pub topic_id: Uuid,
    pub link: Uuid,
    pub source_topic: String,
    /// Such as `ACTIVE`.
    pub state: String,
    /// Why nothing of it is copied any more.
    pub reason: Option<String>,
    pub partitions: BTreeMap<i32, MirrorProgress>,
}

/// How far a partition of a mirror is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MirrorProgress {
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    /// Of the source, of the newest records.
    pub source_epoch: Option<LeaderEpoch>,
    pub fault: Option<MirrorTrouble>,
    /// `None` where its leader did not answer; so for all below.
    pub log_start_offset: Option<Offset>,
    pub log_end_offset: Option<Offset>,
    /// Where what was copied ends: of a promoted mirror where clients' records begin.
    pub copied_end: Option<Offset>,
    /// Of the source, when it was last heard of.
    pub source_log_start: Option<Offset>,
    pub source_log_end: Option<Offset>,
    pub seen_at: Option<Timestamp>,
    /// When the copy last had all that the source had.
    pub caught_up_at: Option<Timestamp>,
    /// Why nothing is copied at the moment.
    pub error: Option<String>,
}

impl MirrorProgress {
    /// Offsets that the source had, when it was last heard of, and that were not copied.
    #[must_use]
    pub fn lag(&self) -> Option<i64> {
        let (end, copied) = (self.source_log_end?, self.copied_end?);
        Some(end.since(copied).max(0))
    }
}

/// Why nothing is copied into a partition any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MirrorTrouble {
    /// Such as `TRUNCATED`.
    pub name: String,
    pub text: String,
    /// What an operator can do.
    pub choices: String,
}

/// Links by name and mirrors by topic, with what their brokers know of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Links {
    pub links: BTreeMap<String, LinkDescription>,
    pub mirrors: BTreeMap<String, MirrorDescription>,
    /// Brokers that could not be asked: what they lead is not told.
    pub unreachable: BTreeMap<BrokerId, String>,
}

fn strs(texts: &[String]) -> Vec<Str> {
    texts.iter().map(|text| Str::from(text.as_str())).collect()
}

fn strings(texts: &[Str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn offset(offset: i64) -> Option<Offset> {
    (offset >= 0).then_some(Offset(offset))
}

fn time(millis: i64) -> Option<Timestamp> {
    (millis >= 0).then_some(Timestamp(millis))
}

impl Admin {
    /// Makes a link; its id, or with `validate_only` zero.
    pub async fn create_link(
        &self,
        link: &LinkSpec,
        validate_only: bool,
    ) -> Result<Uuid, ClientError> {
        let limit = link.bytes_per_second.unwrap_or(0);
        let of = link.mirror_maker.as_ref();
        let request = AlterLinksRequest {
            operation: 0,
            name: Some(link.name.as_str().into()),
            mode: i8::from(of.is_some()),
            replication_policy: i8::from(of.is_some_and(|of| of.identity)),
            separator: of.map(|of| of.separator.as_str().into()),
            alias: of.map(|of| of.alias.as_str().into()),
            source_heartbeats: of.is_some_and(|of| of.source_heartbeats),
            bootstrap: Some(strs(&link.bootstrap)),
            topics: Some(strs(&link.topics)),
            groups: Some(strs(&link.groups)),
            bytes_per_second: i64::try_from(limit).unwrap_or(i64::MAX),
            replication_factor: link.replication_factor.unwrap_or(-1),
            validate_only,
            ..Default::default()
        };
        let what = format!("creating link '{}'", link.name);
        Ok(self.alter_links(&what, request).await?.link_id)
    }

    pub async fn alter_link(
        &self,
        name: &str,
        change: &LinkChange,
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let texts = |texts: &Option<Vec<String>>| texts.as_ref().map(|texts| strs(texts));
        let limit = change.bytes_per_second;
        let request = AlterLinksRequest {
            operation: 1,
            name: Some(name.into()),
            bootstrap: texts(&change.bootstrap),
            topics: texts(&change.topics),
            groups: texts(&change.groups),
            paused: change.paused.map_or(-1, i8::from),
            bytes_per_second: limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX)),
            validate_only,
            ..Default::default()
        };
        let what = format!("changing link '{name}'");
        self.alter_links(&what, request).await.map(|_| ())
    }

    /// Deletes a link. With `force` the mirrors that it fills are promoted first; they are the
    /// answer.
    pub async fn delete_link(
        &self,
        name: &str,
        force: bool,
        validate_only: bool,
    ) -> Result<Vec<String>, ClientError> {
        let request = AlterLinksRequest {
            operation: 2,
            name: Some(name.into()),
            force,
            validate_only,
            ..Default::default()
        };
        let what = format!("deleting link '{name}'");
        let answer = self.alter_links(&what, request).await?;
        let topics = answer.promoted.iter();
        Ok(topics.map(|topic| topic.topic.to_string()).collect())
    }

    /// Makes mirrors writable: those named, or all that are not yet; only of `link`, where one is
    /// given. By topic, and in it by partition, the leader epoch from which on clients write.
    pub async fn promote_mirrors(
        &self,
        link: Option<&str>,
        topics: Option<&[String]>,
        validate_only: bool,
    ) -> Result<Each<String, Vec<LeaderEpoch>>, ClientError> {
        let request = AlterLinksRequest {
            operation: 3,
            name: link.map(Str::from),
            mirrors: topics.map(strs),
            validate_only,
            ..Default::default()
        };
        let answer = self.alter_links("promoting mirrors", request).await?;
        let result = |topic: &crate::wire::message::alter_links::PromotedTopic| {
            let checked = ApiError::check(topic.error_code, topic.error_message.as_deref());
            let epochs = topic.leader_epochs.iter().copied().map(LeaderEpoch);
            (topic.topic.to_string(), checked.map(|()| epochs.collect()))
        };
        Ok(answer.promoted.iter().map(result).collect())
    }

    async fn alter_links(
        &self,
        what: &str,
        mut request: AlterLinksRequest,
    ) -> Result<AlterLinksResponse, ClientError> {
        request.timeout_ms = self.broker_timeout_ms();
        let attempt = || async {
            let answer = self.cluster.call_any(request.clone()).await?;
            ApiError::check(answer.error_code, answer.error_message.as_deref())
                .map_err(|error| ClientError::refused(what, error))?;
            Ok(answer)
        };
        self.cluster.retry(what, attempt).await
    }

    /// Links and their mirrors: those named, or all. Every broker is asked, for only the one that
    /// leads a partition knows how far it is; those that do not answer are named.
    pub async fn describe_links(&self, names: Option<&[String]>) -> Result<Links, ClientError> {
        let request = DescribeLinksRequest {
            links: names.map(strs),
            include_mirrors: true,
            ..Default::default()
        };
        let what = "describing links";
        let mut all = Links::default();
        let mut last = None;
        let mut heard = 0;
        for broker in self.broker_ids().await? {
            let asked = self.asked(what, || self.cluster.call(broker, request.clone()));
            match asked.await {
                Ok(answer) => {
                    heard += 1;
                    merge(&mut all, broker, &answer);
                }
                Err(error @ ClientError::Refused { .. }) => return Err(error),
                Err(error) => {
                    all.unreachable.insert(broker, error.to_string());
                    last = Some(error);
                }
            }
        }
        match last {
            Some(error) if heard == 0 => Err(error),
            _ => Ok(all),
        }
    }

    async fn asked<F>(
        &self,
        what: &str,
        call: impl Fn() -> F,
    ) -> Result<DescribeLinksResponse, ClientError>
    where
        F: Future<Output = Result<DescribeLinksResponse, ClientError>>,
    {
        let answer = call().await?;
        ApiError::check(answer.error_code, answer.error_message.as_deref())
            .map_err(|error| ClientError::refused(what, error))?;
        Ok(answer)
    }
}

/// Adds what one broker knows.
fn merge(all: &mut Links, broker: BrokerId, answer: &DescribeLinksResponse) {
    for one in &answer.links {
        let known = all.links.get(one.name.as_str());
        if known.is_none() || one.looked_after {
            all.links.insert(one.name.to_string(), link(broker, one));
        }
    }
    for one in &answer.mirrors {
        let known = all
            .mirrors
            .entry(one.topic.to_string())
            .or_insert_with(|| mirror(one));
        for told in &one.partitions {
            let is_known = known.partitions.contains_key(&told.partition);
            if told.led_here || !is_known {
                known.partitions.insert(told.partition, progress(told));
            }
        }
    }
}

fn link(broker: BrokerId, one: &DescribedLink) -> LinkDescription {
    let skipped = one.skipped.iter();
    LinkDescription {
        id: one.link_id,
        name: one.name.to_string(),
        mode: one.mode.to_string(),
        mirror_maker: mirror_maker(one),
        bootstrap: strings(&one.bootstrap),
        source_cluster: one.source_cluster.as_ref().map(ToString::to_string),
        topics: strings(&one.topics),
        groups: strings(&one.groups),
        paused: one.paused,
        bytes_per_second: u64::try_from(one.bytes_per_second).ok(),
        replication_factor: Some(one.replication_factor).filter(|factor| *factor > 0),
        broker: one.looked_after.then_some(broker),
        seen_at: time(one.seen_at_ms),
        error: one.error.as_ref().map(ToString::to_string),
        skipped: skipped
            .map(|topic| (topic.topic.to_string(), topic.reason.to_string()))
            .collect(),
    }
}

fn mirror_maker(one: &DescribedLink) -> Option<MirrorMakerSpec> {
    Some(MirrorMakerSpec {
        identity: one.replication_policy.as_ref()?.as_str() == "identity",
        separator: one.separator.as_ref()?.to_string(),
        alias: one.alias.as_ref()?.to_string(),
        source_heartbeats: one.source_heartbeats,
    })
}

fn mirror(one: &DescribedMirror) -> MirrorDescription {
    MirrorDescription {
        topic: one.topic.to_string(),
        topic_id: one.topic_id,
        link: one.link_id,
        source_topic: one.source_topic.to_string(),
        state: one.state.to_string(),
        reason: one.reason.as_ref().map(ToString::to_string),
        partitions: BTreeMap::new(),
    }
}

fn progress(one: &DescribedMirrorPartition) -> MirrorProgress {
    let text = |text: &Option<Str>| text.as_ref().map_or_else(String::new, ToString::to_string);
    MirrorProgress {
        leader: (one.leader >= 0).then_some(BrokerId(one.leader)),
        leader_epoch: LeaderEpoch(one.leader_epoch),
        source_epoch: (one.source_epoch >= 0).then_some(LeaderEpoch(one.source_epoch)),
        fault: one.fault.as_ref().map(|name| MirrorTrouble {
            name: name.to_string(),
            text: text(&one.fault_text),
            choices: text(&one.choices),
        }),
        log_start_offset: offset(one.log_start_offset),
        log_end_offset: offset(one.log_end_offset),
        copied_end: offset(one.copied_end),
        source_log_start: offset(one.source_log_start),
        source_log_end: offset(one.source_log_end),
        seen_at: time(one.seen_at_ms),
        caught_up_at: time(one.caught_up_at_ms),
        error: one.error.as_ref().map(ToString::to_string),
    }
}
