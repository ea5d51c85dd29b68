//! A quorum of several nodes: the metadata log agreed on by Raft.
//!
//! The protocol is a library's (`openraft`); here is what it stands on. The log, the vote and the
//! snapshots of a node are files in its metadata directory ([`log_file`], [`snapshot`]); time,
//! tasks and randomness are the node's environment ([`ambient`]); messages travel as questions to
//! peers ([`message`]). Committed batches come out in order, with who leads ([`outbox`]).
//!
//! **Promises.** A vote is durable before it is given, an entry before it is confirmed. A log that
//! was torn by a power loss is cut where nothing was answered yet; any other damage is refused, and
//! nothing that was ever written is taken for missing. After a failed write or sync, for lack of
//! room too, the node's part stops for good, and the node with it: others can lead meanwhile, and
//! it finds what is durable when it is started again. A leader that no majority answers says that
//! nobody leads.
//!
//! The offset after a batch is its index in the log and one; entries that the protocol needs for
//! itself take offsets too, so that not every offset has a batch.

mod ambient;
mod channel;
mod codec;
mod directory;
mod handle;
mod kept;
mod leadership;
mod log_file;
mod machine;
mod message;
mod network;
mod opening;
mod outbox;
mod reporting;
mod runtime;
mod service;
mod snapshot;
mod store;
mod suspicion;
#[cfg(test)]
mod tests;
mod types;
mod watch;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use openraft::Config;
use openraft::SnapshotPolicy;
use openraft::errors::ClientWriteError;
use openraft::impls::OneshotResponder;
use openraft::raft::ClientWriteResult;
use tokio::sync::mpsc;

pub use handle::{QuorumDescription, RaftError, RaftHandle, RaftState, ReplicaDescription};

use ambient::within;
use leadership::Leadership;
use log_file::Owner;
use machine::StateMachine;
use network::Network;
use outbox::Outbox;
use snapshot::SnapshotFiles;
use store::LogStore;
use types::{Batch, Raft, TypeConfig, offset_after};

use super::image::ClusterImage;
use super::peers::{Peer, Peers};
use super::quorum::{Committed, ProposeError, Quorum};
use super::record::MetadataRecord;
use crate::env::{BoxFuture, Env};
use crate::types::Offset;

/// First byte of every question that a quorum asks another node. The answer has no such byte.
pub const RAFT_QUESTION: u8 = 1;

/// Most bytes of a batch: it must fit a question to a peer.
const BATCH_BYTES_MAX: usize = 32 << 20;
/// Most bytes of a question: one batch, or a portion of entries or of a snapshot.
pub const QUESTION_BYTES_MAX: usize = BATCH_BYTES_MAX + (1 << 20);

/// What a node's quorum needs to know.
#[derive(Clone, Debug)]
pub struct RaftOptions {
    /// This node, with the directory id of `dir`.
    pub me: Peer,
    /// The metadata directory: `__cluster_metadata-0` in the first log directory.
    pub dir: PathBuf,
    /// A snapshot is written every so many bytes of log.
    pub snapshot_bytes: u64,
    /// Entries kept in the log besides a snapshot, for followers that are a little behind.
    pub kept_entries: u64,
    /// How long an election may take before the next is tried.
    pub election_timeout: Duration,
    /// Without word from the leader for this long a voter stands for election.
    pub fetch_timeout: Duration,
    /// How long a question to another node may take.
    pub request_timeout: Duration,
}

/// Why the quorum's state on disk cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RaftOpenError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "the cluster's metadata is damaged: {path}: {reason}. Restore the directory from a \
         backup, or remove the voter and add it again"
    )]
    Damaged { path: PathBuf, reason: String },
    #[error("the quorum did not start: {0}")]
    Start(String),
}

impl RaftOptions {
    /// A follower waits for its leader through the lease, which is the longer of the library's two
    /// times, and then through a random time between the two: `fetch_timeout` at most.
    fn config(&self) -> Result<Config, RaftOpenError> {
        let longer = self.election_timeout.min(self.fetch_timeout / 2);
        let longer = longer.max(Duration::from_millis(20));
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let config = Config {
            cluster_name: "klamm".to_owned(),
            election_timeout_min: millis(longer / 2),
            election_timeout_max: millis(longer),
            // A follower misses several before it stands; each costs every node a little, for ever.
            heartbeat_interval: millis(longer / 5),
            install_snapshot_timeout: millis(self.request_timeout),
            max_payload_entries: 256,
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: self.kept_entries,
            purge_batch_size: 1,
            // A leader that hears of no majority falls silent, so that another can be elected.
            quorum_loss_probe_interval: Some(millis(longer) * 2),
            enable_pre_vote: Some(true),
            backoff: "20ms 40ms 80ms ...400ms".to_owned(),
            // It might have lost what it sent before it was durable here, and would then use the
            // same term and index twice.
            enable_leader_restore: Some(false),
            ..Config::default()
        };
        let valid = config.validate();
        valid.map_err(|error| RaftOpenError::Start(error.to_string()))
    }
}

type Answer = ClientWriteResult<TypeConfig>;

/// This node's part of a quorum of several nodes.
pub struct RaftQuorum {
    env: Arc<Env>,
    raft: Raft,
    outbox: Arc<Outbox>,
    options: Arc<RaftOptions>,
    proposals: mpsc::UnboundedSender<Proposal>,
    /// The newest term that was handed out.
    term: u64,
}

