use super::*;

fn watch() -> Watch {
    let names = [(1, "n1"), (2, "n2"), (3, "n3")];
    let names: BTreeMap<i32, String> = names.map(|(id, name)| (id, name.to_owned())).into();
    let state = State {
        names,
        min_in_sync: BTreeMap::from([("t".to_owned(), 2)]),
        min_in_sync_default: 1,
        ..State::default()
    };
    Watch {
        state: Arc::new(Mutex::new(state)),
        recorder: Recorder::default(),
    }
}

/// The properties that these events break.
fn broken(watch: &Watch, events: &[(&str, Source, &str)]) -> Vec<&'static str> {
    let mut found = Vec::new();
    for (node, source, text) in events {
        let fields = Fields::parse(text);
        let mut state = watch.state();
        let broken = match source {
            Source::Replica => state.on_replica(node, &fields),
            Source::Metadata => state.on_metadata(node, &fields),
        };
        found.extend(broken.into_iter().map(|(property, _)| property));
    }
    found
}

fn log(watch: &Watch, node: &str, end: i64) {
    let of = Partition {
        topic: "t".to_owned(),
        partition: 0,
    };
    let state = LogState {
        start: 0,
        high_watermark: 0,
        end,
        recovery_point: end,
        leader_epoch: 0,
    };
    watch.log(node, &of, &state);
}

const R: Source = Source::Replica;
const M: Source = Source::Metadata;

#[test]
fn two_leaders_in_one_epoch_break_r1_and_one_that_leads_again_does_not() {
    let leads = "name=leader topic=t partition=0 epoch=3 start=0";
    assert_eq!(
        broken(&watch(), &[("n1", R, leads), ("n1", R, leads)]),
        [] as [&str; 0]
    );
    assert_eq!(
        broken(&watch(), &[("n1", R, leads), ("n2", R, leads)]),
        ["R1"]
    );
}

#[test]
fn a_leader_that_begins_below_the_high_watermark_breaks_r3() {
    let rises = "name=high-watermark topic=t partition=0 epoch=1 offset=10";
    let whole = "name=leader topic=t partition=0 epoch=2 start=10";
    let short = "name=leader topic=t partition=0 epoch=2 start=9";
    assert_eq!(
        broken(&watch(), &[("n1", R, rises), ("n2", R, whole)]),
        [] as [&str; 0]
    );
    assert_eq!(
        broken(&watch(), &[("n1", R, rises), ("n2", R, short)]),
        ["R3"]
    );
}

#[test]
fn a_high_watermark_beyond_an_in_sync_replica_breaks_r6_and_one_with_too_few_breaks_r7() {
    let in_sync = "name=isr topic=t partition=0 epoch=1 isr=1,2";
    let rises = "name=high-watermark topic=t partition=0 epoch=1 offset=10";
    let watched = watch();
    log(&watched, "n2", 10);
    assert_eq!(
        broken(&watched, &[("n1", R, in_sync), ("n1", R, rises)]),
        [] as [&str; 0]
    );
    let watched = watch();
    log(&watched, "n2", 9);
    assert_eq!(
        broken(&watched, &[("n1", R, in_sync), ("n1", R, rises)]),
        ["R6"]
    );
    let alone = "name=isr topic=t partition=0 epoch=1 isr=1";
    assert_eq!(
        broken(&watch(), &[("n1", R, alone), ("n1", R, rises)]),
        ["R7"]
    );
}

#[test]
fn an_in_sync_replica_that_truncates_below_the_high_watermark_breaks_r9() {
    let state = "name=partition offset=5 topic=t topic_id=T partition=0 leader=1 epoch=1 \
                 partition_epoch=1 isr=1,2 replicas=1,2,3";
    let rises = "name=high-watermark topic=t partition=0 epoch=1 offset=10";
    let cuts = "name=truncated topic=t partition=0 epoch=2 from=12 to=8";
    let before = [("n1", M, state), ("n1", R, rises)];
    let with = |node| [before[0], before[1], (node, R, cuts)];
    assert_eq!(broken(&watch(), &with("n3")), [] as [&str; 0]);
    assert_eq!(broken(&watch(), &with("n2")), ["R9"]);
}

