use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use crate::wire::batch::{Attributes, BatchHeader};

/// A header without a producer, to be filled in.
pub(super) fn blank_header() -> BatchHeader {
    BatchHeader {
        base_offset: Offset(0),
        batch_length: 0,
        leader_epoch: LeaderEpoch(0),
        crc: 0,
        attributes: Attributes(0),
        last_offset_delta: 0,
        base_timestamp: Timestamp(0),
        max_timestamp: Timestamp(0),
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: Sequence(-1),
        record_count: 1,
    }
}

/// Whatever a broker does with a log, it does on tasks that may move between threads.
#[allow(dead_code)]
fn everything_can_be_sent(log: &'static mut super::Log, reader: &'static super::LogReader) {
    fn send<T: Send>(_: T) {}
    let at = Timestamp(0);
    send(reader.read(Offset(0), Offset(0), 0, true));
    send(reader.offset_for_timestamp(at, Offset(0)));
    send(reader.offset_of_max_timestamp(Offset(0)));
    let choice = at.0;
    match choice {
        0 => send(log.apply_retention(at, Offset(0))),
        1 => send(log.truncate_to(Offset(0))),
        2 => send(log.fall_back_to_durable()),
        3 => send(log.roll_if_due(at)),
        4 => send(log.compaction_plan(at, Offset(0), 0)),
        _ => send(log.delete_records_before(Offset(0))),
    }
}

#[allow(dead_code)]
async fn opening_can_be_sent(env: &'static crate::env::Env, options: super::OpenOptions) {
    fn send<T: Send>(work: T) -> T {
        work
    }
    let dir = std::path::Path::new("");
    let opened = send(super::Log::open(env, dir, options.clone())).await;
    drop(opened);
    let mut log = send(super::Log::create(env, dir, options))
        .await
        .expect("made");
    let batch = crate::wire::batch::RecordBatch::seal(blank_header(), &[]);
    drop(send(log.append(&batch, LeaderEpoch(0), Timestamp(0), true)).await);
    drop(send(log.close()).await);
}
