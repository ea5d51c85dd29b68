//! What clients may and may not be told of topics and settings.

use crate::checker::story::{Story, create};
use crate::checker::{Options, check_with};
use crate::history::{Answer, Call, Phase};

const ONE: Options = Options {
    weak_acks_one: false,
    replicated: false,
    retention: false,
    sources_may_lose: false,
};

const CLUSTER: Options = Options {
    weak_acks_one: true,
    replicated: true,
    retention: false,
    sources_may_lose: false,
};

fn alter(value: &str) -> Call {
    Call::AlterConfig {
        topic: "t".to_owned(),
        key: "k".to_owned(),
        value: (value != "default").then(|| value.to_owned()),
    }
}

fn describe() -> Call {
    Call::DescribeConfig {
        topic: "t".to_owned(),
        key: "k".to_owned(),
    }
}

fn delete() -> Call {
    Call::DeleteTopic {
        topic: "t".to_owned(),
    }
}

fn grow(partitions: i32) -> Call {
    Call::CreatePartitions {
        topic: "t".to_owned(),
        partitions,
    }
}

fn is(value: &str) -> Answer {
    Answer::DescribeConfig {
        value: Some(value.to_owned()),
    }
}

/// Says what was asked and answered, by one word each.
fn told(words: &str) -> Story {
    let mut story = Story::new();
    let mut latest = 0;
    for word in words.split_whitespace() {
        let (kind, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse().expect("a number");
        let topic = || Call::DescribeTopic {
            topic: "t".to_owned(),
        };
        let op = match kind {
            "create" => story.topic("t", number(), &[]),
            "create-with" => story.topic("t", 1, &[("k", value)]),
            "create?" => story.lost(create("t", number(), &[])),
            "exists" => story.refused(create("t", 1, &[]), "TOPIC_ALREADY_EXISTS"),
            "delete" => story.done(delete(), Answer::DeleteTopic),
            "delete?" => story.lost(delete()),
            "missing" => story.refused(delete(), "UNKNOWN_TOPIC_OR_PARTITION"),
            "grow" => story.done(grow(number()), Answer::CreatePartitions),
            "shows" => {
                let partitions = number();
                story.done(topic(), Answer::DescribeTopic { partitions })
            }
            "set" => story.done(alter(value), Answer::AlterConfig),
            "set?" => story.lost(alter(value)),
            "set!" => story.refused(alter(value), "INVALID_CONFIG"),
            "is" => story.done(describe(), is(value)),
            "none" => story.refused(describe(), "UNKNOWN_TOPIC_OR_PARTITION"),
            "final" => {
                story.phase(Phase::Final);
                0
            }
            other => panic!("{other}?"),
        };
        latest = latest.max(op);
    }
    assert!(latest > 0, "something was told");
    story
}

fn broken(words: &str, options: Options) -> bool {
    let found = check_with(&told(words).history(), options);
    found.iter().any(|violation| violation.property == "M14")
}

#[test]
fn what_one_copy_could_have_told_is_accepted() {
    for words in [
        "create=1 exists delete missing create=2 shows=2",
        "create=1 grow=3 shows=3",
        "create=1 delete? shows=1 shows=0 create=2",
        "create?=1 exists",
        "create?=1 missing",
        "create?=1 create=3 shows=3",
        "create=1 set=a is=a set=b is=b set=default is=x set=a set=default is=x",
        "create-with=a is=a set?=b is=a",
        "create=1 set=a set?=b is=a is=b is=b",
        "create=1 set=a set!=b is=a delete none create=1 is=x",
        "is=a is=a set=b is=b",
        "shows=4 exists",
    ] {
        assert!(!broken(words, ONE), "{words}");
        assert!(!broken(words, CLUSTER), "{words}");
    }
}

#[test]
fn what_one_copy_cannot_have_told_is_rejected() {
    for words in [
        "create=1 create=1",
        "create=1 delete delete",
        "create=1 shows=2",
        "create=2 grow=2",
        "create=1 delete grow=3",
        "delete create=1 delete exists delete",
        "create=1 is=a is=b",
        "create=1 set!=b is=a is=b",
        "create=1 set=a final is=x",
        "create=1 set=a delete final is=a",
        "create=1 is=x set=a delete create=1 set=c set=default final is=a",
        "create=1 delete final exists",
        "create=1 final missing",
        "create=1 grow=3 final shows=1",
    ] {
        assert!(broken(words, ONE), "{words}");
        assert!(broken(words, CLUSTER), "{words}");
    }
}

#[test]
fn an_old_answer_is_a_fault_of_one_node_and_of_the_final_phase_only() {
    for words in [
        "create=1 set=a set=b is=a",
        "create=1 set=a set=b is=b is=a",
        "create=1 is=b set=a is=b",
        "create=1 grow=3 shows=1",
        "create=1 delete exists",
        "create=1 missing",
    ] {
        assert!(broken(words, ONE), "{words}");
        assert!(!broken(words, CLUSTER), "{words}");
    }
}

#[test]
fn a_topic_that_a_library_asked_for_may_have_been_made_by_that() {
    let mut story = told("create=1 delete");
    let from = vec![crate::history::Position {
        of: crate::checker::story::partition(0),
        offset: 0,
    }];
    story.lost(Call::Read {
        from,
        committed: false,
        library: true,
    });
    story.refused(create("t", 1, &[]), "TOPIC_ALREADY_EXISTS");
    let found = check_with(&story.history(), ONE);
    assert!(found.iter().all(|one| one.property != "M14"), "{found:?}");
}
