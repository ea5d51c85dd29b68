//! What a kill does to tasks and connections, and how nodes find one another.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use klamm::env::OpenMode;
use klamm_sim::simulate;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[test]
fn a_kill_ends_tasks_and_resets_connections() {
    for seed in 0..20 {
        simulate(seed, |world| async move {
            let (server, client) = (world.node("server"), world.node("client"));
            let env = server.start();
            let beats = Arc::new(AtomicU64::new(0));
            let (inner, counter) = (env.clone(), Arc::clone(&beats));
            env.spawn("server", async move {
                let mut listener = inner.net.listen(":9092").await.expect("listen");
                let mut stream = listener.accept().await.expect("accept");
                loop {
                    counter.fetch_add(1, Ordering::SeqCst);
                    stream.write_all(b"beat").await.expect("write");
                    inner.sleep(Duration::from_millis(10)).await;
                }
            })
            .detach();
            let near = client.start();
            near.sleep(Duration::from_millis(5)).await;
            let mut stream = near.net.connect("server:9092").await.expect("connect");
            let mut buffer = [0; 4];
            stream.read_exact(&mut buffer).await.expect("read");
            assert_eq!(&buffer, b"beat");
            server.kill();
            let mut rest = Vec::new();
            let end = stream.read_to_end(&mut rest).await;
            assert!(end.is_err(), "a killed process ended its stream in order");
            let then = beats.load(Ordering::SeqCst);
            near.sleep(Duration::from_secs(1)).await;
            assert_eq!(beats.load(Ordering::SeqCst), then, "it runs on");
            let refused = near.net.connect("server:9092").await;
            assert!(refused.is_err(), "a dead process accepted");
            let env = server.start();
            let _listener = env.net.listen(":9092").await.expect("listen again");
            near.net.connect("server:9092").await.expect("connect");
        });
    }
}

#[test]
fn a_paused_process_does_nothing_and_goes_on_where_it_was() {
    for seed in 0..20 {
        simulate(seed, |world| async move {
            let (node, other) = (world.node("node"), world.node("other"));
            let (env, clock) = (node.start(), other.start());
            env.disk.create_dir(Path::new("/d")).await.expect("mkdir");
            let beats = Arc::new(AtomicU64::new(0));
            let (inner, counter) = (env.clone(), Arc::clone(&beats));
            env.spawn("beats", async move {
                let path = Path::new("/d/file");
                let file = inner.disk.open(path, OpenMode::Create).await;
                let file = file.expect("open");
                loop {
                    let beat = counter.fetch_add(1, Ordering::SeqCst);
                    drop(file.write_at(beat, vec![bytes::Bytes::from_static(b"x")]));
                    file.sync().await.expect("sync");
                    inner.sleep(Duration::from_millis(10)).await;
                }
            })
            .detach();
            clock.sleep(Duration::from_millis(200)).await;
            node.pause();
            let then = beats.load(Ordering::SeqCst);
            assert!(then > 5, "only {then} beats");
            clock.sleep(Duration::from_secs(60)).await;
            assert_eq!(beats.load(Ordering::SeqCst), then, "it ran");
            let synced = node.disk().durable(Path::new("/d/file"));
            assert!(synced.is_none(), "its name was never synced");
            node.resume();
            clock.sleep(Duration::from_millis(200)).await;
            let now = beats.load(Ordering::SeqCst);
            assert!((5..60).contains(&(now - then)), "{} beats", now - then);
            node.pause();
            node.kill();
            let env = node.start();
            clock.sleep(Duration::from_secs(1)).await;
            let last = beats.load(Ordering::SeqCst);
            assert!(last <= now + 1, "it ran after its end");
            env.sleep(Duration::from_millis(1)).await;
        });
    }
}

#[test]
fn the_disk_completes_what_a_process_called_before_it_was_paused() {
    simulate(1, |world| async move {
        let (node, other) = (world.node("node"), world.node("other"));
        let (env, clock) = (node.start(), other.start());
        let path = Path::new("/file");
        let file = env.disk.open(path, OpenMode::Create).await.expect("open");
        env.disk.sync_dir(Path::new("/")).await.expect("sync");
        drop(file.write_at(0, vec![bytes::Bytes::from_static(b"kept")]));
        drop(file.sync());
        node.pause();
        clock.sleep(Duration::from_secs(1)).await;
        let durable = node.disk().durable(path);
        assert_eq!(durable.as_deref(), Some(&b"kept"[..]));
    });
}

#[test]
fn a_step_moves_the_wall_clock_and_not_the_monotonic_one() {
    simulate(1, |world| async move {
        let node = world.node("node");
        let env = node.start();
        let (now, wall) = (env.now(), env.clock.wall());
        node.step_wall(-3_600_000);
        assert_eq!(env.clock.wall().millis_since(wall), -3_600_000);
        assert!(env.now().since(now) < Duration::from_millis(1));
        node.step_wall(7_200_000);
        env.sleep(Duration::from_secs(1)).await;
        let passed = env.clock.wall().millis_since(wall);
        assert!((3_601_000..3_601_010).contains(&passed), "{passed}");
    });
}

#[test]
fn a_drifting_clock_runs_at_its_own_rate_and_its_timers_with_it() {
    for ppm in [-400_000, -200, 0, 333, 250_000] {
        simulate(1, move |world| async move {
            let (node, other) = (world.node("node"), world.node("other"));
            let (env, truth) = (node.start(), other.start());
            node.set_drift(ppm);
            let (own, wall, world) = (env.now(), env.clock.wall(), truth.now());
            env.sleep(Duration::from_secs(100)).await;
            let own = env.now().since(own).as_micros();
            let wall = env.clock.wall().millis_since(wall);
            let world = truth.now().since(world).as_micros();
            assert!((100_000_000..100_000_100).contains(&own), "{own} us");
            assert!((99_999..=100_001).contains(&wall), "{wall} ms");
            let expected = 100_000_000_000_000 / u128::try_from(1_000_000 + ppm).expect("positive");
            assert!(world.abs_diff(expected) < 200, "{world} of {expected} us");
        });
    }
}

#[test]
fn a_timer_that_is_set_follows_a_change_of_the_rate_and_no_clock_goes_back() {
    simulate(1, |world| async move {
        let (node, other) = (world.node("node"), world.node("other"));
        let (env, truth) = (node.start(), other.start());
        let (inner, began) = (env.clone(), truth.now());
        let sleep = env.spawn("sleep", async move {
            inner.sleep(Duration::from_secs(100)).await;
        });
        let mut last = env.now();
        for ppm in [500_000, -500_000, 500_000, 0, 500_000] {
            node.set_drift(ppm);
            assert!(env.now() >= last, "it went back");
            truth.sleep(Duration::from_secs(2)).await;
            assert!(env.now() > last, "it stood still");
            last = env.now();
        }
        sleep.join().await;
        // Ten seconds were twelve, and the rest goes half as fast again.
        let took = truth.now().since(began).as_millis();
        let expected = 10_000 + (100_000 - 12_000) * 2 / 3;
        assert!(took.abs_diff(expected) < 5, "{took} of {expected} ms");
    });
}
