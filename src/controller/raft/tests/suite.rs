//! The consensus library's own tests of a log and a state machine.

use std::path::PathBuf;
use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use super::harness::{memory_env, run};
use crate::controller::local::memory_disk::MemoryDisk;
use crate::controller::raft::ambient::within;
use crate::controller::raft::log_file::Owner;
use crate::controller::raft::machine::StateMachine;
use crate::controller::raft::opening;
use crate::controller::raft::outbox::Outbox;
use crate::controller::raft::snapshot::SnapshotFiles;
use crate::controller::raft::store::LogStore;
use crate::controller::raft::types::TypeConfig;
use crate::types::{BrokerId, Uuid};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine> for Builder {
    async fn build(&self) -> Result<((), LogStore, StateMachine), StorageError<TypeConfig>> {
        let env = Arc::new(memory_env(&MemoryDisk::default()));
        let owner = Owner {
            node: BrokerId(0),
            directory_id: Uuid([3; 16]),
        };
        let directory = PathBuf::from("/data/__cluster_metadata-0");
        let opened = opening::open(&env, &directory, owner).await.unwrap();
        let outbox = Arc::new(Outbox::new(opened.snapshot));
        let files = SnapshotFiles {
            disk: env.disk.clone(),
            directory,
        };
        let store = LogStore::start(&env, opened.kept, opened.writer);
        Ok(((), store, StateMachine::new(outbox, files)))
    }
}

#[test]
fn the_store_passes_the_librarys_tests() {
    run(async {
        let env = Arc::new(memory_env(&MemoryDisk::default()));
        within(&env, Suite::test_all(Builder)).await.unwrap();
    });
}
