//! Opens or makes the log of one partition, and hands it to a shard.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dirs::{set_aside, set_damaged_aside};
use crate::broker::hosted_register::{Entry, HostedRegister};
use crate::broker::partitions::Hosted;
use crate::broker::{Broker, topics};
use crate::config::TopicConfig;
use crate::controller::{MirrorImage, PartitionState};
use crate::log::{CleanEnd, Log, LogError, LogIdentity, OpenOptions};
use crate::replication::Past;
use crate::types::{BrokerId, Offset, TopicId, TopicPartition};

pub(super) type SharedRegister = tokio::sync::Mutex<HostedRegister>;

/// A partition to host.
pub(super) struct Wanted {
    pub topic_partition: TopicPartition,
    pub topic_id: TopicId,
    pub state: Arc<PartitionState>,
    pub config: Arc<TopicConfig>,
    /// What makes the topic a mirror.
    pub mirror: Option<Arc<MirrorImage>>,
}

/// How one partition is to be opened.
pub(super) struct Plan {
    pub wanted: Wanted,
    pub dir: PathBuf,
    pub exists: bool,
    /// Whether a log of this very partition was here, and others were told so.
    pub registered: bool,
    /// Whether the making of that log is known to have ended.
    pub is_made: bool,
    pub clean: Option<CleanEnd>,
    /// The one last checkpointed.
    pub high_watermark: Option<Offset>,
}

impl Plan {
    /// The partition, and the directory in which its log was found.
    pub fn found(&self) -> (Entry, Option<PathBuf>) {
        (self.entry(), self.exists.then(|| self.dir.clone()))
    }

    pub fn entry(&self) -> Entry {
        let wanted = &self.wanted;
        (wanted.topic_id, wanted.topic_partition.partition)
    }

    /// Whether the log was lost, and another is to be made in its place.
    pub fn is_to_be_made_anew(&self, me: BrokerId) -> bool {
        self.registered && !self.exists && may_copy_anew(me, &self.wanted.state)
    }
}

/// Why a partition cannot be hosted.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostError {
    #[error(
        "its log was here and is gone from {}: restore the directory, or delete the topic", .0.display()
    )]
    Lost(PathBuf),
    #[error("{0}")]
    Log(#[from] LogError),
    #[error("a damaged log cannot be set aside: {0}")]
    SetAside(std::io::Error),
    #[error("the register of hosted partitions cannot be written: {0}")]
    Register(std::io::Error),
    #[error("the broker is shutting down")]
    Stopping,
}

pub(super) async fn open(
    broker: Arc<Broker>,
    register: &SharedRegister,
    plan: Plan,
) -> (Entry, Result<Hosted, HostError>) {
    (plan.entry(), try_open(&broker, register, plan).await)
}

/// To be called before a log is made. In the place of an earlier one, that is entered first: what a
/// process that is killed leaves of it is not to be taken for one that was made.
async fn note_anew(register: &SharedRegister, entry: Entry) -> Result<(), HostError> {
    let noted = register.lock().await.make_anew(&[entry].into()).await;
    noted.map_err(HostError::Register)
}

async fn try_open(
    broker: &Arc<Broker>,
    register: &SharedRegister,
    plan: Plan,
) -> Result<Hosted, HostError> {
    let me = broker.config.node_id;
    let (entry, is_made) = (plan.entry(), plan.is_made);
    if plan.registered && !plan.exists {
        if !plan.is_to_be_made_anew(me) {
            return Err(HostError::Lost(plan.dir));
        }
        tracing::trace!(target: "klamm::probe", name = "lost-log-copied-anew");
    }
    let Plan {
        wanted,
        dir,
        exists,
        registered,
        clean,
        high_watermark,
        ..
    } = plan;
    let may_repair = may_repair(me, &wanted);
    let topic_partition = wanted.topic_partition;
    let options = OpenOptions {
        identity: LogIdentity {
            topic_id: wanted.topic_id,
            topic_partition: topic_partition.clone(),
        },
        config: topics::partition_log_config(
            &broker.config,
            &wanted.config,
            wanted.mirror.as_deref(),
            topic_partition.partition,
        ),
        clean,
        tail_cache: broker.tail_cache.clone(),
    };
    let log = match exists {
        true => match reopen(broker, &dir, options.clone(), (registered, is_made)).await {
            Err(error) if error.is_damage() && may_repair => {
                let partition = &topic_partition;
                tracing::error!(%partition, %error, "a damaged log is copied anew");
                note_anew(register, entry).await?;
                let aside = set_damaged_aside(broker, &dir).await;
                aside.map_err(HostError::SetAside)?;
                let clean = None;
                Log::create(&broker.env, &dir, OpenOptions { clean, ..options }).await?
            }
            opened => opened?,
        },
        false => {
            note_anew(register, entry).await?;
            Log::create(&broker.env, &dir, options).await?
        }
    };
    let durability = topics::durability(&wanted.config);
    let past = Past {
        high_watermark,
        is_new: !exists && !registered,
    };
    let assignment = super::assignment(me, &wanted.state, &wanted.config);
    let hosted = broker
        .partitions
        .host(topic_partition, dir, log, assignment, durability, past)
        .await;
    hosted.ok_or(HostError::Stopping)
}

/// Whether a log that was lost may be made anew: nobody counts on what was in it, and another
/// broker has all of it.
pub(super) fn may_copy_anew(me: BrokerId, state: &PartitionState) -> bool {
    let counted = [&state.isr, &state.elr, &state.last_known_elr];
    let is_led_elsewhere = state.leader.is_some_and(|leader| leader != me);
    is_led_elsewhere && counted.iter().all(|brokers| !brokers.contains(&me))
}

/// Whether a damaged or lost log may be replaced: as [`may_copy_anew`], and in-sync replicas are as
/// many as the topic asks for without this one.
pub(super) fn may_repair(me: BrokerId, wanted: &Wanted) -> bool {
    let state = &wanted.state;
    let is_enough = state.isr.len() >= state.min_isr(wanted.config.min_insync_replicas);
    is_enough && may_copy_anew(me, state)
}

/// Opens a log that was found. One of another topic is that of an earlier topic of this name, which
/// was deleted when the broker ended, and one of none was being made; unless a log of this very
/// topic was there before: then it is damaged, and never put aside for an empty log. Both the
/// register and the log's own segments tell of that, since one of them may be damaged as well.
async fn reopen(
    broker: &Broker,
    dir: &Path,
    options: OpenOptions,
    (registered, is_made): (bool, bool),
) -> Result<Log, LogError> {
    let partition = options.identity.topic_partition.clone();
    match Log::open_made(&broker.env, dir, options.clone(), is_made).await {
        Ok((log, recovery)) => {
            if let Some(cut) = &recovery.cut {
                tracing::warn!(%partition, ?cut, "an unsynced tail was cut off");
            }
            Ok(log)
        }
        Err(error @ (LogError::AnotherTopic { .. } | LogError::Foreign { .. })) if !registered => {
            let identity = &options.identity;
            if identity.left_records_in(&*broker.env.disk, dir).await? {
                tracing::trace!(target: "klamm::probe", name = "identity-damaged");
                return Err(error);
            }
            set_aside(broker, dir).await;
            Log::create(&broker.env, dir, options).await
        }
        Err(error) => Err(error),
    }
}
