//! The single-node metadata log: restarts, kills at every step, torn writes, damage, full disks.

use std::path::PathBuf;
use std::sync::Arc;

use super::memory_disk::MemoryDisk;
use super::*;
use crate::controller::record::ConfigResource;

const NODE: BrokerId = BrokerId(1);
const FIRST: &str = "00000000000000000000.records";

fn run<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(body)
}

fn dirs() -> Vec<PathBuf> {
    vec![PathBuf::from("/data")]
}

async fn open(disk: &MemoryDisk, snapshot_bytes: u64) -> Result<LocalQuorum, LocalQuorumError> {
    LocalQuorum::open(Arc::new(disk.clone()), &dirs(), NODE, snapshot_bytes).await
}

fn config(number: usize) -> MetadataRecord {
    MetadataRecord::Config {
        resource: ConfigResource::all_brokers(),
        name: format!("name{}", number % 5),
        value: Some(format!("value{number}")),
    }
}

/// The image after everything that was kept, and the quorum.
async fn replayed(
    disk: &MemoryDisk,
    snapshot_bytes: u64,
) -> Result<(LocalQuorum, ClusterImage), String> {
    let mut quorum = open(disk, snapshot_bytes)
        .await
        .map_err(|error| error.to_string())?;
    let mut image = ClusterImage::default();
    loop {
        match quorum.next_committed().await? {
            Committed::Leader { .. } => return Ok((quorum, image)),
            Committed::Batch { end, records } => image = image.replay(end, &records).unwrap().0,
            Committed::Snapshot { end, records } => {
                image = ClusterImage::from_snapshot(end, &records).unwrap();
            }
        }
    }
}

/// Commits one batch as the driver does; whether it was acknowledged.
async fn commit(
    quorum: &mut LocalQuorum,
    image: &mut ClusterImage,
    records: Vec<MetadataRecord>,
) -> Result<(), String> {
    let proposed = quorum.propose(records);
    let Committed::Batch { end, records } = quorum.next_committed().await? else {
        return Err("not a batch".to_owned());
    };
    assert_eq!(proposed.await, Ok(end));
    *image = image.replay(end, &records).unwrap().0;
    quorum.applied(image).await
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    run(async {
        let disk = MemoryDisk::default();
        let (mut quorum, mut image) = replayed(&disk, u64::MAX).await.unwrap();
        for number in 0..10 {
            let records = vec![config(number), config(number + 1)];
            commit(&mut quorum, &mut image, records).await.unwrap();
        }
        drop(quorum);
        let (_, again) = replayed(&disk, u64::MAX).await.unwrap();
        assert_eq!(again, image);
        assert_eq!(again.end(), Offset(20));
    });
}

#[test]
fn a_snapshot_replaces_the_log_before_it() {
    run(async {
        let disk = MemoryDisk::default();
        let (mut quorum, mut image) = replayed(&disk, 300).await.unwrap();
        for number in 0..50 {
            commit(&mut quorum, &mut image, vec![config(number)])
                .await
                .unwrap();
        }
        drop(quorum);
        assert_eq!(disk.names().len(), 2, "{:?}", disk.names());
        assert!(!disk.names().iter().any(|name| name.ends_with(FIRST)));
        let (_, again) = replayed(&disk, 300).await.unwrap();
        assert_eq!(again, image);
    });
}

/// Stops the process after every possible number of disk operations.
#[test]
fn a_process_killed_at_any_step_keeps_what_it_acknowledged() {
    run(async {
        let total = history(&MemoryDisk::default(), None).await.1;
        assert!(total > 60, "{total}");
        for stop in 0..total {
            let disk = MemoryDisk::default();
            let (acknowledged, _) = history(&disk, Some(stop)).await;
            disk.stop_after(None);
            let (mut quorum, mut image) = replayed(&disk, 120).await.unwrap();
            let unfinished = |name: &String| name.ends_with(".new");
            assert!(!disk.names().iter().any(unfinished), "stopped at {stop}");
            let end = usize::try_from(image.end().0).unwrap();
            assert!(
                end == acknowledged || end == acknowledged + 1,
                "stopped at {stop}"
            );
            assert_eq!(image.config(&ConfigResource::all_brokers()), expected(end));
            commit(&mut quorum, &mut image, vec![config(end)])
                .await
                .unwrap();
            let (_, again) = replayed(&disk, 120).await.unwrap();
            assert_eq!(again, image);
        }
    });
}

