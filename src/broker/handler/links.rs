//! AlterLinks and DescribeLinks: links to other clusters, and their mirrors.

use std::sync::Arc;

use super::{controller_within, outcome};
use crate::broker::Broker;
use crate::broker::partitions::Table;
use crate::controller::{
    AlterLink, ClusterImage, CreateLink, DeleteLink, LinkChange, LinkId, LinkMode, LinkRecord,
    MirrorImage, MirrorMaker, MirrorPartition, MirrorState, NewLink, PartitionState,
    PromoteMirrors, PromotedMirror, Refusal, ReplicationPolicy, TopicImage,
};
use crate::types::{ErrorCode, LeaderEpoch, Offset, TopicId, Uuid};
use crate::wire::Str;
use crate::wire::message::alter_links::{AlterLinksRequest, AlterLinksResponse, PromotedTopic};
use crate::wire::message::describe_links::{
    DescribeLinksRequest, DescribeLinksResponse, DescribedLink, DescribedMirror,
    DescribedMirrorPartition, SkippedTopic,
};

fn owned(texts: Option<&Vec<Str>>) -> Option<Vec<String>> {
    texts.map(|texts| texts.iter().map(|text| text.as_str().to_owned()).collect())
}

fn invalid<T>(text: String) -> Result<T, Refusal> {
    Err(Refusal::new(ErrorCode::InvalidRequest, text))
}

/// AlterLinks.
pub async fn alter(broker: Arc<Broker>, request: AlterLinksRequest) -> AlterLinksResponse {
    let mut response = AlterLinksResponse::default();
    let done = match request.operation {
        0 => create(&broker, &request)
            .await
            .map(|id| response.link_id = id),
        1 => change(&broker, &request).await,
        2 => delete(&broker, &request).await.map(|topics| {
            response.promoted = topics.into_iter().map(with_its_link).collect();
        }),
        3 => promote(&broker, &request).await.map(|topics| {
            response.promoted = topics.into_iter().map(promoted).collect();
        }),
        other => invalid(format!("{other} is no operation on links")),
    };
    (response.error_code, response.error_message) = outcome(done);
    response
}

fn name_of(request: &AlterLinksRequest) -> Result<String, Refusal> {
    match &request.name {
        Some(name) => Ok(name.as_str().to_owned()),
        None => invalid("no link is named".to_owned()),
    }
}

/// What is not negative.
fn limit(bytes_per_second: i64) -> Option<u64> {
    u64::try_from(bytes_per_second).ok()
}

fn mode_of(request: &AlterLinksRequest) -> Result<LinkMode, Refusal> {
    let text = |text: &Option<Str>| text.as_ref().map(|text| text.as_str().to_owned());
    match request.mode {
        0 => Ok(LinkMode::Exact),
        1 => {
            let Some(policy) = ReplicationPolicy::from_code(request.replication_policy) else {
                let code = request.replication_policy;
                return invalid(format!("{code} is no policy by which mirrors are named"));
            };
            let Some(alias) = text(&request.alias) else {
                return invalid("what this cluster is called is missing: --alias".to_owned());
            };
            Ok(LinkMode::MirrorMaker(MirrorMaker {
                policy,
                separator: text(&request.separator).unwrap_or_else(|| ".".to_owned()),
                alias,
                source_heartbeats: request.source_heartbeats,
            }))
        }
        other => invalid(format!("{other} is no mode of a link")),
    }
}

async fn create(broker: &Broker, request: &AlterLinksRequest) -> Result<LinkId, Refusal> {
    let mode = mode_of(request)?;
    let link = NewLink {
        id: Uuid::from_random(broker.random_bytes()),
        name: name_of(request)?,
        bootstrap: owned(request.bootstrap.as_ref()).unwrap_or_default(),
        mode,
        topics: owned(request.topics.as_ref()).unwrap_or_default(),
        groups: owned(request.groups.as_ref()).unwrap_or_default(),
        bytes_per_second: limit(request.bytes_per_second).unwrap_or(0),
        replication_factor: request.replication_factor,
    };
    let validate_only = request.validate_only;
    let wanted = CreateLink {
        link,
        validate_only,
    };
    let controller = controller_within(broker, request.timeout_ms);
    let id = controller.create_link(wanted).await?;
    Ok(if validate_only { Uuid::ZERO } else { id })
}

