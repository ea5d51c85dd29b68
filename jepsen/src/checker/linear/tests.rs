//! What the search must find, by hand and against every order there is.

use proptest::prelude::*;

use super::model::{Register, RegisterOperation};
use super::{Budget, Call, Model, Outcome, explain, search};

type Op = RegisterOperation<u8>;

const REGISTER: Register<u8> = Register { initial: 0 };

fn call(id: u64, invoked: u64, returned: impl Into<Option<u64>>, operation: Op) -> Call<Op> {
    Call {
        id,
        invoked,
        returned: returned.into(),
        operation,
    }
}

fn swap(expected: u8, new: u8, done: bool) -> Op {
    Op::CompareAndSet {
        expected,
        new,
        done,
    }
}

fn found(calls: &[Call<Op>]) -> Outcome {
    search(&REGISTER, calls, Budget::default())
}

#[test]
fn an_order_that_agrees_with_time_is_found() {
    use RegisterOperation::{Read, Write};
    let accepted: &[(&str, Vec<Call<Op>>)] = &[
        ("nothing", vec![]),
        (
            "one after another",
            vec![call(1, 0, 1, Write(1)), call(2, 2, 3, Read(1))],
        ),
        (
            "a read beside a write shows either",
            vec![
                call(1, 0, 9, Write(1)),
                call(2, 1, 2, Read(0)),
                call(3, 3, 4, Read(1)),
            ],
        ),
        (
            "who wrote at one time may be in any order",
            vec![
                call(1, 0, 5, Write(1)),
                call(2, 0, 5, Write(2)),
                call(3, 6, 7, Read(1)),
            ],
        ),
        (
            "a write of unknown end may come late",
            vec![
                call(1, 0, None, Write(1)),
                call(2, 1, 2, Read(0)),
                call(3, 9, 10, Read(1)),
            ],
        ),
        (
            "or never",
            vec![call(1, 0, None, Write(1)), call(2, 9, 10, Read(0))],
        ),
        (
            "a swap of one value works once",
            vec![
                call(1, 0, 9, swap(0, 1, true)),
                call(2, 0, 9, swap(0, 2, false)),
                call(3, 10, 11, Read(1)),
            ],
        ),
    ];
    for (what, calls) in accepted {
        assert!(matches!(found(calls), Outcome::Linearizable(_)), "{what}");
    }
}

#[test]
fn what_no_order_explains_is_violated() {
    use RegisterOperation::{Read, Write};
    let rejected: &[(&str, Vec<Call<Op>>)] = &[
        ("a value from nowhere", vec![call(1, 0, 1, Read(7))]),
        (
            "an old value after a new one was written",
            vec![call(1, 0, 1, Write(1)), call(2, 2, 3, Read(0))],
        ),
        (
            "an old value after a new one was read",
            vec![
                call(1, 0, 9, Write(1)),
                call(2, 1, 2, Read(1)),
                call(3, 3, 4, Read(0)),
            ],
        ),
        (
            "a value before it was written",
            vec![call(1, 0, 1, Read(1)), call(2, 2, 3, Write(1))],
        ),
        (
            "a write of unknown end, twice",
            vec![
                call(1, 0, None, Write(1)),
                call(2, 1, 2, Read(1)),
                call(3, 3, 4, Write(2)),
                call(4, 5, 6, Read(1)),
            ],
        ),
        (
            "two swaps of one value",
            vec![
                call(1, 0, 9, swap(0, 1, true)),
                call(2, 0, 9, swap(0, 2, true)),
            ],
        ),
    ];
    for (what, calls) in rejected {
        assert!(found(calls).is_violated(), "{what}");
    }
}

#[test]
fn what_is_not_decided_within_the_budget_is_unknown() {
    // Nobody wrote 99, which only shows after every order of the others.
    let mut calls: Vec<Call<Op>> = (0..14_u8)
        .map(|n| call(u64::from(n), 0, 100, Op::Write(n)))
        .collect();
    calls.push(call(50, 0, 100, Op::Read(99)));
    let budget = |steps, bytes| Budget { steps, bytes };
    let with = |budget| search(&REGISTER, &calls, budget);
    assert_eq!(with(budget(1_000, usize::MAX)), Outcome::Unknown);
    assert_eq!(with(budget(u64::MAX, 10_000)), Outcome::Unknown);
    assert!(with(budget(u64::MAX, usize::MAX)).is_violated());
}

