//! A request of this node on its way to the active controller, which may stop or die meanwhile.
//!
//! What was asked may have been done although no answer came. Asked again, it must not be done
//! twice, and what the lost attempt did must not look like somebody else's doing.

use std::collections::BTreeMap;

use super::image::ClusterImage;
use super::request::{
    CreatePartitions, CreateTopics, DeleteTopics, DeletedTopic, Refusal, Reply, Request,
    TopicSelector,
};
use crate::env::Rng;
use crate::types::{ErrorCode, TopicId, Uuid};

/// A request, in the form of its next attempt.
pub(super) struct Asking {
    request: Request,
    /// The topics that a deletion named, as it named them.
    selectors: Vec<TopicSelector>,
    /// Those of them that this node knew when it was asked.
    doomed: BTreeMap<String, TopicId>,
    /// Topics that had as many partitions as asked for, or more, when it was asked: no attempt of
    /// this gave them any.
    large_enough: BTreeMap<String, TopicId>,
    was_lost: bool,
}

impl Asking {
    pub(super) fn new(mut request: Request, image: &ClusterImage, entropy: &mut Rng) -> Self {
        let mut selectors = Vec::new();
        let mut doomed = BTreeMap::new();
        if let Request::DeleteTopics(DeleteTopics { topics }) = &request {
            selectors.clone_from(topics);
            for selector in topics {
                if let TopicSelector::Name(name) = selector
                    && let Some(topic) = image.topic(name)
                {
                    doomed.insert(name.clone(), topic.id);
                }
            }
        }
        let mut large_enough = BTreeMap::new();
        if let Request::CreatePartitions(CreatePartitions { topics, .. }) = &request {
            for asked in topics {
                if let Some(topic) = image.topic(&asked.name)
                    && is_at_least(topic.partitions.len(), asked.count)
                {
                    large_enough.insert(asked.name.clone(), topic.id);
                }
            }
        }
        draw_ids(&mut request, entropy);
        Self {
            request,
            selectors,
            doomed,
            large_enough,
            was_lost: false,
        }
    }

    pub(super) fn request(&self) -> &Request {
        &self.request
    }

    /// Whether asking twice comes to the same as asking once, so that a lost answer may be asked
    /// for again. (A block of producer ids that nobody got is no loss.)
    pub(super) fn may_repeat(&self) -> bool {
        match &self.request {
            // By name it could be another topic the next time.
            Request::DeleteTopics(_) => self.selectors.iter().all(|selector| match selector {
                TopicSelector::Name(name) => self.doomed.contains_key(name),
                TopicSelector::Id(_) => true,
            }),
            Request::UnregisterBroker { .. } | Request::DeleteLink(_) => false,
            _ => true,
        }
    }

    /// Takes note that an attempt may have been carried out unanswered.
    pub(super) fn lost(&mut self, entropy: &mut Rng) {
        self.was_lost = true;
        draw_ids(&mut self.request, entropy);
        if let Request::DeleteTopics(DeleteTopics { topics }) = &mut self.request {
            for selector in topics {
                if let TopicSelector::Name(name) = selector
                    && let Some(id) = self.doomed.get(name)
                {
                    *selector = TopicSelector::Id(*id);
                }
            }
        }
    }

    /// The reply to the first attempt, had it been answered. `image` has what `reply` tells.
    pub(super) fn settle(&self, reply: Reply, image: &ClusterImage) -> Reply {
        if !self.was_lost {
            return reply;
        }
        match (&self.request, reply) {
            (Request::CreatePartitions(asked), Reply::CreatePartitions(results)) => {
                Reply::CreatePartitions(self.grown(asked, results, image))
            }
            (_, Reply::DeleteTopics(results)) => {
                let results = self.selectors.iter().zip(results);
                let results = results.map(|(selector, (_, result))| {
                    (selector.clone(), self.deleted(selector, result, image))
                });
                Reply::DeleteTopics(results.collect())
            }
            (_, reply) => reply,
        }
    }

    /// What came of adding partitions again: a topic that has as many as asked for, and had not
    /// when it was asked, was given them.
    fn grown(
        &self,
        asked: &CreatePartitions,
        results: Vec<(String, Result<(), Refusal>)>,
        image: &ClusterImage,
    ) -> Vec<(String, Result<(), Refusal>)> {
        let is_done = |name: &str| {
            let wanted = asked.topics.iter().find(|topic| topic.name == name);
            let wanted = wanted.and_then(|topic| usize::try_from(topic.count).ok());
            image.topic(name).is_some_and(|topic| {
                !asked.validate_only
                    && Some(topic.partitions.len()) == wanted
                    && self.large_enough.get(name) != Some(&topic.id)
            })
        };
        let settled = |(name, result): (String, Result<(), Refusal>)| {
            let result = match result {
                Err(refusal) if refusal.code == ErrorCode::InvalidPartitions && is_done(&name) => {
                    Ok(())
                }
                other => other,
            };
            (name, result)
        };
        results.into_iter().map(settled).collect()
    }

    /// What came of a deletion that was repeated: a topic that is gone was deleted.
    fn deleted(
        &self,
        selector: &TopicSelector,
        result: Result<DeletedTopic, Refusal>,
        image: &ClusterImage,
    ) -> Result<DeletedTopic, Refusal> {
        let TopicSelector::Name(name) = selector else {
            return result;
        };
        let refusal = match result {
            Err(refusal) if refusal.code == ErrorCode::UnknownTopicId => refusal,
            other => return other,
        };
        match image.topic(name) {
            Some(_) => Err(Refusal::new(ErrorCode::RequestTimedOut, refusal.text)),
            None => Ok(DeletedTopic {
                name: name.clone(),
                topic_id: self.doomed.get(name).copied().unwrap_or(Uuid::ZERO),
            }),
        }
    }
}

/// Whether `count` partitions are as many as were asked for, or more.
fn is_at_least(count: usize, asked: i32) -> bool {
    usize::try_from(asked).is_ok_and(|asked| count >= asked)
}

/// A further id for every topic to be made: were an id used for two attempts, a topic that was
/// deleted in between could come back with it.
fn draw_ids(request: &mut Request, entropy: &mut Rng) {
    if let Request::CreateTopics(CreateTopics {
        topics,
        validate_only: false,
    }) = request
    {
        for topic in topics {
            topic.ids.push(Uuid::from_random(entropy.bytes()));
        }
    }
}
