//! The workloads against a broker that dies twice: each kind of client, alone and all together,
//! gets its work done and writes a history that makes sense.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use klamm::broker::Broker;
use klamm::config::BrokerConfig;
use klamm::env::{Rng, Task};
use klamm_jepsen::history::{Answer, Call, Ending, Event, History, Note};
use klamm_sim::plan::{ClientPlan, Role, TopicPlan, Versions};
use klamm_sim::record::Recorder;
use klamm_sim::workload::finals::Finals;
use klamm_sim::workload::{Client, Stop, Topics, grace, run};
use klamm_sim::{SimNode, SimWorld, Trace, simulate};

const BROKER: &str = "server:9092";
const TOPIC: &str = "values";
const GROUP: &str = "readers";

fn start_broker(node: &SimNode) {
    let env = node.start();
    let settings = [
        ("log.dirs", "/data"),
        ("klamm.admin.listener", ""),
        ("klamm.worker.threads", "2"),
        ("offsets.topic.num.partitions", "2"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("group.min.session.timeout.ms", "100"),
        ("log.segment.bytes", "8192"),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let loaded = BrokerConfig::load(None, [], settings).expect("the settings can be used");
    let inner = env.clone();
    let serving = env.spawn("broker", async move {
        let broker = Broker::start(inner, loaded.config, None).await;
        let _broker = broker.expect("it starts on what was left");
        std::future::pending::<()>().await;
    });
    serving.detach();
}

/// These seeds, unless `KLAMM_SIM_SEEDS=A..B` asks for others.
fn seeds(usual: Range<u64>) -> Range<u64> {
    let asked = std::env::var("KLAMM_SIM_SEEDS").unwrap_or_default();
    let bounds = asked
        .split_once("..")
        .map(|(from, to)| (from.parse(), to.parse()));
    match bounds {
        Some((Ok(from), Ok(to))) => from..to,
        _ => usual,
    }
}

fn rng(seed: u64, name: &str) -> Rng {
    let mut root = [0; 32];
    root[..8].copy_from_slice(&seed.to_le_bytes());
    Rng::derived(root, name, 7)
}

fn topics() -> Vec<TopicPlan> {
    vec![TopicPlan {
        name: TOPIC.to_owned(),
        partitions: 3,
        replicas: 1,
        config: BTreeMap::new(),
    }]
}

fn counts() -> Topics {
    let each = topics().into_iter();
    each.map(|topic| (topic.name, topic.partitions)).collect()
}

fn start_clients(
    world: &SimWorld,
    seed: u64,
    clients: Vec<ClientPlan>,
    recorder: &Recorder,
    stop: &Stop,
) -> (Vec<SimNode>, Vec<Task>) {
    let topics = Arc::new(counts());
    let start = |plan: ClientPlan| {
        let node = world.node(&plan.name);
        let env = node.start();
        let client = Client {
            promoted: Stop::default(),
            env: env.clone(),
            rng: rng(seed, &plan.name),
            plan,
            recorder: recorder.clone(),
            broker: BROKER.to_owned(),
            topics: Arc::clone(&topics),
            stop: stop.clone(),
        };
        (node, env.spawn("client", run(client)))
    };
    clients.into_iter().map(start).unzip()
}

/// Ten seconds with a kill and a power loss, then everything is read.
async fn scenario(world: SimWorld, seed: u64, clients: Vec<ClientPlan>) -> Vec<Event> {
    let server = world.node("server");
    start_broker(&server);
    let recorder = Recorder::new(Trace::default());
    let near = world.node("final").start();
    let minute = Duration::from_secs(60);
    let mut finals = Finals::new(&near, &recorder, BROKER, rng(seed, "final"), minute);
    assert_eq!(finals.create_topics(&topics()).await, []);
    let stop = Stop::default();
    let (_nodes, running) = start_clients(&world, seed, clients, &recorder, &stop);
    near.sleep(Duration::from_millis(3000)).await;
    server.kill();
    near.sleep(Duration::from_millis(300)).await;
    start_broker(&server);
    near.sleep(Duration::from_millis(3200)).await;
    server.lose_power();
    start_broker(&server);
    near.sleep(Duration::from_millis(3500)).await;
    stop.set();
    for task in running {
        task.join().await;
    }
    let groups = [GROUP.to_owned(), "offsets".to_owned()];
    finals.allow(minute);
    let counts = counts();
    let all = finals.topics().await;
    assert_eq!(finals.send_everywhere(&counts).await, []);
    assert_eq!(finals.wait_until_stable(&groups).await, []);
    assert_eq!(finals.read_to_end(&all).await, []);
    assert_eq!(finals.fetch_committed_all(&groups, &counts).await, []);
    finals.describe_groups(&groups).await;
    recorder.events()
}

fn producer(name: &str) -> ClientPlan {
    let role = Role::Producer {
        topic: TOPIC.to_owned(),
        acks: -1,
        idempotent: true,
        in_flight: 5,
        batch_records: 4,
        value_bytes: 120,
        keys: 10,
        tombstone_percent: 5,
        compression: "lz4".to_owned(),
        pause_ms: 60,
        repeat_percent: 20,
        retries: true,
        library: false,
    };
    plan(name, role)
}

fn reader(name: &str) -> ClientPlan {
    let role = Role::Reader {
        topic: TOPIC.to_owned(),
        max_bytes: 100_000,
        partition_max_bytes: 20_000,
        max_wait_ms: 200,
        session: true,
        committed: false,
        pause_ms: 20,
        restart_percent: 2,
        library: false,
        rack: None,
    };
    plan(name, role)
}

fn member(name: &str) -> ClientPlan {
    let role = Role::Member {
        group: GROUP.to_owned(),
        topics: vec![TOPIC.to_owned()],
        instance: None,
        session_timeout_ms: 900,
        rebalance_timeout_ms: 1500,
        commit_ms: 150,
        leave_percent: 4,
        vanish_percent: 4,
        freeze_percent: 8,
        library: false,
    };
    plan(name, role)
}

fn plan(name: &str, role: Role) -> ClientPlan {
    ClientPlan {
        after_promotion: false,
        name: name.to_owned(),
        start_ms: 0,
        versions: Versions::Newest,
        role,
    }
}

fn in_versions(mut plan: ClientPlan, versions: Versions) -> ClientPlan {
    plan.versions = versions;
    plan
}

/// The same over the project's client library.
fn over_the_library(mut plan: ClientPlan) -> ClientPlan {
    match &mut plan.role {
        Role::Producer { library, .. }
        | Role::Reader { library, .. }
        | Role::Member { library, .. } => *library = true,
        _ => {}
    }
    plan
}

fn kind(call: &Call) -> &'static str {
    match call {
        Call::Send { .. } => "send",
        Call::Read { .. } => "read",
        Call::Assign { .. } => "assign",
        Call::ListOffsets { .. } => "list-offsets",
        Call::Join(_) => "join",
        Call::Heartbeat(_) => "heartbeat",
        Call::Leave(_) => "leave",
        Call::Commit { .. } => "commit",
        Call::FetchCommitted { .. } => "fetch-committed",
        Call::DescribeGroup { .. } => "describe-group",
        Call::DeleteGroup { .. } => "delete-group",
        Call::DeleteOffsets { .. } => "delete-offsets",
        Call::CreateTopic { .. } => "create-topic",
        Call::DeleteTopic { .. } => "delete-topic",
        Call::CreatePartitions { .. } => "create-partitions",
        Call::DescribeTopic { .. } => "describe-topic",
        Call::DeleteRecords { .. } => "delete-records",
        Call::AlterConfig { .. } => "alter-config",
        Call::DescribeConfig { .. } => "describe-config",
        Call::InitProducer => "init-producer",
        Call::CreateLink { .. } => "create-link",
        Call::Promote { .. } => "promote",
        Call::DescribeLink { .. } => "describe-link",
    }
}

/// By process and kind: how many operations worked, failed, and are unknown.
type Counts = BTreeMap<(String, &'static str), [usize; 3]>;

/// Plays the clients; the history makes sense and no checker finds a property broken.
fn play(seed: u64, clients: Vec<ClientPlan>) -> (History, Counts) {
    let run = simulate(seed, move |world| scenario(world, seed, clients));
    let history = History::from_events(run.value).expect("a history that makes sense");
    for (time, process, note) in &history.notes {
        assert!(
            !matches!(note, Note::Broken { .. }),
            "seed {seed}: {process} at {time}: {note:?}"
        );
    }
    let found = klamm_jepsen::checker::check(&history);
    assert!(found.is_empty(), "seed {seed}: {}", found[0]);
    let mut counts = Counts::new();
    for operation in &history.operations {
        let key = (operation.process.clone(), kind(&operation.call));
        let at = match operation.ending {
            Ending::Ok(_) => 0,
            Ending::Fail(_) => 1,
            Ending::Unknown(_) => 2,
        };
        counts.entry(key).or_default()[at] += 1;
    }
    if std::env::var_os("KLAMM_SIM_LOG").is_some() {
        show(seed, &history, &counts);
    }
    (history, counts)
}

/// How often what happened, for people.
fn show(seed: u64, history: &History, counts: &Counts) {
    eprintln!("seed {seed}: ok, fail, unknown");
    for ((process, kind), count) in counts {
        eprintln!("  {process} {kind} {count:?}");
    }
    let mut errors: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for operation in &history.operations {
        let attempts = match &operation.ending {
            Ending::Fail(attempts) | Ending::Unknown(attempts) => attempts,
            Ending::Ok(Answer::Send { attempts, .. }) => attempts,
            Ending::Ok(_) => continue,
        };
        let names: Vec<&str> = attempts.iter().map(|a| a.error.as_str()).collect();
        let key = (kind(&operation.call), names.join(" "));
        *errors.entry(key).or_default() += 1;
    }
    for ((kind, names), count) in errors {
        eprintln!("  {kind}: {count} x [{names}]");
    }
}

/// Of each kind at least this many worked.
#[track_caller]
fn worked(counts: &Counts, process: &str, kinds: &[(&'static str, usize)]) {
    for (kind, least) in kinds {
        let found = counts.get(&(process.to_owned(), *kind)).copied();
        let ok = found.unwrap_or_default()[0];
        assert!(ok >= *least, "{process} {kind}: {found:?}, not {least} ok");
    }
}

/// Every record acknowledged with acks=all is found by the last reads, once, as it was sent.
fn assert_all_is_there(history: &History) {
    let mut found: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for operation in history.operations.iter().filter(|o| o.process == "final") {
        let Some(Answer::Read { partitions }) = operation.answer() else {
            continue;
        };
        for record in partitions.iter().flat_map(|part| &part.records) {
            let id = record.id.expect("every record carries its id");
            found.entry(id).or_default().push(record.digest);
        }
    }
    for operation in &history.operations {
        if let Call::Send {
            acks: -1,
            records,
            to,
            ..
        } = &operation.call
            && to.topic == TOPIC
        {
            let is_ok = operation.answer().is_some();
            for record in records {
                let digests = found.get(&record.id).map_or(&[][..], Vec::as_slice);
                let fits = match is_ok {
                    true => digests == [record.digest],
                    false if operation.failed() => digests.is_empty(),
                    false => digests.iter().all(|digest| *digest == record.digest),
                };
                assert!(fits, "{operation:?} is found as {digests:?}");
            }
        }
    }
}

#[test]
fn producers_of_every_kind_get_their_batches_stored() {
    let mut plain = producer("plain");
    if let Role::Producer {
        idempotent,
        acks,
        compression,
        ..
    } = &mut plain.role
    {
        (*idempotent, *acks, *compression) = (false, 1, "zstd".to_owned());
    }
    let mut silent = producer("silent");
    if let Role::Producer { acks, .. } = &mut silent.role {
        *acks = 0;
    }
    let mut impatient = producer("impatient");
    if let Role::Producer {
        retries, pause_ms, ..
    } = &mut impatient.role
    {
        (*retries, *pause_ms) = (false, 5);
    }
    let clients = vec![
        impatient,
        producer("idempotent"),
        in_versions(producer("old"), Versions::Oldest),
        in_versions(plain, Versions::Mixed),
        silent,
        over_the_library(producer("library")),
    ];
    for seed in seeds(1..4) {
        let (history, counts) = play(seed, clients.clone());
        for name in ["idempotent", "old", "plain", "library"] {
            worked(&counts, name, &[("send", 50)]);
        }
        worked(&counts, "idempotent", &[("init-producer", 1)]);
        worked(&counts, "impatient", &[("send", 50), ("init-producer", 2)]);
        let silent = counts[&("silent".to_owned(), "send")];
        assert!(silent[2] > 50 && silent[0] == 0, "{silent:?}");
        assert_all_is_there(&history);
    }
}

#[test]
fn readers_of_every_kind_read_on_through_restarts() {
    let mut narrow = reader("narrow");
    if let Role::Reader {
        max_bytes,
        partition_max_bytes,
        session,
        ..
    } = &mut narrow.role
    {
        (*max_bytes, *partition_max_bytes, *session) = (1, 1, false);
    }
    let clients = vec![
        producer("producer"),
        reader("reader"),
        in_versions(reader("mixed"), Versions::Mixed),
        in_versions(narrow, Versions::Oldest),
        over_the_library(reader("library")),
    ];
    for seed in seeds(11..14) {
        let (history, counts) = play(seed, clients.clone());
        for name in ["reader", "mixed", "narrow", "library"] {
            worked(&counts, name, &[("read", 40), ("assign", 1)]);
            let reads = history.operations.iter().filter(|o| o.process == name);
            let read: usize = reads
                .filter_map(|operation| match operation.answer() {
                    Some(Answer::Read { partitions }) => Some(partitions),
                    _ => None,
                })
                .map(|parts| parts.iter().map(|part| part.records.len()).sum::<usize>())
                .sum();
            assert!(read > 40, "seed {seed}: {name} read {read} records");
        }
    }
}

#[test]
fn members_join_commit_and_come_back() {
    let mut static_member = member("static");
    if let Role::Member { instance, .. } = &mut static_member.role {
        *instance = Some("instance-1".to_owned());
    }
    let clients = vec![
        producer("producer"),
        member("member"),
        in_versions(member("old"), Versions::Oldest),
        static_member,
    ];
    for seed in seeds(21..24) {
        let (_, counts) = play(seed, clients.clone());
        for name in ["member", "old", "static"] {
            let least = [("join", 2), ("heartbeat", 1), ("commit", 3), ("read", 5)];
            worked(&counts, name, &least);
        }
    }
}

#[test]
fn members_over_the_library_join_commit_and_come_back() {
    let clients = vec![
        producer("producer"),
        over_the_library(member("one")),
        over_the_library(member("two")),
    ];
    for seed in seeds(31..33) {
        let (_, counts) = play(seed, clients.clone());
        for name in ["one", "two"] {
            worked(&counts, name, &[("join", 1), ("commit", 1)]);
        }
    }
}

fn others() -> Vec<ClientPlan> {
    let committer = |name: &str| {
        let role = Role::Committer {
            group: "offsets".to_owned(),
            topic: TOPIC.to_owned(),
            pause_ms: 60,
            only_reads: false,
        };
        plan(name, role)
    };
    let (topic, pause_ms) = (TOPIC.to_owned(), 60);
    let admin = Role::Admin {
        pause_ms: 40,
        commits: false,
    };
    vec![
        committer("committer"),
        in_versions(committer("committer-old"), Versions::Oldest),
        in_versions(plan("admin", admin), Versions::Mixed),
        plan("lister", Role::Lister { topic, pause_ms }),
    ]
}

#[test]
fn committers_admins_and_listers_get_their_answers() {
    let mut clients = others();
    clients.push(producer("producer"));
    for seed in seeds(41..44) {
        let (_, counts) = play(seed, clients.clone());
        for name in ["committer", "committer-old"] {
            worked(&counts, name, &[("commit", 20), ("fetch-committed", 15)]);
        }
        worked(&counts, "lister", &[("list-offsets", 50)]);
        let least = [
            ("create-topic", 2),
            ("delete-topic", 1),
            ("send", 5),
            ("read", 3),
            ("alter-config", 2),
            ("describe-config", 2),
            ("create-partitions", 1),
        ];
        worked(&counts, "admin", &least);
    }
}

#[test]
fn all_clients_at_once_leave_a_history_that_makes_sense() {
    let mut clients = others();
    clients.extend([
        producer("producer-1"),
        over_the_library(producer("producer-2")),
        reader("reader-1"),
        in_versions(reader("reader-2"), Versions::Mixed),
        member("member-1"),
        in_versions(member("member-2"), Versions::Mixed),
        over_the_library(member("member-3")),
    ]);
    let role = Role::Deleter {
        topic: TOPIC.to_owned(),
        pause_ms: 400,
    };
    clients.push(plan("deleter", role));
    for seed in seeds(51..54) {
        let (_, counts) = play(seed, clients.clone());
        worked(&counts, "producer-1", &[("send", 40)]);
        worked(&counts, "reader-2", &[("read", 40)]);
        worked(&counts, "deleter", &[("delete-records", 5)]);
        worked(&counts, "member-1", &[("join", 1), ("commit", 2)]);
    }
}

#[test]
fn clients_end_soon_after_the_stop_though_the_broker_is_gone() {
    let mut clients = others();
    clients.extend([
        producer("producer-1"),
        over_the_library(producer("producer-2")),
        reader("reader-1"),
        over_the_library(reader("reader-2")),
        member("member-1"),
        over_the_library(member("member-2")),
    ]);
    let run = simulate(71, move |world| async move {
        let server = world.node("server");
        start_broker(&server);
        let recorder = Recorder::new(Trace::default());
        let near = world.node("final").start();
        let minute = Duration::from_secs(60);
        let mut finals = Finals::new(&near, &recorder, BROKER, rng(71, "final"), minute);
        assert_eq!(finals.create_topics(&topics()).await, []);
        let stop = Stop::default();
        let (nodes, running) = start_clients(&world, 71, clients, &recorder, &stop);
        near.sleep(Duration::from_millis(2500)).await;
        server.kill();
        near.sleep(Duration::from_millis(1500)).await;
        stop.set();
        let ended = async {
            for task in running {
                task.join().await;
            }
        };
        let patience = grace(BROKER) + Duration::from_millis(100);
        let ended = near.timeout(patience, ended).await;
        drop(nodes);
        ended.is_ok()
    });
    assert!(run.value, "somebody goes on");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let mut clients = others();
    clients.extend([producer("producer"), member("member"), reader("reader")]);
    let again = clients.clone();
    let one = simulate(61, move |world| scenario(world, 61, clients));
    let other = simulate(61, move |world| scenario(world, 61, again));
    assert_eq!(one.fingerprint(), other.fingerprint());
    assert!(one.value == other.value, "the histories differ");
}