#[test]
fn the_operations_that_cannot_be_are_named_and_no_others() {
    use RegisterOperation::{Read, Write};
    let mut calls = vec![
        call(101, 1000, 1001, Write(1)),
        call(102, 1002, 1003, Write(2)),
        call(103, 1004, 1005, Read(1)),
    ];
    for n in 0..50 {
        let value = u8::try_from(100 + n).expect("small");
        let time = |at: u64| 10 * n + at;
        calls.push(call(n, time(0), time(8), Write(value)));
        calls.push(call(200 + n, 2000 + time(0), 2000 + time(8), Write(value)));
    }
    let Outcome::Violated(stuck) = found(&calls) else {
        panic!("it is wrong");
    };
    assert_eq!(stuck.horizon, 1005, "nothing later is to blame");
    let named = explain(&REGISTER, &calls, &stuck, Budget::default());
    assert_eq!(named, [101, 102, 103]);
}

#[test]
fn many_writes_of_unknown_end_do_not_make_it_slow() {
    let mut calls = Vec::new();
    for n in 0..60 {
        calls.push(call(
            n,
            n,
            None,
            Op::Write(1 + u8::try_from(n % 3).expect("small")),
        ));
    }
    for n in 0..400_u64 {
        let value = u8::try_from(n % 5).expect("small") + 10;
        let time = 100 + 4 * n;
        calls.push(call(1000 + 2 * n, time, time + 1, Op::Write(value)));
        calls.push(call(1001 + 2 * n, time + 2, time + 3, Op::Read(value)));
    }
    assert!(matches!(found(&calls), Outcome::Linearizable(_)));
    calls.push(call(5000, 9000, 9001, Op::Read(10)));
    assert!(found(&calls).is_violated());
}

/// Whether there is an order, by trying all.
fn by_force(calls: &[Call<Op>], state: u8, taken: u32) -> bool {
    let left = |at: &usize| taken & (1 << at) == 0;
    let certain = (0..calls.len()).filter(left);
    let deadline = certain.filter_map(|at| calls[at].returned).min();
    let Some(deadline) = deadline else {
        return true;
    };
    (0..calls.len()).filter(left).any(|at| {
        calls[at].invoked <= deadline
            && REGISTER
                .step(&state, &calls[at].operation)
                .is_some_and(|next| by_force(calls, next, taken | (1 << at)))
    })
}

fn operations() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..3_u8).prop_map(Op::Read),
        2 => (0..3_u8).prop_map(Op::Write),
        1 => (0..3_u8, 0..3_u8, any::<bool>()).prop_map(|(old, new, done)| swap(old, new, done)),
    ]
}

/// An operation, when it is asked for, and how long it takes, if its end is known.
fn drawn() -> impl Strategy<Value = (Op, u64, Option<u64>)> {
    (
        operations(),
        0..12_u64,
        prop::option::weighted(0.75, 0..6_u64),
    )
}

prop_compose! {
    fn histories()(
        parts in prop::collection::vec(drawn(), 0..8)
    ) -> Vec<Call<Op>> {
        let numbered = parts.into_iter().enumerate();
        numbered
            .map(|(id, (operation, invoked, took))| {
                call(id as u64, invoked, took.map(|took| invoked + took), operation)
            })
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_search_finds_what_trying_all_orders_finds(calls in histories()) {
        let outcome = found(&calls);
        prop_assert_eq!(matches!(outcome, Outcome::Linearizable(_)), by_force(&calls, 0, 0));
        if let Outcome::Linearizable(order) = &outcome {
            is_an_order(&calls, order)?;
        }
        if let Outcome::Violated(stuck) = &outcome {
            let named = explain(&REGISTER, &calls, stuck, Budget::default());
            prop_assert!(!named.is_empty());
            let relaxed: Vec<Call<Op>> = calls
                .iter()
                .map(|one| Call {
                    returned: one.returned.filter(|_| named.contains(&one.id)),
                    ..one.clone()
                })
                .collect();
            prop_assert!(!by_force(&relaxed, 0, 0), "what is named is not wrong: {:?}", named);
        }
    }
}

/// Checks an order that was found, without the search.
fn is_an_order(calls: &[Call<Op>], order: &[u64]) -> Result<(), TestCaseError> {
    let mut state = REGISTER.initial();
    let mut latest = 0;
    for id in order {
        let one = &calls[usize::try_from(*id).expect("an index")];
        let next = REGISTER.step(&state, &one.operation);
        prop_assert!(next.is_some());
        state = next.unwrap_or_default();
        prop_assert!(one.returned.is_none_or(|returned| returned >= latest));
        latest = latest.max(one.invoked);
    }
    let certain = calls.iter().filter(|one| one.returned.is_some());
    for one in certain {
        let times = order.iter().filter(|id| **id == one.id).count();
        prop_assert_eq!(times, 1);
    }
    Ok(())
}
