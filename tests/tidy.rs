//! The rules of the code that a compiler does not check: layers, sizes, words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;

/// The layer of each module: a module uses those of lower layers, and of its own only itself.
const LAYERS: &[(&str, usize)] = &[
    ("mutant", 0),
    // Packages of their own, in place of others.
    ("standin", 0),
    ("types", 0),
    ("env", 1),
    ("wire", 1),
    ("config", 1),
    ("log", 2),
    ("client", 2),
    ("replication", 3),
    ("controller", 3),
    ("coordinator", 3),
    ("group", 3),
    ("mirror", 3),
    ("broker", 4),
    ("cli", 5),
];

/// Neighbours of one layer that may be used all the same: who, whom.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("group", "coordinator"),
    ("config", "wire"),
    ("replication", "log"),
    ("client", "config"),
];

/// Modules of the decision layer that may wait and touch the world: drivers, nothing else.
const DRIVERS: &[&str] = &[
    "replication/shard.rs",
    "replication/replica.rs",
    "replication/view.rs",
    "replication/following.rs",
    "replication/mirroring.rs",
    "replication/shard/closing.rs",
    "replication/shard/deleting.rs",
    "replication/shard/flushing.rs",
    "replication/shard/replicating.rs",
    "controller/announcer.rs",
    "controller/calls.rs",
    "controller/duties.rs",
    "controller/handle.rs",
    "controller/driver.rs",
    "controller/local/mod.rs",
    "controller/local/store.rs",
    "controller/raft/ambient.rs",
    "controller/raft/channel.rs",
    "controller/raft/directory.rs",
    "controller/raft/handle.rs",
    "controller/raft/machine.rs",
    "controller/raft/mod.rs",
    "controller/raft/network.rs",
    "controller/raft/opening.rs",
    "controller/raft/outbox.rs",
    "controller/raft/reporting.rs",
    "controller/raft/runtime.rs",
    "controller/raft/service.rs",
    "controller/raft/snapshot.rs",
    "controller/raft/store.rs",
    "controller/raft/suspicion.rs",
    "controller/raft/watch.rs",
    "controller/raft/writer.rs",
    "coordinator/driver.rs",
    "group/mod.rs",
    "group/handle.rs",
];

/// Words that say nothing about what a thing is.
const EMPTY_WORDS: &[&str] = &["manager", "helper", "util", "utils", "common", "misc"];

