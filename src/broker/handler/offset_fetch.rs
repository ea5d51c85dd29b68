//! OffsetFetch: what a group has committed. Topic ids (version 10) are translated to names for the
//! coordinator and back.

use std::sync::Arc;

use super::RequestContext;
use crate::broker::Broker;
use crate::controller::ClusterImage;
use crate::types::ErrorCode;
use crate::wire::message::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};

/// First version that names topics by id.
const TOPIC_ID_SINCE: i16 = 10;

pub async fn handle(
    broker: Arc<Broker>,
    context: RequestContext,
    mut request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if context.version < TOPIC_ID_SINCE {
        return broker.fetch_offsets(request, context.version).await;
    }
    let image = broker.controller.image();
    let refused: Vec<Vec<OffsetFetchResponseTopics>> = request
        .groups
        .iter_mut()
        .map(|group| name_topics(&image, group))
        .collect();
    let mut response = broker.fetch_offsets(request, context.version).await;
    for (group, refused) in response.groups.iter_mut().zip(refused) {
        identify_topics(&image, group);
        group.topics.extend(refused);
    }
    response
}

impl Broker {
    /// A coordinator that was paused or cut off may have been replaced: it answers only what was
    /// true after it was last in touch with a controller.
    async fn fetch_offsets(
        &self,
        request: OffsetFetchRequest,
        version: i16,
    ) -> OffsetFetchResponse {
        let session_timeout = self.config.replication.session_timeout;
        let is_sure = || match &self.cluster {
            Some(cluster) => {
                let carried_out = self.controller.carried_out();
                let now = self.env.now();
                cluster
                    .standing
                    .is_in_touch(now, carried_out, session_timeout)
            }
            None => true,
        };
        let asked = self.groups.fetch_offsets(request, version, &is_sure);
        asked.await
    }
}

/// Puts names in place of ids; answers for the ids that are not known.
fn name_topics(
    image: &ClusterImage,
    group: &mut OffsetFetchRequestGroup,
) -> Vec<OffsetFetchResponseTopics> {
    let mut refused = Vec::new();
    let Some(topics) = &mut group.topics else {
        return refused;
    };
    topics.retain_mut(|topic| {
        if let Some(known) = image.topic_by_id(topic.topic_id) {
            topic.name = known.name.as_ref().into();
            return true;
        }
        let unknown = |index: &i32| OffsetFetchResponsePartitions {
            partition_index: *index,
            committed_offset: -1,
            error_code: ErrorCode::UnknownTopicId.code(),
            ..Default::default()
        };
        refused.push(OffsetFetchResponseTopics {
            topic_id: topic.topic_id,
            partitions: topic.partition_indexes.iter().map(unknown).collect(),
            ..Default::default()
        });
        false
    });
    refused
}

/// Puts ids beside names; a topic that is gone has none and is left out.
fn identify_topics(image: &ClusterImage, group: &mut OffsetFetchResponseGroup) {
    group
        .topics
        .retain_mut(|topic| match image.topic(&topic.name) {
            Some(known) => {
                topic.topic_id = known.id;
                true
            }
            None => false,
        });
}
