//! Promises of `Entropy`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::env::Env;

pub(super) async fn streams_differ_by_purpose_and_by_call(env: &Env, _dir: &Path) {
    let mut seen = BTreeSet::new();
    for purpose in ["one", "one", "other", "other", "third"] {
        let first: [u8; 16] = env.entropy.stream(purpose).bytes();
        assert!(
            seen.insert(first),
            "two streams for `{purpose}` began alike"
        );
    }
}

pub(super) async fn numbers_stay_below_their_bound_and_reach_it(env: &Env, _dir: &Path) {
    let mut rng = env.entropy.stream("dice");
    let seen: BTreeSet<u64> = (0..1000).map(|_| rng.below(6)).collect();
    assert_eq!(seen, (0..6).collect(), "1000 throws of one die");
    assert_eq!(rng.below(0), 0);
    assert_eq!(rng.below(1), 0);
}
