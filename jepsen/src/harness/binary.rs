//! Which `klamm` is tormented.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The binary at `given`; else one that cargo builds with `features` from the sources, in the
/// profile of this program.
pub fn find(given: Option<&Path>, features: &[&str]) -> Result<PathBuf, String> {
    if let Some(given) = given {
        return match given.is_file() {
            true => absolute(given),
            false => Err(format!("{} is no file", given.display())),
        };
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if !sources.join("Cargo.toml").is_file() {
        return Err("the sources are gone: say --binary".to_owned());
    }
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let target = sources.join("target").join("torment");
    let features = features.join(",");
    eprintln!("building klamm ({profile}; features: {features})");
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(&sources)
        .args(["build", "--quiet", "--package", "klamm", "--bin", "klamm"])
        .args(["--features", &features])
        .arg("--target-dir")
        .arg(&target);
    if profile == "release" {
        cargo.arg("--release");
    }
    let done = cargo.status().map_err(|error| format!("cargo: {error}"))?;
    match done.success() {
        true => absolute(&target.join(profile).join("klamm")),
        false => Err("klamm cannot be built".to_owned()),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    path.canonicalize()
        .map_err(|error| format!("{}: {error}", path.display()))
}
