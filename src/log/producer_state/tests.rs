//! Producer state against a model of the whole log.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::log::producer_snapshot;
use crate::log::test_disk::TestDisk;
use crate::types::LeaderEpoch;
use crate::wire::batch::Attributes;

/// A batch of `count` records of producer 7 at `base_offset`.
fn batch(epoch: i16, base_sequence: i32, count: i32, base_offset: i64) -> BatchHeader {
    BatchHeader {
        base_offset: Offset(base_offset),
        batch_length: 100,
        leader_epoch: LeaderEpoch(0),
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: count - 1,
        base_timestamp: Timestamp(base_offset),
        max_timestamp: Timestamp(1000 + base_offset),
        producer_id: ProducerId(7),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(base_sequence),
        record_count: count,
    }
}

fn of(producer: i64, header: BatchHeader) -> BatchHeader {
    BatchHeader {
        producer_id: ProducerId(producer),
        ..header
    }
}

fn transactional(header: BatchHeader) -> BatchHeader {
    BatchHeader {
        attributes: header.attributes.with_transactional(),
        ..header
    }
}

fn marker(epoch: i16, offset: i64) -> BatchHeader {
    let header = transactional(batch(epoch, -1, 1, offset));
    BatchHeader {
        attributes: header.attributes.with_control(),
        ..header
    }
}

fn state(batches: &[BatchHeader]) -> ProducerState {
    let mut state = ProducerState::default();
    for header in batches {
        state.append(header);
    }
    state
}

/// Batches of three records, in sequence, from offset 0.
fn in_sequence(count: i32) -> Vec<BatchHeader> {
    (0..count)
        .map(|at| batch(0, 3 * at, 3, i64::from(3 * at)))
        .collect()
}

#[test]
fn a_duplicate_batch_gets_the_original_place() {
    let state = state(&in_sequence(5));
    for at in 0..5 {
        let duplicate = batch(0, 3 * at, 3, 0);
        let place = Verdict::Duplicate {
            base_offset: Offset(i64::from(3 * at)),
            last_offset: Offset(i64::from(3 * at + 2)),
            timestamp: Timestamp(1000 + i64::from(3 * at)),
        };
        assert_eq!(state.check(&duplicate), Ok(place));
    }
}

#[test]
fn a_duplicate_older_than_the_window_is_out_of_order() {
    let error = state(&in_sequence(6)).check(&batch(0, 0, 3, 0));
    let error = error.expect_err("the first of six batches is no longer known");
    assert_eq!(error.code(), ErrorCode::OutOfOrderSequenceNumber);
}

#[test]
fn a_batch_that_repeats_part_of_another_is_out_of_order() {
    let state = state(&in_sequence(2));
    assert!(state.check(&batch(0, 3, 2, 6)).is_err());
    assert!(state.check(&batch(0, 4, 2, 6)).is_err());
    assert!(state.check(&batch(0, 3, 6, 6)).is_err());
}

