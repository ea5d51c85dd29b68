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

/// Every mutant.
#[cfg(feature = "mutants")]
pub(crate) fn all() -> Result<Vec<Mutant>, Failed> {
    let mutants = klamm::mutant::NAMES.iter();
    let mutants = mutants.map(|(name, about, expected)| Mutant {
        name,
        about,
        expected,
    });
    Ok(mutants.collect())
}

/// Plants a mutant for the rest of this process.
#[cfg(feature = "mutants")]
pub(crate) fn choose(name: &str) -> Result<(), Failed> {
    if !all()?.iter().any(|mutant| mutant.name == name) {
        return Err(Failed(format!("there is no mutant `{name}`")));
    }
    klamm::mutant::choose(name);
    Ok(())
}

#[cfg(not(feature = "mutants"))]
fn not_built<T>() -> Result<T, Failed> {
    let how = "cargo build --release -p klamm-sim --features sim,mutants";
    Err(Failed(format!(
        "this build has no mutants; build it with: {how}"
    )))
}

/// Every mutant: none in this build.
#[cfg(not(feature = "mutants"))]
pub(crate) fn all() -> Result<Vec<Mutant>, Failed> {
    not_built()
}

/// Refuses.
#[cfg(not(feature = "mutants"))]
pub(crate) fn choose(_name: &str) -> Result<(), Failed> {
    not_built()
}
