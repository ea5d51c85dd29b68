//! What becomes of the files of logs that are gone, or cannot be read to their end.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use klamm::types::ErrorCode;

use super::{
    BrokerProcess, code, connect_patiently, files, flip, logs, produce, values, with_orders,
};

/// The longest name that a topic may have.
fn longest(letter: &str) -> String {
    letter.repeat(249)
}

/// The entries of a directory whose names begin so.
fn beginning_with(dir: &Path, with: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("it can be listed");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(with)).collect()
}

/// Waits until what is to go has gone: that comes after the deletion was answered.
fn until_removed(dir: &Path) {
    let began = Instant::now();
    while let left = files(dir, "-delete")
        && !left.is_empty()
    {
        assert!(began.elapsed() < Duration::from_secs(30), "left: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn logs_of_the_longest_name_are_removed_and_set_aside() {
    let mut broker = BrokerProcess::start();
    let mut client = with_orders(&broker);
    let (topic, dir) = (longest("n"), broker.data_directory().to_path_buf());
    for _ in 0..2 {
        let created = client.create_topic(&topic, 2, &[]);
        assert_eq!(created.expect("an answer"), ErrorCode::None);
        assert_eq!(produce(&mut client, &topic, 1, b"value"), ErrorCode::None);
        assert_eq!(values(&mut client, &topic, 1), ["value"]);
        let deleted = client.delete_topic(&topic);
        assert_eq!(deleted.expect("an answer"), ErrorCode::None);
        until_removed(&dir);
        assert_eq!(beginning_with(&dir, "nnn"), Vec::<String>::new());
    }
    drop(client);
    broker.kill9();
    let stray = dir.join(format!("{}-0", longest("g")));
    fs::create_dir(&stray).expect("a directory");
    fs::write(stray.join("00000000000000000000.log"), "records").expect("a file");
    broker.restart();
    let aside = files(&dir, "-stray").pop().expect("it was set aside");
    let kept = fs::read_to_string(aside.join("00000000000000000000.log"));
    assert_eq!(kept.expect("it was kept"), "records");
}

#[test]
fn a_removal_that_a_kill_cut_short_is_finished_after_the_next_start() {
    const PARTITIONS: i32 = 300;
    let mut broker = BrokerProcess::start();
    let mut client = with_orders(&broker);
    let dir = broker.data_directory().to_path_buf();
    let created = client.create_topic("doomed", PARTITIONS, &[]);
    assert_eq!(created.expect("an answer"), ErrorCode::None);
    assert_eq!(produce(&mut client, "doomed", 7, b"value"), ErrorCode::None);
    let deleted = client.delete_topic("doomed");
    assert_eq!(deleted.expect("an answer"), ErrorCode::None);
    broker.kill9();
    let left = beginning_with(&dir, "doomed");
    assert!(
        left.iter().all(|name| name.ends_with("-delete")),
        "{left:?}"
    );
    // As if the removal had not come to these.
    for partition in 0..3 {
        let name = format!("doomed-{partition}.00000000-delete");
        fs::create_dir_all(dir.join(&name)).expect("a directory");
        fs::write(dir.join(name).join("00000000000000000000.log"), "left").expect("a file");
    }
    broker.restart();
    let mut client = connect_patiently(broker.port());
    assert_eq!(values(&mut client, "orders", 0), ["one", "two", "three"]);
    let created = client.create_topic("doomed", 8, &[]);
    assert_eq!(created.expect("an answer"), ErrorCode::None);
    assert_eq!(produce(&mut client, "doomed", 7, b"new"), ErrorCode::None);
    assert_eq!(values(&mut client, "doomed", 7), ["new"]);
    until_removed(&dir);
    assert_eq!(beginning_with(&dir, "doomed-").len(), 8);
}

#[test]
fn damage_amid_a_long_answer_closes_the_connection_and_is_told_to_the_next() {
    let broker = BrokerProcess::start_with(&[
        ("klamm.tail.cache.bytes", "0"),
        ("klamm.fetch.piece.bytes", "20000"),
    ]);
    let mut client = connect_patiently(broker.port());
    let created = client.create_topic("orders", 1, &[]);
    assert_eq!(created.expect("an answer"), ErrorCode::None);
    let value = [b'v'; 8000];
    for _ in 0..40 {
        assert_eq!(produce(&mut client, "orders", 0, &value), ErrorCode::None);
    }
    assert_eq!(values(&mut client, "orders", 0).len(), 40);
    let segment = files(&broker.data_directory().join("orders-0"), ".log").remove(0);
    flip(&segment, 200_000);

    let answer = client.fetch("orders", 0, 0);
    assert!(answer.is_err(), "an answer that is not complete");
    logs(&broker, &["read failed", "orders-0"]);
    // Who asks again comes as far as there is something good.
    let mut client = connect_patiently(broker.port());
    let good = client.fetch("orders", 0, 0).expect("an answer").batches;
    assert!((20..30).contains(&good.len()), "{}", good.len());
    let damaged = client.fetch("orders", 0, good.len() as i64);
    let damaged = damaged.expect("an answer").data.error_code;
    assert_eq!(code(damaged), ErrorCode::CorruptMessage);
    let after = client.fetch("orders", 0, good.len() as i64 + 1);
    assert_eq!(after.expect("an answer").batches.len(), 39 - good.len());
}
