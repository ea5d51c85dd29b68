//! Bugs that can be planted in the broker, in builds that have them.

use super::Failed;

/// A bug that can be planted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Any of these properties finds it.
    pub(crate) expected: &'static [&'static str],
}

/// Those of the kind named: `all`, `node-only` and `clusters`, as of scenarios, or
/// `mirrors`. `None` for no kind.
#[cfg(feature = "mutants")]
pub(crate) fn of_kind(kind: &str) -> Result<Option<Vec<Mutant>>, Failed> {
    use klamm::mutant::{ALONE, CLUSTERS, MIRRORS};
    let mutants = match kind {
        "all" => [ALONE, CLUSTERS, MIRRORS].concat(),
        "node-only" => ALONE.to_vec(),
        "clusters" => CLUSTERS.to_vec(),
        "mirrors" => MIRRORS.to_vec(),
        _ => return Ok(None),
    };
    let mutants = mutants.into_iter().map(|(name, about, expected)| Mutant {
        name,
        about,
        expected,
    });
    Ok(Some(mutants.collect()))
}

/// Plants a mutant for the rest of this process.
#[cfg(feature = "mutants")]
pub(crate) fn choose(name: &str) -> Result<(), Failed> {
    klamm::mutant::choose(name).map_err(|error| Failed(error.to_string()))
}

#[cfg(not(feature = "mutants"))]
fn not_built<T>() -> Result<T, Failed> {
    let how = "cargo build --release -p klamm-sim --features sim,mutants";
    Err(Failed(format!(
        "this build has no mutants; build it with: {how}"
    )))
}

/// Those of the kind named: none in this build.
#[cfg(not(feature = "mutants"))]
pub(crate) fn of_kind(_kind: &str) -> Result<Option<Vec<Mutant>>, Failed> {
    not_built()
}

/// Refuses.
#[cfg(not(feature = "mutants"))]
pub(crate) fn choose(_name: &str) -> Result<(), Failed> {
    not_built()
}
