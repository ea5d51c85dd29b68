//! Leaders go back to where they are preferred.

use super::{Cluster, ids};
use crate::controller::*;
use crate::types::{BrokerId, Timestamp};

#[test]
fn leaders_go_back_only_for_brokers_that_miss_too_many_and_only_to_those_in_sync() {
    let mut cluster = Cluster::of(3, "");
    cluster.create_on(&[1, 2, 3], &[]);
    let topic = NewTopic {
        assignments: (0..9).map(|index| (index, ids(&[1, 3]))).collect(),
        ..NewTopic::named("b")
    };
    cluster.create(topic).unwrap();
    assert!(cluster.ledger.balance(Timestamp(0), 10).is_empty());
    cluster.fence(1);
    cluster.start(1, 2);
    assert!(
        cluster.ledger.balance(Timestamp(0), 10).is_empty(),
        "none is in sync"
    );
    let state = cluster.state();
    let image = cluster.ledger.image();
    let isr = [2, 3, 1].map(|id| (BrokerId(id), cluster.epoch(id)));
    let request = AlterPartition {
        broker: BrokerId(2),
        broker_epoch: cluster.epoch(2),
        changes: vec![IsrChange {
            topic_id: image.topic("a").unwrap().id,
            partition: 0,
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            isr: isr.to_vec(),
            recovering: false,
        }],
    };
    cluster.ask(Request::AlterPartition(request)).unwrap();
    let records = cluster.ledger.balance(Timestamp(3), 10);
    let [MetadataRecord::PartitionChange(record)] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!(record.state.leader, Some(BrokerId(1)));
    assert_eq!(
        (record.state.cause, record.at),
        (Cause::LeadersBalanced, Timestamp(3))
    );
    // It misses all ten, which is not more than all of them.
    assert!(cluster.ledger.balance(Timestamp(3), 100).is_empty());
}
