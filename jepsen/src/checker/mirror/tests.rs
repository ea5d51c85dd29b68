//! Histories of two clusters, told by hand.

use std::collections::BTreeSet;

use super::context::of_target;
use super::{Clustered, found};
use crate::checker::Options;
use crate::checker::story::{seen, written};
use crate::history::{
    Answer, Call, Committed, Event, Fetched, History, LogState, Membership, Mirrored, Note,
    Partition, Phase, Position, Seen, Wanted, What, Written, of_cluster,
};

/// The source, which has no name, and the target, `b`; and one that copies from that.
#[derive(Default)]
struct Two {
    events: Vec<Event>,
    now: u64,
    last_op: u64,
    /// Whether the source lost committed records, as it may.
    has_lost: bool,
}

const SOURCE: Option<&str> = None;
const TARGET: Option<&str> = Some("b");
const THIRD: Option<&str> = Some("c");

fn of() -> Partition {
    Partition {
        topic: "t".to_owned(),
        partition: 0,
    }
}

fn record(id: u64) -> Written {
    written(id, &format!("k{id}"), false, 1000)
}

fn mirrored(state: &str, end: i64, source_end: i64) -> Mirrored {
    Mirrored {
        of: of(),
        state: state.to_owned(),
        log_end_offset: end,
        source_end_offset: source_end,
        fault: None,
    }
}

impl Two {
    /// A topic at the source, and a link that fills it.
    fn linked() -> Self {
        Self::compacted(&[])
    }

    fn compacted(config: &[(&str, &str)]) -> Self {
        let mut two = Self::default();
        two.create(SOURCE, config);
        let call = Call::CreateLink {
            link: "west".to_owned(),
            from: None,
            topics: vec!["t*".to_owned()],
            groups: vec!["*".to_owned()],
        };
        two.done(TARGET, call, Answer::CreateLink);
        two
    }

    fn create(&mut self, cluster: Option<&str>, config: &[(&str, &str)]) {
        let create = crate::checker::story::create("t", 1, config);
        self.done(cluster, create, Answer::CreateTopic);
    }

    fn push(&mut self, cluster: Option<&str>, what: What) {
        self.now += 1_000_000;
        self.events.push(Event {
            time: self.now,
            process: "client".to_owned(),
            cluster: cluster.map(str::to_owned),
            what,
        });
    }

    fn invoke(&mut self, cluster: Option<&str>, call: Call) -> u64 {
        self.last_op += 1;
        let op = self.last_op;
        self.push(cluster, What::Invoke { op, call });
        op
    }

    fn done(&mut self, cluster: Option<&str>, call: Call, answer: Answer) {
        let op = self.invoke(cluster, call);
        self.push(cluster, What::Ok { op, answer });
    }

    fn note(&mut self, cluster: Option<&str>, note: Note) {
        self.push(cluster, What::Note { note });
    }

    fn send(&mut self, cluster: Option<&str>, record: &Written, at: i64) {
        let call = crate::checker::story::send(record.clone());
        self.done(cluster, call, crate::checker::story::sent(at));
    }

    /// Sends records 1 to `count` to the source at the offsets from 0 on.
    fn filled(mut self, count: u64) -> Self {
        for id in 1..=count {
            let at = i64::try_from(id).expect("small") - 1;
            self.send(SOURCE, &record(id), at);
        }
        self
    }

    fn read(&mut self, cluster: Option<&str>, start: i64, records: Vec<Seen>) {
        let call = Call::Read {
            from: vec![Position {
                of: of(),
                offset: start,
            }],
            committed: false,
            library: false,
        };
        let partitions = vec![Fetched {
            of: of(),
            from: start,
            error: None,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: start,
            records,
        }];
        self.done(cluster, call, Answer::Read { partitions });
    }

