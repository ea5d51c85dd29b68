//! Looks after a link, on one of the brokers: finds topics, partitions and settings of the source,
//! has mirrors made and changed accordingly, and carries over what groups committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::groups::{Mirrored, carry_over, ends_of, high_watermarks};
use super::mirror_maker::{State, Teller};
use super::source_of;
use crate::broker::Broker;
use crate::client::admin::{Admin, ConfigEntry, ConfigResource as SourceResource};
use crate::client::{ClientConfig, ClientError, Cluster, ClusterView, Topics};
use crate::config::validate_topic_value;
use crate::controller::{
    AlterOperation, ClusterImage, ConfigChange, ConfigResource, CreatePartitions, CreateTopics,
    FailMirror, IncrementalAlterConfigs, LearnSource, LinkRecord, MirrorFault, MirrorState,
    MorePartitions, NewMirror, NewTopic, PROVENANCE, Refusal, is_mirrored_setting,
};
use crate::group::Carried;
use crate::mirror::{Discovered, Here, Plan, Source, Step};
use crate::types::{ErrorCode, Offset, TopicPartition};

/// Most that an answer about topics and groups holds.
const ANSWER_MAX_BYTES: i32 = 16 << 20;

/// Rounds in a row in which a topic is gone, or another, before that is believed: a broker of the
/// source may be behind.
const CERTAIN_AFTER: u32 = 3;

/// Pause after a round that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks after `link` until it is dropped.
pub(super) async fn run(broker: Arc<Broker>, link: Arc<LinkRecord>) {
    let env = broker.env.clone();
    let interval = broker.config.replication.mirror_discovery_interval;
    let source = match source_of(&broker, &link, ANSWER_MAX_BYTES) {
        Ok(source) => source,
        Err(error) => return tell(&broker, &link, Some(error.to_string())),
    };
    let (here, admin) = match this_cluster(&broker) {
        Ok(here) => (here, Admin::on(source.clone())),
        Err(error) => return tell(&broker, &link, Some(error.to_string())),
    };
    let mut watch = Watch {
        teller: Teller::new(&link, &here, &source),
        admin,
        here: Admin::on(here),
        doubts: BTreeMap::new(),
        rounds: 0,
        broker,
        link,
    };
    loop {
        let outcome = watch.round().await;
        let pause = match &outcome {
            Ok(()) => interval,
            Err(error) => {
                tracing::debug!(link = %watch.link.name, %error, "the source cannot be looked at");
                interval.min(PAUSE)
            }
        };
        tell(
            &watch.broker,
            &watch.link,
            outcome.err().map(|error| error.to_string()),
        );
        env.sleep(pause).await;
    }
}

fn tell(broker: &Broker, link: &LinkRecord, error: Option<String>) {
    let now = broker.env.wall();
    broker.mirrors.update_link(link.id, |status| {
        if error.is_none() {
            status.seen_at = now;
        }
        status.error = error;
    });
}

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum RoundError {
    #[error(transparent)]
    Source(#[from] ClientError),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("the source does not say its cluster id")]
    Nameless,
    #[error("the source is this very cluster")]
    Itself,
    #[error(
        "the source is cluster {found} now, and was {known}: correct the link's bootstrap servers"
    )]
    Another { found: String, known: String },
    #[error("what MirrorMaker would tell cannot be written: {0}")]
    Untold(String),
}

struct Watch {
    broker: Arc<Broker>,
    link: Arc<LinkRecord>,
    /// The source.
    admin: Admin,
    /// This cluster, as a client sees it.
    here: Admin,
    teller: Option<Teller>,
    /// Topics that seem to be gone, or others, and for how many rounds.
    doubts: BTreeMap<String, u32>,
    /// Counts rounds.
    rounds: u64,
}

