//! How fast a broker starts and how little it holds when idle, with no partition and with many.
//!
//! The figures that are promised are those of a release build; a debug build has looser ones.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes"
)]

use std::thread;
use std::time::Duration;

use klamm::types::ErrorCode;

use super::broker_process::BrokerProcess;
use super::wire_client::connect_patiently;

const PARTITIONS: i32 = 1_000;
/// Starts of which the fastest counts: the machine may be busy with something else.
const STARTS: usize = 5;

struct Bounds {
    start: Duration,
    /// With [`PARTITIONS`] logs to open.
    start_with_logs: Duration,
    resident_bytes: u64,
}

const fn bounds() -> Bounds {
    if cfg!(debug_assertions) {
        Bounds {
            start: Duration::from_secs(3),
            start_with_logs: Duration::from_secs(10),
            resident_bytes: 120 << 20,
        }
    } else {
        Bounds {
            start: Duration::from_millis(200),
            start_with_logs: Duration::from_millis(500),
            resident_bytes: 50 << 20,
        }
    }
}

#[track_caller]
fn within_bounds(broker: &mut BrokerProcess, what: &str, start: Duration) {
    let fastest = (0..STARTS).map(|_| {
        assert!(broker.sigterm().success());
        broker.restart();
        broker.time_to_ready()
    });
    let fastest = fastest.min().expect("several starts");
    thread::sleep(Duration::from_millis(500));
    let (resident, cpu) = (broker.resident_bytes(), broker.cpu_time());
    thread::sleep(Duration::from_secs(1));
    let idle = broker.cpu_time() - cpu;
    let mebibytes = resident as f64 / f64::from(1 << 20);
    eprintln!("{what}: ready in {fastest:.0?}, {mebibytes:.1} MiB resident, {idle:?} CPU a second");
    let resident_bytes = bounds().resident_bytes;
    assert!(
        fastest < start,
        "{what}: ready in {fastest:?}, at most {start:?}"
    );
    assert!(
        resident < resident_bytes,
        "{what}: {mebibytes:.1} MiB resident"
    );
    assert!(
        idle < Duration::from_millis(200),
        "{what}: busy when idle, {idle:?} a second"
    );
}

#[test]
fn a_broker_starts_fast_and_holds_little() {
    let mut broker = BrokerProcess::start();
    within_bounds(&mut broker, "no partitions", bounds().start);
    let mut client = connect_patiently(broker.port());
    for topic in 0..10 {
        let name = format!("topic-{topic}");
        let created = client.create_topic(&name, PARTITIONS / 10, &[]);
        assert_eq!(created.expect("an answer"), ErrorCode::None);
    }
    drop(client);
    within_bounds(&mut broker, "1,000 partitions", bounds().start_with_logs);
}