fn expected(count: usize) -> Arc<std::collections::BTreeMap<String, String>> {
    let values = (0..count).map(|at| (format!("name{}", at % 5), format!("value{at}")));
    Arc::new(values.collect())
}

/// Opens and commits until the disk stops: batches acknowledged, and operations used.
async fn history(disk: &MemoryDisk, stop: Option<usize>) -> (usize, usize) {
    disk.stop_after(stop);
    let mut acknowledged = 0;
    if let Ok((mut quorum, mut image)) = replayed(disk, 120).await {
        for number in 0..12 {
            let proposed = quorum.propose(vec![config(number)]);
            let Ok(Committed::Batch { end, records }) = quorum.next_committed().await else {
                break;
            };
            assert_eq!(proposed.await, Ok(end));
            acknowledged += 1;
            image = image.replay(end, &records).unwrap().0;
            if quorum.applied(&image).await.is_err() {
                break;
            }
        }
    }
    (acknowledged, disk.changes())
}

/// Three committed batches, and the length of the file before the last.
async fn three_batches(disk: &MemoryDisk) -> usize {
    let (mut quorum, mut image) = replayed(disk, u64::MAX).await.unwrap();
    let mut before_last = 0;
    for number in 0..3 {
        disk.edit(FIRST, |bytes| before_last = bytes.len());
        commit(&mut quorum, &mut image, vec![config(number)])
            .await
            .unwrap();
    }
    before_last
}

/// As if power was lost before the note that the last batch is durable reached the disk.
fn lose_last_slot(bytes: &mut [u8], page: &[u8]) {
    bytes[..page.len()].copy_from_slice(page);
}

#[test]
fn a_torn_last_write_is_cut_off() {
    run(async {
        let disk = MemoryDisk::default();
        let (mut quorum, mut image) = replayed(&disk, u64::MAX).await.unwrap();
        commit(&mut quorum, &mut image, vec![config(0)])
            .await
            .unwrap();
        let mut before = Vec::new();
        disk.edit(FIRST, |bytes| before.clone_from(bytes));
        commit(&mut quorum, &mut image, vec![config(1)])
            .await
            .unwrap();
        drop(quorum);
        let mut whole = Vec::new();
        disk.edit(FIRST, |bytes| whole.clone_from(bytes));
        for kept in before.len()..whole.len() {
            for zeroed in [false, true] {
                disk.edit(FIRST, |bytes| {
                    bytes.clone_from(&whole);
                    match zeroed {
                        true => bytes[kept..].fill(0),
                        false => bytes.truncate(kept),
                    }
                    lose_last_slot(bytes, &before[..format::PAGE_BYTES]);
                });
                let (_, image) = replayed(&disk, u64::MAX).await.unwrap();
                assert_eq!(image.end(), Offset(1), "{kept} bytes kept");
            }
        }
    });
}

#[test]
fn damage_to_durable_metadata_is_refused_and_changes_nothing() {
    run(async {
        let disk = MemoryDisk::default();
        three_batches(&disk).await;
        let mut whole = Vec::new();
        disk.edit(FIRST, |bytes| whole.clone_from(bytes));
        for at in format::PAGE_BYTES..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            disk.edit(FIRST, |bytes| bytes.clone_from(&damaged));
            let error = replayed(&disk, u64::MAX)
                .await
                .err()
                .expect("damage is noticed");
            assert!(
                error.contains("damaged") && error.contains(FIRST),
                "{error}"
            );
            disk.edit(FIRST, |bytes| assert_eq!(*bytes, damaged));
        }
        disk.edit(FIRST, |bytes| {
            bytes.clone_from(&whole[..whole.len() - 1].to_vec())
        });
        assert!(replayed(&disk, u64::MAX).await.is_err());
        disk.edit(FIRST, |bytes| {
            bytes.clone_from(&whole);
            bytes[3] ^= 1;
        });
        assert!(replayed(&disk, u64::MAX).await.is_err());
    });
}