impl Watch {
    async fn round(&mut self) -> Result<(), RoundError> {
        self.rounds += 1;
        let view = self
            .admin
            .cluster()
            .refresh_with(&Topics::All, false)
            .await?;
        let image = self.broker.controller.image();
        let cluster_id = self.identify(&image, &view).await?;
        let mine = image
            .cluster_id()
            .map_or_else(String::new, |id| id.to_string());
        let here = self.topics_here(&image);
        let source = self.topics_there(&view, cluster_id, &here).await?;
        let plan = Plan::new(&source, &mine, &here, PROVENANCE);
        let mut skipped = plan.skipped;
        skipped.extend(self.came_through_here(&view));
        self.broker.mirrors.update_link(self.link.id, |status| {
            status.skipped = skipped;
        });
        self.carry_out(&image, plan.steps).await?;
        let mirrored = self.mirrored(&image);
        let mut state = State::default();
        if !self.link.groups.is_empty() {
            let carried = Carried {
                image: image.end(),
                round: self.rounds,
            };
            let sides = (&self.admin, &self.here);
            state.groups = carry_over(&self.link, sides, &mirrored, carried).await?;
        }
        if let Some(teller) = &mut self.teller {
            let ends = high_watermarks(&self.here, ends_of(mirrored.values())).await?;
            for (there, here) in mirrored {
                if let Some(end) = ends.get(&here).filter(|end| **end > Offset::ZERO) {
                    state.ends.insert(there, *end);
                }
            }
            let told = teller.tell(&self.broker, &self.link, &self.admin, state);
            told.await?;
        }
        Ok(())
    }

    /// Topics whose names say that their records have been here, where names say so.
    fn came_through_here(&self, view: &ClusterView) -> BTreeMap<String, String> {
        let names = view.topics.keys().map(ToString::to_string);
        let wanted = names.filter(|name| self.link.wants_topic(name) && self.link.is_cycle(name));
        let why = "by its name its records have been in this cluster";
        wanted.map(|name| (name, why.to_owned())).collect()
    }

    /// The source's cluster id, if it is the one that it always was.
    async fn identify(
        &self,
        image: &ClusterImage,
        view: &ClusterView,
    ) -> Result<String, RoundError> {
        let found = view.cluster_id.clone().ok_or(RoundError::Nameless)?;
        if image.cluster_id().is_some_and(|id| id.to_string() == found) {
            return Err(RoundError::Itself);
        }
        let known = image.link(self.link.id);
        match known.and_then(|link| link.source_cluster.clone()) {
            Some(known) if known != found => Err(RoundError::Another { found, known }),
            Some(_) => Ok(found),
            None => {
                let learnt = LearnSource {
                    link: self.link.id,
                    cluster_id: found.clone(),
                };
                self.broker.controller.learn_source(learnt).await?;
                Ok(found)
            }
        }
    }

    fn topics_here(&self, image: &ClusterImage) -> BTreeMap<String, Here> {
        let topics = image.topics().map(|topic| {
            let mirror = image.mirror(topic.id);
            let mirror = mirror.filter(|mirror| mirror.topic.link == self.link.id);
            let is_active = |state: &MirrorState| *state == MirrorState::Active;
            let active = mirror.filter(|mirror| is_active(&mirror.topic.state));
            if active.is_none() {
                return (topic.name.to_string(), other(mirror.is_some()));
            }
            let overrides = image.topic_overrides(&topic.name);
            let settings = overrides
                .iter()
                .filter(|(name, _)| is_mirrored_setting(name));
            let settings = settings.map(|(name, value)| (name.clone(), value.clone()));
            let here = Here {
                mirrors: active.map(|mirror| mirror.topic.source_id),
                source_name: active.map(|mirror| mirror.topic.source_name.clone()),
                is_of_link: true,
                partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
                settings: settings.collect(),
            };
            (topic.name.to_string(), here)
        });
        topics.collect()
    }

