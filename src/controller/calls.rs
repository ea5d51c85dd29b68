//! Requests by name: [`Controller::ask`] with the types of each.

use super::handle::Controller;
use super::link::LinkId;
use super::record::ConfigResource;
use super::request::{
    AlterConfigs, AlterLink, AlterPartition, AlterReassignments, BrokerHeartbeat, CreateLink,
    CreatePartitions, CreateTopics, CreatedTopic, DeleteLink, DeleteTopics, DeletedTopic,
    ElectLeaders, EnterEpoch, EpochEntered, FailMirror, HeartbeatReply, IncrementalAlterConfigs,
    IsrChanged, LearnSource, PartitionResult, PromoteMirrors, PromotedMirror, Refusal,
    RegisterBroker, Reply, Request, TopicSelector,
};
use crate::types::{BrokerEpoch, BrokerId, ErrorCode, Uuid};

/// A method that asks `Request::$variant` and takes `Reply::$answer` for its answer.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ty) $variant:ident => $answer:ident($reply:ty);)*) => {
        impl Controller {
            $($(#[$doc])*
            pub async fn $name(&self, request: $request) -> Result<$reply, Refusal> {
                match self.ask(Request::$variant(request)).await? {
                    Reply::$answer(reply) => Ok(reply),
                    other => mismatched(&other),
                }
            })*
        }
    };
}

calls! {
    register_broker(RegisterBroker) RegisterBroker => RegisterBroker(BrokerEpoch);
    heartbeat(BrokerHeartbeat) Heartbeat => Heartbeat(HeartbeatReply);
    create_topics(CreateTopics) CreateTopics
        => CreateTopics(Vec<(String, Result<CreatedTopic, Refusal>)>);
    delete_topics(DeleteTopics) DeleteTopics
        => DeleteTopics(Vec<(TopicSelector, Result<DeletedTopic, Refusal>)>);
    create_partitions(CreatePartitions) CreatePartitions
        => CreatePartitions(Vec<(String, Result<(), Refusal>)>);
    incremental_alter_configs(IncrementalAlterConfigs) IncrementalAlterConfigs
        => AlterConfigs(Vec<(ConfigResource, Result<(), Refusal>)>);
    alter_configs(AlterConfigs) AlterConfigs
        => AlterConfigs(Vec<(ConfigResource, Result<(), Refusal>)>);
    alter_partition(AlterPartition) AlterPartition => AlterPartition(Vec<IsrChanged>);
    elect_leaders(ElectLeaders) ElectLeaders => ElectLeaders(Vec<PartitionResult>);
    alter_reassignments(AlterReassignments) AlterReassignments
        => AlterReassignments(Vec<PartitionResult>);
    create_link(CreateLink) CreateLink => CreateLink(LinkId);
    /// Answers the topics that were promoted with it.
    delete_link(DeleteLink) DeleteLink => DeleteLink(Vec<String>);
    /// Answers in the order of the request.
    enter_epochs(Vec<EnterEpoch>) EnterEpochs => EnterEpochs(Vec<EpochEntered>);
    promote_mirrors(PromoteMirrors) PromoteMirrors => PromoteMirrors(Vec<PromotedMirror>);
}

/// A method that asks `Request::$variant`, the answer to which says nothing.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident($variant:ident);)*) => {
        impl Controller {
            $($(#[$doc])*
            pub async fn $name(&self, request: $variant) -> Result<(), Refusal> {
                match self.ask(Request::$variant(request)).await? {
                    Reply::$variant => Ok(()),
                    other => mismatched(&other),
                }
            })*
        }
    };
}

commands! {
    alter_link(AlterLink);
    learn_source(LearnSource);
    fail_mirror(FailMirror);
}

impl Controller {
    /// Founds the cluster, or checks that it is this one.
    pub async fn found(&self, cluster_id: Uuid) -> Result<Uuid, Refusal> {
        match self.ask(Request::Found { cluster_id }).await? {
            Reply::Found(id) => Ok(id),
            other => mismatched(&other),
        }
    }

    /// Says that the process of broker `id` with this epoch is dead.
    pub async fn fence_broker(&self, id: BrokerId, epoch: BrokerEpoch) -> Result<(), Refusal> {
        match self.ask(Request::FenceBroker { id, epoch }).await? {
            Reply::FenceBroker => Ok(()),
            other => mismatched(&other),
        }
    }

    /// Forgets a broker that is gone for good.
    pub async fn unregister_broker(&self, id: BrokerId) -> Result<(), Refusal> {
        match self.ask(Request::UnregisterBroker { id }).await? {
            Reply::UnregisterBroker => Ok(()),
            other => mismatched(&other),
        }
    }
}

pub(super) fn mismatched<T>(reply: &Reply) -> Result<T, Refusal> {
    tracing::error!(?reply, "the controller answered another question");
    let text = "the controller answered another question";
    Err(Refusal::new(ErrorCode::UnknownServerError, text))
}