    /// Final reads of these ids by offset, from `start` to `end`.
    fn finally(&mut self, cluster: Option<&str>, start: i64, end: i64, held: &[(i64, u64)]) {
        let phase = Phase::Final;
        self.note(cluster, Note::Phase { phase });
        let held = held.iter().map(|(at, id)| seen(*at, &record(*id)));
        self.read(cluster, start, held.collect());
        let ends = Wanted {
            of: of(),
            log_start_offset: start,
            log_end_offset: end,
        };
        self.note(cluster, Note::Ends { ends });
    }

    fn describe(&mut self, mirror: Mirrored) {
        let link = "west".to_owned();
        let mirrors = vec![mirror];
        self.done(
            TARGET,
            Call::DescribeLink { link },
            Answer::DescribeLink { mirrors },
        );
    }

    fn promote(&mut self, end: i64, source_end: i64) {
        let (link, topics) = ("west".to_owned(), None);
        let mirrors = vec![mirrored("promoted", end, source_end)];
        self.done(
            TARGET,
            Call::Promote { link, topics },
            Answer::Promote { mirrors },
        );
    }

    fn commit(&mut self, cluster: Option<&str>, offset: i64) {
        let by = Membership {
            group: "g".to_owned(),
            member: String::new(),
            generation: -1,
            instance: None,
        };
        let metadata = format!("m{}", self.last_op);
        let offsets = vec![Committed {
            of: of(),
            offset,
            metadata,
        }];
        let refused = Vec::new();
        self.done(
            cluster,
            Call::Commit { by, offsets },
            Answer::Commit { refused },
        );
    }

    fn tells(&mut self, cluster: Option<&str>, offset: i64) {
        let group = "g".to_owned();
        let call = Call::FetchCommitted {
            group,
            of: vec![of()],
        };
        let offsets = vec![Committed {
            of: of(),
            offset,
            metadata: String::new(),
        }];
        self.done(cluster, call, Answer::FetchCommitted { offsets });
    }

    fn reaches(&mut self, high_watermark: i64) {
        let state = LogState {
            start: 0,
            high_watermark,
            end: high_watermark,
            recovery_point: high_watermark,
            leader_epoch: 0,
        };
        self.note(TARGET, Note::Log { of: of(), state });
    }

    fn history(&self, cluster: Option<&str>) -> History {
        let events = of_cluster(&self.events, cluster).cloned();
        History::from_events(events).expect("well formed")
    }

    /// What is broken, each property once.
    fn broken(&self) -> Vec<&'static str> {
        let lost = |name| BTreeSet::from_iter((self.has_lost && name == SOURCE).then(of));
        let all = [SOURCE, TARGET, THIRD].map(|name| (name, self.history(name)));
        let clusters = all.iter().map(|(name, history)| Clustered {
            lost: lost(*name),
            name: name.map(str::to_owned),
            history,
            options: Options::default(),
        });
        let found = found(&clusters.collect::<Vec<_>>()).into_sorted();
        let mut broken: Vec<&str> = found.iter().map(|one| one.property).collect();
        broken.sort_unstable();
        broken.dedup();
        broken
    }
}

#[test]
fn a_mirror_that_holds_what_its_source_holds_is_accepted() {
    let mut two = Two::linked().filled(3);
    two.finally(SOURCE, 0, 3, &[(0, 1), (1, 2), (2, 3)]);
    two.finally(TARGET, 0, 3, &[(0, 1), (1, 2), (2, 3)]);
    two.describe(mirrored("active", 3, 3));
    assert_eq!(two.broken(), [""; 0]);
}

#[test]
fn a_mirror_that_is_behind_is_accepted() {
    let mut two = Two::linked().filled(3);
    two.finally(SOURCE, 0, 3, &[(0, 1), (1, 2), (2, 3)]);
    two.finally(TARGET, 0, 2, &[(0, 1), (1, 2)]);
    assert_eq!(two.broken(), [""; 0]);
}

#[test]
fn a_record_that_is_passed_over_breaks_x1() {
    let mut two = Two::linked().filled(3);
    two.finally(SOURCE, 0, 3, &[(0, 1), (1, 2), (2, 3)]);
    two.finally(TARGET, 0, 3, &[(0, 1), (2, 3)]);
    assert_eq!(two.broken(), ["X1"]);
}

