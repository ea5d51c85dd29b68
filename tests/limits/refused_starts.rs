//! A broker that must not start says why, and what to do, and exits with 1; with 2 for settings.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use super::{BrokerProcess, connect_patiently, files, flip, logs, says, values, with_orders};

/// What a broker that must not start in `directory` says.
#[track_caller]
fn refusal(directory: &Path, overrides: &[(&str, &str)]) -> String {
    match BrokerProcess::try_start_in(directory, overrides) {
        Ok(_) => panic!("it starts in {}", directory.display()),
        Err(text) => text,
    }
}

#[test]
fn a_second_broker_on_a_directory_names_it_and_leaves_the_first_alone() {
    let broker = BrokerProcess::start();
    let mut client = with_orders(&broker);
    let text = refusal(broker.data_directory(), &[]);
    let directory = broker.data_directory().display().to_string();
    let fix = "stop that one, or give this one a directory of its own";
    says(
        &text,
        &[
            "exit status: 1",
            &directory,
            "in use by another broker",
            fix,
        ],
    );
    assert_eq!(values(&mut client, "orders", 0), ["one", "two", "three"]);
}

#[test]
fn directories_of_others_are_refused_and_left_as_they_are() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let kafka = parent.path().join("kafka");
    fs::create_dir(&kafka).expect("a directory");
    let meta = "#Sat Jan 04 10:00:00 UTC 2025\ncluster.id=8Yy_3tCxQAGKHeNDkvzY1g\nversion=1\n\
                node.id=1\n";
    fs::write(kafka.join("meta.properties"), meta).expect("a file");
    let text = refusal(&kafka, &[]);
    let directory = kafka.display().to_string();
    says(
        &text,
        &[
            "exit status: 1",
            &directory,
            "written by Apache Kafka",
            "empty directory",
        ],
    );
    let after = fs::read_to_string(kafka.join("meta.properties"));
    assert_eq!(after.expect("it is there"), meta);

    let photos = parent.path().join("photos");
    fs::create_dir(&photos).expect("a directory");
    fs::write(photos.join("beach.jpg"), "not a log").expect("a file");
    let text = refusal(&photos, &[]);
    let directory = photos.display().to_string();
    says(
        &text,
        &["exit status: 1", &directory, "beach.jpg", "empty directory"],
    );
    assert_eq!(
        files(&photos, ".properties"),
        Vec::<std::path::PathBuf>::new()
    );
}

#[test]
fn a_directory_that_cannot_be_used_is_named_with_the_fix() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let file = parent.path().join("file");
    fs::write(&file, "").expect("a file");
    let below = file.join("data");
    let text = refusal(&below, &[]);
    let fix = "check that the directory can be made, read and written";
    says(
        &text,
        &["exit status: 1", &below.display().to_string(), fix],
    );
}

#[test]
fn another_nodes_directory_is_refused() {
    let mut broker = BrokerProcess::start();
    assert!(broker.sigterm().success());
    let text = refusal(broker.data_directory(), &[("node.id", "77")]);
    let directory = broker.data_directory().display().to_string();
    says(
        &text,
        &[
            "exit status: 1",
            &directory,
            "belongs to node",
            "correct node.id",
        ],
    );
}

#[test]
fn a_port_in_use_is_named_with_its_setting() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let parent = tempfile::tempdir().expect("a temporary directory");
    let data = parent.path().join("data");
    let client = format!("PLAINTEXT://{address}");
    let text = refusal(&data, &[("listeners", &client)]);
    let fix = "change the listeners setting, or stop what uses the port";
    says(&text, &["exit status: 1", &address, fix]);
    let text = refusal(&data, &[("klamm.admin.listener", &address)]);
    says(
        &text,
        &[
            "exit status: 1",
            &address,
            "change the klamm.admin.listener setting",
        ],
    );
}

#[test]
fn all_bad_settings_are_named_at_once_with_exit_code_2() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let bad = [
        ("num.partitions", "zero"),
        ("log.segment.bytes", "1"),
        ("log.cleanup.policy", "shred"),
        ("auto.create.topics.enable", "maybe"),
        ("listeners", "nonsense"),
    ];
    let text = refusal(&parent.path().join("data"), &bad);
    says(&text, &["exit status: 2"]);
    for (name, value) in bad {
        says(&text, &[name, value]);
    }
    assert!(!parent.path().join("data").exists(), "nothing was made");
}

#[test]
fn a_properties_file_that_is_missing_is_named_with_exit_code_2() {
    let mut klamm = Command::new(env!("CARGO_BIN_EXE_klamm"));
    let output = klamm.arg("/nowhere/server.properties").output();
    let output = output.expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    says(
        &String::from_utf8_lossy(&output.stderr),
        &["/nowhere/server.properties"],
    );
}

#[test]
fn an_unknown_setting_is_warned_of_once() {
    let overrides = [("log.retention.fortnights", "2"), ("num.partitions", "3")];
    let broker = BrokerProcess::start_with(&overrides);
    drop(connect_patiently(broker.port()));
    logs(
        &broker,
        &["log.retention.fortnights", "not a known setting"],
    );
    let output = broker.output();
    assert_eq!(
        output.matches("log.retention.fortnights").count(),
        1,
        "{output}"
    );
    assert!(!output.contains("num.partitions"), "{output}");
}

#[test]
fn a_damaged_or_lost_metadata_log_is_never_replaced_by_an_empty_one() {
    let mut broker = BrokerProcess::start();
    drop(with_orders(&broker));
    assert!(broker.sigterm().success());
    let metadata = broker.data_directory().join("__cluster_metadata-0");
    let records = files(&metadata, ".records").pop().expect("records");
    let before = fs::read(&records).expect("records");
    flip(&records, -20);
    let text = broker
        .try_restart()
        .expect_err("damaged metadata is refused");
    let path = records.display().to_string();
    says(
        &text,
        &[
            "exit status: 1",
            "metadata is damaged",
            &path,
            "Restore the directory",
        ],
    );

    let aside = broker.data_directory().with_file_name("aside");
    fs::rename(&metadata, &aside).expect("it can be moved");
    let text = broker.try_restart().expect_err("lost metadata is refused");
    let path = metadata.display().to_string();
    says(
        &text,
        &[
            "exit status: 1",
            "metadata is missing",
            &path,
            "from a backup",
        ],
    );

    fs::rename(&aside, &metadata).expect("it can be moved");
    fs::write(&records, before).expect("it can be written");
    broker.restart();
    let mut client = connect_patiently(broker.port());
    assert_eq!(values(&mut client, "orders", 1), ["one", "two", "three"]);
}
