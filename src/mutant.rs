//! Planted bugs, which show that the tests would see a bug of their kind.
//!
//! Each is a bug that some broker, log or consensus library really had (the B numbers are those of
//! the list in `docs/mutants.md`), put where it would live here by a switch in the code:
//! `crate::mutant!("name")`. A process has at most one, chosen before anything else runs.
//!
//! Only builds with the feature `mutants` can have one. In all others a switch is the constant
//! `false`, and nothing is left of it; that it names a known mutant is checked as it is compiled,
//! in every build.

mod alone;
mod cluster;
mod mirror;

/// A mutant: its name, what is wrong with it, and the properties of which it breaks at least one
/// when the faults that it needs befall it.
pub type Described = (&'static str, &'static str, &'static [&'static str]);

/// Those that a single node can have.
pub const ALONE: &[Described] = alone::MUTANTS;

/// Those that take several nodes to show.
pub const CLUSTERS: &[Described] = cluster::MUTANTS;

/// Those that take a second cluster to show.
pub const MIRRORS: &[Described] = mirror::MUTANTS;

/// Every mutant, in the order of their numbers.
pub fn all() -> impl Iterator<Item = &'static Described> {
    ALONE.iter().chain(CLUSTERS).chain(MIRRORS)
}

/// No mutant of this name, or not in this build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownMutant {
    #[error("there is no mutant '{0}'")]
    Name(String),
    #[error("this build has no mutants: build with --features mutants")]
    Build,
    #[error("this process has the mutant '{0}' already")]
    Chosen(&'static str),
}

/// Makes this process the mutant `name`. To be called once, before anything else runs.
pub fn choose(name: &str) -> Result<(), UnknownMutant> {
    match all().position(|mutant| mutant.0 == name) {
        None => Err(UnknownMutant::Name(name.to_owned())),
        Some(number) => plant(number),
    }
}

/// Makes this process the mutant that `asked` names, if it names one. Builds without the feature
/// do not ask.
#[cfg(feature = "mutants")]
pub fn choose_asked(asked: impl FnOnce() -> Option<String>) -> Result<(), UnknownMutant> {
    asked().map_or(Ok(()), |name| choose(&name))
}

/// Builds without the feature do not ask.
#[cfg(not(feature = "mutants"))]
pub fn choose_asked(_: impl FnOnce() -> Option<String>) -> Result<(), UnknownMutant> {
    Ok(())
}

#[cfg(feature = "mutants")]
static CHOSEN: std::sync::OnceLock<usize> = std::sync::OnceLock::new();

#[cfg(feature = "mutants")]
fn plant(number: usize) -> Result<(), UnknownMutant> {
    match *CHOSEN.get_or_init(|| number) {
        chosen if chosen == number => Ok(()),
        other => {
            let mut all = all();
            Err(UnknownMutant::Chosen(
                all.nth(other).map_or("", |mutant| mutant.0),
            ))
        }
    }
}

#[cfg(not(feature = "mutants"))]
fn plant(_: usize) -> Result<(), UnknownMutant> {
    Err(UnknownMutant::Build)
}

/// Whether this process is the mutant of this number.
#[cfg(feature = "mutants")]
#[inline]
pub(crate) fn is_chosen(number: usize) -> bool {
    CHOSEN.get() == Some(&number)
}

/// Whether this process is the mutant of this number: never.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn is_chosen(_: usize) -> bool {
    false
}

/// The number of a mutant: its place in [`all`]. Evaluated as a switch is compiled.
pub(crate) const fn number(name: &str) -> usize {
    match (
        place(ALONE, name),
        place(CLUSTERS, name),
        place(MIRRORS, name),
    ) {
        (Some(at), ..) => at,
        (None, Some(at), _) => ALONE.len() + at,
        (None, None, Some(at)) => ALONE.len() + CLUSTERS.len() + at,
        (None, None, None) => panic!("a switch names a mutant that is not in src/mutant/"),
    }
}

const fn place(of: &[Described], name: &str) -> Option<usize> {
    let mut at = 0;
    while at < of.len() {
        if same(name.as_bytes(), of[at].0.as_bytes()) {
            return Some(at);
        }
        at += 1;
    }
    None
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Whether this process is the mutant named. A name that is not in the table does not compile.
macro_rules! mutant {
    ($name:literal) => {{
        const NUMBER: usize = $crate::mutant::number($name);
        $crate::mutant::is_chosen(NUMBER)
    }};
}
pub(crate) use mutant;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_mutant_breaks_something() {
        let mut names: Vec<&str> = all().map(|mutant| mutant.0).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().count());
        assert!(all().all(|mutant| !mutant.1.is_empty() && !mutant.2.is_empty()));
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let unknown = UnknownMutant::Name("none".to_owned());
        assert_eq!(choose("none"), Err(unknown));
    }

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn a_build_without_the_feature_has_no_mutant() {
        assert_eq!(choose(ALONE[0].0), Err(UnknownMutant::Build));
        assert!((0..all().count()).all(|number| !is_chosen(number)));
    }
}
