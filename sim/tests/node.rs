//! What a kill does to tasks and connections, and how nodes find one another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
