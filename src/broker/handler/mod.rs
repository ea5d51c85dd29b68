//! One file per API: a decoded request in, a response out.
//!
//! Handlers hold no protocol state: they ask the partition shards, the controller or the group
//! coordinator, and put the answer into the form of the wire.

mod alter_configs;
pub mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_log_dirs;
mod describe_topic_partitions;
mod elect_leaders;
mod fetch;
mod find_coordinator;
mod groups;
mod init_producer_id;
mod leadership;
mod links;
mod list_offsets;
mod metadata;
mod mirrors;
mod offset_commit;
mod offset_fetch;
mod offset_for_leader_epoch;
mod partition_history;
mod partition_reassignments;
mod produce;
mod quorum;
mod settling;
mod unregister_broker;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::Broker;
use crate::controller::{ClusterImage, Controller, Refusal, TopicImage};
use crate::env::BoxFuture;
use crate::types::{BrokerId, ErrorCode};
use crate::wire::Str;
use crate::wire::api::{Request, Response};

/// What a handler may want to know about where a request came from.
#[derive(Clone, Debug)]
pub struct RequestContext {
    pub client_id: Option<Str>,
    pub version: i16,
    /// `ip:port` the client dialled.
    pub local_address: Arc<str>,
    /// `ip:port` of the client.
    pub peer_address: Arc<str>,
    /// Which of the settings' listeners the client came by.
    pub listener: usize,
}

/// What a request comes to.
pub enum Answer {
    Response(Response),
    /// There is no other way to tell the client (a failed produce with acks=0).
    CloseConnection,
}

/// A request that was started.
pub struct Handling {
    /// `None` where the protocol has no answer.
    pub response: BoxFuture<'static, Option<Answer>>,
    /// Whether the next request of the connection waits for this answer.
    pub exclusive: bool,
}

impl Handling {
    pub fn pipelined(response: impl Future<Output = Option<Answer>> + Send + 'static) -> Self {
        Self {
            response: Box::pin(response),
            exclusive: false,
        }
    }

    fn exclusive<R: Into<Response>>(response: impl Future<Output = R> + Send + 'static) -> Self {
        let response = Box::pin(async { Some(Answer::Response(response.await.into())) });
        Self {
            response,
            exclusive: true,
        }
    }

    pub fn ready(response: impl Into<Response>) -> Self {
        let answer = Answer::Response(response.into());
        Self {
            response: Box::pin(async { Some(answer) }),
            exclusive: false,
        }
    }
}

/// Starts a request. What must keep the order of the connection has happened when this returns.
pub async fn start(broker: &Arc<Broker>, context: RequestContext, request: Request) -> Handling {
    let b = broker.clone();
    let version = context.version;
    match request {
        Request::Produce(body) => produce::start(broker, &context, body).await,
        Request::Fetch(body) => Handling::exclusive(fetch::handle(b, context, body)),
        Request::ListOffsets(body) => Handling::exclusive(list_offsets::handle(b, context, body)),
        Request::Metadata(body) => Handling::exclusive(metadata::handle(b, context, body)),
        Request::ApiVersions(body) => Handling::ready(api_versions::handle(version, &body)),
        Request::CreateTopics(body) => Handling::exclusive(create_topics::handle(b, body)),
        Request::DeleteTopics(body) => Handling::exclusive(delete_topics::handle(b, version, body)),
        Request::DeleteRecords(body) => Handling::exclusive(delete_records::handle(b, body)),
        Request::CreatePartitions(body) => Handling::exclusive(create_partitions::handle(b, body)),
        Request::InitProducerId(body) => Handling::exclusive(init_producer_id::handle(b, body)),
        Request::OffsetForLeaderEpoch(body) => {
            Handling::ready(offset_for_leader_epoch::handle(broker, body))
        }
        Request::DescribeConfigs(body) => Handling::ready(describe_configs::handle(broker, &body)),
        Request::AlterConfigs(body) => Handling::exclusive(alter_configs::replace(b, body)),
        Request::IncrementalAlterConfigs(body) => {
            Handling::exclusive(alter_configs::incremental(b, body))
        }
        Request::DescribeCluster(body) => {
            Handling::ready(describe_cluster::handle(broker, &context, &body))
        }
        Request::DescribeTopicPartitions(body) => {
            Handling::ready(describe_topic_partitions::handle(broker, &body))
        }
        Request::DescribeLogDirs(body) => Handling::exclusive(describe_log_dirs::handle(b, body)),
        group => start_group(b, context, group),
    }
}

