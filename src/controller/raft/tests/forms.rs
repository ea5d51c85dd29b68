//! The binary forms: what is written is read again, and garbage is refused.

use bytes::{Bytes, BytesMut};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::harness::peer;
use crate::controller::raft::RAFT_QUESTION;
use crate::controller::raft::codec::{self, log_id};
use crate::controller::raft::message::{self, Part, Question};
use crate::controller::raft::service::take_part;
use crate::controller::raft::snapshot::KeptSnapshot;
use crate::controller::raft::types::{
    Batch, Entry, LogId, Membership, Payload, SnapshotMeta, StoredMembership, Vote,
};
use crate::types::BrokerId;
use crate::wire::Reader;

fn ids() -> impl Strategy<Value = LogId> {
    (any::<u64>(), any::<u64>()).prop_map(|(term, index)| log_id(term, index))
}

fn votes() -> impl Strategy<Value = Vote> {
    (any::<u64>(), any::<i32>(), any::<bool>()).prop_map(|(term, id, committed)| Vote {
        committed,
        ..Vote::new(term, BrokerId(id))
    })
}

fn memberships() -> impl Strategy<Value = Membership> {
    let sets = vec(proptest::collection::btree_set(1..6, 1..4), 1..3);
    sets.prop_map(|sets| {
        let sets: Vec<_> = sets
            .into_iter()
            .map(|set| set.into_iter().map(BrokerId).collect())
            .collect();
        let nodes: std::collections::BTreeMap<_, _> =
            (1..6).map(|id| (BrokerId(id), peer(id))).collect();
        Membership::new(sets, nodes).unwrap()
    })
}

fn entries() -> impl Strategy<Value = Entry> {
    let payloads = prop_oneof![
        Just(Payload::Blank),
        vec(any::<u8>(), 0..40).prop_map(|bytes| Payload::Normal(Batch(bytes.into()))),
        memberships().prop_map(Payload::Membership),
    ];
    (ids(), payloads).prop_map(|(log_id, payload)| Entry { log_id, payload })
}

fn decoded(question: &Question) -> Question {
    let bytes = question.encode();
    assert_eq!(bytes[0], RAFT_QUESTION);
    Question::decode(bytes.slice(1..)).unwrap()
}