#[test]
fn a_record_at_another_offset_breaks_x1() {
    let mut two = Two::linked().filled(3);
    two.finally(SOURCE, 0, 3, &[(0, 1), (1, 2), (2, 3)]);
    two.finally(TARGET, 0, 2, &[(0, 1), (1, 3)]);
    assert_eq!(two.broken(), ["X1"]);
}

#[test]
fn a_record_with_another_timestamp_breaks_x1() {
    let mut two = Two::linked().filled(1);
    two.finally(SOURCE, 0, 1, &[(0, 1)]);
    let mut other = seen(0, &record(1));
    other.timestamp += 1;
    two.read(TARGET, 0, vec![other]);
    assert_eq!(two.broken(), ["X1"]);
}

#[test]
fn a_record_that_the_source_compacted_may_be_missing_and_one_it_kept_may_not() {
    let told = |held: &[(i64, u64)]| {
        let mut two = Two::compacted(&[("cleanup.policy", "compact")]);
        let again = written(3, "k1", false, 1000);
        two = two.filled(2);
        two.send(SOURCE, &again, 2);
        two.note(
            TARGET,
            Note::Phase {
                phase: Phase::Final,
            },
        );
        let held = held.iter().map(|(at, id)| match id {
            3 => seen(*at, &again),
            id => seen(*at, &record(*id)),
        });
        two.read(TARGET, 0, held.collect());
        let ends = Wanted {
            of: of(),
            log_start_offset: 0,
            log_end_offset: 3,
        };
        two.note(TARGET, Note::Ends { ends });
        two.broken()
    };
    assert_eq!(told(&[(1, 2), (2, 3)]), [""; 0]);
    assert_eq!(told(&[(0, 1), (2, 3)]), ["X1"]);
}

#[test]
fn a_record_that_a_client_of_a_promoted_mirror_replaced_may_be_missing() {
    let told = |key: &str| {
        let mut two = Two::compacted(&[("cleanup.policy", "compact")]).filled(2);
        two.promote(2, 2);
        let own = written(3, key, false, 1000);
        two.send(TARGET, &own, 2);
        two.finally(TARGET, 0, 3, &[(1, 2)]);
        two.broken()
    };
    assert_eq!(told("k1"), [""; 0]);
    assert_eq!(told("k3"), ["X1"]);
}

#[test]
fn nothing_is_asked_of_a_promoted_mirror_beyond_what_it_copied() {
    let told = |end: i64| {
        let mut two = Two::compacted(&[("cleanup.policy", "compact")]).filled(3);
        two.promote(end, 3);
        // What clients wrote to it since was compacted away before anybody read it.
        two.finally(TARGET, 0, 5, &[(0, 1), (1, 2)]);
        two.describe(mirrored("promoted", end, 3));
        two.broken()
    };
    assert_eq!(told(2), [""; 0]);
    assert_eq!(told(3), ["X1"]);
}

#[test]
fn a_mirror_may_begin_where_its_source_does_and_no_later() {
    let told = |start: i64| {
        let mut two = Two::linked().filled(3);
        let call = Call::DeleteRecords {
            of: of(),
            before: 2,
        };
        let log_start_offset = 2;
        two.read(TARGET, 0, vec![seen(0, &record(1))]);
        two.done(SOURCE, call, Answer::DeleteRecords { log_start_offset });
        two.read(TARGET, start, Vec::new());
        two.broken()
    };
    assert_eq!(told(2), [""; 0]);
    assert_eq!(told(3), ["X1"]);
}

#[test]
fn a_client_that_writes_to_a_mirror_breaks_x1_before_its_promotion_only() {
    let mut two = Two::linked().filled(1);
    two.promote(1, 1);
    two.send(TARGET, &record(9), 1);
    assert_eq!(two.broken(), [""; 0]);
    let mut two = Two::linked().filled(1);
    two.send(TARGET, &record(9), 1);
    two.promote(2, 2);
    assert_eq!(two.broken(), ["X1", "X11"]);
}

