//! The epoch cache against what the batches say.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::log::test_disk::TestDisk;

fn cache(entries: &[(i32, i64)]) -> EpochCache {
    let mut cache = EpochCache::default();
    for (epoch, start) in entries {
        assert!(cache.assign(LeaderEpoch(*epoch), Offset(*start)));
    }
    cache
}

fn starts(cache: &EpochCache) -> Vec<(i32, i64)> {
    let pair = |entry: &EpochStart| (entry.epoch.0, entry.start_offset.0);
    cache.entries().iter().map(pair).collect()
}

fn end_of(cache: &EpochCache, epoch: i32, log_end: i64) -> (i32, i64) {
    let (epoch, end) = cache.end_of_epoch(LeaderEpoch(epoch), Offset(log_end));
    (epoch.0, end.0)
}

#[test]
fn the_latest_epoch_ends_with_the_log() {
    assert_eq!(end_of(&cache(&[(2, 0), (5, 11)]), 5, 20), (5, 20));
}

#[test]
fn an_epoch_ends_where_the_next_known_begins() {
    let cache = cache(&[(2, 0), (5, 11), (7, 15)]);
    assert_eq!(end_of(&cache, 2, 20), (2, 11));
    assert_eq!(end_of(&cache, 5, 20), (5, 15));
}

#[test]
fn an_epoch_in_a_gap_is_answered_with_the_one_before() {
    let cache = cache(&[(2, 0), (5, 11), (7, 15)]);
    assert_eq!(end_of(&cache, 3, 20), (2, 11));
    assert_eq!(end_of(&cache, 6, 20), (5, 15));
}

#[test]
fn an_epoch_before_all_known_ends_where_the_first_begins() {
    assert_eq!(end_of(&cache(&[(4, 9), (5, 11)]), 1, 20), (1, 9));
}

#[test]
fn an_epoch_after_all_known_or_none_is_unknown() {
    let known = cache(&[(2, 0), (5, 11)]);
    assert_eq!(end_of(&known, 6, 20), (-1, -1));
    assert_eq!(end_of(&known, -1, 20), (-1, -1));
    assert_eq!(end_of(&EpochCache::default(), 0, 20), (-1, -1));
}

#[test]
fn an_epoch_keeps_its_first_start() {
    let mut cache = cache(&[(2, 0), (5, 11)]);
    assert!(!cache.assign(LeaderEpoch(5), Offset(14)));
    assert_eq!(starts(&cache), [(2, 0), (5, 11)]);
}

#[test]
fn an_epoch_without_records_gives_way_to_the_next() {
    let mut cache = cache(&[(2, 0), (5, 11)]);
    assert!(cache.assign(LeaderEpoch(6), Offset(11)));
    assert_eq!(starts(&cache), [(2, 0), (6, 11)]);
}

#[test]
fn a_batch_without_epoch_is_not_entered() {
    let mut cache = EpochCache::default();
    assert!(!cache.assign(LeaderEpoch::NONE, Offset(3)));
    assert_eq!(cache.latest(), None);
}

#[test]
fn a_cut_forgets_the_epochs_that_begin_there_or_later() {
    let mut cache = cache(&[(2, 0), (5, 11), (7, 15)]);
    assert!(cache.truncate_from_end(Offset(11)));
    assert_eq!(starts(&cache), [(2, 0)]);
    assert!(!cache.truncate_from_end(Offset(11)));
}

#[test]
fn a_new_start_keeps_the_epoch_that_covers_it() {
    let mut cache = cache(&[(2, 0), (5, 11), (7, 15)]);
    assert!(cache.truncate_from_start(Offset(12)));
    assert_eq!(starts(&cache), [(5, 12), (7, 15)]);
    assert!(!cache.truncate_from_start(Offset(12)));
    assert!(!cache.truncate_from_start(Offset(3)));
    assert!(cache.truncate_from_start(Offset(99)));
    assert_eq!(starts(&cache), [(7, 99)]);
}

#[test]
fn bytes_that_are_no_cache_are_refused() {
    let good = cache(&[(2, 0), (5, 11)]).encode();
    for length in 0..good.len() {
        assert!(
            EpochCache::decode(good.slice(..length)).is_err(),
            "{length}"
        );
    }
    let claims_many = Bytes::from_static(&[0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    assert!(EpochCache::decode(claims_many).is_err());
    let mut out_of_order = BytesMut::from(&good[..]);
    out_of_order[9] = 9;
    assert!(EpochCache::decode(out_of_order.freeze()).is_err());
}

#[test]
fn a_saved_cache_is_loaded_again() {
    let disk = TestDisk::default();
    let dir = Path::new("/data/t-0");
    let now = |cache: &EpochCache| {
        futures_util::FutureExt::now_or_never(cache.save(&disk, dir)).expect("at once")
    };
    let saved = cache(&[(2, 0), (5, 11)]);
    now(&saved).expect("the disk works");
    let loaded = futures_util::FutureExt::now_or_never(EpochCache::load(&disk, dir));
    let loaded = loaded.expect("at once").expect("not damaged");
    assert_eq!(loaded, Some(saved));
}

#[derive(Clone, Debug)]
enum Step {
    Append { epoch: i32, count: i64 },
    Cut { end: i64 },
    Advance { start: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_i32, 1..5_i64).prop_map(|(epoch, count)| Step::Append { epoch, count }),
        1 => (0..40_i64).prop_map(|end| Step::Cut { end }),
        1 => (0..40_i64).prop_map(|start| Step::Advance { start }),
    ]
}

proptest! {
    /// The cache equals what the epochs of the records imply (R8).
    #[test]
    fn the_cache_is_what_the_records_imply(steps in prop::collection::vec(step(), 1..40)) {
        let mut cache = EpochCache::default();
        let (mut start, mut epochs, mut epoch) = (0_i64, Vec::<i32>::new(), 0);
        for step in steps {
            let end = start + epochs.len() as i64;
            match step {
                Step::Append { epoch: by, count } => {
                    epoch += by;
                    cache.assign(LeaderEpoch(epoch), Offset(end));
                    epochs.extend(std::iter::repeat_n(epoch, count as usize));
                }
                Step::Cut { end: at } => {
                    let at = at.clamp(start, end);
                    cache.truncate_from_end(Offset(at));
                    epochs.truncate((at - start) as usize);
                }
                Step::Advance { start: at } if !epochs.is_empty() => {
                    // At least one record stays, whose epoch begins at the start then.
                    let at = at.clamp(start, end - 1);
                    cache.truncate_from_start(Offset(at));
                    epochs.drain(..(at - start) as usize);
                    start = at;
                }
                Step::Advance { .. } => {}
            }
            let mut implied = EpochCache::default();
            for (offset, epoch) in (start..).zip(&epochs) {
                implied.assign(LeaderEpoch(*epoch), Offset(offset));
            }
            prop_assert_eq!(&cache, &implied);
            let increasing = cache.entries().windows(2).all(|pair| {
                pair[0].epoch < pair[1].epoch && pair[0].start_offset < pair[1].start_offset
            });
            prop_assert!(increasing);
            for (offset, epoch) in (start..).zip(&epochs) {
                prop_assert_eq!(cache.epoch_of(Offset(offset)), LeaderEpoch(*epoch));
            }
            prop_assert_eq!(EpochCache::decode(cache.encode()), Ok(cache.clone()));
        }
    }
}