proptest! {
    #[test]
    fn an_append_survives_its_form(
        vote in votes(),
        prev in proptest::option::of(ids()),
        commit in proptest::option::of(ids()),
        entries in vec(entries(), 0..4),
    ) {
        let request = AppendEntriesRequest {
            vote,
            prev_log_id: prev,
            entries: entries.clone(),
            leader_commit: commit,
        };
        let Question::Append(again) = decoded(&Question::Append(request)) else {
            panic!("another question");
        };
        prop_assert_eq!(
            (again.vote, again.prev_log_id, again.leader_commit, again.entries),
            (vote, prev, commit, entries)
        );
    }

    #[test]
    fn votes_and_their_answers_survive(
        vote in votes(),
        last in proptest::option::of(ids()),
        flag in any::<bool>(),
        to in any::<i32>(),
    ) {
        let request = VoteRequest { vote, last_log_id: last, leadership_transfer: flag };
        let Question::Vote(again) = decoded(&Question::Vote(request.clone())) else {
            panic!("another question");
        };
        prop_assert_eq!(&again, &request);
        let Question::PreVote(again) = decoded(&Question::PreVote(request.clone())) else {
            panic!("another question");
        };
        prop_assert_eq!(again, request);
        let handing = TransferLeaderRequest::new(vote, BrokerId(to), last);
        let Question::HandOver(again) = decoded(&Question::HandOver(handing.clone())) else {
            panic!("another question");
        };
        prop_assert_eq!(again, handing);
        let answer = VoteResponse { vote, vote_granted: flag, last_log_id: last };
        let again = message::decode_vote_answer(message::encode_vote_answer(&answer));
        prop_assert_eq!(again.unwrap(), answer);
        for answer in [
            AppendEntriesResponse::Success,
            AppendEntriesResponse::PartialSuccess(last),
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(vote),
        ] {
            let again = message::decode_append_answer(message::encode_append_answer(&answer));
            prop_assert_eq!(again.unwrap(), answer);
        }
    }

    #[test]
    fn a_snapshot_survives_whole_and_in_parts(
        id in ids(),
        membership in memberships(),
        records in vec(any::<u8>(), 0..60),
        vote in votes(),
    ) {
        let snapshot = KeptSnapshot {
            meta: SnapshotMeta {
                last_log_id: Some(id),
                last_membership: StoredMembership::new(Some(id), membership),
            },
            records: records.into(),
        };
        let whole = snapshot.encode();
        let again = KeptSnapshot::decode(&whole).unwrap();
        prop_assert_eq!((again.meta, again.records), (snapshot.meta, snapshot.records));
        let part = Part {
            vote,
            total_bytes: whole.len() as u64,
            total_sum: 7,
            position: 3,
            bytes: whole,
        };
        let Question::Snapshot(again) = decoded(&Question::Snapshot(part.clone())) else {
            panic!("another question");
        };
        prop_assert_eq!(again, part);
    }

    #[test]
    fn garbage_is_refused_without_panic(bytes in vec(any::<u8>(), 0..80)) {
        let bytes = Bytes::from(bytes);
        Question::decode(bytes.clone()).ok();
        message::decode_append_answer(bytes.clone()).ok();
        message::decode_vote_answer(bytes.clone()).ok();
        message::decode_vote(bytes.clone()).ok();
        codec::read_entry(&mut Reader::new(bytes.clone())).ok();
        codec::read_stored_membership(&mut Reader::new(bytes.clone())).ok();
        prop_assert!(KeptSnapshot::decode(&bytes).is_err());
    }

    #[test]
    fn an_entry_cut_short_is_refused(entry in entries(), cut in 1_usize..20) {
        let mut out = BytesMut::new();
        codec::put_entry(&mut out, &entry);
        let bytes = out.freeze();
        let left = bytes.len().saturating_sub(cut);
        let read = codec::read_entry(&mut Reader::new(bytes.slice(..left)));
        prop_assert!(read.is_err());
    }
}

#[test]
fn a_snapshot_is_put_together_from_its_parts_in_order_and_from_nothing_else() {
    let whole: Vec<u8> = (0..100).collect();
    let part = |position: usize, end: usize| Part {
        vote: Vote::new_committed(3, BrokerId(1)),
        total_bytes: 100,
        total_sum: crc32c::crc32c(&whole),
        position: position as u64,
        bytes: Bytes::copy_from_slice(&whole[position..end]),
    };
    let leader = BrokerId(1);
    let mut arriving = None;
    assert_eq!(take_part(&mut arriving, leader, part(0, 40)), Ok(None));
    assert_eq!(take_part(&mut arriving, leader, part(40, 80)), Ok(None));
    assert_eq!(
        take_part(&mut arriving, leader, part(80, 100)),
        Ok(Some(Bytes::from(whole.clone())))
    );
    // A gap, another sender, another leader's, too much, damage: none leads to a snapshot.
    assert_eq!(take_part(&mut arriving, leader, part(0, 40)), Ok(None));
    assert!(take_part(&mut arriving, leader, part(41, 100)).is_err());
    assert_eq!(take_part(&mut arriving, leader, part(0, 40)), Ok(None));
    assert!(take_part(&mut arriving, BrokerId(2), part(40, 100)).is_err());
    assert_eq!(take_part(&mut arriving, leader, part(0, 40)), Ok(None));
    let other = Part {
        vote: Vote::new_committed(4, BrokerId(1)),
        ..part(40, 100)
    };
    assert!(take_part(&mut arriving, leader, other).is_err());
    let too_much = Part {
        total_bytes: 50,
        ..part(0, 60)
    };
    assert!(take_part(&mut arriving, leader, too_much).is_err());
    let damaged = Part {
        bytes: Bytes::from(vec![9; 100]),
        ..part(0, 100)
    };
    assert!(take_part(&mut arriving, leader, damaged).is_err());
    assert!(take_part(&mut arriving, leader, part(40, 100)).is_err());
}