#[test]
fn a_damaged_or_lost_snapshot_is_refused() {
    run(async {
        let disk = MemoryDisk::default();
        let (mut quorum, mut image) = replayed(&disk, 150).await.unwrap();
        for number in 0..20 {
            commit(&mut quorum, &mut image, vec![config(number)])
                .await
                .unwrap();
        }
        drop(quorum);
        let mut whole = Vec::new();
        disk.edit(".snapshot", |bytes| whole.clone_from(bytes));
        for at in format::PAGE_BYTES..whole.len() {
            disk.edit(".snapshot", |bytes| {
                bytes.clone_from(&whole);
                bytes[at] ^= 1;
            });
            assert!(replayed(&disk, 150).await.is_err(), "byte {at}");
        }
        disk.forget(".snapshot");
        let error = replayed(&disk, 150)
            .await
            .err()
            .expect("the gap is noticed");
        assert!(error.contains("missing"), "{error}");
    });
}

#[test]
fn a_directory_with_partitions_never_starts_empty() {
    run(async {
        let disk = MemoryDisk::default();
        disk.create_dir(std::path::Path::new("/data/orders-0"))
            .await
            .unwrap();
        let error = replayed(&disk, 150)
            .await
            .err()
            .expect("the partition is noticed");
        assert!(error.contains("/data holds"), "{error}");
        let disk = MemoryDisk::default();
        drop(replayed(&disk, 150).await.unwrap());
        let swapped = [PathBuf::from("/other"), PathBuf::from("/data")];
        let opened = LocalQuorum::open(Arc::new(disk), &swapped, NODE, 150).await;
        let error = opened
            .err()
            .expect("the metadata elsewhere is noticed")
            .to_string();
        assert!(error.contains("/data holds"), "{error}");
    });
}

#[test]
fn nothing_is_accepted_after_a_failed_write() {
    run(async {
        let disk = MemoryDisk::default();
        let (mut quorum, mut image) = replayed(&disk, u64::MAX).await.unwrap();
        commit(&mut quorum, &mut image, vec![config(0)])
            .await
            .unwrap();
        disk.stop_after(Some(1));
        let proposed = quorum.propose(vec![config(1)]);
        assert!(quorum.next_committed().await.is_err());
        assert!(matches!(proposed.await, Err(ProposeError::Unavailable(_))));
        disk.stop_after(None);
        assert!(quorum.next_committed().await.is_err());
    });
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_and_nothing_else() {
    run(async {
        let disk = MemoryDisk::default();
        let (mut quorum, mut image) = replayed(&disk, 100).await.unwrap();
        commit(&mut quorum, &mut image, vec![config(0)])
            .await
            .unwrap();
        disk.fill(true);
        for _ in 0..3 {
            let proposed = quorum.propose(vec![config(1)]);
            tokio::select! {
                biased;
                _ = quorum.next_committed() => panic!("committed on a full disk"),
                outcome = proposed => assert!(matches!(outcome, Err(ProposeError::Refused(_)))),
            }
        }
        disk.fill(false);
        for number in 1..5 {
            commit(&mut quorum, &mut image, vec![config(number)])
                .await
                .unwrap();
        }
        let (_, again) = replayed(&disk, 100).await.unwrap();
        assert_eq!(again, image);
        assert_eq!(again.end(), Offset(5));
    });
}

#[test]
fn a_snapshot_that_does_not_fit_stops_nothing() {
    run(async {
        let disk = MemoryDisk::default();
        let (mut quorum, mut image) = replayed(&disk, 100).await.unwrap();
        for number in 0..20 {
            let proposed = quorum.propose(vec![config(number)]);
            let Committed::Batch { end, records } = quorum.next_committed().await.unwrap() else {
                panic!("not a batch");
            };
            assert_eq!(proposed.await, Ok(end));
            image = image.replay(end, &records).unwrap().0;
            disk.fill(number < 15);
            quorum.applied(&image).await.unwrap();
            disk.fill(false);
        }
        assert!(disk.names().iter().any(|name| name.ends_with(".snapshot")));
        let (_, again) = replayed(&disk, 100).await.unwrap();
        assert_eq!(again, image);
    });
}

/// The driver drops the future whenever a request comes first.
#[test]
fn dropping_the_wait_for_the_next_batch_loses_nothing() {
    run(async {
        let disk = MemoryDisk::default();
        let (mut quorum, _) = replayed(&disk, u64::MAX).await.unwrap();
        drop(quorum.next_committed());
        let proposed = quorum.propose(vec![config(0)]);
        tokio::select! {
            biased;
            () = std::future::ready(()) => {}
            _ = quorum.next_committed() => {}
        }
        let committed = quorum.next_committed().await.unwrap();
        assert!(matches!(committed, Committed::Batch { end: Offset(1), .. }));
        assert_eq!(proposed.await, Ok(Offset(1)));
    });
}
