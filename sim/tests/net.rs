//! What the simulated network promises, and what its faults do to connections.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::time::Duration;

use klamm::env::{Env, Listener, Stream};
use klamm_sim::plan::LinkOptions;
use klamm_sim::{NetworkControl, Run, SimNode, SimWorld, simulate};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const SEEDS: std::ops::Range<u64> = 0..30;
const SECOND: Duration = Duration::from_secs(1);

type Conn = Box<dyn Stream>;

/// A link that always takes 10 ms and splits nothing.
const STEADY: LinkOptions = LinkOptions {
    latency_min_ms: 10,
    latency_mean_ms: 0,
    bandwidth: 0,
    window: 64 << 10,
    split_percent: 0,
};

/// Two hosts, `client` and `server`, with a connection from the one to the other.
struct Two {
    world: SimWorld,
    net: NetworkControl,
    client: SimNode,
    server: SimNode,
    near_env: Env,
    far_env: Env,
    listener: Box<dyn Listener>,
    near: Conn,
    far: Conn,
}

async fn join(env: &Env, listener: &mut Box<dyn Listener>) -> (Conn, Conn) {
    let near = env.net.connect("server:9092").await.expect("connect");
    (near, listener.accept().await.expect("accept"))
}

async fn two(world: SimWorld) -> Two {
    let (client, server) = (world.node("client"), world.node("server"));
    let (near_env, far_env) = (client.start(), server.start());
    let net = world.network();
    let mut listener = far_env.net.listen(":9092").await.expect("listen");
    let (near, far) = join(&near_env, &mut listener).await;
    Two {
        world,
        net,
        client,
        server,
        near_env,
        far_env,
        listener,
        near,
        far,
    }
}

async fn steady(world: SimWorld) -> Two {
    world.network().set_default(STEADY);
    two(world).await
}

impl Two {
    fn cut(&self) {
        self.net.cut("client", "server");
        self.net.cut("server", "client");
    }

    fn heal(&self) {
        self.net.heal("client", "server");
        self.net.heal("server", "client");
    }

    async fn sleep_ms(&self, span: u64) {
        self.near_env.sleep(Duration::from_millis(span)).await;
    }
}

fn bytes(len: usize) -> Vec<u8> {
    let byte = |at: usize| u8::try_from((at + at / 251) % 251).expect("below 251");
    (0..len).map(byte).collect()
}

fn now() -> Duration {
    madsim::time::TimeHandle::current().elapsed()
}

/// What `work` gives and how long it takes.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = now();
    let value = work.await;
    (value, now() - start)
}

/// Everything up to the end or an error.
async fn rest(stream: &mut Conn) -> (Vec<u8>, Option<ErrorKind>) {
    let mut got = Vec::new();
    let end = stream.read_to_end(&mut got).await;
    (got, end.err().map(|error| error.kind()))
}

async fn read(stream: &mut Conn, len: usize) -> Vec<u8> {
    let mut got = vec![0; len];
    stream.read_exact(&mut got).await.expect("read");
    got
}

