//! The APIs: one table with each API's key, its versions and its types.

use super::frame::{self, RequestHeader};
use super::later::Part;
use super::message::*;
use super::primitive::{Version, Wire};
use super::reader::{DecodeError, Reader};
#[cfg(test)]
use super::tests::arbitrary::{Arbitrary, Dice};
use super::writer::{EncodeError, Writer};

/// A request type: which API it belongs to and what answers it.
pub trait ApiRequest: Wire + Send + 'static {
    const KEY: ApiKey;
    type Response: Wire + Send + 'static;
}

macro_rules! apis {
    (@flexible flexible $since:literal) => { Some($since) };
    (@flexible rigid) => { None };
    ($(
        $name:ident = $key:literal: $module:ident::{$request:ident, $response:ident $(,)?},
        $versions:expr, $kind:ident $($since:literal)?;
    )*) => {
        /// An API this build can code.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(i16)]
        pub enum ApiKey {
            $($name = $key,)*
        }

        impl ApiKey {
            /// Every API of the table, by ascending key; the one that is not announced last.
            pub const TABLE: &'static [Self] = &[$(Self::$name,)*];

            /// The API with this key; `None` when the table has none.
            #[must_use]
            pub fn from_wire(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Versions that can be decoded and encoded, both ends included.
            #[must_use]
            pub fn versions(self) -> std::ops::RangeInclusive<i16> {
                match self {
                    $(Self::$name => $versions,)*
                }
            }

            /// First version with compact lengths and tagged fields (KIP-482).
            #[must_use]
            pub fn flexible_since(self) -> Option<i16> {
                match self {
                    $(Self::$name => apis!(@flexible $kind $($since)?),)*
                }
            }

            /// Kafka's name of the API.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }

        /// A decoded request of any API.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Request {
            $($name($module::$request),)*
        }

        impl Request {
            #[must_use]
            pub fn api_key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }

            /// Reads the body of a request. Bytes may be left over: the caller decides.
            pub fn read(
                key: ApiKey,
                from: &mut Reader,
                version: Version,
            ) -> Result<Self, DecodeError> {
                Ok(match key {
                    $(ApiKey::$name => Self::$name(Wire::read(from, version)?),)*
                })
            }

            /// Writes the body of a request.
            pub fn write(&self, to: &mut Writer, version: Version) {
                match self {
                    $(Self::$name(body) => body.write(to, version),)*
                }
            }
        }

        /// A response of any API.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Response {
            $($name($module::$response),)*
        }

        impl Response {
            #[must_use]
            pub fn api_key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }

            /// Reads the body of a response.
            pub fn read(
                key: ApiKey,
                from: &mut Reader,
                version: Version,
            ) -> Result<Self, DecodeError> {
                Ok(match key {
                    $(ApiKey::$name => Self::$name(Wire::read(from, version)?),)*
                })
            }

            /// Writes the body of a response.
            pub fn write(&self, to: &mut Writer, version: Version) {
                match self {
                    $(Self::$name(body) => body.write(to, version),)*
                }
            }
        }

        #[cfg(test)]
        impl Request {
            pub(super) fn arbitrary(key: ApiKey, dice: &mut Dice, version: Version) -> Self {
                match key {
                    $(ApiKey::$name => Self::$name(Arbitrary::arbitrary(dice, version)),)*
                }
            }
        }

        #[cfg(test)]
        impl Response {
            pub(super) fn arbitrary(key: ApiKey, dice: &mut Dice, version: Version) -> Self {
                match key {
                    $(ApiKey::$name => Self::$name(Arbitrary::arbitrary(dice, version)),)*
                }
            }
        }

        $(
            impl ApiRequest for $module::$request {
                const KEY: ApiKey = ApiKey::$name;
                type Response = $module::$response;
            }

            impl From<$module::$request> for Request {
                fn from(body: $module::$request) -> Self {
                    Self::$name(body)
                }
            }

            impl From<$module::$response> for Response {
                fn from(body: $module::$response) -> Self {
                    Self::$name(body)
                }
            }
        )*
    };
}