#[test]
fn records_in_another_order_break_x2() {
    let mut two = Two::linked().filled(2);
    two.read(TARGET, 5, vec![seen(5, &record(2)), seen(6, &record(1))]);
    assert_eq!(two.broken(), ["X1", "X2"]);
}

#[test]
fn a_mirror_of_two_topics_of_one_name_breaks_x8() {
    let told = |second: bool| {
        let mut two = Two::linked().filled(2);
        let topic = "t".to_owned();
        two.done(SOURCE, Call::DeleteTopic { topic }, Answer::DeleteTopic);
        two.create(SOURCE, &[]);
        two.send(SOURCE, &record(7), 0);
        two.send(SOURCE, &record(8), 1);
        two.send(SOURCE, &record(9), 2);
        let mut held = vec![seen(0, &record(1)), seen(1, &record(2))];
        held.extend(second.then(|| seen(2, &record(9))));
        two.read(TARGET, 0, held);
        two.broken()
    };
    assert_eq!(told(false), [""; 0]);
    assert_eq!(told(true), ["X8"]);
}

#[test]
fn a_mirror_whose_source_was_deleted_says_so_or_breaks_x10() {
    let told = |state: &str| {
        let mut two = Two::linked().filled(2);
        let topic = "t".to_owned();
        two.done(SOURCE, Call::DeleteTopic { topic }, Answer::DeleteTopic);
        two.note(
            SOURCE,
            Note::Phase {
                phase: Phase::Final,
            },
        );
        two.finally(TARGET, 0, 2, &[(0, 1), (1, 2)]);
        let mut mirror = mirrored(state, 2, 2);
        mirror.fault = (state == "failed").then(|| "DELETED".to_owned());
        two.describe(mirror);
        two.broken()
    };
    assert_eq!(told("failed"), [""; 0]);
    assert_eq!(told("active"), ["X10"]);
}

#[test]
fn a_topic_of_the_target_that_a_link_fills_breaks_x5() {
    let mut two = Two::linked().filled(1);
    two.create(TARGET, &[]);
    two.describe(mirrored("active", 0, 1));
    assert_eq!(two.broken(), [""; 0]);
    // Nobody made it at the source: it came from here.
    two.events.retain(|event| {
        let is_made = matches!(
            event.what,
            What::Invoke { op: 1, .. } | What::Ok { op: 1, .. }
        );
        !(event.cluster.is_none() && is_made)
    });
    assert_eq!(two.broken(), ["X5"]);
}

#[test]
fn fewer_partitions_than_the_source_has_break_x6_in_the_end() {
    let told = |target: i32| {
        let mut two = Two::linked().filled(1);
        two.finally(SOURCE, 0, 1, &[(0, 1)]);
        two.finally(TARGET, 0, 1, &[(0, 1)]);
        for (cluster, partitions) in [(SOURCE, 2), (TARGET, target)] {
            let topic = "t".to_owned();
            let answer = Answer::DescribeTopic { partitions };
            two.done(cluster, Call::DescribeTopic { topic }, answer);
        }
        two.describe(mirrored("active", 1, 1));
        two.broken()
    };
    assert_eq!(told(2), [""; 0]);
    assert_eq!(told(1), ["X6"]);
}

#[test]
fn another_setting_than_the_source_has_breaks_x6_unless_it_is_the_targets_own() {
    let told = |key: &str, value: &str| {
        let mut two = Two::linked().filled(1);
        two.finally(SOURCE, 0, 1, &[(0, 1)]);
        two.finally(TARGET, 0, 1, &[(0, 1)]);
        for (cluster, value) in [(SOURCE, "1"), (TARGET, value)] {
            let (topic, key) = ("t".to_owned(), key.to_owned());
            let value = Some(value.to_owned());
            let call = Call::DescribeConfig { topic, key };
            two.done(cluster, call, Answer::DescribeConfig { value });
        }
        two.describe(mirrored("active", 1, 1));
        two.broken()
    };
    assert_eq!(told("retention.ms", "1"), [""; 0]);
    assert_eq!(told("retention.ms", "2"), ["X6"]);
    assert_eq!(told("min.insync.replicas", "2"), [""; 0]);
}

