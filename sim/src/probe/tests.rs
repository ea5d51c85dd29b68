//! What a counted probe shows, and what it leaves out.

#![allow(clippy::disallowed_methods, reason = "it reads the sources")]

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::world::simulate;

/// The names that the sources in `dir` give to probes.
fn names_in(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("the sources are there") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            names_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("the sources can be read");
            for after in text.split("\"klamm::probe\"").skip(1) {
                let name = after
                    .trim_start_matches(',')
                    .trim_start()
                    .strip_prefix("name = \"")
                    .and_then(|rest| rest.split('"').next());
                found.push(
                    name.unwrap_or_else(|| panic!("{path:?}: a nameless probe"))
                        .to_owned(),
                );
            }
        }
    }
}

#[test]
fn the_list_of_names_is_that_of_the_sources_and_each_stands_for_one_situation() {
    let mut found = Vec::new();
    names_in(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"),
        &mut found,
    );
    let unique: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(unique.len(), found.len(), "a name is used twice: {found:?}");
    assert_eq!(unique.into_iter().collect::<Vec<_>>(), NAMES);
}

#[test]
fn probes_are_counted_states_noted_and_warnings_traced_by_node() {
    let run = simulate(1, |world| async move {
        let trace = Trace::default();
        let recorder = Recorder::default();
        let probes = install(recorder.clone(), trace.clone());
        let node = world.node("one");
        let env = node.start();
        env.spawn("work", async {
            for _ in 0..2 {
                tracing::trace!(target: "klamm::probe", name = "twice");
            }
            tracing::trace!(
                target: "klamm::log_state",
                topic = "t",
                partition = 3_i32,
                start = 1_i64,
                high_watermark = 2_i64,
                end = 4_i64,
                recovery_point = 2_i64,
                leader_epoch = 5_i32,
            );
            tracing::warn!(target: "klamm::broker", offset = 7, "odd");
            tracing::info!(target: "klamm::broker", "usual");
            tracing::warn!(target: "elsewhere", "foreign");
        })
        .detach();
        env.sleep(std::time::Duration::from_millis(1)).await;
        (probes.counts(), recorder.events(), trace.lines())
    });
    let (counts, events, lines) = run.value;
    assert_eq!(counts, BTreeMap::from([("twice".to_owned(), 2)]));
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].process, "one");
    let klamm_jepsen::history::What::Note {
        note: Note::Log { of, state },
    } = &events[0].what
    else {
        panic!("{events:?}");
    };
    assert_eq!((of.topic.as_str(), of.partition), ("t", 3));
    let offsets = [
        state.start,
        state.high_watermark,
        state.end,
        state.recovery_point,
    ];
    assert_eq!((offsets, state.leader_epoch), ([1, 2, 4, 2], 5));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].ends_with("one log WARN odd offset=7"), "{lines:?}");
}