async fn change(broker: &Broker, request: &AlterLinksRequest) -> Result<(), Refusal> {
    let paused = match request.paused {
        -1 => None,
        0 => Some(false),
        1 => Some(true),
        other => return invalid(format!("{other} is neither paused nor resumed")),
    };
    let change = LinkChange {
        paused,
        bootstrap: owned(request.bootstrap.as_ref()),
        topics: owned(request.topics.as_ref()),
        groups: owned(request.groups.as_ref()),
        bytes_per_second: limit(request.bytes_per_second),
    };
    let wanted = AlterLink {
        name: name_of(request)?,
        change,
        validate_only: request.validate_only,
    };
    let controller = controller_within(broker, request.timeout_ms);
    controller.alter_link(wanted).await
}

async fn delete(broker: &Broker, request: &AlterLinksRequest) -> Result<Vec<String>, Refusal> {
    let wanted = DeleteLink {
        name: name_of(request)?,
        force: request.force,
        validate_only: request.validate_only,
    };
    let controller = controller_within(broker, request.timeout_ms);
    controller.delete_link(wanted).await
}

async fn promote(
    broker: &Broker,
    request: &AlterLinksRequest,
) -> Result<Vec<PromotedMirror>, Refusal> {
    let wanted = PromoteMirrors {
        link: request.name.as_ref().map(|name| name.as_str().to_owned()),
        topics: owned(request.mirrors.as_ref()),
        validate_only: request.validate_only,
    };
    let controller = controller_within(broker, request.timeout_ms);
    controller.promote_mirrors(wanted).await
}

fn with_its_link(topic: String) -> PromotedTopic {
    PromotedTopic {
        topic: topic.into(),
        ..Default::default()
    }
}

fn promoted((topic, result): PromotedMirror) -> PromotedTopic {
    let (leader_epochs, done) = match result {
        Ok(epochs) => (epochs.iter().map(|epoch| epoch.0).collect(), Ok(())),
        Err(refusal) => (Vec::new(), Err(refusal)),
    };
    let (error_code, error_message) = outcome(done);
    PromotedTopic {
        topic: topic.into(),
        error_code,
        error_message,
        leader_epochs,
        ..Default::default()
    }
}

/// DescribeLinks.
pub fn describe(broker: &Arc<Broker>, request: &DescribeLinksRequest) -> DescribeLinksResponse {
    let image = broker.controller.image();
    let links: Result<Vec<_>, Refusal> = match &request.links {
        None => Ok(image.links().collect()),
        Some(names) => names.iter().map(|name| named(&image, name)).collect(),
    };
    let links = match links {
        Ok(links) => links,
        Err(refusal) => {
            let (error_code, error_message) = outcome(Err(refusal));
            return DescribeLinksResponse {
                error_code,
                error_message,
                ..Default::default()
            };
        }
    };
    let is_meant = |mirror: &MirrorImage| {
        request.links.is_none() || links.iter().any(|link| link.id == mirror.topic.link)
    };
    let all = image.mirrors();
    let meant = all.filter(|(_, mirror)| request.include_mirrors && is_meant(mirror));
    let table = broker.partitions.table();
    let mirrors = meant.filter_map(|(id, mirror)| {
        let topic = image.topic_by_id(id)?;
        Some(described_mirror(broker, &table, topic, mirror))
    });
    DescribeLinksResponse {
        mirrors: mirrors.collect(),
        links: links.iter().map(|link| described(broker, link)).collect(),
        ..Default::default()
    }
}

fn named<'a>(image: &'a ClusterImage, name: &str) -> Result<&'a Arc<LinkRecord>, Refusal> {
    image.link_by_name(name).ok_or_else(|| {
        let text = format!("there is no link '{}'", name.escape_debug());
        Refusal::new(ErrorCode::ResourceNotFound, text)
    })
}

fn strs(texts: &[String]) -> Vec<Str> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

fn described(broker: &Broker, link: &LinkRecord) -> DescribedLink {
    let status = broker.mirrors.link(link.id);
    let looked_after = status.is_some();
    let status = status.unwrap_or_default();
    let limit = link.bytes_per_second;
    let skipped = status.skipped.into_iter();
    let mirror_maker = match &link.mode {
        LinkMode::Exact => None,
        LinkMode::MirrorMaker(of) => Some(of),
    };
    DescribedLink {
        link_id: link.id,
        name: link.name.as_str().into(),
        mode: link.mode.name().into(),
        bootstrap: strs(&link.bootstrap),
        source_cluster: link.source_cluster.as_deref().map(Into::into),
        topics: strs(&link.topics),
        groups: strs(&link.groups),
        paused: link.paused,
        bytes_per_second: limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX)),
        replication_factor: link.replication_factor,
        looked_after,
        seen_at_ms: status.seen_at.0,
        error: status.error.map(Into::into),
        skipped: skipped
            .map(|(topic, reason)| SkippedTopic {
                topic: topic.into(),
                reason: reason.into(),
                ..Default::default()
            })
            .collect(),
        replication_policy: mirror_maker.map(|of| of.policy.name().into()),
        separator: mirror_maker.map(|of| of.separator.as_str().into()),
        alias: mirror_maker.map(|of| of.alias.as_str().into()),
        source_heartbeats: mirror_maker.is_some_and(|of| of.source_heartbeats),
        ..Default::default()
    }
}

