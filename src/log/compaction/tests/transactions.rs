//! Transactions in a compacted log.

use super::*;

fn data(log: &TestLog, producer: i64, sequence: i32, key: &str, value: &str) -> RecordBatch {
    let mut builder = BatchBuilder::new(log.end, Compression::None, None)
        .producer(ProducerId(producer), ProducerEpoch(0), Sequence(sequence))
        .transactional();
    builder.push(
        Timestamp(0),
        Some(key.as_bytes()),
        Some(value.as_bytes()),
        &[],
    );
    builder.build()
}

fn marker(log: &TestLog, producer: i64, commit: bool) -> RecordBatch {
    let mut builder = BatchBuilder::new(log.end, Compression::None, None)
        .producer(ProducerId(producer), ProducerEpoch(0), Sequence(-1))
        .transactional()
        .control();
    let key = [0, 0, 0, u8::from(commit)];
    builder.push(Timestamp(0), Some(&key), Some(&[0; 6]), &[]);
    builder.build()
}

/// Appends an unrelated batch in a segment of its own and compacts at `now`.
fn round(log: &mut TestLog, now: i64) {
    log.roll();
    log.append(batch(log, 0, &[("z", Some("1"))]));
    log.roll();
    log.compact(&rules(), now).expect("due");
}

fn markers(log: &TestLog) -> Vec<i64> {
    log.batches()
        .filter(|batch| batch.header.attributes.is_control())
        .map(|batch| batch.header.base_offset.0)
        .collect()
}

fn key_at(log: &TestLog, key: &str) -> Vec<i64> {
    let with_key = keys(log).into_iter().filter(|(_, found)| found == key);
    with_key.map(|(offset, _)| offset).collect()
}

#[test]
fn an_aborted_record_replaces_nothing_and_goes_before_its_marker() {
    let mut log = TestLog::default();
    log.append(batch(&log, 0, &[("a", Some("committed"))]));
    log.append(data(&log, 7, 0, "a", "aborted"));
    log.append(marker(&log, 7, false));
    // So that the batches above are not the last of the producer.
    log.append(data(&log, 7, 1, "b", "committed"));
    log.append(marker(&log, 7, true));
    log.aborted.push(AbortedTransaction {
        producer_id: ProducerId(7),
        first_offset: Offset(1),
        last_offset: Offset(2),
    });
    round(&mut log, 100);
    assert_eq!(key_at(&log, "a"), [0]);
    assert_eq!(markers(&log), [2, 4], "its batch was seen in this round");
    round(&mut log, 200);
    assert_eq!(markers(&log), [2, 4], "now without data: the time begins");
    round(&mut log, 200 + RETENTION_MS - 1);
    assert_eq!(markers(&log), [2, 4]);
    round(&mut log, 200 + RETENTION_MS);
    assert_eq!(markers(&log), [4], "the other has data still");
    assert_eq!(key_at(&log, "a"), [0]);
    assert_eq!(key_at(&log, "b"), [3]);
}

#[test]
fn a_commit_marker_stays_as_long_as_a_batch_of_its_transaction() {
    let mut log = TestLog::default();
    log.append(data(&log, 7, 0, "a", "1"));
    log.append(data(&log, 7, 1, "b", "1"));
    log.append(marker(&log, 7, true));
    for at in 0..4 {
        round(&mut log, 100 + at * 10 * RETENTION_MS);
        assert_eq!(markers(&log), [2]);
    }
    // Replaced by others, both records go; the second batch stays as the producer's last.
    log.append(batch(&log, 0, &[("a", Some("2")), ("b", Some("2"))]));
    for at in 10..14 {
        round(&mut log, 100 + at * 10 * RETENTION_MS);
        assert_eq!(markers(&log), [2]);
    }
    let known = log.producers();
    let last = known
        .get(ProducerId(7))
        .and_then(|known| known.last_batch());
    assert_eq!(last.map(|last| last.last_sequence), Some(Sequence(1)));
}

#[test]
fn a_marker_that_alone_knows_the_producers_epoch_stays() {
    let mut log = TestLog::default();
    let mut builder = BatchBuilder::new(log.end, Compression::None, None)
        .producer(ProducerId(7), ProducerEpoch(5), Sequence(-1))
        .transactional()
        .control();
    builder.push(Timestamp(0), Some(&[0, 0, 0, 0]), Some(&[0; 6]), &[]);
    log.append(builder.build());
    for at in 0..4 {
        round(&mut log, 100 + at * 10 * RETENTION_MS);
    }
    let known = log.producers();
    let producer = known.get(ProducerId(7)).expect("known");
    assert_eq!(producer.epoch(), ProducerEpoch(5));
}

#[test]
fn a_key_that_looks_like_a_marker_does_not_meet_one() {
    let mut log = TestLog::default();
    log.append(data(&log, 7, 0, "a", "1"));
    log.append(marker(&log, 7, true));
    let mut builder = BatchBuilder::new(log.end, Compression::None, None);
    builder.push(Timestamp(0), Some(&[0, 0, 0, 1]), Some(b"v"), &[]);
    log.append(builder.build());
    round(&mut log, 100);
    assert_eq!(markers(&log), [1]);
    assert_eq!(log.records().len(), 4);
}