    async fn topics_there(
        &mut self,
        view: &ClusterView,
        cluster_id: String,
        here: &BTreeMap<String, Here>,
    ) -> Result<Source, RoundError> {
        let wanted = view.topics.values().filter(|topic| {
            let known = here.get(&self.link.name_here(&topic.name));
            let is_followed = known.is_some_and(|one| one.mirrors.is_some());
            let is_new = || self.link.wants_topic(&topic.name) && !self.link.is_cycle(&topic.name);
            !topic.is_internal && (is_followed || is_new())
        });
        let wanted: Vec<_> = wanted.collect();
        let names: Vec<SourceResource> = wanted
            .iter()
            .map(|topic| SourceResource::topic(&topic.name))
            .collect();
        let mut described = match names.is_empty() {
            true => BTreeMap::new(),
            false => self.admin.describe_configs(&names).await?,
        };
        let mut topics = BTreeMap::new();
        for (topic, name) in wanted.iter().zip(names) {
            let entries = described.remove(&name).and_then(Result::ok);
            let last = topic.partitions.keys().next_back();
            let discovered = Discovered {
                source_name: topic.name.to_string(),
                id: topic.id,
                partitions: last.map_or(0, |last| last + 1),
                settings: entries.as_deref().map(settings_of),
                provenance: provenance_of(entries.as_deref().unwrap_or_default()),
            };
            topics.insert(self.link.name_here(&topic.name), discovered);
        }
        let mut missing: BTreeSet<String> = BTreeSet::new();
        for (name, known) in here {
            let Some(source_name) = &known.source_name else {
                continue;
            };
            let error = view.topic_errors.get(source_name.as_str());
            let is_unknown =
                error.is_none_or(|error| error.code == ErrorCode::UnknownTopicOrPartition);
            if !topics.contains_key(name) && is_unknown {
                missing.insert(name.clone());
            }
        }
        Ok(Source {
            cluster_id,
            topics,
            missing,
        })
    }

    async fn carry_out(&mut self, image: &ClusterImage, steps: Vec<Step>) -> Result<(), Refusal> {
        let mut doubts = BTreeMap::new();
        for step in steps {
            match step {
                Step::Recreated { name, source_id } => {
                    let fault = MirrorFault::Recreated { source_id };
                    self.doubt(image, name, fault, &mut doubts).await?;
                }
                Step::Deleted { name } => {
                    self.doubt(image, name, MirrorFault::Deleted, &mut doubts)
                        .await?;
                }
                Step::Create {
                    name,
                    source_name,
                    source_id,
                    partitions,
                    settings,
                } => {
                    let mirror = NewMirror {
                        link: self.link.id,
                        source_name,
                        source_id,
                    };
                    self.create(name, mirror, partitions, settings).await?;
                }
                Step::Grow { name, partitions } => {
                    let topics = vec![MorePartitions {
                        name,
                        count: partitions,
                        assignments: None,
                    }];
                    let request = CreatePartitions {
                        topics,
                        validate_only: false,
                    };
                    let grown = self.broker.controller.create_partitions(request).await?;
                    for (name, outcome) in grown {
                        self.told(&name, outcome);
                    }
                }
                Step::Configure { name, settings } => self.configure(&name, settings).await?,
            }
        }
        self.doubts = doubts;
        Ok(())
    }

    /// Fails a mirror once it is certain that its source is not what it was.
    async fn doubt(
        &self,
        image: &ClusterImage,
        name: String,
        fault: MirrorFault,
        doubts: &mut BTreeMap<String, u32>,
    ) -> Result<(), Refusal> {
        let rounds = self.doubts.get(&name).map_or(1, |rounds| rounds + 1);
        let Some(topic) = image.topic(&name).filter(|_| rounds >= CERTAIN_AFTER) else {
            doubts.insert(name, rounds);
            return Ok(());
        };
        tracing::warn!(link = %self.link.name, topic = %name, %fault, "a mirror cannot go on");
        let request = FailMirror {
            topic_id: topic.id,
            partition: None,
            fault,
        };
        self.broker.controller.fail_mirror(request).await
    }

    async fn create(
        &self,
        name: String,
        mirror: NewMirror,
        partitions: i32,
        settings: BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        let settings = settings
            .into_iter()
            .map(|(name, value)| (name, Some(value)));
        let topic = NewTopic {
            partitions,
            replication_factor: self.link.replication_factor,
            configs: settings.collect(),
            mirror: Some(mirror),
            ..NewTopic::named(name)
        };
        let request = CreateTopics {
            topics: vec![topic],
            validate_only: false,
        };
        for (name, outcome) in self.broker.controller.create_topics(request).await? {
            self.told(&name, outcome.map(|_| ()));
        }
        Ok(())
    }