struct Source {
    /// Relative to the repository.
    path: PathBuf,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        let path = self.path.to_string_lossy();
        path.starts_with("tests/")
            || path.contains("/tests/")
            || path.ends_with("tests.rs")
            || path.contains("test_")
    }

    /// Line numbers and lines, up to the unit tests at the end of the file.
    fn code(&self) -> Vec<(usize, &str)> {
        let end = self
            .text
            .lines()
            .zip(self.text.lines().skip(1))
            .position(|(one, next)| one == "#[cfg(test)]" && next == "mod tests {");
        let lines = self
            .text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line));
        lines.take(end.unwrap_or(usize::MAX)).collect()
    }

    fn code_without_comments(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code()
            .into_iter()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(below: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut dirs: Vec<PathBuf> = below.iter().map(|dir| root().join(dir)).collect();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("the folder exists") {
            let path = entry.expect("the folder can be listed").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("source is UTF-8");
                let path = path
                    .strip_prefix(root())
                    .expect("below the root")
                    .to_owned();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn all() -> Vec<Source> {
    sources(&["src", "sim", "jepsen", "tests"])
}

#[track_caller]
fn none(violations: &BTreeMap<(PathBuf, usize), String>) {
    let mut text = String::new();
    for ((path, line), what) in violations {
        writeln!(text, "{}:{line}: {what}", path.display()).expect("writing to a string");
    }
    assert!(
        violations.is_empty(),
        "{} violations:\n{text}",
        violations.len()
    );
}

#[test]
fn files_stay_small() {
    let mut violations = BTreeMap::new();
    for source in all() {
        let lines = source.code().len();
        if !source.is_test() && lines > FILE_LINES_MAX {
            violations.insert(
                (source.path, lines),
                format!("{lines} lines of code, at most {FILE_LINES_MAX}: split by decision"),
            );
        }
    }
    none(&violations);
}

#[test]
fn functions_stay_small() {
    let mut violations = BTreeMap::new();
    for source in all() {
        if source.is_test() {
            continue;
        }
        let mut open: Option<(usize, usize)> = None;
        for (number, line) in source.code() {
            let indent = line.len() - line.trim_start().len();
            if let Some((start, at)) = open
                && line.starts_with(&format!("{:at$}}}", ""))
            {
                let length = number - start + 1;
                if length > FUNCTION_LINES_MAX {
                    let what = format!("a function of {length} lines, at most 70");
                    violations.insert((source.path.clone(), start), what);
                }
                open = None;
            }
            if open.is_none() && is_function(line) && !line.trim_end().ends_with(';') {
                let one_line = line.trim_end().ends_with('}');
                open = (!one_line).then_some((number, indent));
            }
        }
    }
    none(&violations);
}

fn is_function(line: &str) -> bool {
    let mut rest = line.trim_start();
    for prefix in [
        "pub ",
        "pub(super) ",
        "pub(crate) ",
        "const ",
        "async ",
        "unsafe ",
    ] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    rest.starts_with("fn ")
}

#[test]
fn lines_stay_short() {
    let mut violations = BTreeMap::new();
    for source in all() {
        for (number, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            // Texts, links and the tables (of APIs, of documentation) are not broken.
            let whole = line.contains('"') || line.contains("http") || line.starts_with("//! |");
            let table = line.contains("::{") && line.contains("..=");
            if columns > LINE_COLUMNS_MAX && !whole && !table {
                let what = format!("{columns} columns");
                violations.insert((source.path.clone(), number + 1), what);
            }
        }
    }
    none(&violations);
}

#[test]
fn layers_only_look_down() {
    let layers: BTreeMap<&str, usize> = LAYERS.iter().copied().collect();
    let mut violations = BTreeMap::new();
    for source in sources(&["src"]) {
        let module = source
            .path
            .components()
            .nth(1)
            .expect("below src")
            .as_os_str();
        let module = module.to_string_lossy().trim_end_matches(".rs").to_owned();
        if module == "lib" || module == "main" {
            continue;
        }
        let own = *layers
            .get(module.as_str())
            .unwrap_or_else(|| panic!("src/{module} has no layer: add it to LAYERS"));
        for (number, line) in source.code_without_comments() {
            for used in line.split("crate::").skip(1) {
                let used: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let Some(layer) = layers.get(used.as_str()) else {
                    continue;
                };
                let fine = *layer < own
                    || used == module
                    || NEIGHBOURS.contains(&(module.as_str(), used.as_str()));
                if !fine {
                    let what = format!("{module} (layer {own}) uses {used} (layer {layer})");
                    violations.insert((source.path.clone(), number), what);
                }
            }
        }
    }
    none(&violations);
}

#[test]
fn machines_do_not_wait() {
    let mut violations = BTreeMap::new();
    let folders = [
        "src/replication",
        "src/controller",
        "src/coordinator",
        "src/group",
    ];
    for source in sources(&folders) {
        let path = source
            .path
            .to_string_lossy()
            .trim_start_matches("src/")
            .to_owned();
        if DRIVERS.contains(&path.as_str()) || source.is_test() {
            continue;
        }
        for (number, line) in source.code_without_comments() {
            let waits = line.contains(".await") || line.contains("async fn");
            if waits || line.contains("env::Env") {
                let what = "a decision that waits or holds an Env: move it into a driver";
                violations.insert((source.path.clone(), number), what.to_owned());
            }
        }
    }
    none(&violations);
}

#[test]
fn nothing_is_left_unfinished_or_unordered() {
    let mut violations = BTreeMap::new();
    let unfinished = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("dbg", "!("),
    ];
    for source in all() {
        let mut previous = "";
        for (number, line) in source.text.lines().enumerate() {
            if let Some(word) = unfinished.iter().find(|word| line.contains(**word))
                && !line.contains("unfinished")
            {
                let what = format!("'{word}' left behind");
                violations.insert((source.path.clone(), number + 1), what);
            }
            if previous.contains("select! {") && !line.contains("biased;") {
                let what = "a select! that does not say `biased;` first".to_owned();
                violations.insert((source.path.clone(), number + 1), what);
            }
            previous = line;
        }
    }
    none(&violations);
}

#[test]
fn names_say_something() {
    let mut violations = BTreeMap::new();
    for source in sources(&["src", "sim", "jepsen"]) {
        let stem = source
            .path
            .file_stem()
            .expect("a file")
            .to_string_lossy()
            .to_lowercase();
        if EMPTY_WORDS.contains(&stem.as_str()) {
            violations.insert((source.path.clone(), 0), format!("a file named {stem}"));
        }
        for (number, line) in source.code_without_comments() {
            let declares = ["struct ", "enum ", "trait ", "mod ", "fn "];
            let Some(at) = declares
                .iter()
                .find_map(|word| line.find(word).map(|i| i + word.len()))
            else {
                continue;
            };
            let name: String = line[at..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            let lower = name.to_lowercase();
            if let Some(word) = EMPTY_WORDS.iter().find(|word| {
                lower.split('_').any(|part| part == **word) || lower.ends_with("manager")
            }) {
                let what = format!("'{name}' says nothing ('{word}'): name what it holds or does");
                violations.insert((source.path.clone(), number), what);
            }
        }
    }
    none(&violations);
}

#[test]
fn every_source_starts_with_what_it_is() {
    let mut violations = BTreeMap::new();
    for source in sources(&["src", "sim/src", "jepsen/src"]) {
        if !source.text.starts_with("//!") {
            let what = "no module documentation at the top".to_owned();
            violations.insert((source.path.clone(), 1), what);
        }
    }
    none(&violations);
}

/// Names of the mutants that `text` has switches for.
fn switches(text: &str) -> impl Iterator<Item = String> {
    let begin = concat!("crate::mutant!", "(");
    text.split(begin).skip(1).filter_map(|rest| {
        let name = rest.trim_start().strip_prefix('"')?;
        Some(name.split('"').next()?.to_owned())
    })
}

#[test]
fn every_mutant_has_a_switch_and_every_switch_a_mutant() {
    let known: BTreeSet<String> = klamm::mutant::all()
        .map(|mutant| mutant.0.to_owned())
        .collect();
    let mut planted = BTreeSet::new();
    for source in sources(&["src"]) {
        if !source.path.ends_with("src/mutant.rs") {
            planted.extend(switches(&source.text));
        }
    }
    assert_eq!(known, planted);
}

#[test]
fn mutants_are_in_no_build_that_does_not_ask_for_them() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest is there");
    let table = manifest.split("[features]").nth(1).expect("features");
    let table = table.split("\n[").next().expect("split gives at least one");
    let asks = table
        .lines()
        .filter(|line| !line.starts_with('#') && line.contains("mutants"))
        .collect::<Vec<_>>();
    assert_eq!(asks, ["mutants = []"], "only by its own name");
    let mut violations = BTreeMap::new();
    for source in sources(&["src"]) {
        for (number, line) in source.text.lines().enumerate() {
            let names_it = line.contains(concat!("feature = \"", "mutants\""));
            if names_it && !source.path.ends_with("src/mutant.rs") {
                let what = "only src/mutant.rs may depend on the feature".to_owned();
                violations.insert((source.path.clone(), number + 1), what);
            }
        }
    }
    none(&violations);
}

#[test]
fn the_top_level_holds_what_it_should() {
    let allowed = [
        ".cargo",
        ".ci",
        ".git",
        ".gitignore",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "corpus",
        "docs",
        "jepsen",
        "klamm-data",
        "sim",
        "src",
        "target",
        "tests",
    ];
    let mut extra: Vec<String> = fs::read_dir(root())
        .expect("the root can be listed")
        .map(|entry| {
            entry
                .expect("listed")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| !allowed.contains(&name.as_str()))
        .collect();
    extra.sort();
    assert!(extra.is_empty(), "unexpected at the top level: {extra:?}");
}
