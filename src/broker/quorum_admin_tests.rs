//! Changes of the quorum, and who carries them out.

use std::sync::Mutex;

use super::*;
use crate::coordinator::test_log::TestWorld;

fn peer(id: i32) -> Peer {
    Peer {
        id: BrokerId(id),
        directory_id: Uuid::from_random([u8::try_from(id).unwrap(); 16]),
        host: format!("node-{id}"),
        port: 9093,
    }
}

/// A member whose leader is whoever the test says, and who does what it is asked if it leads.
struct Fake {
    id: i32,
    leader: Arc<Mutex<Option<i32>>>,
    done: Arc<Mutex<Vec<(i32, QuorumQuestion)>>>,
}

impl QuorumAdmin for Fake {
    fn leader(&self) -> Option<Peer> {
        self.leader.lock().unwrap().map(peer)
    }

    fn carry_out(
        &self,
        question: QuorumQuestion,
    ) -> BoxFuture<'static, Result<QuorumStatus, Refusal>> {
        if *self.leader.lock().unwrap() != Some(self.id) {
            return Box::pin(ready(Err(not_leading("another leads"))));
        }
        self.done.lock().unwrap().push((self.id, question));
        let status = QuorumStatus {
            leader: Some(BrokerId(self.id)),
            ..QuorumStatus::default()
        };
        Box::pin(ready(Ok(status)))
    }
}

/// Ways between the desks of a test; the first calls fail as the test says.
#[derive(Default)]
struct Wires {
    desks: Mutex<Vec<QuorumDesk>>,
    failures: Mutex<Vec<PeerError>>,
}

impl Peers for Wires {
    fn ask(
        &self,
        to: &Peer,
        question: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        if let Some(error) = self.failures.lock().unwrap().pop() {
            return Box::pin(ready(Err(error)));
        }
        assert_eq!(question[0], QUORUM_QUESTION);
        let desks = self.desks.lock().unwrap();
        let desk = desks.iter().find(|desk| desk.node == to.id).unwrap();
        let answer = desk.answer(BrokerId(0), question.slice(1..));
        Box::pin(async move { answer.await.map_err(PeerError::Refused) })
    }
}

struct Cluster {
    world: TestWorld,
    wires: Arc<Wires>,
    leader: Arc<Mutex<Option<i32>>>,
    done: Arc<Mutex<Vec<(i32, QuorumQuestion)>>>,
}

impl Cluster {
    fn of_two() -> Self {
        let cluster = Self {
            world: TestWorld::default(),
            wires: Arc::default(),
            leader: Arc::new(Mutex::new(Some(2))),
            done: Arc::default(),
        };
        for id in [1, 2] {
            let here = Arc::new(Fake {
                id,
                leader: cluster.leader.clone(),
                done: cluster.done.clone(),
            });
            let peers: Arc<dyn Peers> = cluster.wires.clone();
            let desk = QuorumDesk::new(&cluster.world.env(), BrokerId(id), here, Some(peers));
            cluster.wires.desks.lock().unwrap().push(desk);
        }
        cluster
    }

    fn ask(&self, question: QuorumQuestion) -> Result<QuorumStatus, Refusal> {
        let desk = self.wires.desks.lock().unwrap()[0].clone();
        self.world
            .run(async move { desk.ask(question, Duration::from_secs(5)).await })
    }
}

#[test]
fn a_question_reaches_the_leader_from_any_node() {
    let cluster = Cluster::of_two();
    let question = QuorumQuestion::AddVoter(peer(3));
    let status = cluster.ask(question.clone()).unwrap();
    assert_eq!(status.leader, Some(BrokerId(2)));
    assert_eq!(*cluster.done.lock().unwrap(), [(2, question)]);
}

#[test]
fn a_leader_that_is_gone_is_asked_again_until_there_is_one() {
    let cluster = Cluster::of_two();
    let gone = PeerError::NobodyListens("node-2".to_owned());
    *cluster.wires.failures.lock().unwrap() = vec![gone.clone(), gone];
    cluster.ask(QuorumQuestion::Describe).unwrap();
    assert_eq!(cluster.done.lock().unwrap().len(), 1);
}

#[test]
fn a_change_whose_answer_was_lost_is_not_asked_for_again() {
    let cluster = Cluster::of_two();
    let lost = PeerError::Lost("reset".to_owned());
    *cluster.wires.failures.lock().unwrap() = vec![lost];
    let refusal = cluster.ask(QuorumQuestion::AddVoter(peer(3))).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::RequestTimedOut);
    assert!(cluster.done.lock().unwrap().is_empty());
}

#[test]
fn without_a_leader_the_question_is_given_up_in_time() {
    let cluster = Cluster::of_two();
    *cluster.leader.lock().unwrap() = None;
    let refusal = cluster.ask(QuorumQuestion::Describe).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::NotController);
}

fn description() -> QuorumDescription {
    let replica = |id, end, millis| ReplicaDescription {
        peer: peer(id),
        end: Some(Offset(end)),
        last_contact: Some(Duration::from_millis(millis)),
    };
    QuorumDescription {
        is_changing: false,
        leader: Some(BrokerId(1)),
        term: 7,
        high_watermark: Offset(40),
        voters: vec![replica(1, 42, 0), replica(2, 40, 5), replica(3, 12, 900)],
        observers: Vec::new(),
    }
}

#[test]
fn members_are_told_with_times_of_the_leaders_clock() {
    let status = status(&description(), Timestamp(1000));
    assert_eq!(
        (status.leader_epoch, status.high_watermark),
        (7, Offset(40))
    );
    let times: Vec<_> = status
        .voters
        .iter()
        .map(|one| (one.last_fetch_ms, one.last_caught_up_ms))
        .collect();
    let expected = [
        (None, Some(1000)),
        (Some(995), Some(995)),
        (Some(100), None),
    ];
    assert_eq!(times, expected);
}

#[test]
fn a_vote_is_neither_given_twice_nor_taken_from_another_directory() {
    let code = |question| check(&description(), &question).err().map(|no| no.code);
    let remove = |id, directory_id| QuorumQuestion::RemoveVoter {
        id: BrokerId(id),
        directory_id,
    };
    let wiped = Peer {
        directory_id: Uuid::from_random([9; 16]),
        ..peer(2)
    };
    let duplicate = Some(ErrorCode::DuplicateVoter);
    assert_eq!(code(QuorumQuestion::AddVoter(peer(2))), duplicate);
    assert_eq!(code(QuorumQuestion::AddVoter(wiped.clone())), duplicate);
    assert_eq!(code(QuorumQuestion::AddVoter(peer(4))), None);
    assert_eq!(code(remove(2, peer(2).directory_id)), None);
    assert_eq!(code(remove(2, Uuid::ZERO)), None);
    let unknown = Some(ErrorCode::VoterNotFound);
    assert_eq!(code(remove(2, wiped.directory_id)), unknown);
    assert_eq!(code(remove(4, Uuid::ZERO)), unknown);
}