    async fn configure(
        &self,
        name: &str,
        settings: BTreeMap<String, Option<String>>,
    ) -> Result<(), Refusal> {
        let changes = settings.into_iter().map(|(name, value)| ConfigChange {
            name,
            operation: match value {
                Some(_) => AlterOperation::Set,
                None => AlterOperation::Delete,
            },
            value,
        });
        let request = IncrementalAlterConfigs {
            resources: vec![(ConfigResource::topic(name), changes.collect())],
            validate_only: false,
        };
        let altered = self
            .broker
            .controller
            .incremental_alter_configs(request)
            .await?;
        for (_, outcome) in altered {
            self.told(name, outcome);
        }
        Ok(())
    }

    /// What is refused of one topic is shown with the link, and tried again.
    fn told(&self, name: &str, outcome: Result<(), Refusal>) {
        let Err(refusal) = outcome else {
            return;
        };
        if refusal.code == ErrorCode::TopicAlreadyExists {
            return;
        }
        tracing::warn!(
            link = %self.link.name, topic = %name, %refusal, "a mirror is not as it is to be"
        );
        self.broker.mirrors.update_link(self.link.id, |status| {
            status.skipped.insert(name.to_owned(), refusal.text);
        });
    }

    /// Partitions that the link fills, by those of the source. Where the source's topic may be
    /// another now, what was committed may be of that.
    fn mirrored(&self, image: &ClusterImage) -> Mirrored {
        let mut partitions = Mirrored::new();
        for (id, mirror) in image.mirrors_of(self.link.id) {
            if let Some(topic) = image.topic_by_id(id)
                && mirror.topic.state == MirrorState::Active
                && !self.doubts.contains_key(&*topic.name)
            {
                for partition in (0..).take(topic.partitions.len()) {
                    partitions.insert(
                        TopicPartition::new(mirror.topic.source_name.as_str(), partition),
                        TopicPartition::new(topic.name.clone(), partition),
                    );
                }
            }
        }
        partitions
    }
}

/// Settings that a topic of the source has of its own, those only that this cluster can have.
fn settings_of(entries: &[ConfigEntry]) -> BTreeMap<String, String> {
    let own = entries
        .iter()
        .filter(|entry| entry.source == "DYNAMIC_TOPIC_CONFIG");
    let known = own.filter_map(|entry| {
        let value = entry.value.clone()?;
        let is_known = is_mirrored_setting(&entry.name)
            && entry.name != PROVENANCE
            && validate_topic_value(&entry.name, &value).is_ok();
        is_known.then(|| (entry.name.clone(), value))
    });
    known.collect()
}

/// Clusters that a topic's records came through before the source.
fn provenance_of(entries: &[ConfigEntry]) -> Vec<String> {
    let entry = entries.iter().find(|entry| entry.name == PROVENANCE);
    let value = entry.and_then(|entry| entry.value.as_deref());
    let ids = value.unwrap_or_default().split(',');
    ids.filter(|id| !id.is_empty()).map(str::to_owned).collect()
}

fn other(is_of_link: bool) -> Here {
    Here {
        is_of_link,
        ..Here::default()
    }
}

/// This cluster, through the front door of this broker.
fn this_cluster(broker: &Broker) -> Result<Cluster, ClientError> {
    let addresses = broker.addresses.iter();
    let dialled = addresses.map(|address| match address.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => address.clone(),
    });
    let config = ClientConfig {
        bootstrap_servers: dialled.collect(),
        client_id: format!("broker-{}-links", broker.config.node_id),
        request_timeout: broker.config.replication.socket_timeout,
        default_api_timeout: broker.config.replication.socket_timeout,
        // A batch that waits for its turn, and then for an answer.
        delivery_timeout: broker.config.replication.socket_timeout * 2,
        max_block: broker.config.replication.socket_timeout,
        allow_auto_create_topics: false,
        ..ClientConfig::default()
    };
    Cluster::new(&broker.env, config)
}
