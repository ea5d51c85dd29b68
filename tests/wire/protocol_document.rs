//! `docs/protocol.md` says what the code does.

use std::fmt::Write;

use klamm::wire::ApiKey;
use klamm::wire::ELEMENTS_MAX;
use klamm::wire::batch::UNCOMPRESSED_MAX;

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

/// The table of APIs as the code knows them.
fn table() -> String {
    let mut table = String::from(
        "| Key | API | Versions | Announced from | Flexible from |\n\
         | ---: | --- | --- | ---: | ---: |\n",
    );
    for &key in ApiKey::ALL {
        let versions = key.versions();
        let flexible = key
            .flexible_since()
            .map_or("never".to_owned(), |since| since.to_string());
        writeln!(
            table,
            "| {} | {} | {}–{} | {} | {flexible} |",
            key as i16,
            key.name(),
            versions.start(),
            versions.end(),
            key.announced_min(),
        )
        .expect("writing to a string");
    }
    table
}

#[test]
fn the_table_of_apis_is_the_one_in_the_code() {
    let table = table();
    assert!(
        DOCUMENT.contains(&table),
        "docs/protocol.md should hold this table:\n{table}"
    );
}

#[test]
fn the_limits_are_those_in_the_code() {
    let mib = UNCOMPRESSED_MAX >> 20;
    assert!(DOCUMENT.contains(&format!("{mib} MiB once decompressed")));
    assert!(DOCUMENT.contains(&format!("{ELEMENTS_MAX} array elements")));
}

#[test]
fn every_trap_has_a_line_and_every_test_named_there_exists() {
    let traps = include_str!("traps.rs");
    for number in 1..=35 {
        let line = DOCUMENT
            .lines()
            .find(|line| line.starts_with(&format!("| {number} |")))
            .unwrap_or_else(|| panic!("trap {number} has no line"));
        for name in line.split('`').filter(|word| word.starts_with("trap")) {
            assert!(traps.contains(&format!("fn {name}()")), "no test {name}");
        }
    }
}
