//! Logs that are damaged, lost or of nobody: they stay offline or aside, told in the log and to
//! clients, and the others serve.

use std::fs;
use std::time::Duration;

use klamm::types::ErrorCode;

use super::{
    BrokerProcess, connect_patiently, fetch, files, flip, logs, produce, values, with_orders,
};

const ALL: [&str; 3] = ["one", "two", "three"];

#[test]
fn a_log_damaged_below_its_durable_end_goes_offline_and_the_others_serve() {
    let mut broker = BrokerProcess::start();
    drop(with_orders(&broker));
    // An idle log notes how far it is durable after a second.
    std::thread::sleep(Duration::from_millis(1_500));
    broker.kill9();
    let damaged = broker.data_directory().join("orders-0");
    let segment = files(&damaged, ".log").pop().expect("a segment");
    let before = fs::read(&segment).expect("a segment");
    flip(&segment, -10);
    let spoiled = fs::read(&segment).expect("a segment");
    for _ in 0..2 {
        broker.restart();
        let mut client = connect_patiently(broker.port());
        assert_eq!(
            fetch(&mut client, "orders", 0),
            ErrorCode::KafkaStorageError
        );
        assert_eq!(
            produce(&mut client, "orders", 0, b"four"),
            ErrorCode::KafkaStorageError
        );
        assert_eq!(values(&mut client, "orders", 1), ALL);
        let path = segment.display().to_string();
        let parts = [
            "orders",
            "ERROR",
            "stays offline",
            &path,
            "is damaged",
            "Restore the file",
        ];
        logs(&broker, &parts);
        assert!(
            fs::read(&segment).expect("a segment") == spoiled,
            "nothing was touched"
        );
        // A clean stop in between changes nothing.
        assert!(broker.sigterm().success());
    }
    fs::write(&segment, before).expect("it can be restored");
    broker.restart();
    let mut client = connect_patiently(broker.port());
    assert_eq!(values(&mut client, "orders", 0), ALL);
}

#[test]
fn a_topic_with_a_damaged_log_can_be_deleted_and_made_again() {
    let mut broker = BrokerProcess::start();
    drop(with_orders(&broker));
    assert!(broker.sigterm().success());
    let segments = files(&broker.data_directory().join("orders-0"), ".log");
    fs::write(&segments[0], "no segment").expect("it can be written");
    broker.restart();
    let mut client = connect_patiently(broker.port());
    assert_eq!(
        fetch(&mut client, "orders", 0),
        ErrorCode::KafkaStorageError
    );
    assert_eq!(
        client.delete_topic("orders").expect("an answer"),
        ErrorCode::None
    );
    let created = client.create_topic("orders", 2, &[]);
    assert_eq!(created.expect("an answer"), ErrorCode::None);
    assert_eq!(produce(&mut client, "orders", 0, b"new"), ErrorCode::None);
    assert_eq!(values(&mut client, "orders", 0), ["new"]);
    broker.restart();
    let mut client = connect_patiently(broker.port());
    assert_eq!(values(&mut client, "orders", 0), ["new"]);
}

#[test]
fn a_lost_log_stays_offline_and_is_never_made_anew_empty() {
    let mut broker = BrokerProcess::start();
    drop(with_orders(&broker));
    let lost = broker.data_directory().join("orders-1");
    let aside = broker.data_directory().with_file_name("aside");
    for kill in [true, false] {
        if kill {
            broker.kill9();
        } else {
            assert!(broker.sigterm().success());
        }
        if lost.exists() {
            fs::rename(&lost, &aside).expect("it can be moved");
        }
        broker.restart();
        let mut client = connect_patiently(broker.port());
        assert_eq!(
            fetch(&mut client, "orders", 1),
            ErrorCode::KafkaStorageError
        );
        assert_eq!(
            produce(&mut client, "orders", 1, b"four"),
            ErrorCode::KafkaStorageError
        );
        assert_eq!(values(&mut client, "orders", 0), ALL);
        assert!(!lost.exists(), "an empty log in the place of a lost one");
        let path = lost.display().to_string();
        logs(&broker, &["stays offline", &path, "restore the directory"]);
    }
    assert!(broker.sigterm().success());
    fs::rename(&aside, &lost).expect("it can be moved");
    broker.restart();
    let mut client = connect_patiently(broker.port());
    assert_eq!(values(&mut client, "orders", 1), ALL);
}

#[test]
fn a_log_that_belongs_to_no_topic_is_set_aside_and_kept() {
    let mut broker = BrokerProcess::start();
    drop(with_orders(&broker));
    broker.kill9();
    let stray = broker.data_directory().join("ghost-0");
    fs::create_dir(&stray).expect("a directory");
    fs::write(stray.join("00000000000000000000.log"), "records").expect("a file");
    broker.restart();
    assert!(!stray.exists());
    let aside = files(broker.data_directory(), "-stray")
        .pop()
        .expect("it was set aside");
    let kept = fs::read_to_string(aside.join("00000000000000000000.log"));
    assert_eq!(kept.expect("it was kept"), "records");
    logs(&broker, &["set aside", "ghost-0"]);
    let mut client = connect_patiently(broker.port());
    let created = client.create_topic("ghost", 1, &[]);
    assert_eq!(created.expect("an answer"), ErrorCode::None);
    assert_eq!(produce(&mut client, "ghost", 0, b"new"), ErrorCode::None);
    assert_eq!(values(&mut client, "ghost", 0), ["new"]);
    assert_eq!(values(&mut client, "orders", 0), ALL);
    // What was set aside stays aside.
    broker.restart();
    assert!(aside.exists());
}

#[test]
fn exchanged_directories_are_noticed_and_nothing_of_them_is_lost() {
    let mut broker = BrokerProcess::start();
    let mut client = with_orders(&broker);
    assert_eq!(
        client.create_topic("other", 1, &[]).expect("an answer"),
        ErrorCode::None
    );
    assert_eq!(produce(&mut client, "other", 0, b"mine"), ErrorCode::None);
    drop(client);
    broker.kill9();
    exchange(&broker);
    broker.restart();
    let mut client = connect_patiently(broker.port());
    assert_eq!(
        fetch(&mut client, "orders", 0),
        ErrorCode::KafkaStorageError
    );
    assert_eq!(fetch(&mut client, "other", 0), ErrorCode::KafkaStorageError);
    assert_eq!(values(&mut client, "orders", 1), ALL);
    drop(client);
    broker.kill9();
    exchange(&broker);
    broker.restart();
    let mut client = connect_patiently(broker.port());
    assert_eq!(values(&mut client, "orders", 0), ALL);
    assert_eq!(values(&mut client, "other", 0), ["mine"]);
}

/// Exchanges the directories of two partitions.
fn exchange(broker: &BrokerProcess) {
    let dir = |name: &str| broker.data_directory().join(name);
    fs::rename(dir("orders-0"), dir("exchanged")).expect("it can be moved");
    fs::rename(dir("other-0"), dir("orders-0")).expect("it can be moved");
    fs::rename(dir("exchanged"), dir("other-0")).expect("it can be moved");
}
