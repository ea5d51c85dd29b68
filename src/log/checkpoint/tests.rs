//! Checkpoints through crashes and damage.

use std::path::Path;

use bytes::Bytes;

use super::*;
use crate::log::test_disk::{TestDisk, coin};

const DIR: &str = "/data/topic-0";
const NAME: &str = "some-checkpoint";

/// Nothing here ever waits for anything.
fn now<T>(work: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(work).expect("a test disk answers at once")
}

fn save(disk: &TestDisk, body: &[u8]) -> Result<(), CheckpointError> {
    now(write(
        disk,
        Path::new(DIR),
        NAME,
        Bytes::copy_from_slice(body),
    ))
}

fn load(disk: &TestDisk) -> Result<Option<Bytes>, CheckpointError> {
    now(read(disk, Path::new(DIR), NAME))
}

/// Long and short contents over several sectors, so that a torn write would show.
fn body(fill: u8) -> Vec<u8> {
    vec![fill; 3000 - 5 * usize::from(fill)]
}

#[test]
fn a_checkpoint_that_was_never_written_is_absent() {
    assert!(load(&TestDisk::default()).expect("no error").is_none());
}

#[test]
fn a_checkpoint_once_written_survives_power_loss() {
    for seed in 0..50 {
        let disk = TestDisk::default();
        for fill in 1..4 {
            save(&disk, &body(fill)).expect("the disk works");
            disk.power_loss(coin(seed));
            let found = load(&disk).expect("not damaged").expect("present");
            assert_eq!(found, body(fill));
        }
    }
}

#[test]
fn power_loss_at_any_step_leaves_the_old_or_the_new_checkpoint() {
    let (mut old, mut new) = (0, 0);
    for step in 1..8 {
        for seed in 0..50 {
            let disk = TestDisk::default();
            save(&disk, &body(1)).expect("the disk works");
            disk.power_off_after(step);
            let written = save(&disk, &body(2));
            disk.power_loss(coin(seed));
            let found = load(&disk).expect("not damaged").expect("present");
            let is_new = found == body(2);
            assert!(is_new || found == body(1), "step {step}, seed {seed}");
            assert!(is_new || written.is_err(), "step {step}, seed {seed}");
            old += usize::from(!is_new);
            new += usize::from(is_new);

            // What is left of the attempt does not stand in the way.
            save(&disk, &body(3)).expect("the disk works again");
            assert_eq!(load(&disk).expect("not damaged").expect("present"), body(3));
        }
    }
    assert!(old > 0 && new > 0, "both ends happened");
}

#[test]
fn damage_is_named_and_never_believed() {
    let length = HEAD_BYTES + body(1).len();
    for at in [0, 7, 8, 11, 12, 15, 16, 700, length - 1] {
        let disk = TestDisk::default();
        save(&disk, &body(1)).expect("the disk works");
        disk.damage(&Path::new(DIR).join(NAME), |bytes| bytes[at] ^= 0x10);
        let error = load(&disk).expect_err("damaged");
        assert!(matches!(error, CheckpointError::Damaged { .. }), "{at}");
        assert!(error.to_string().contains("/data/topic-0/some-checkpoint"));
    }
    for length in [0, 3, 15, 16, 1000, length - 1, length + 1] {
        let disk = TestDisk::default();
        save(&disk, &body(1)).expect("the disk works");
        disk.damage(&Path::new(DIR).join(NAME), |bytes| bytes.resize(length, 1));
        let error = load(&disk).expect_err("damaged");
        assert!(matches!(error, CheckpointError::Damaged { .. }), "{length}");
    }
}