async fn is_silent(env: &Env, stream: &mut Conn, span: Duration) -> bool {
    env.timeout(span, stream.read_u8()).await.is_err()
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Runs `scenario` for a few seeds.
fn each_seed<S: Future<Output = ()>>(scenario: impl Fn(SimWorld) -> S + Send + Copy + 'static) {
    for seed in SEEDS {
        println!("seed {seed}");
        simulate(seed, scenario);
    }
}

#[test]
fn bytes_arrive_in_order_through_stalls_and_cuts() {
    each_seed(|world| async move {
        let Two {
            net,
            near_env,
            mut near,
            mut far,
            listener: _listener,
            ..
        } = two(world).await;
        let sent = bytes(400_000);
        let (to_send, env) = (sent.clone(), near_env.clone());
        let writer = near_env.spawn("writer", async move {
            for chunk in to_send.chunks(1733) {
                near.write_all(chunk).await.expect("write");
                env.sleep(Duration::from_millis(20)).await;
            }
        });
        let faults = near_env.spawn("faults", async move {
            for (from, to) in [("client", "server"), ("*", "client"), ("server", "*")] {
                net.stall(from, to);
                madsim::time::sleep(SECOND / 3).await;
                net.cut(to, from);
                madsim::time::sleep(SECOND / 2).await;
                net.unstall(from, to);
                madsim::time::sleep(SECOND / 5).await;
                net.heal(to, from);
                madsim::time::sleep(SECOND / 7).await;
            }
        });
        let (got, error) = rest(&mut far).await;
        assert_eq!((got.len(), error), (sent.len(), None));
        assert!(got == sent, "bytes changed or out of order");
        writer.join().await;
        faults.join().await;
    });
}

#[test]
fn a_link_takes_its_time_one_way_and_a_host_none_with_itself() {
    let run = simulate(1, |world| async move {
        let mut two = steady(world).await;
        for (at, span) in [(1, 10), (2, 40)] {
            two.net.set_link(
                "client",
                "server",
                Some(LinkOptions {
                    latency_min_ms: span,
                    ..STEADY
                }),
            );
            two.near.write_u8(at).await.expect("write");
            let (_, took) = timed(two.far.read_u8()).await;
            assert_eq!(took.as_millis(), u128::from(span));
            two.far.write_u8(at).await.expect("write");
            let (_, took) = timed(two.near.read_u8()).await;
            assert_eq!(took.as_millis(), 10, "the other way");
        }
        let (_own, took) = timed(two.far_env.net.connect("127.0.0.1:9092")).await;
        assert_eq!(took.as_millis(), 0);
    });
    assert!(!run.trace.is_empty());
}

#[test]
fn latencies_have_the_mean_they_should() {
    simulate(2, |world| async move {
        let mut two = steady(world).await;
        let options = LinkOptions {
            latency_min_ms: 5,
            latency_mean_ms: 30,
            ..STEADY
        };
        two.net.set_default(options);
        let (mut sum, mut longest) = (0, 0);
        for _ in 0..2000 {
            two.near.write_u8(1).await.expect("write");
            let (_, took) = timed(two.far.read_u8()).await;
            let micros = took.as_micros();
            assert!(micros >= 5000, "{micros} us");
            sum += micros;
            longest = longest.max(micros);
        }
        let mean = sum / 2000;
        assert!((33_000..37_000).contains(&mean), "mean {mean} us");
        assert!(longest > 130_000, "no long ones: {longest} us");
    });
}

#[test]
fn a_link_carries_no_more_than_its_bandwidth() {
    each_seed(|world| async move {
        let mut two = steady(world).await;
        two.net.set_default(LinkOptions {
            bandwidth: 100_000,
            split_percent: 30,
            ..STEADY
        });
        let (_, mut other) = join(&two.near_env, &mut two.listener).await;
        drop(other.write_u8(0).await);
        let writer = async {
            two.near.write_all(&bytes(200_000)).await.expect("write");
        };
        let reader = read(&mut two.far, 200_000);
        let ((_, got), took) = timed(async { tokio::join!(writer, reader) }).await;
        assert!(got == bytes(200_000));
        let millis = took.as_millis();
        assert!((2000..2100).contains(&millis), "{millis} ms for 2 s");
    });
}

#[test]
fn a_writer_has_a_window_and_waits_for_its_reader() {
    each_seed(|world| async move {
        world.network().set_default(LinkOptions {
            window: 10_000,
            ..LinkOptions::default()
        });
        let mut two = two(world).await;
        let sent = bytes(30_000);
        let mut written = 0;
        let mut fill = async |near: &mut Conn| {
            let before = written;
            while let Ok(count) = two
                .near_env
                .timeout(SECOND, near.write(&sent[written..]))
                .await
            {
                written += count.expect("write");
            }
            written - before
        };
        assert_eq!(fill(&mut two.near).await, 10_000);
        assert!(read(&mut two.far, 7000).await == sent[..7000]);
        assert_eq!(fill(&mut two.near).await, 7000);
        assert!(read(&mut two.far, 10_000).await == sent[7000..17_000]);
    });
}

#[test]
fn a_sender_learns_of_room_only_when_the_way_back_is_whole() {
    simulate(4, |world| async move {
        let mut two = steady(world).await;
        let window = bytes(64 << 10);
        two.near.write_all(&window).await.expect("write");
        two.sleep_ms(100).await;
        two.net.stall("server", "client");
        assert!(read(&mut two.far, window.len()).await == window);
        let more = two.near_env.timeout(SECOND, two.near.write_u8(1)).await;
        assert!(more.is_err(), "news passed a stalled link");
        two.net.unstall("server", "client");
        let more = two.near_env.timeout(SECOND, two.near.write_u8(1)).await;
        more.expect("room").expect("write");
    });
}

#[test]
fn reads_and_writes_are_split() {
    for (percent, some) in [(0, false), (60, true)] {
        let splits = simulate(5, move |world| async move {
            world.network().set_default(LinkOptions {
                split_percent: percent,
                ..STEADY
            });
            let mut two = two(world).await;
            two.near.write_all(&bytes(9000)).await.expect("write");
            assert!(read(&mut two.far, 9000).await == bytes(9000));
            two.net.counts()["splits"]
        });
        assert_eq!(splits.value > 0, some, "{} splits", splits.value);
    }
}

#[test]
fn what_is_sent_into_a_cut_arrives_soon_after_it_heals() {
    each_seed(|world| async move {
        let mut two = steady(world).await;
        two.near.write_all(b"under way").await.expect("write");
        two.cut();
        two.near.write_all(b", lost").await.expect("write");
        assert!(is_silent(&two.near_env, &mut two.far, 5 * SECOND).await);
        two.heal();
        let ((got, took), counts) = (timed(read(&mut two.far, 15)).await, two.net.counts());
        assert_eq!(got, b"under way, lost");
        let millis = took.as_millis();
        assert!((200..1300).contains(&millis), "after {millis} ms");
        assert_eq!((counts["cut bytes"], counts["cuts"]), (15, 2));
        // The sender lives on, however long nothing more happens.
        two.sleep_ms(20_000).await;
        two.near.write_all(b"!").await.expect("write");
        assert_eq!(read(&mut two.far, 1).await, b"!");
    });
}

#[test]
fn what_was_stalled_arrives_at_once_and_nobody_gives_up() {
    each_seed(|world| async move {
        let mut two = steady(world).await;
        two.near.write_all(b"under way").await.expect("write");
        two.net.stall("client", "*");
        two.near.write_all(b", late").await.expect("write");
        assert!(is_silent(&two.near_env, &mut two.far, 40 * SECOND).await);
        two.far.write_all(b"x").await.expect("write");
        assert_eq!(read(&mut two.near, 1).await, b"x", "the other way");
        two.net.unstall("client", "*");
        let (got, took) = timed(read(&mut two.far, 15)).await;
        assert_eq!(got, b"under way, late");
        assert_eq!(took.as_millis(), 10);
    });
}

#[test]
fn a_sender_gives_up_after_a_long_cut_and_its_peer_is_half_open() {
    each_seed(|world| async move {
        let mut two = steady(world).await;
        two.net.cut("client", "server");
        two.sleep_ms(3000).await;
        two.near.write_all(b"question").await.expect("write");
        let ((got, error), took) = timed(rest(&mut two.near)).await;
        assert_eq!((got.len(), error), (0, Some(ErrorKind::TimedOut)));
        assert_eq!(took.as_secs(), 15);
        let again = two.near.write(b"x").await;
        assert_eq!(kind(again), Some(ErrorKind::TimedOut));
        assert!(is_silent(&two.near_env, &mut two.far, 60 * SECOND).await);
        two.net.heal("client", "server");
        assert!(is_silent(&two.near_env, &mut two.far, 60 * SECOND).await);
        two.far.write_all(b"anybody?").await.expect("write");
        let ((got, error), took) = timed(rest(&mut two.far)).await;
        assert_eq!((got.len(), error), (0, Some(ErrorKind::ConnectionReset)));
        assert_eq!(took.as_millis(), 20, "a round trip");
        assert_eq!(two.net.counts()["timeouts"], 1);
    });
}

#[test]
fn data_pass_while_their_acknowledgements_are_cut_and_the_sender_gives_up() {
    simulate(6, |world| async move {
        let mut two = steady(world).await;
        two.net.cut("server", "client");
        two.near.write_all(b"heard").await.expect("write");
        assert_eq!(read(&mut two.far, 5).await, b"heard");
        let ((_, error), took) = timed(rest(&mut two.near)).await;
        assert_eq!(error, Some(ErrorKind::TimedOut));
        assert_eq!(took.as_secs(), 14);
        // A cut with nothing unacknowledged costs nothing.
        two.net.heal("server", "client");
        let (mut near, mut far) = join(&two.near_env, &mut two.listener).await;
        two.cut();
        two.sleep_ms(100_000).await;
        two.heal();
        near.write_all(b"still here").await.expect("write");
        assert_eq!(read(&mut far, 10).await, b"still here");
    });
}

#[test]
fn a_gap_too_short_to_send_again_does_not_save_a_connection() {
    simulate(7, |world| async move {
        let mut two = steady(world).await;
        two.cut();
        two.near.write_all(b"lost").await.expect("write");
        let (error, took) = timed(async {
            two.sleep_ms(9000).await;
            two.heal();
            two.sleep_ms(50).await;
            two.cut();
            rest(&mut two.near).await.1
        })
        .await;
        assert_eq!(error, Some(ErrorKind::TimedOut));
        assert_eq!(took.as_secs(), 15);
    });
}

#[test]
fn cuts_over_the_same_hosts_do_not_end_each_other() {
    simulate(8, |world| async move {
        let mut two = steady(world).await;
        two.net.cut("client", "server");
        two.net.cut("client", "server");
        two.net.cut("*", "server");
        two.near.write_all(b"x").await.expect("write");
        for (from, to) in [("client", "server"), ("client", "server"), ("no", "such")] {
            two.net.heal(from, to);
            assert!(is_silent(&two.near_env, &mut two.far, 2 * SECOND).await);
        }
        two.net.heal("*", "server");
        assert_eq!(read(&mut two.far, 1).await, b"x");
        two.net.cut("*", "*");
        two.net.stall("*", "*");
        two.near.write_all(b"y").await.expect("write");
        assert!(is_silent(&two.near_env, &mut two.far, 2 * SECOND).await);
        two.net.heal_all();
        assert_eq!(read(&mut two.far, 1).await, b"y");
        assert_eq!(two.net.hosts(), ["client", "server"]);
    });
}

#[test]
fn a_reset_tears_what_is_under_way_anywhere() {
    let mut lengths = BTreeSet::new();
    for seed in 0..100 {
        let run = simulate(seed, |world| async move {
            let mut two = steady(world).await;
            let sent = bytes(5000);
            two.near.write_all(&sent).await.expect("write");
            two.far.write_all(b"other way").await.expect("write");
            two.sleep_ms(5).await;
            two.net.reset("server", "client");
            let (got, error) = rest(&mut two.far).await;
            assert_eq!(error, Some(ErrorKind::ConnectionReset));
            assert!(sent.starts_with(&got), "no prefix of what was sent");
            let (back, error) = rest(&mut two.near).await;
            assert_eq!(error, Some(ErrorKind::ConnectionReset));
            assert!(b"other way".starts_with(&back));
            let write = two.near.write(b"x").await;
            assert_eq!(kind(write), Some(ErrorKind::ConnectionReset));
            assert_eq!(two.net.counts()["resets"], 2);
            got.len()
        });
        lengths.insert(run.value);
    }
    assert!(lengths.len() > 80, "{} lengths", lengths.len());
    let (first, last) = (lengths.first(), lengths.last());
    assert!(
        first < Some(&500) && last > Some(&4500),
        "{first:?} to {last:?}"
    );
}

#[test]
fn a_reset_leaves_other_hosts_alone_and_passes_no_cut() {
    simulate(9, |world| async move {
        let mut two = steady(world).await;
        let other = two.world.node("other");
        let env = other.start();
        let (mut near, mut far) = join(&env, &mut two.listener).await;
        two.net.cut("server", "client");
        two.net.reset("client", "*");
        let (_, error) = rest(&mut two.far).await;
        assert_eq!(error, Some(ErrorKind::ConnectionReset));
        assert!(is_silent(&env, &mut two.near, 30 * SECOND).await);
        near.write_all(b"well").await.expect("write");
        assert_eq!(read(&mut far, 4).await, b"well");
    });
}

#[test]
fn connecting_into_a_cut_times_out_and_can_be_given_up() {
    each_seed(|world| async move {
        let two = steady(world).await;
        let dial = || two.near_env.net.connect("server:9092");
        for (from, to) in [("client", "server"), ("server", "client")] {
            two.net.cut(from, to);
            let (refused, took) = timed(dial()).await;
            assert_eq!(kind(refused), Some(ErrorKind::TimedOut));
            assert_eq!(took.as_secs(), 20);
            assert!(two.near_env.timeout(SECOND, dial()).await.is_err());
            two.net.heal(from, to);
        }
        assert_eq!(two.net.counts()["connect timeouts"], 2);
        two.cut();
        let heal = async {
            two.sleep_ms(5000).await;
            two.heal();
        };
        let ((), connected) = tokio::join!(heal, timed(dial()));
        let (stream, took) = connected;
        stream.expect("connect after the cut");
        assert_eq!(took.as_secs(), 7, "asked again after 1, 2 and 4 s");
    });
}

#[test]
fn connecting_through_a_stall_waits_for_it() {
    simulate(10, |world| async move {
        let two = steady(world).await;
        two.net.stall("*", "client");
        let unstall = async {
            two.sleep_ms(9000).await;
            two.net.unstall("*", "client");
        };
        let dial = two.near_env.net.connect("server:9092");
        let ((), (stream, took)) = tokio::join!(unstall, timed(dial));
        stream.expect("connect after the stall");
        assert_eq!(took.as_millis(), 9020);
        two.net.stall("*", "client");
        let (refused, took) = timed(two.near_env.net.connect("server:9092")).await;
        assert_eq!(kind(refused), Some(ErrorKind::TimedOut));
        assert_eq!(took.as_secs(), 20);
    });
}

#[test]
fn a_refusal_takes_a_round_trip_and_spares_what_is_connected() {
    simulate(11, |world| async move {
        let mut two = steady(world).await;
        let (refused, took) = timed(two.near_env.net.connect("server:1")).await;
        assert_eq!(kind(refused), Some(ErrorKind::ConnectionRefused));
        assert_eq!(took.as_millis(), 20);
        two.net.refuse("server", true);
        let refused = two.near_env.net.connect("server:9092").await;
        assert_eq!(kind(refused), Some(ErrorKind::ConnectionRefused));
        two.near.write_all(b"go on").await.expect("write");
        assert_eq!(read(&mut two.far, 5).await, b"go on");
        two.far_env
            .net
            .connect("127.0.0.1:9092")
            .await
            .expect("itself");
        two.net.refuse("server", false);
        two.near_env
            .net
            .connect("server:9092")
            .await
            .expect("again");
        assert_eq!(two.net.counts()["refusals"], 2);
    });
}

#[test]
fn a_full_accept_queue_lets_connections_wait() {
    simulate(12, |world| async move {
        let mut two = steady(world).await;
        let mut streams = Vec::new();
        for _ in 0..128 {
            let stream = two.near_env.net.connect("server:9092").await;
            streams.push(stream.expect("room in the queue"));
        }
        let (late, took) = timed(two.near_env.net.connect("server:9092")).await;
        assert_eq!(
            (kind(late), took.as_secs()),
            (Some(ErrorKind::TimedOut), 20)
        );
        two.listener.accept().await.expect("accept");
        two.near_env
            .net
            .connect("server:9092")
            .await
            .expect("room again");
        // Who was never accepted is reset when nobody listens any more.
        drop(two.listener);
        let (_, error) = rest(&mut streams[5]).await;
        assert_eq!(error, Some(ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_killed_process_resets_its_connections_after_one_latency() {
    let mut lengths = BTreeSet::new();
    for seed in SEEDS {
        let run = simulate(seed, |world| async move {
            let mut two = steady(world).await;
            two.far.write_all(&bytes(100)).await.expect("write");
            two.server.kill();
            let ((got, error), took) = timed(rest(&mut two.near)).await;
            assert_eq!(error, Some(ErrorKind::ConnectionReset));
            assert_eq!(took.as_millis(), 10);
            assert!(bytes(100).starts_with(&got));
            let refused = two.near_env.net.connect("server:9092").await;
            assert_eq!(kind(refused), Some(ErrorKind::ConnectionRefused));
            got.len()
        });
        lengths.insert(run.value);
    }
    assert!(lengths.len() > 5, "all of it or nothing: {lengths:?}");
}

#[test]
fn a_kill_behind_a_cut_is_noticed_at_the_next_write_after_it() {
    each_seed(|world| async move {
        let mut two = steady(world).await;
        let (mut writing, _far) = join(&two.near_env, &mut two.listener).await;
        two.cut();
        two.server.kill();
        let _env = two.server.start();
        writing.write_all(b"into the cut").await.expect("write");
        assert!(is_silent(&two.near_env, &mut two.near, 10 * SECOND).await);
        two.heal();
        let ((_, error), took) = timed(rest(&mut writing)).await;
        assert_eq!(error, Some(ErrorKind::ConnectionReset));
        assert!(took < 2 * SECOND, "{took:?}");
        assert!(is_silent(&two.near_env, &mut two.near, 60 * SECOND).await);
        two.near.write_all(b"hello?").await.expect("write");
        let ((_, error), took) = timed(rest(&mut two.near)).await;
        assert_eq!(error, Some(ErrorKind::ConnectionReset));
        assert_eq!(took.as_millis(), 20);
    });
}

#[test]
fn a_power_loss_tells_nobody() {
    each_seed(|world| async move {
        let mut two = steady(world).await;
        let (mut writing, _far) = join(&two.near_env, &mut two.listener).await;
        let (mut waiting, _far) = join(&two.near_env, &mut two.listener).await;
        two.far.write_all(b"lost under way").await.expect("write");
        two.server.lose_power();
        // Who sends gives up by its own time-out; who only reads never knows.
        writing.write_all(b"x").await.expect("write");
        let ((got, error), took) = timed(rest(&mut writing)).await;
        assert_eq!((got.len(), error), (0, Some(ErrorKind::TimedOut)));
        assert_eq!(took.as_secs(), 15);
        let dial = two.near_env.net.connect("server:9092").await;
        assert_eq!(
            kind(dial),
            Some(ErrorKind::TimedOut),
            "a host without power"
        );
        assert!(is_silent(&two.near_env, &mut two.near, 60 * SECOND).await);
        // Who sends before the host is back is reset by it when it is.
        waiting.write_all(b"y").await.expect("write");
        two.sleep_ms(10_000).await;
        let _env = two.server.start();
        let ((_, error), took) = timed(rest(&mut waiting)).await;
        assert_eq!(error, Some(ErrorKind::ConnectionReset));
        assert!(took < 2 * SECOND, "{took:?}");
        assert!(is_silent(&two.near_env, &mut two.near, 60 * SECOND).await);
        two.near.write_all(b"z").await.expect("write");
        let ((_, error), took) = timed(rest(&mut two.near)).await;
        assert_eq!(error, Some(ErrorKind::ConnectionReset));
        assert_eq!(took.as_millis(), 20);
    });
}

#[test]
fn a_writer_without_room_notices_a_power_loss() {
    for (down_seconds, expected) in [(60, ErrorKind::TimedOut), (5, ErrorKind::ConnectionReset)] {
        simulate(13, move |world| async move {
            let mut two = steady(world).await;
            two.near.write_all(&bytes(64 << 10)).await.expect("write");
            two.sleep_ms(1000).await;
            two.server.lose_power();
            let start = async {
                madsim::time::sleep(down_seconds * SECOND).await;
                let _ = two.server.start();
            };
            let ((), (write, took)) = tokio::join!(start, timed(two.near.write(b"more")));
            assert_eq!(kind(write), Some(expected));
            assert!(took <= 15 * SECOND + SECOND / 10, "{took:?}");
        });
    }
}

#[test]
fn a_half_closed_stream_ends_in_order_and_carries_the_other_way() {
    each_seed(|world| async move {
        let mut two = two(world).await;
        two.near.write_all(&bytes(20_000)).await.expect("write");
        two.net.cut("client", "server");
        two.near.shutdown().await.expect("shutdown");
        let write = two.near.write(b"x").await;
        assert_eq!(kind(write), Some(ErrorKind::BrokenPipe));
        two.sleep_ms(500).await;
        two.net.heal("client", "server");
        assert_eq!(rest(&mut two.far).await, (bytes(20_000), None));
        two.far.write_all(b"answer").await.expect("write");
        drop(two.far);
        assert_eq!(rest(&mut two.near).await, (b"answer".to_vec(), None));
    });
}

#[test]
fn a_dropped_stream_ends_in_order_unless_bytes_were_not_read() {
    each_seed(|world| async move {
        let mut two = steady(world).await;
        two.near.write_all(b"all read").await.expect("write");
        read(&mut two.far, 8).await;
        two.far.write_all(b"last words").await.expect("write");
        drop(two.far);
        assert_eq!(rest(&mut two.near).await, (b"last words".to_vec(), None));
        two.near.write_all(b"to nobody").await.expect("write");
        two.near_env.sleep(SECOND / 40).await;
        let write = two.near.write(b"x").await;
        assert_eq!(kind(write), Some(ErrorKind::ConnectionReset));
        let (mut near, far) = join(&two.near_env, &mut two.listener).await;
        near.write_all(b"not read").await.expect("write");
        two.near_env.sleep(SECOND / 50).await;
        drop(far);
        let (_, error) = rest(&mut near).await;
        assert_eq!(error, Some(ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_dead_process_is_mute() {
    each_seed(|world| async move {
        let mut two = steady(world).await;
        let (kept, _) = join(&two.near_env, &mut two.listener).await;
        let dial = two.far_env.clone();
        two.server.kill();
        let env = two.server.start();
        let mut listener = env.net.listen(":9092").await.expect("a free port");
        let (mut near, mut far) = join(&two.near_env, &mut listener).await;
        // The old process still has its things, and drops them late.
        assert!(two.far.write(b"ghost").await.is_err());
        assert!(two.far.read_u8().await.is_err());
        assert!(two.far.shutdown().await.is_err());
        assert!(two.listener.accept().await.is_err());
        assert!(dial.net.connect("client:1").await.is_err());
        assert!(dial.net.listen(":9093").await.is_err());
        drop((two.listener, two.far, kept));
        near.write_all(b"new").await.expect("write");
        assert_eq!(read(&mut far, 3).await, b"new");
        join(&two.near_env, &mut listener).await;
        // Its client dies by power loss: not even a drop is heard.
        two.client.lose_power();
        drop(near);
        assert!(is_silent(&env, &mut far, 60 * SECOND).await);
    });
}

#[test]
fn the_kernel_of_a_paused_process_accepts_and_takes_a_window() {
    simulate(14, |world| async move {
        let mut two = steady(world).await;
        let (env, mut listener) = (two.far_env.clone(), two.listener);
        env.spawn("echo", async move {
            while let Ok(mut stream) = listener.accept().await {
                let mut buffer = vec![0; 100_000];
                while let Ok(count) = stream.read(&mut buffer).await
                    && count > 0
                {
                    stream.write_all(&buffer[..count]).await.expect("write");
                }
            }
        })
        .detach();
        let handle = madsim::runtime::Handle::current();
        handle.pause("server");
        let dial = two.near_env.net.connect("server:9092");
        let dialled = two.near_env.timeout(SECOND, dial).await;
        two.near = dialled.expect("an answer").expect("connect");
        let window = bytes(64 << 10);
        let write = two.near.write_all(&window);
        two.near_env
            .timeout(SECOND, write)
            .await
            .expect("room")
            .expect("write");
        let more = two
            .near_env
            .timeout(20 * SECOND, two.near.write_u8(1))
            .await;
        assert!(more.is_err(), "more than a window");
        handle.resume("server");
        assert!(read(&mut two.near, 64 << 10).await == window);
    });
}

#[test]
fn what_befalls_one_link_does_not_shift_another() {
    let spans = |disturb: bool| {
        simulate(15, move |world| async move {
            let mut two = two(world).await;
            let (left, right) = (two.world.node("left"), two.world.node("right"));
            let (left, right) = (left.start(), right.start());
            let mut listener = right.net.listen(":1").await.expect("listen");
            let mut near = left.net.connect("right:1").await.expect("connect");
            let mut far = listener.accept().await.expect("accept");
            let mut spans = Vec::new();
            for round in 0..50 {
                if disturb {
                    two.net.stall("client", "server");
                    two.near.write_all(&bytes(500)).await.expect("write");
                    two.net.unstall("client", "server");
                }
                near.write_u8(round).await.expect("write");
                let (got, took) = timed(far.read_u8()).await;
                assert_eq!(got.expect("read"), round);
                spans.push(took.as_millis());
                read(&mut two.far, if disturb { 500 } else { 0 }).await;
            }
            spans
        })
        .value
    };
    assert_eq!(spans(false), spans(true));
    assert!(BTreeSet::from_iter(spans(false)).len() > 2);
}

/// Clients and an echo in a storm of faults.
fn storm(seed: u64) -> Run<BTreeMap<&'static str, u64>> {
    simulate(seed, |world| async move {
        let server = world.node("server");
        let serve = |env: Env| async move {
            let mut listener = env.net.listen(":9092").await.expect("listen");
            while let Ok(mut stream) = listener.accept().await {
                env.spawn("echo", async move {
                    let mut buffer = vec![0; 700];
                    while let Ok(count) = stream.read(&mut buffer).await
                        && count > 0
                        && stream.write_all(&buffer[..count]).await.is_ok()
                    {}
                })
                .detach();
            }
        };
        let env = server.start();
        env.spawn("server", serve(env.clone())).detach();
        for name in ["a", "b", "c"] {
            let env = world.node(name).start();
            let inner = env.clone();
            env.spawn("client", async move {
                let mut got = vec![0; 1000];
                loop {
                    inner.sleep(SECOND / 5).await;
                    let Ok(mut stream) = inner.net.connect("server:9092").await else {
                        continue;
                    };
                    for _ in 0..20 {
                        let trip = async {
                            stream.write_all(&bytes(1000)).await?;
                            stream.read_exact(&mut got).await
                        };
                        match inner.timeout(4 * SECOND, trip).await {
                            Ok(Ok(_)) => assert!(got == bytes(1000), "bytes changed"),
                            _ => break,
                        }
                    }
                }
            })
            .detach();
        }
        let net = world.network();
        for round in 0..12_u32 {
            let name = ["a", "b", "c", "*"][round as usize % 4];
            madsim::time::sleep(SECOND).await;
            net.cut(name, "server");
            net.stall("server", "b");
            madsim::time::sleep(SECOND * (round % 5) * 2).await;
            net.unstall("server", "b");
            net.reset("*", "c");
            net.heal(name, "server");
            net.refuse("server", round % 3 == 0);
            if round % 4 == 3 {
                server.lose_power();
                madsim::time::sleep(SECOND * 2).await;
                net.heal_all();
                let env = server.start();
                env.spawn("server", serve(env.clone())).detach();
            }
        }
        madsim::time::sleep(SECOND * 5).await;
        net.counts()
    })
}

#[test]
fn the_same_seed_gives_the_same_network_and_counts_what_happened() {
    let mut traces = BTreeSet::new();
    for seed in 0..4 {
        let (first, second) = (storm(seed), storm(seed));
        let differs = first
            .trace
            .iter()
            .zip(&second.trace)
            .find(|(one, two)| one != two);
        assert_eq!(differs, None, "first line that differs");
        assert_eq!(first.value, second.value);
        println!("{:?}", first.value);
        traces.insert(first.fingerprint());
        let never = ["accept queue overflows", "timeouts", "connect timeouts"];
        for (what, count) in first.value {
            assert!(count > 0 || never.contains(&what), "no {what}");
        }
    }
    assert_eq!(traces.len(), 4, "seeds with the same run");
}