#[test]
fn who_comes_in_sync_has_everything_and_is_not_fenced() {
    let state = "name=partition offset=5 topic=t topic_id=T partition=0 leader=1 epoch=1 \
                 partition_epoch=1 isr=1,2 replicas=1,2,3";
    let joins = "name=partition offset=9 topic=t topic_id=T partition=0 leader=1 epoch=1 \
                 partition_epoch=2 isr=1,2,3 replicas=1,2,3";
    let rises = "name=high-watermark topic=t partition=0 epoch=1 offset=10";
    let fenced = "name=broker offset=7 id=3 epoch=6 fenced=1";
    let watched = watch();
    log(&watched, "n2", 10);
    log(&watched, "n3", 10);
    let events = [("n1", M, state), ("n1", R, rises), ("n1", M, joins)];
    assert_eq!(broken(&watched, &events), [] as [&str; 0]);
    let watched = watch();
    log(&watched, "n2", 10);
    log(&watched, "n3", 9);
    assert_eq!(broken(&watched, &events), ["R4"]);
    let events = [("n1", M, state), ("n1", M, fenced), ("n1", M, joins)];
    assert_eq!(broken(&watch(), &events), ["R7"]);
}

#[test]
fn who_leads_without_having_registered_since_its_start_breaks_r15() {
    let watched = watch();
    let leads = "name=leader topic=t partition=0 epoch=3 start=0";
    let registers = |epoch: i32| format!("name=broker offset={epoch} id=2 epoch={epoch} fenced=1");
    watched.node("n2", &NodeEvent::Start);
    let first = registers(4);
    assert_eq!(
        broken(&watched, &[("n1", M, &first), ("n2", R, leads)]),
        [] as [&str; 0]
    );
    watched.node("n2", &NodeEvent::Kill);
    watched.node("n2", &NodeEvent::Start);
    assert_eq!(broken(&watched, &[("n2", R, leads)]), ["R15"]);
    let second = registers(8);
    assert_eq!(
        broken(&watched, &[("n1", M, &second), ("n2", R, leads)]),
        [] as [&str; 0]
    );
}

#[test]
fn nodes_that_replay_different_things_break_m13_and_different_images_m4() {
    let one = "name=topic offset=5 topic=t topic_id=T";
    let other = "name=topic offset=5 topic=u topic_id=T";
    let watched = watch();
    assert_eq!(
        broken(&watched, &[("n1", M, one), ("n2", M, one)]),
        [] as [&str; 0]
    );
    assert_eq!(
        broken(&watched, &[("n3", M, "name=image offset=6 hash=1")]),
        [] as [&str; 0]
    );
    assert_eq!(
        broken(&watched, &[("n1", M, "name=image offset=6 hash=2")]),
        ["M4"]
    );
    let broker = "name=broker offset=7 id=1 epoch=7 fenced=0";
    let differs = "name=broker offset=7 id=1 epoch=7 fenced=1";
    assert_eq!(
        broken(&watched, &[("n1", M, broker), ("n2", M, differs)]),
        ["M13"]
    );
    assert_eq!(broken(&watched, &[("n2", M, other)]), ["M12"]);
}

#[test]
fn epochs_that_go_back_break_m11_and_two_active_controllers_m1() {
    let state = |offset: i32, epoch: i32, partition_epoch: i32| {
        format!(
            "name=partition offset={offset} topic=t topic_id=T partition=0 leader=1 \
             epoch={epoch} partition_epoch={partition_epoch} isr=1,2 replicas=1,2"
        )
    };
    let (one, two, three) = (state(5, 2, 2), state(6, 2, 3), state(7, 1, 4));
    let events = [("n1", M, one.as_str()), ("n1", M, &two)];
    assert_eq!(broken(&watch(), &events), [] as [&str; 0]);
    let events = [("n1", M, two.as_str()), ("n1", M, &three)];
    assert_eq!(broken(&watch(), &events), ["M11"]);
    let events = [
        ("n1", M, "name=active term=4"),
        ("n2", M, "name=active term=4"),
    ];
    assert_eq!(broken(&watch(), &events), ["M1"]);
}

#[test]
fn producer_ids_that_are_given_out_again_break_m12() {
    let events = [
        ("n1", M, "name=producer-ids offset=3 first=0 next=1000"),
        ("n2", M, "name=producer-ids offset=3 first=0 next=1000"),
        ("n1", M, "name=producer-ids offset=9 first=1000 next=2000"),
    ];
    let watched = watch();
    assert_eq!(broken(&watched, &events), [] as [&str; 0]);
    let again = "name=producer-ids offset=12 first=1500 next=2500";
    assert_eq!(broken(&watched, &[("n1", M, again)]), ["M12"]);
}