/// Requests for a group coordinator.
fn start_group(b: Arc<Broker>, context: RequestContext, request: Request) -> Handling {
    match request {
        Request::FindCoordinator(body) => {
            Handling::exclusive(find_coordinator::handle(b, context, body))
        }
        Request::JoinGroup(body) => Handling::exclusive(groups::join(b, context, body)),
        Request::SyncGroup(body) => Handling::exclusive(groups::sync(b, body)),
        Request::Heartbeat(body) => Handling::exclusive(groups::heartbeat(b, body)),
        Request::LeaveGroup(body) => Handling::exclusive(groups::leave(b, context, body)),
        Request::DescribeGroups(body) => Handling::exclusive(groups::describe(b, context, body)),
        Request::ListGroups(body) => Handling::exclusive(groups::list(b, body)),
        Request::DeleteGroups(body) => Handling::exclusive(groups::delete(b, body)),
        Request::OffsetCommit(body) => Handling::exclusive(offset_commit::handle(b, context, body)),
        Request::OffsetFetch(body) => Handling::exclusive(offset_fetch::handle(b, context, body)),
        Request::OffsetDelete(body) => Handling::exclusive(offset_commit::delete(b, body)),
        cluster => start_cluster(b, cluster),
    }
}

/// Requests about where partitions are and who may lead, about the quorum, and about links.
fn start_cluster(b: Arc<Broker>, request: Request) -> Handling {
    match request {
        Request::ElectLeaders(body) => Handling::exclusive(elect_leaders::handle(b, body)),
        Request::AlterPartitionReassignments(body) => {
            Handling::exclusive(partition_reassignments::alter(b, body))
        }
        Request::ListPartitionReassignments(body) => {
            Handling::ready(partition_reassignments::list(&b, &body))
        }
        Request::DescribeQuorum(body) => Handling::exclusive(quorum::describe(b, body)),
        Request::AddRaftVoter(body) => Handling::exclusive(quorum::add_voter(b, body)),
        Request::RemoveRaftVoter(body) => Handling::exclusive(quorum::remove_voter(b, body)),
        Request::UnregisterBroker(body) => Handling::exclusive(unregister_broker::handle(b, body)),
        Request::PartitionHistory(body) => Handling::ready(partition_history::handle(&b, &body)),
        Request::AlterLinks(body) => Handling::exclusive(links::alter(b, body)),
        Request::DescribeLinks(body) => Handling::ready(links::describe(&b, &body)),
        other => unreachable!("{} is started elsewhere", other.api_key().name()),
    }
}

/// The controller, for a client that waits `timeout_ms`.
fn controller_within(broker: &Broker, timeout_ms: i32) -> Controller {
    broker.controller.within(patience(timeout_ms))
}

/// How long to work for a client that waits `timeout_ms`: at least a moment, and not for ever. The
/// client gives up on the whole exchange after the same time: a little less leaves room for the
/// answer, which says more than none.
fn patience(timeout_ms: i32) -> Duration {
    const LONGEST_MS: i32 = 10 * 60 * 1000;
    const ROOM: Duration = Duration::from_millis(500);
    let told = Duration::from_millis(u64::from(timeout_ms.clamp(1, LONGEST_MS).unsigned_abs()));
    told - ROOM.min(told / 5)
}

/// An outcome as most responses tell it: a code, and a text where it is an error.
fn outcome(done: Result<(), Refusal>) -> (i16, Option<Str>) {
    match done {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(refusal) => (refusal.code.code(), Some(refusal.text.into())),
    }
}

fn ids(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|id| id.0).collect()
}

/// Operations as DescribeTopics and its kin number them, as a bit each. Without access control
/// everyone may do everything.
const TOPIC_OPERATIONS: i32 =
    (1 << 3) | (1 << 4) | (1 << 5) | (1 << 6) | (1 << 7) | (1 << 8) | (1 << 10) | (1 << 11);
const CLUSTER_OPERATIONS: i32 =
    (1 << 5) | (1 << 7) | (1 << 8) | (1 << 9) | (1 << 10) | (1 << 11) | (1 << 12);
const GROUP_OPERATIONS: i32 = (1 << 3) | (1 << 6) | (1 << 8);

/// The operations to tell of, or the number that says they were not asked for.
fn operations(wanted: bool, operations: i32) -> i32 {
    if wanted { operations } else { i32::MIN }
}

/// Replicas of a partition that cannot serve: their broker is not alive, or, of those on this
/// broker, their log cannot be used.
fn offline_replicas(
    broker: &Broker,
    image: &ClusterImage,
    topic: &TopicImage,
    partition: i32,
) -> Vec<i32> {
    let Some(state) = topic.partition(partition) else {
        return Vec::new();
    };
    let table = broker.partitions.table();
    let known = table.topic_by_id(topic.id);
    let is_lost = known.is_some_and(|topic| topic.offline.contains(&partition));
    let is_offline = |id: &&BrokerId| {
        let record = image.broker(**id);
        record.is_none_or(|record| record.fenced) || (is_lost && **id == broker.config.node_id)
    };
    let offline = state.replicas.iter().filter(is_offline);
    offline.map(|id| id.0).collect()
}