#[test]
fn an_offset_beyond_what_was_committed_at_the_source_breaks_x4() {
    let told = |offset: i64| {
        let mut two = Two::linked().filled(3);
        two.reaches(3);
        two.commit(SOURCE, 2);
        two.read(TARGET, 0, Vec::new());
        two.tells(TARGET, offset);
        two.broken()
    };
    assert_eq!(told(1), [""; 0]);
    assert_eq!(told(2), [""; 0]);
    assert_eq!(told(3), ["X4"]);
}

#[test]
fn an_offset_beyond_what_was_copied_breaks_x7() {
    let told = |end: i64| {
        let mut two = Two::linked().filled(3);
        two.reaches(end);
        two.commit(SOURCE, 2);
        two.tells(TARGET, 2);
        two.broken()
    };
    assert_eq!(told(2), [""; 0]);
    assert_eq!(told(1), ["X7"]);
}

#[test]
fn an_offset_that_goes_back_breaks_x3_unless_the_source_went_back() {
    let told = |back: bool| {
        let mut two = Two::linked().filled(3);
        two.reaches(3);
        two.commit(SOURCE, 1);
        two.commit(SOURCE, 3);
        two.tells(TARGET, 3);
        if back {
            two.commit(SOURCE, 1);
        }
        two.tells(TARGET, 1);
        two.broken()
    };
    assert_eq!(told(true), [""; 0]);
    assert_eq!(told(false), ["X3"]);
}

#[test]
fn an_offset_that_never_arrives_breaks_x3_in_the_end() {
    let told = |offset: i64| {
        let mut two = Two::linked().filled(3);
        two.reaches(3);
        two.commit(SOURCE, 2);
        two.finally(SOURCE, 0, 3, &[(0, 1), (1, 2), (2, 3)]);
        two.tells(SOURCE, 2);
        two.finally(TARGET, 0, 3, &[(0, 1), (1, 2), (2, 3)]);
        two.tells(TARGET, offset);
        two.describe(mirrored("active", 3, 3));
        two.broken()
    };
    assert_eq!(told(2), [""; 0]);
    assert_eq!(told(-1), ["X3"]);
}

#[test]
fn what_a_promotion_told_is_held_against_the_log() {
    let told = |end: i64, own: i64| {
        let mut two = Two::linked().filled(3);
        two.promote(end, 3);
        two.send(TARGET, &record(9), own);
        let mut held = vec![(0, 1), (1, 2), (own, 9)];
        held.sort_unstable();
        two.finally(TARGET, 0, own + 1, &held);
        two.broken()
    };
    assert_eq!(told(2, 2), [""; 0]);
    assert_eq!(told(1, 2), ["X11"]);
    assert_eq!(told(3, 2), ["X11"]);
}

#[test]
fn what_a_source_was_asked_may_show_in_the_target_by_itself() {
    let judged = |id: u64| {
        let mut two = Two::linked().filled(2);
        two.read(TARGET, 0, vec![seen(0, &record(1)), seen(1, &record(id))]);
        let events = of_target(&two.events, TARGET);
        let history = History::from_events(events).expect("well formed");
        let found = crate::checker::check(&history);
        found.iter().map(|one| one.property).collect::<Vec<_>>()
    };
    assert_eq!(judged(2), [""; 0]);
    assert_eq!(judged(5), ["P5"]);
}