struct Proposal {
    batch: Batch,
    /// The term in which it was decided.
    term: u64,
    responder: OneshotResponder<TypeConfig, Answer>,
}

impl RaftQuorum {
    /// Opens what is kept in the metadata directory, which is made if it is missing, and starts
    /// this node's part: it follows whoever leads, and stands for election once it is a voter.
    pub async fn open(
        env: &Env,
        options: RaftOptions,
        peers: Arc<dyn Peers>,
    ) -> Result<(Self, RaftHandle), RaftOpenError> {
        let (env, options) = (Arc::new(env.clone()), Arc::new(options));
        let config = Arc::new(options.config()?);
        let owner = Owner {
            node: options.me.id,
            directory_id: options.me.directory_id,
        };
        let opened = opening::open(&env, &options.dir, owner).await?;
        let snapshot = opened.snapshot.as_ref();
        let snapshot = snapshot.and_then(|snapshot| snapshot.meta.last_log_id);
        let snapshot = snapshot.map_or(0, |last| last.index + 1);
        opened.kept.standing().tell("opened", Some(snapshot));
        let last_at_start = opened.kept.last();
        let outbox = Arc::new(Outbox::new(opened.snapshot));
        let files = SnapshotFiles {
            disk: env.disk.clone(),
            directory: options.dir.clone(),
        };
        let store = LogStore::start(&env, opened.kept, opened.writer);
        let mute = Arc::new(AtomicBool::new(false));
        let network = Network {
            env: env.clone(),
            peers,
            me: options.me.id,
            request_timeout: options.request_timeout,
            mute: mute.clone(),
        };
        let machine = StateMachine::new(outbox.clone(), files);
        let lease = Duration::from_millis(config.election_timeout_max);
        let started = Raft::new(options.me.id, config, network, store.clone(), machine);
        let raft = within(&env, started).await;
        let raft = raft.map_err(|error| RaftOpenError::Start(error.to_string()))?;
        let leadership = Leadership::new(options.me.id, lease, last_at_start);
        let watching =
            reporting::watch(env.clone(), raft.clone(), outbox.clone(), leadership, mute);
        env.spawn("raft-leadership", within(&env, watching))
            .detach();
        let (proposals, proposed) = mpsc::unbounded_channel();
        env.spawn(
            "raft-proposals",
            within(&env, pass_on(raft.clone(), proposed)),
        )
        .detach();
        let handle = RaftHandle::new(env.clone(), raft.clone(), store, options.clone());
        let quorum = Self {
            env,
            raft,
            outbox,
            options,
            proposals,
            term: 0,
        };
        Ok((quorum, handle))
    }
}

/// Gives proposals to the consensus in the order they were made. One that was decided in an earlier
/// term is refused: this node may have missed what others led in between.
async fn pass_on(raft: Raft, mut proposed: mpsc::UnboundedReceiver<Proposal>) {
    while let Some(proposal) = proposed.recv().await {
        let write = raft.write(proposal.batch).responder(proposal.responder);
        // When the consensus has stopped the responder is dropped, which tells as much.
        write.with_leader(proposal.term).await.ok();
    }
}

fn unavailable(reason: impl ToString) -> ProposeError {
    ProposeError::Unavailable(reason.to_string())
}

fn outcome(answer: Answer) -> Result<Offset, ProposeError> {
    match answer {
        Ok(written) => Ok(offset_after(written.log_id.index)),
        Err(ClientWriteError::ForwardToLeader(forward)) => Err(ProposeError::NotController {
            leader: forward.leader_id,
        }),
        Err(error) => Err(unavailable(error)),
    }
}

impl Quorum for RaftQuorum {
    fn propose(
        &self,
        records: Vec<MetadataRecord>,
    ) -> BoxFuture<'static, Result<Offset, ProposeError>> {
        let refused = |reason: String| -> BoxFuture<'static, Result<Offset, ProposeError>> {
            Box::pin(std::future::ready(Err(ProposeError::Refused(reason))))
        };
        let batch = match Batch::encode(&records) {
            Ok(batch) if batch.0.len() <= BATCH_BYTES_MAX => batch,
            Ok(batch) => return refused(format!("{} bytes are too many", batch.0.len())),
            Err(error) => return refused(error.to_string()),
        };
        let (responder, answer) = OneshotResponder::new_pair();
        let sent = self.proposals.send(Proposal {
            batch,
            term: self.term,
            responder,
        });
        Box::pin(async move {
            sent.map_err(|_| unavailable("the quorum has stopped"))?;
            match answer.await {
                Ok(answer) => outcome(answer),
                Err(_) => Err(unavailable("the quorum has stopped")),
            }
        })
    }

    fn next_committed(&mut self) -> BoxFuture<'_, Result<Committed, String>> {
        Box::pin(async {
            let next = self.outbox.next().await;
            if let Ok(Committed::Leader { term, .. }) = &next {
                self.term = *term;
            }
            next
        })
    }

    fn applied<'a>(&'a mut self, image: &'a ClusterImage) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            if self.outbox.take_image(image, self.options.snapshot_bytes) {
                let asked = within(&self.env, async { self.raft.trigger().snapshot().await });
                asked.await.map_err(|error| error.to_string())?;
            }
            Ok(())
        })
    }
}
