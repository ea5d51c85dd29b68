//! What a starting node does, case by case.

use super::*;
use crate::types::BrokerId;

fn id(byte: u8) -> Uuid {
    Uuid::from_random([byte; 16])
}

fn voters() -> Vec<Voter> {
    let voter = |(node, host): (i32, &str)| Voter {
        id: BrokerId(node),
        host: host.to_owned(),
        port: 9093,
    };
    [(1, "a"), (2, "b"), (3, "c")].map(voter).to_vec()
}

fn view(node: u8) -> View {
    View {
        node: BrokerId(i32::from(node)),
        incarnation: id(node),
        directory_id: id(100 + node),
        is_controller: true,
        cluster_id: None,
        voters: super::super::question::told(&voters()),
        has_metadata: false,
        members: Vec::new(),
        leader: None,
    }
}

fn heard(view: View) -> Heard {
    let expected = voters().into_iter().find(|voter| voter.id == view.node);
    let address = expected
        .as_ref()
        .map_or("x:1".to_owned(), |voter| address(&voter.host, voter.port));
    Heard {
        address,
        expected,
        answer: Ok(view),
    }
}

fn silent(node: u8) -> Heard {
    Heard {
        answer: Err("nobody listens".to_owned()),
        ..heard(view(node))
    }
}

fn member(node: u8, directory_id: Uuid) -> Peer {
    Peer {
        id: BrokerId(i32::from(node)),
        directory_id,
        host: "h".to_owned(),
        port: 9093,
    }
}

/// A node of a cluster with voters 1, 2 and 3.
fn founded(node: u8) -> View {
    View {
        cluster_id: Some(id(9)),
        has_metadata: true,
        members: (1..=3).map(|node| member(node, id(100 + node))).collect(),
        ..view(node)
    }
}

fn refusal(me: &View, heard: &[Heard]) -> String {
    match decide(me, &voters(), heard) {
        Decision::Refuse(text) => text,
        other => panic!("{other:?}"),
    }
}

fn is_wait(decision: &Decision) -> bool {
    matches!(decision, Decision::Wait(_))
}

#[test]
fn the_lowest_voter_founds_when_all_are_up_and_agree() {
    let all = [heard(view(1)), heard(view(2)), heard(view(3))];
    let found = Decision::Found { cluster_id: None };
    assert_eq!(decide(&view(1), &voters(), &all), found);
    assert!(is_wait(&decide(&view(2), &voters(), &all)));
}

#[test]
fn nothing_is_founded_while_a_voter_is_away() {
    let some = [heard(view(2)), silent(3)];
    assert!(is_wait(&decide(&view(1), &voters(), &some)));
    assert!(is_wait(&decide(&view(1), &voters(), &[])));
}

#[test]
fn a_founder_that_comes_back_goes_on_with_the_id_it_gave() {
    let told = View {
        cluster_id: Some(id(9)),
        ..view(2)
    };
    let all = [heard(told), heard(view(3))];
    let found = Decision::Found {
        cluster_id: Some(id(9)),
    };
    assert_eq!(decide(&view(1), &voters(), &all), found);
}

#[test]
fn a_cluster_that_exists_is_joined_and_never_founded_again() {
    let some = [heard(founded(2)), silent(3)];
    let Decision::Join { cluster_id, .. } = decide(&view(1), &voters(), &some) else {
        panic!()
    };
    assert_eq!(cluster_id, id(9));
}

#[test]
fn a_node_with_metadata_and_no_voters_yet_founds_nothing_either() {
    let half = View {
        has_metadata: true,
        ..view(2)
    };
    let all = [heard(half), heard(view(3))];
    assert!(is_wait(&decide(&view(1), &voters(), &all)));
}

#[test]
fn a_wiped_voter_is_told_which_directory_is_gone() {
    let wiped = View {
        directory_id: id(55),
        ..view(1)
    };
    let text = refusal(&wiped, &[heard(founded(2))]);
    assert!(
        text.contains(&format!("directory {} of voter 1 is gone", id(101))),
        "{text}"
    );
    assert!(text.contains("remove the voter and add it again"), "{text}");
}

#[test]
fn a_voter_that_was_removed_is_not_refused_by_a_node_that_is_behind() {
    let wiped = View {
        directory_id: id(55),
        ..view(1)
    };
    let mut newer = founded(3);
    newer.members.remove(0);
    for all in [[founded(2), newer.clone()], [newer.clone(), founded(2)]] {
        let Decision::Join { members, .. } = decide(&wiped, &voters(), &all.map(heard)) else {
            panic!()
        };
        assert_eq!(members, newer.members);
    }
}

#[test]
fn mistakes_are_refused_with_what_to_fix() {
    let twin = View {
        incarnation: id(77),
        ..view(1)
    };
    let text = refusal(&view(1), &[heard(twin)]);
    assert!(
        text.contains("another node with node.id=1 runs at a:9093"),
        "{text}"
    );

    let other = View {
        cluster_id: Some(id(8)),
        ..view(2)
    };
    let me = View {
        cluster_id: Some(id(9)),
        ..view(1)
    };
    let text = refusal(&me, &[heard(other.clone())]);
    assert!(text.contains("belongs to cluster"), "{text}");
    let third = View {
        cluster_id: Some(id(9)),
        ..view(3)
    };
    let text = refusal(&view(1), &[heard(other), heard(third)]);
    assert!(text.contains("different clusters"), "{text}");

    let disagreeing = View {
        voters: vec![(BrokerId(2), "b".to_owned(), 9093)],
        ..view(2)
    };
    let text = refusal(&view(1), &[heard(disagreeing)]);
    assert!(text.contains("controller.quorum.voters differs"), "{text}");
    assert!(text.contains("1@a:9093,2@b:9093,3@c:9093"), "{text}");

    let misplaced = Heard {
        answer: Ok(view(3)),
        ..heard(view(2))
    };
    let text = refusal(&view(1), &[misplaced]);
    assert!(
        text.contains("says that node 2 is at b:9093, but node 3 is there"),
        "{text}"
    );
}

#[test]
fn a_broker_waits_until_somebody_knows_a_cluster() {
    let broker = View {
        is_controller: false,
        voters: Vec::new(),
        ..view(7)
    };
    let answer = decide(&broker, &voters(), &[heard(view(1)), silent(2)]);
    assert!(is_wait(&answer));
    let answer = decide(&broker, &voters(), &[heard(founded(1))]);
    assert!(matches!(answer, Decision::Join { .. }));
}

proptest::proptest! {
    /// Whatever is heard, two nodes never both found, and none founds beside one that has metadata.
    #[test]
    fn at_most_one_node_founds(up in proptest::collection::vec(0..3u8, 3)) {
        let views: Vec<View> = (1..=3u8)
            .zip(&up)
            .map(|(node, state)| if *state == 2 { founded(node) } else { view(node) })
            .collect();
        let mut founders = 0;
        for me in &views {
            let others = views.iter().zip(&up).filter(|(other, _)| other.node != me.node);
            let all: Vec<Heard> = others
                .map(|(other, state)| match state {
                    0 => silent(u8::try_from(other.node.0).unwrap()),
                    _ => heard(other.clone()),
                })
                .collect();
            if let Decision::Found { .. } = decide(me, &voters(), &all) {
                founders += 1;
                let is_missing = all.iter().any(|one| one.answer.is_err());
                proptest::prop_assert!(!up.contains(&2) && !is_missing);
            }
        }
        proptest::prop_assert!(founders <= 1);
    }
}