fn described_mirror(
    broker: &Broker,
    table: &Table,
    topic: &TopicImage,
    mirror: &MirrorImage,
) -> DescribedMirror {
    let partitions = (0..).zip(&topic.partitions).map(|(partition, state)| {
        let mut answer = in_metadata(partition, state, mirror.partition(partition));
        let since = mirror.topic.promoted_since(partition);
        with_progress(broker, table, topic.id, since, &mut answer);
        answer
    });
    DescribedMirror {
        topic: (&*topic.name).into(),
        topic_id: topic.id,
        link_id: mirror.topic.link,
        source_topic: mirror.topic.source_name.as_str().into(),
        source_topic_id: mirror.topic.source_id,
        state: mirror.topic.state.name().into(),
        reason: match &mirror.topic.state {
            MirrorState::Failed { reason } => Some(reason.as_str().into()),
            MirrorState::Active | MirrorState::Promoted => None,
        },
        partitions: partitions.collect(),
        ..Default::default()
    }
}

/// What every broker knows of a partition.
fn in_metadata(
    partition: i32,
    state: &PartitionState,
    known: Option<&MirrorPartition>,
) -> DescribedMirrorPartition {
    let fault = known.and_then(|known| known.fault.as_ref());
    let newest = known.and_then(|known| known.lineage.last());
    DescribedMirrorPartition {
        partition,
        leader: state.leader.map_or(-1, |leader| leader.0),
        leader_epoch: state.leader_epoch.0,
        source_epoch: newest.map_or(-1, |(epoch, _)| epoch.0),
        fault: fault.map(|fault| fault.name().into()),
        fault_text: fault.map(|fault| fault.to_string().into()),
        choices: fault.map(|fault| fault.choices().into()),
        ..Default::default()
    }
}

/// Where a promoted mirror's copy ends, given where its epochs do: `None` until all of it is
/// committed, for another leader may have less until then.
fn copied_end(end: Offset, high_watermark: Offset, log_start: Offset) -> Option<Offset> {
    match end {
        end if end > high_watermark => None,
        end if end >= Offset::ZERO => Some(end),
        // Nothing was copied, or it is gone by now.
        _ => Some(log_start),
    }
}

/// Adds what only the broker knows that leads the partition.
fn with_progress(
    broker: &Broker,
    table: &Table,
    topic: TopicId,
    since: Option<LeaderEpoch>,
    answer: &mut DescribedMirrorPartition,
) {
    let hosted = table.topic_by_id(topic);
    let hosted = hosted.and_then(|topic| topic.partitions.get(&answer.partition));
    let Some(view) = hosted.map(|hosted| &hosted.view) else {
        return;
    };
    let leadership = view.leadership();
    if !leadership.is_leader {
        return;
    }
    answer.led_here = true;
    answer.log_start_offset = view.reader().log_start_offset().0;
    answer.log_end_offset = view.log_end_offset().0;
    answer.copied_end = match since {
        None => answer.log_end_offset,
        // Until its owner knows of the promotion, the end may still grow.
        Some(since) if leadership.leader_epoch < since => -1,
        Some(since) => {
            let (_, end) = view.reader().end_of_epoch(LeaderEpoch(since.0 - 1));
            let log_start = view.reader().log_start_offset();
            copied_end(end, view.high_watermark(), log_start).map_or(-1, |end| end.0)
        }
    };
    if let Some(status) = broker.mirrors.get(topic, answer.partition) {
        answer.source_log_start = status.source_log_start.0;
        answer.source_log_end = status.source_log_end.0;
        answer.seen_at_ms = status.seen_at.0;
        answer.caught_up_at_ms = status.caught_up_at.0;
        answer.error = status.error.map(Into::into);
        if status.seen_at.0 < 0 {
            (answer.source_log_start, answer.source_log_end) = (-1, -1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copys_end_is_told_once_it_is_committed() {
        let told = |end, high_watermark| {
            copied_end(Offset(end), Offset(high_watermark), Offset(2)).map(|end| end.0)
        };
        assert_eq!(told(5, 4), None);
        assert_eq!(told(5, 5), Some(5));
        assert_eq!(told(5, 9), Some(5));
        assert_eq!(told(-1, 0), Some(2), "nothing was copied");
    }
}