#[rustfmt::skip]
apis! {
    Produce = 0: produce::{ProduceRequest, ProduceResponse}, 3..=13, flexible 9;
    Fetch = 1: fetch::{FetchRequest, FetchResponse}, 4..=18, flexible 12;
    ListOffsets = 2: list_offsets::{ListOffsetsRequest, ListOffsetsResponse}, 1..=11, flexible 6;
    Metadata = 3: metadata::{MetadataRequest, MetadataResponse}, 0..=13, flexible 9;
    OffsetCommit = 8: offset_commit::{OffsetCommitRequest, OffsetCommitResponse},
        2..=10, flexible 8;
    OffsetFetch = 9: offset_fetch::{OffsetFetchRequest, OffsetFetchResponse}, 1..=10, flexible 6;
    FindCoordinator = 10: find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse},
        0..=6, flexible 3;
    JoinGroup = 11: join_group::{JoinGroupRequest, JoinGroupResponse}, 0..=9, flexible 6;
    Heartbeat = 12: heartbeat::{HeartbeatRequest, HeartbeatResponse}, 0..=4, flexible 4;
    LeaveGroup = 13: leave_group::{LeaveGroupRequest, LeaveGroupResponse}, 0..=5, flexible 4;
    SyncGroup = 14: sync_group::{SyncGroupRequest, SyncGroupResponse}, 0..=5, flexible 4;
    DescribeGroups = 15: describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse},
        0..=6, flexible 5;
    ListGroups = 16: list_groups::{ListGroupsRequest, ListGroupsResponse}, 0..=5, flexible 3;
    ApiVersions = 18: api_versions::{ApiVersionsRequest, ApiVersionsResponse}, 0..=4, flexible 3;
    CreateTopics = 19: create_topics::{CreateTopicsRequest, CreateTopicsResponse},
        2..=7, flexible 5;
    DeleteTopics = 20: delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse},
        1..=6, flexible 4;
    DeleteRecords = 21: delete_records::{DeleteRecordsRequest, DeleteRecordsResponse},
        0..=2, flexible 2;
    InitProducerId = 22: init_producer_id::{InitProducerIdRequest, InitProducerIdResponse},
        0..=5, flexible 2;
    OffsetForLeaderEpoch = 23: offset_for_leader_epoch::{
        OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    }, 2..=4, flexible 4;
    DescribeConfigs = 32: describe_configs::{DescribeConfigsRequest, DescribeConfigsResponse},
        1..=4, flexible 4;
    AlterConfigs = 33: alter_configs::{AlterConfigsRequest, AlterConfigsResponse},
        0..=2, flexible 2;
    DescribeLogDirs = 35: describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResponse},
        1..=5, flexible 2;
    CreatePartitions = 37: create_partitions::{CreatePartitionsRequest, CreatePartitionsResponse},
        0..=3, flexible 2;
    DeleteGroups = 42: delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse},
        0..=2, flexible 2;
    ElectLeaders = 43: elect_leaders::{ElectLeadersRequest, ElectLeadersResponse},
        0..=2, flexible 2;
    IncrementalAlterConfigs = 44: incremental_alter_configs::{
        IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    }, 0..=1, flexible 1;
    AlterPartitionReassignments = 45: alter_partition_reassignments::{
        AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    }, 0..=1, flexible 0;
    ListPartitionReassignments = 46: list_partition_reassignments::{
        ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    }, 0..=0, flexible 0;
    OffsetDelete = 47: offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse}, 0..=0, rigid;
    DescribeQuorum = 55: describe_quorum::{DescribeQuorumRequest, DescribeQuorumResponse},
        0..=2, flexible 0;
    DescribeCluster = 60: describe_cluster::{DescribeClusterRequest, DescribeClusterResponse},
        0..=2, flexible 0;
    UnregisterBroker = 64: unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse},
        0..=0, flexible 0;
    DescribeTopicPartitions = 75: describe_topic_partitions::{
        DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    }, 0..=0, flexible 0;
    AddRaftVoter = 80: add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse},
        0..=1, flexible 0;
    RemoveRaftVoter = 81: remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse},
        0..=0, flexible 0;
    PartitionHistory = 20002: partition_history::{
        PartitionHistoryRequest, PartitionHistoryResponse,
    }, 0..=0, flexible 0;
    AlterLinks = 20003: alter_links::{AlterLinksRequest, AlterLinksResponse}, 0..=1, flexible 0;
    DescribeLinks = 20004: describe_links::{DescribeLinksRequest, DescribeLinksResponse},
        0..=1, flexible 0;
    AskPeer = 20001: ask_peer::{AskPeerRequest, AskPeerResponse}, 0..=0, flexible 0;
}

/// Keys from here on are Klamm's own; Kafka gives out its keys from 0 up.
const PRIVATE_SINCE: i16 = 20_000;

impl ApiKey {
    /// Every API that is announced, by ascending key. What nodes ask each other is not among them:
    /// it is served on controller listeners alone and promises clients nothing.
    pub const ALL: &'static [Self] = Self::TABLE.split_at(Self::TABLE.len() - 1).0;

    /// Whether only Klamm speaks this API.
    #[must_use]
    pub fn is_private(self) -> bool {
        self as i16 >= PRIVATE_SINCE
    }

    /// How version `number` of this API is coded.
    #[must_use]
    pub fn version(self, number: i16) -> Version {
        Version {
            number,
            flexible: self.flexible_since().is_some_and(|since| number >= since),
        }
    }

    /// Lowest version to announce in ApiVersions. Produce is announced from 0 although versions
    /// 0 to 2 are refused: librdkafka before 2.11 compares the whole range with one of its own and
    /// stops compressing when it differs (KAFKA-18659).
    #[must_use]
    pub fn announced_min(self) -> i16 {
        match self {
            Self::Produce => 0,
            _ => *self.versions().start(),
        }
    }
}

impl Response {
    /// The whole response frame, length prefix included, as slices to be written in order.
    pub fn frame(
        &self,
        correlation_id: i32,
        version: i16,
    ) -> Result<Vec<bytes::Bytes>, EncodeError> {
        frame::response_frame(self, correlation_id, version)
    }

    /// As [`frame`](Self::frame), in parts some of which may be yet to come.
    pub fn parts(&self, correlation_id: i32, version: i16) -> Result<Vec<Part>, EncodeError> {
        frame::response_parts(self, correlation_id, version)
    }
}

impl Request {
    /// The whole request frame, length prefix included, as slices to be written in order.
    pub fn frame(&self, header: &RequestHeader) -> Result<Vec<bytes::Bytes>, EncodeError> {
        frame::request_frame(self, header)
    }
}