#[test]
fn a_gap_is_out_of_order_and_the_next_sequence_is_new() {
    let state = state(&in_sequence(2));
    let error = state.check(&batch(0, 7, 1, 6)).expect_err("6 is missing");
    assert_eq!(error.code(), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(
        error.to_string(),
        "producer 7 sent sequence 7, which does not follow 5"
    );
    assert_eq!(state.check(&batch(0, 6, 1, 6)), Ok(Verdict::New));
}

#[test]
fn an_unknown_producer_may_begin_anywhere() {
    let state = ProducerState::default();
    assert_eq!(state.check(&batch(3, 17, 1, 0)), Ok(Verdict::New));
}

#[test]
fn a_new_epoch_begins_at_sequence_zero() {
    let state = state(&in_sequence(2));
    assert_eq!(state.check(&batch(1, 0, 1, 6)), Ok(Verdict::New));
    let error = state.check(&batch(1, 6, 1, 6)).expect_err("not 0");
    assert_eq!(error.code(), ErrorCode::OutOfOrderSequenceNumber);
}

#[test]
fn an_older_epoch_is_fenced_even_for_what_it_sent_before() {
    let mut batches = in_sequence(2);
    batches.push(batch(1, 0, 1, 6));
    let state = state(&batches);
    for old in [batch(0, 6, 1, 7), batch(0, 3, 3, 7)] {
        let error = state.check(&old).expect_err("fenced");
        assert_eq!(error.code(), ErrorCode::InvalidProducerEpoch);
    }
    assert!(matches!(
        state.check(&batch(1, 0, 1, 7)),
        Ok(Verdict::Duplicate { .. })
    ));
}

#[test]
fn sequences_wrap_to_zero() {
    let last = batch(0, i32::MAX - 1, 2, 0);
    assert_eq!(
        state(&[last]).check(&batch(0, 0, 1, 2)),
        Ok(Verdict::New),
        "the maximum is followed by 0"
    );
    let across = batch(0, i32::MAX, 3, 0);
    let state = state(&[across]);
    assert_eq!(state.check(&batch(0, 2, 1, 3)), Ok(Verdict::New));
    assert!(matches!(
        state.check(&across),
        Ok(Verdict::Duplicate { .. })
    ));
}

#[test]
fn a_batch_without_producer_changes_nothing_but_the_end() {
    let plain = of(-1, batch(-1, -1, 4, 0));
    let mut state = ProducerState::default();
    assert_eq!(state.check(&plain), Ok(Verdict::New));
    state.append(&plain);
    assert!(state.is_empty());
    assert_eq!(state.end(), Offset(4));
}

#[test]
fn an_id_without_epoch_or_sequence_is_invalid() {
    for header in [batch(-1, 0, 1, 0), batch(0, -1, 1, 0)] {
        let error = ProducerState::default()
            .check(&header)
            .expect_err("invalid");
        assert_eq!(error.code(), ErrorCode::InvalidRecord);
    }
}

#[test]
fn a_transaction_lasts_from_its_first_batch_to_its_marker() {
    let mut state = state(&in_sequence(1));
    assert_eq!(state.first_unstable_offset(), None);
    state.append(&transactional(batch(0, 3, 2, 3)));
    state.append(&transactional(batch(0, 5, 2, 5)));
    assert_eq!(state.first_unstable_offset(), Some(Offset(3)));
    let error = state.check(&batch(0, 7, 1, 7)).expect_err("not in it");
    assert_eq!(error.code(), ErrorCode::InvalidTxnState);
    let ended = EndedTransaction {
        producer_id: ProducerId(7),
        first_offset: Offset(3),
        last_offset: Offset(7),
    };
    assert_eq!(state.append(&marker(0, 7)), Some(ended));
    assert_eq!(state.first_unstable_offset(), None);
    assert_eq!(state.append(&marker(0, 8)), None, "nothing was open");
}

#[test]
fn sequences_go_on_after_a_marker_and_restart_after_one_of_a_new_epoch() {
    let data = transactional(batch(0, 0, 2, 0));
    let same = state(&[data, marker(0, 2)]);
    assert_eq!(same.check(&batch(0, 2, 1, 3)), Ok(Verdict::New));
    let bumped = state(&[data, marker(1, 2)]);
    assert!(bumped.check(&batch(1, 2, 1, 3)).is_err());
    assert_eq!(bumped.check(&batch(1, 0, 1, 3)), Ok(Verdict::New));
    assert!(bumped.check(&batch(0, 2, 1, 3)).is_err(), "fenced");
}

#[test]
fn an_idle_producer_is_forgotten_after_the_time_and_not_before() {
    let day = Duration::from_secs(86400);
    let at = |hours: u64| Instant(0).plus(Duration::from_secs(3600 * hours));
    let mut state = state(&[batch(0, 0, 1, 0), of(8, batch(0, 0, 1, 1))]);
    assert_eq!(state.expire(at(0), day), 0);
    state.append(&of(8, batch(0, 1, 1, 2)));
    assert_eq!(state.expire(at(10), day), 0);
    assert_eq!(state.expire(at(23), day), 0);
    assert_eq!(state.expire(at(24), day), 1);
    assert_eq!(state.get(ProducerId(7)), None);
    assert_eq!(state.expire(at(33), day), 0);
    assert_eq!(state.expire(at(34), day), 1);
}

#[test]
fn old_timestamps_do_not_make_a_producer_idle() {
    let ancient = BatchHeader {
        max_timestamp: Timestamp(0),
        ..batch(0, 0, 1, 0)
    };
    let mut state = state(&[ancient]);
    let late = Instant(0).plus(Duration::from_secs(1 << 30));
    assert_eq!(state.expire(late, Duration::from_secs(60)), 0);
    assert!(matches!(
        state.check(&ancient),
        Ok(Verdict::Duplicate { .. })
    ));
}

#[test]
fn a_producer_with_an_open_transaction_is_never_forgotten() {
    let mut state = state(&[transactional(batch(0, 0, 1, 0))]);
    for hours in 0..100 {
        let now = Instant(0).plus(Duration::from_secs(3600 * hours));
        assert_eq!(state.expire(now, Duration::from_secs(1)), 0);
    }
}

#[test]
fn a_snapshot_is_found_by_the_offset_in_its_name() {
    let disk = TestDisk::default();
    let dir = Path::new("/data/t-0");
    let saved = state(&in_sequence(7));
    let done = futures_util::FutureExt::now_or_never(producer_snapshot::save(&disk, dir, &saved));
    done.expect("at once").expect("the disk works");
    let load = |offset: i64| {
        let load = producer_snapshot::load(&disk, dir, Offset(offset));
        futures_util::FutureExt::now_or_never(load).expect("at once")
    };
    assert_eq!(load(21).expect("not damaged"), Some(saved));
    assert_eq!(load(20).expect("not damaged"), None);

    let name = producer_snapshot::file_name(Offset(21));
    assert_eq!(name, "00000000000000000021.snapshot");
    assert_eq!(producer_snapshot::offset_in(&name), Some(Offset(21)));
    for other in [
        "21.snapshot",
        "00000000000000000021.log",
        "+0000000000000000021.snapshot",
    ] {
        assert_eq!(producer_snapshot::offset_in(other), None);
    }
    let from = dir.join(name);
    let to = dir.join(producer_snapshot::file_name(Offset(30)));
    let move_it = crate::env::Disk::rename(&disk, &from, &to);
    let moved = futures_util::FutureExt::now_or_never(move_it).expect("at once");
    moved.expect("the disk works");
    assert!(load(30).is_err(), "it holds the state at another offset");
}

#[test]
fn bytes_that_are_no_snapshot_are_refused() {
    let mut batches = in_sequence(6);
    batches.push(transactional(of(9, batch(0, 0, 1, 18))));
    let good = producer_snapshot::encode(&state(&batches));
    for length in 0..good.len() {
        assert!(producer_snapshot::decode(good.slice(..length)).is_err());
    }
    // A count of producers that the bytes cannot hold must not be believed.
    let mut lying = bytes::BytesMut::from(&good[..]);
    lying[10..14].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(producer_snapshot::decode(lying.freeze()).is_err());
}

/// What a client or a coordinator does next.
#[derive(Clone, Debug)]
enum Step {
    /// A batch whose sequence lies `skip` after the next one due, in an epoch `bump` later.
    Send {
        producer: i64,
        skip: i32,
        bump: i16,
        count: i32,
        transactional: bool,
    },
    /// A batch sent before once more: the `back`th last of all.
    Again {
        back: usize,
    },
    Mark {
        producer: i64,
        bump: i16,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let skip = prop_oneof![8 => Just(0), 1 => -4..4_i32];
    let bump = prop_oneof![8 => Just(0_i16), 1 => -1..2_i16];
    let send = (0..3_i64, skip, bump.clone(), 1..4_i32, any::<bool>());
    prop_oneof![
        6 => send.prop_map(|(producer, skip, bump, count, transactional)| Step::Send {
            producer, skip, bump, count, transactional,
        }),
        2 => (0..20_usize).prop_map(|back| Step::Again { back }),
        1 => (0..3_i64, bump).prop_map(|(producer, bump)| Step::Mark { producer, bump }),
    ]
}

/// The rules, read off the whole log each time.
#[derive(Default)]
struct Model {
    log: Vec<BatchHeader>,
}

impl Model {
    fn end(&self) -> i64 {
        self.log.last().map_or(0, |last| last.end_offset().0)
    }

    fn of(&self, producer: ProducerId) -> impl DoubleEndedIterator<Item = &BatchHeader> {
        self.log
            .iter()
            .filter(move |header| header.producer_id == producer)
    }

    fn epoch(&self, producer: ProducerId) -> Option<ProducerEpoch> {
        self.of(producer).last().map(|last| last.producer_epoch)
    }

    fn data(&self, producer: ProducerId) -> Vec<&BatchHeader> {
        let epoch = self.epoch(producer);
        self.of(producer)
            .filter(|header| !header.attributes.is_control())
            .filter(|header| Some(header.producer_epoch) == epoch)
            .collect()
    }

    fn next_sequence(&self, producer: ProducerId) -> Sequence {
        self.data(producer)
            .last()
            .map_or(Sequence(0), |last| last.last_sequence().next())
    }

    fn open_since(&self, producer: ProducerId) -> Option<Offset> {
        let mut since = None;
        for header in self.of(producer) {
            if header.attributes.is_control() {
                since = None;
            } else if header.attributes.is_transactional() && since.is_none() {
                since = Some(header.base_offset);
            }
        }
        since
    }

    fn check(&self, header: &BatchHeader) -> Result<Option<Offset>, ErrorCode> {
        let producer = header.producer_id;
        let Some(epoch) = self.epoch(producer) else {
            return Ok(None);
        };
        let sequences = |header: &BatchHeader| (header.base_sequence, header.last_sequence());
        let data = self.data(producer);
        let recent = &data[data.len().saturating_sub(5)..];
        if header.producer_epoch == epoch
            && let Some(same) = recent
                .iter()
                .find(|known| sequences(known) == sequences(header))
        {
            return Ok(Some(same.base_offset));
        }
        if header.producer_epoch < epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        let due = match header.producer_epoch == epoch {
            true => self.next_sequence(producer),
            false => Sequence(0),
        };
        if header.base_sequence != due {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        if self.open_since(producer).is_some() && !header.attributes.is_transactional() {
            return Err(ErrorCode::InvalidTxnState);
        }
        Ok(None)
    }

    fn batch(&self, step: &Step) -> Option<BatchHeader> {
        match step {
            Step::Send {
                producer,
                skip,
                bump,
                count,
                transactional: in_transaction,
            } => {
                let id = ProducerId(*producer);
                let epoch = self.epoch(id).map_or(0, |epoch| epoch.0) + bump;
                // The first batch of all begins just below the wrap.
                let due = match (self.epoch(id), bump) {
                    (None, _) => Sequence(i32::MAX - 3),
                    (_, 0) => self.next_sequence(id),
                    _ => Sequence(0),
                };
                let header = of(
                    *producer,
                    batch(epoch.max(0), due.plus(*skip).0, *count, self.end()),
                );
                Some(match in_transaction {
                    true => transactional(header),
                    false => header,
                })
            }
            Step::Again { back } => {
                let at = self.log.len().checked_sub(back + 1)?;
                let again = self.log[at];
                (!again.attributes.is_control()).then_some(BatchHeader {
                    base_offset: Offset(self.end()),
                    ..again
                })
            }
            Step::Mark { producer, bump } => {
                let epoch = self.epoch(ProducerId(*producer))?.0;
                let header = marker(epoch + (*bump).max(0), self.end());
                Some(of(*producer, header))
            }
        }
    }
}

proptest! {
    /// A snapshot changed anywhere is refused or is some state; nothing panics or overflows.
    #[test]
    fn no_bytes_panic(changes in prop::collection::vec((any::<u16>(), any::<u8>()), 0..6)) {
        let mut batches = in_sequence(6);
        batches.push(transactional(of(9, batch(0, 0, 1, 18))));
        let mut bytes = bytes::BytesMut::from(&producer_snapshot::encode(&state(&batches))[..]);
        for (at, value) in changes {
            let at = usize::from(at) % bytes.len();
            bytes[at] = value;
        }
        if let Ok(state) = producer_snapshot::decode(bytes.freeze()) {
            let _ = state.check(&batch(0, 18, 1, 19));
            let again = producer_snapshot::decode(producer_snapshot::encode(&state));
            prop_assert_eq!(again, Ok(state));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Every verdict is what the whole log says, and the state is a function of the log: rebuilt
    /// from its batches, or from a snapshot anywhere and the rest, it is equal (R11, R16).
    #[test]
    fn the_state_is_a_function_of_the_log(steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::default();
        let mut incremental = ProducerState::default();
        let mut snapshots = vec![(0, producer_snapshot::encode(&incremental))];
        for step in &steps {
            let Some(header) = model.batch(step) else { continue };
            if !header.attributes.is_control() {
                let verdict = incremental.check(&header);
                let simple = match &verdict {
                    Ok(Verdict::New) => Ok(None),
                    Ok(Verdict::Duplicate { base_offset, .. }) => Ok(Some(*base_offset)),
                    Err(error) => Err(error.code()),
                };
                prop_assert_eq!(simple, model.check(&header));
                if verdict != Ok(Verdict::New) {
                    continue;
                }
            }
            incremental.append(&header);
            model.log.push(header);
            snapshots.push((model.log.len(), producer_snapshot::encode(&incremental)));

            let open = (0..3).filter_map(|id| model.open_since(ProducerId(id))).min();
            prop_assert_eq!(incremental.first_unstable_offset(), open);
        }
        prop_assert_eq!(&state(&model.log), &incremental);
        for (length, snapshot) in snapshots {
            let mut restored = producer_snapshot::decode(snapshot).expect("as encoded");
            prop_assert_eq!(&restored, &state(&model.log[..length]));
            for header in &model.log[length..] {
                restored.append(header);
            }
            prop_assert_eq!(&restored, &incremental);
        }
    }
}
