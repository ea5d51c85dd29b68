//! A disk without space: appends are refused, nothing acknowledged is lost, reads go on, and when
//! there is space again the broker works again by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use klamm::types::ErrorCode;
use tempfile::TempDir;

use super::{BrokerProcess, WireClient, code, connect_patiently, plain_batch};

/// A small file system of its own, gone with its value.
struct SmallDisk {
    at: TempDir,
}

impl SmallDisk {
    /// `None` where this user may not mount.
    fn mount(size: &str) -> Option<Self> {
        let at = tempfile::tempdir().expect("a temporary directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        let mounted = mount.arg(at.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { at }),
            _ => None,
        }
    }

    fn ballast(&self) -> PathBuf {
        self.at.path().join("ballast")
    }

    fn data(&self) -> PathBuf {
        self.at.path().join("data")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let path: &Path = self.at.path();
        // Lazily: a broker that was just killed may hold it a moment longer.
        let _ = Command::new("umount").arg("-l").arg(path).output();
    }
}

/// Produces numbered values until one is refused; that error.
fn fill(client: &mut WireClient, bytes: usize, acknowledged: &mut Vec<(i64, usize)>) -> ErrorCode {
    loop {
        let number = acknowledged.len();
        let answer = client
            .produce("bulk", 0, plain_batch(&[&value(number, bytes)]))
            .expect("a full disk is answered");
        match code(answer.error_code) {
            ErrorCode::None => acknowledged.push((answer.base_offset, number)),
            refused => return refused,
        }
    }
}

fn value(number: usize, bytes: usize) -> Vec<u8> {
    let mut value = format!("{number}:").into_bytes();
    value.resize(bytes, b'.');
    value
}

fn check(client: &mut WireClient, acknowledged: &[(i64, usize)]) {
    let read = client.read_all("bulk", 0, 0).expect("it can be read");
    for (offset, number) in acknowledged {
        let found = read.iter().find(|(at, _)| at == offset);
        let (_, found) = found.unwrap_or_else(|| panic!("acknowledged offset {offset} is lost"));
        assert!(
            found.starts_with(format!("{number}:").as_bytes()),
            "offset {offset}"
        );
    }
}

/// Waits until the broker takes records again.
fn wait_for_space(client: &mut WireClient, bytes: usize, acknowledged: &mut Vec<(i64, usize)>) {
    let started = Instant::now();
    loop {
        let number = acknowledged.len();
        let batch = plain_batch(&[&value(number, bytes)]);
        let answer = client.produce("bulk", 0, batch).expect("an answer");
        match code(answer.error_code) {
            ErrorCode::None => {
                acknowledged.push((answer.base_offset, number));
                return;
            }
            ErrorCode::KafkaStorageError => {}
            other => panic!("{}", other.name()),
        }
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "no recovery with free space"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

fn run(configs: &[(&str, &str)], value_bytes: usize) {
    let Some(disk) = SmallDisk::mount("24m") else {
        eprintln!("skipped: a tmpfs cannot be mounted here");
        return;
    };
    fs::write(disk.ballast(), vec![1; 8 << 20]).expect("a ballast");
    let mut broker = BrokerProcess::try_start_in(&disk.data(), &[]).expect("it starts");
    let mut client = connect_patiently(broker.port());
    let created = client.create_topic("bulk", 2, configs);
    assert_eq!(created.expect("an answer"), ErrorCode::None);
    let mut acknowledged = Vec::new();

    let refused = fill(&mut client, value_bytes, &mut acknowledged);
    assert_eq!(refused, ErrorCode::KafkaStorageError);
    assert!(acknowledged.len() > 3, "something fits");
    check(&mut client, &acknowledged);
    // What changes the metadata is refused too, or fits; it does not end the broker.
    let on_full = client.create_topic("later", 1, &[]).expect("an answer");
    for size in [value_bytes, 100] {
        let refused = fill(&mut client, size, &mut acknowledged);
        assert_eq!(refused, ErrorCode::KafkaStorageError);
    }
    check(&mut client, &acknowledged);

    fs::remove_file(disk.ballast()).expect("it can be removed");
    wait_for_space(&mut client, 100, &mut acknowledged);
    wait_for_space(&mut client, value_bytes, &mut acknowledged);
    check(&mut client, &acknowledged);
    let again = client.create_topic("later", 1, &[]).expect("an answer");
    let expected = match on_full {
        ErrorCode::None => ErrorCode::TopicAlreadyExists,
        _ => ErrorCode::None,
    };
    assert_eq!(again, expected, "{} on the full disk", on_full.name());

    broker.kill9();
    broker.restart();
    let mut client = connect_patiently(broker.port());
    check(&mut client, &acknowledged);
    let refused = fill(&mut client, value_bytes, &mut acknowledged);
    assert_eq!(refused, ErrorCode::KafkaStorageError);
    drop(client);
    broker.kill9();
    // On a full disk a start may be refused, with the reason, or serve what there is.
    match broker.try_restart() {
        Ok(()) => check(&mut connect_patiently(broker.port()), &acknowledged),
        Err(text) => super::says(&text, &["exit status: 1", "No space left"]),
    }
    let _ = broker.try_restart();
    broker.kill9();
    drop(broker);
    let _ = disk;
}

#[test]
fn a_full_disk_refuses_appends_and_loses_nothing_that_was_acknowledged() {
    run(&[], 200_000);
}

#[test]
fn a_disk_that_is_full_where_a_segment_begins_loses_nothing_either() {
    run(&[("segment.bytes", "16384")], 9_000);
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged_without_a_sync() {
    run(&[("klamm.durability", "replicated")], 9_000);
}