#[test]
fn a_group_that_is_copied_is_no_register_until_its_mirror_is_promoted() {
    let judged = |own: bool, promoted: bool| {
        let mut two = Two::linked().filled(3);
        two.commit(SOURCE, 2);
        if promoted {
            two.promote(3, 3);
        }
        if own {
            two.commit(TARGET, 3);
        }
        two.tells(TARGET, 2);
        let events = of_target(&two.events, TARGET);
        let history = History::from_events(events).expect("well formed");
        let found = crate::checker::check(&history);
        found.iter().map(|one| one.property).collect::<Vec<_>>()
    };
    assert_eq!(judged(false, true), [""; 0]);
    assert_eq!(judged(true, false), [""; 0]);
    assert_eq!(judged(true, true), ["CG4"]);
}

#[test]
fn what_a_source_lost_is_not_asked_of_its_mirror_and_what_it_has_is() {
    let judged = |has_lost, held: &[(i64, u64)]| {
        let mut two = Two::linked().filled(3);
        two.send(SOURCE, &record(4), 2);
        two.has_lost = has_lost;
        two.finally(SOURCE, 0, 3, &[(0, 1), (1, 2), (2, 4)]);
        two.finally(TARGET, 0, 3, held);
        two.describe(mirrored("active", 3, 3));
        two.broken()
    };
    let follows = [(0, 1), (1, 2), (2, 4)];
    assert_eq!(judged(true, &follows), [""; 0]);
    assert_eq!(judged(false, &follows), ["X1"]);
    assert_eq!(judged(true, &[(0, 1), (1, 2), (2, 3)]), ["X1"], "unnoticed");
    assert_eq!(judged(true, &[(0, 1), (2, 4)]), ["X1"], "left out");
}

#[test]
fn what_comes_at_second_hand_is_held_to_where_it_comes_from() {
    let told = |held: &[(i64, u64)], is_promoted: bool| {
        let mut three = Two::linked().filled(3);
        let call = Call::CreateLink {
            link: "onward".to_owned(),
            from: TARGET.map(str::to_owned),
            topics: vec!["*".to_owned()],
            groups: Vec::new(),
        };
        three.done(THIRD, call, Answer::CreateLink);
        if is_promoted {
            three.promote(3, 3);
        }
        let all = [(0, 1), (1, 2), (2, 3)];
        three.finally(SOURCE, 0, 3, &all);
        three.finally(TARGET, 0, 3, &all);
        three.finally(THIRD, 0, 3, held);
        three.broken()
    };
    assert_eq!(told(&[(0, 1), (1, 2), (2, 3)], false), [""; 0]);
    assert_eq!(told(&[(0, 1), (2, 3)], false), ["X1"], "one is missing");
    assert_eq!(told(&[(0, 1), (1, 3), (2, 2)], false), ["X1", "X2"]);
    // What lies between may have clients of its own then.
    assert_eq!(told(&[(0, 1), (2, 3)], true), [""; 0]);
}

#[test]
fn a_star_stands_for_any_characters() {
    for (pattern, name, is_one) in [
        ("*", "", true),
        ("a*c", "abc", true),
        ("a*c", "ac", true),
        ("a*c", "acd", false),
        ("*b*", "abc", true),
        ("ab", "abc", false),
    ] {
        assert_eq!(
            super::facts::fits(pattern, name),
            is_one,
            "{pattern} {name}"
        );
    }
}

#[test]
fn a_fault_without_a_cause_breaks_x10() {
    let told = |fault: &str, is_asked: bool| {
        let mut two = Two::linked().filled(2);
        if is_asked {
            let call = Call::DeleteRecords {
                of: of(),
                before: 1,
            };
            let log_start_offset = 1;
            two.done(SOURCE, call, Answer::DeleteRecords { log_start_offset });
        }
        two.finally(TARGET, 0, 0, &[]);
        let mut mirror = mirrored("active", 0, 2);
        mirror.fault = Some(fault.to_owned());
        two.describe(mirror);
        two.broken()
    };
    assert_eq!(told("EXPIRED", true), [""; 0]);
    assert_eq!(told("EXPIRED", false), ["X10"]);
    assert_eq!(told("TRUNCATED", true), ["X10"]);
    assert_eq!(told("DAMAGED", true), ["X10"]);
}
