//! Nodes of a quorum in one process, with a network that can be cut and disks in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::controller::image::ClusterImage;
use crate::controller::local::memory_disk::MemoryDisk;
use crate::controller::peers::{Peer, PeerError, PeerService, Peers};
use crate::controller::quorum::{Committed, ProposeError, Quorum};
use crate::controller::raft::{RAFT_QUESTION, RaftHandle, RaftOpenError, RaftOptions, RaftQuorum};
use crate::controller::record::{ConfigResource, MetadataRecord};
use crate::env::{BoxFuture, Env, Task};
use crate::types::{BrokerId, Offset, Uuid};

pub fn run<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(body)
}

/// An environment whose disk is in memory.
pub fn memory_env(disk: &MemoryDisk) -> Env {
    env_of(BrokerId(0), disk)
}

/// The environment of one of several nodes: candidates that draw the same times never outrun each
/// other.
fn env_of(node: BrokerId, disk: &MemoryDisk) -> Env {
    let options = crate::env::tokio::Options {
        entropy_seed: Some([7 + u8::try_from(node.0).unwrap(); 32]),
        ..Default::default()
    };
    Env {
        disk: Arc::new(disk.clone()),
        ..crate::env::tokio::env(options).unwrap()
    }
}

pub fn config(number: usize) -> MetadataRecord {
    MetadataRecord::Config {
        resource: ConfigResource::all_brokers(),
        name: format!("name{}", number % 5),
        value: Some(format!("value{number}")),
    }
}

type Services = BTreeMap<BrokerId, Arc<dyn PeerService>>;

#[derive(Default)]
struct Wires {
    services: Services,
    /// From whom nothing reaches whom.
    cut: BTreeSet<(BrokerId, BrokerId)>,
}

/// The network between the nodes.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<Wires>>);

impl Hub {
    /// Lets nothing pass from one node to another.
    pub fn cut(&self, from: BrokerId, to: BrokerId) {
        self.0.lock().unwrap().cut.insert((from, to));
    }

    /// Cuts a node off from all others, both ways.
    pub fn isolate(&self, id: BrokerId) {
        for other in (1..=5).map(BrokerId).filter(|other| *other != id) {
            self.cut(id, other);
            self.cut(other, id);
        }
    }

    pub fn heal(&self) {
        self.0.lock().unwrap().cut.clear();
    }

    fn is_cut(&self, from: BrokerId, to: BrokerId) -> bool {
        self.0.lock().unwrap().cut.contains(&(from, to))
    }
}

/// A node's view of the network.
struct Line {
    hub: Hub,
    me: BrokerId,
}

impl Peers for Line {
    fn ask(
        &self,
        to: &Peer,
        question: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let (hub, me, to) = (self.hub.clone(), self.me, to.id);
        Box::pin(async move {
            assert_eq!(question[0], RAFT_QUESTION);
            if hub.is_cut(me, to) {
                tokio::time::sleep(timeout).await;
                return Err(PeerError::Lost("cut".to_owned()));
            }
            let service = hub.0.lock().unwrap().services.get(&to).cloned();
            let Some(service) = service else {
                return Err(PeerError::NobodyListens(to.to_string()));
            };
            let (answer, answered) = oneshot::channel();
            tokio::spawn(async move { answer.send(service.answer(me, question.slice(1..)).await) });
            let answer = match answered.await {
                Ok(answer) => answer.map_err(PeerError::Refused),
                Err(_) => Err(PeerError::Lost("gone".to_owned())),
            };
            if hub.is_cut(to, me) {
                tokio::time::sleep(timeout).await;
                return Err(PeerError::Lost("cut".to_owned()));
            }
            answer
        })
    }
}

/// What a node's controller would know.
#[derive(Default)]
pub struct Seen {
    pub image: ClusterImage,
    pub leader: Option<BrokerId>,
    pub term: u64,
    pub snapshots: usize,
    pub failed: Option<String>,
}

/// A running node.
pub struct Node {
    pub me: Peer,
    pub handle: RaftHandle,
    pub seen: Arc<Mutex<Seen>>,
    pub disk: MemoryDisk,
    propose: tokio::sync::mpsc::UnboundedSender<Proposal>,
    task: Task,
}

