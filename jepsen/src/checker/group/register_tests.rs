//! The rule of clusters against a search of all orders.

use proptest::prelude::*;

use super::register::{Cluster, Span, conflicts};

/// One operation of a small register: it reads or writes `value`; 0 is the first value.
#[derive(Debug, Clone, Copy)]
struct Operation {
    is_write: bool,
    value: usize,
    span: Span,
}

/// Whether some order that agrees with time makes every read give the last write.
fn has_order(operations: &[Operation]) -> bool {
    fn search(operations: &[Operation], done: u32, value: usize) -> bool {
        if done.count_ones() as usize == operations.len() {
            return true;
        }
        let left = |at: &usize| done & (1 << at) == 0;
        let places = (0..operations.len()).filter(left);
        let earliest = places.clone().map(|at| operations[at].span.returned).min();
        places
            .filter(|at| Some(operations[*at].span.invoked) <= earliest)
            .any(|at| {
                let next = operations[at];
                let fits = next.is_write || next.value == value;
                fits && search(operations, done | (1 << at), next.value)
            })
    }
    search(operations, 0, 0)
}

/// The same as clusters, the first value being one.
fn clusters(operations: &[Operation]) -> Vec<Cluster> {
    let first = Span {
        op: 0,
        invoked: 0,
        returned: 0,
    };
    let writes = operations.iter().filter(|one| one.is_write);
    let writes = std::iter::once((0, first)).chain(writes.map(|one| (one.value, one.span)));
    let clusters = writes.map(|(value, write)| Cluster {
        write,
        reads: operations
            .iter()
            .filter(|one| !one.is_write && one.value == value)
            .map(|one| one.span)
            .collect(),
    });
    // A write that may never have happened and that nobody read is left out.
    clusters
        .filter(|one| one.write.returned < u64::MAX || !one.reads.is_empty())
        .collect()
}

/// Up to seven operations with spans in a small range; each write has a value of its own.
fn any_history() -> impl Strategy<Value = Vec<Operation>> {
    let one = (any::<bool>(), 0_usize..8, 1_u64..30, 0_u64..12, 0_u8..8);
    proptest::collection::vec(one, 1..=7).prop_map(|drawn| {
        let writes = drawn.iter().filter(|one| one.0).count();
        let mut value = 0;
        let mut all = Vec::new();
        for (op, (is_write, of, invoked, length, ends)) in (1..).zip(drawn) {
            value += usize::from(is_write);
            let is_lost = is_write && ends == 0;
            let returned = if is_lost { u64::MAX } else { invoked + length };
            all.push(Operation {
                is_write,
                value: if is_write { value } else { of % (writes + 1) },
                span: Span {
                    op,
                    invoked,
                    returned,
                },
            });
        }
        all
    })
}

/// A history that a real register gave: each operation takes effect at a time within its span.
fn good_history() -> impl Strategy<Value = Vec<Operation>> {
    let one = (any::<bool>(), 0_u64..10, 0_u64..10, 0_u8..6);
    proptest::collection::vec(one, 1..40).prop_map(|drawn| {
        let (mut value, mut written) = (0, 0);
        let mut all = Vec::new();
        for (op, (is_write, before, after, ends)) in (1..).zip(drawn) {
            let at = 12 + op * 3;
            if is_write {
                written += 1;
                value = written;
            }
            let is_lost = is_write && ends == 0;
            all.push(Operation {
                is_write,
                value,
                span: Span {
                    op,
                    invoked: at - before,
                    returned: if is_lost { u64::MAX } else { at + after },
                },
            });
        }
        all
    })
}

/// Without writes of unknown end that nobody read, which an order may leave out.
fn certain(operations: &[Operation]) -> Vec<Operation> {
    let is_read = |value| {
        operations
            .iter()
            .any(|one| !one.is_write && one.value == value)
    };
    let stays =
        |one: &&Operation| !one.is_write || one.span.returned < u64::MAX || is_read(one.value);
    operations.iter().filter(stays).copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn clusters_conflict_exactly_if_no_order_exists(operations in any_history()) {
        let has_order = has_order(&certain(&operations));
        prop_assert_eq!(conflicts(&clusters(&operations)).is_empty(), has_order);
    }

    #[test]
    fn what_a_register_did_is_accepted(operations in good_history()) {
        prop_assert_eq!(conflicts(&clusters(&operations)), Vec::new());
    }

    #[test]
    fn a_read_of_an_overwritten_value_is_rejected(
        operations in good_history(),
        stale in any::<prop::sample::Index>(),
    ) {
        let acked: Vec<_> = operations
            .iter()
            .filter(|one| one.is_write && one.span.returned < u64::MAX)
            .copied()
            .collect();
        // A value whose write returned before another acknowledged one was invoked.
        let is_old = |one: &&Operation| acked.iter().any(|other| {
            one.span.returned < other.span.invoked
        });
        let old: Vec<_> = acked.iter().filter(is_old).collect();
        prop_assume!(!old.is_empty());
        let value = stale.get(&old).value;
        let mut mutated = operations.clone();
        mutated.push(Operation {
            is_write: false,
            value,
            span: Span { op: 1000, invoked: 1000, returned: 1001 },
        });
        prop_assert!(!conflicts(&clusters(&mutated)).is_empty());
    }
}