type Proposal = (
    Vec<MetadataRecord>,
    oneshot::Sender<BoxFuture<'static, Result<Offset, ProposeError>>>,
);

pub fn peer(id: i32) -> Peer {
    Peer {
        id: BrokerId(id),
        directory_id: Uuid([u8::try_from(id).unwrap(); 16]),
        host: "localhost".to_owned(),
        port: 9093,
    }
}

pub fn options(me: Peer, snapshot_bytes: u64) -> RaftOptions {
    RaftOptions {
        me,
        dir: PathBuf::from("/data/__cluster_metadata-0"),
        snapshot_bytes,
        kept_entries: 500,
        election_timeout: Duration::from_millis(300),
        fetch_timeout: Duration::from_millis(600),
        request_timeout: Duration::from_millis(1000),
    }
}

impl Node {
    pub async fn start(
        hub: &Hub,
        me: Peer,
        disk: &MemoryDisk,
        snapshot_bytes: u64,
    ) -> Result<Self, RaftOpenError> {
        let env = env_of(me.id, disk);
        let line = Line {
            hub: hub.clone(),
            me: me.id,
        };
        let options = options(me.clone(), snapshot_bytes);
        let (quorum, handle) = RaftQuorum::open(&env, options, Arc::new(line)).await?;
        hub.0
            .lock()
            .unwrap()
            .services
            .insert(me.id, handle.service());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (propose, proposals) = tokio::sync::mpsc::unbounded_channel();
        let task = env.spawn("controller", drive(quorum, seen.clone(), proposals));
        Ok(Self {
            me,
            handle,
            seen,
            disk: disk.clone(),
            propose,
            task,
        })
    }

    /// Stops the node as a kill does: nothing of it runs any more.
    pub async fn kill(self, hub: &Hub) -> MemoryDisk {
        hub.0.lock().unwrap().services.remove(&self.me.id);
        self.disk.stop_after(Some(0));
        self.handle.shut_down().await;
        drop(self.task);
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.disk.stop_after(None);
        self.disk
    }

    pub async fn propose(&self, records: Vec<MetadataRecord>) -> Result<Offset, ProposeError> {
        let (answer, answered) = oneshot::channel();
        self.propose.send((records, answer)).unwrap();
        answered.await.unwrap().await
    }

    pub fn end(&self) -> Offset {
        self.seen.lock().unwrap().image.end()
    }

    pub fn leader(&self) -> Option<BrokerId> {
        self.seen.lock().unwrap().leader
    }

    pub fn is_leader(&self) -> bool {
        self.leader() == Some(self.me.id)
    }

    pub fn image(&self) -> ClusterImage {
        self.seen.lock().unwrap().image.clone()
    }
}

/// Replays what comes, as the controller's driver does.
async fn drive(
    mut quorum: RaftQuorum,
    seen: Arc<Mutex<Seen>>,
    mut proposals: tokio::sync::mpsc::UnboundedReceiver<Proposal>,
) {
    loop {
        let committed = tokio::select! {
            biased;
            proposal = proposals.recv() => {
                let Some((records, answer)) = proposal else { return };
                answer.send(quorum.propose(records)).ok();
                continue;
            }
            committed = quorum.next_committed() => committed,
        };
        let image = {
            let mut seen = seen.lock().unwrap();
            match committed {
                Ok(Committed::Batch { end, records }) => {
                    assert!(end > seen.image.end(), "ends only grow");
                    seen.image = seen.image.replay(end, &records).unwrap().0;
                }
                Ok(Committed::Snapshot { end, records }) => {
                    seen.snapshots += 1;
                    seen.image = ClusterImage::from_snapshot(end, &records).unwrap();
                }
                Ok(Committed::Leader { leader, term }) => {
                    assert!(term >= seen.term, "terms only grow");
                    (seen.leader, seen.term) = (leader, term);
                }
                Err(reason) => {
                    seen.failed = Some(reason);
                    return;
                }
            }
            seen.image.clone()
        };
        if let Err(reason) = quorum.applied(&image).await {
            seen.lock().unwrap().failed = Some(reason);
            return;
        }
    }
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("in vain waited until {what}");
}
