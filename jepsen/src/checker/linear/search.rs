//! The search for an order.
//!
//! Calls that are known to have happened are *certain*, the others *possible*. A [`Frame`] is a
//! choice of the next certain call; before it, any possible calls may be taken, fewest first.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::{Budget, Call, Model, Outcome, Stuck};

/// No place in a list.
const NONE: usize = usize::MAX;

/// Bytes of an entry of a hash map beside what is in it, roughly.
const ENTRY_BYTES: usize = 64;

type Hashed<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// Looks for an order of `calls`, which may be given in any, that `model` can go through.
pub fn search<M: Model>(model: &M, calls: &[Call<M::Operation>], budget: Budget) -> Outcome {
    let mut search = Search::new(model, calls, budget);
    loop {
        if search.left.count == 0 {
            return Outcome::Linearizable(search.order());
        }
        if search.steps > budget.steps || search.bytes > budget.bytes {
            return Outcome::Unknown;
        }
        if search.frames.is_empty() {
            return Outcome::Violated(search.stuck());
        }
        search.advance();
    }
}

/// Certain calls that are not taken yet, in the order of their invocations: a list from which any
/// can be taken out and put back in reverse order.
struct Left {
    next: Vec<usize>,
    previous: Vec<usize>,
    count: usize,
}

impl Left {
    /// Place 0 is the list's head: call `n` is at place `n + 1`.
    fn new(count: usize) -> Self {
        Self {
            next: (1..=count).chain([NONE]).collect(),
            previous: [NONE].into_iter().chain(0..count).collect(),
            count,
        }
    }

    fn after(&self, place: usize) -> Option<usize> {
        Some(self.next[place]).filter(|next| *next != NONE)
    }

    fn take(&mut self, place: usize) {
        let (previous, next) = (self.previous[place], self.next[place]);
        self.next[previous] = next;
        if next != NONE {
            self.previous[next] = previous;
        }
        self.count -= 1;
    }

    fn put_back(&mut self, place: usize) {
        let (previous, next) = (self.previous[place], self.next[place]);
        self.next[previous] = place;
        if next != NONE {
            self.previous[next] = place;
        }
        self.count += 1;
    }
}

/// Which possible calls were taken.
type Taken = Box<[u64]>;

fn is_taken(taken: &[u64], at: usize) -> bool {
    taken[at / 64] & (1 << (at % 64)) != 0
}

fn is_within(one: &[u64], other: &[u64]) -> bool {
    one.iter().zip(other).all(|(one, other)| one & !other == 0)
}

/// A way to stand at a frame.
struct Variant<S> {
    state: S,
    taken: Taken,
    /// The possible calls that were taken since the frame was opened, in order.
    since: Vec<usize>,
}

/// The certain calls taken so far, and every way to have gone on by possible calls only.
struct Frame<S> {
    /// Where its candidates begin in [`Search::candidates`].
    begin: usize,
    /// How many of the possible calls have been invoked in time.
    possible: usize,
    variants: Vec<Variant<S>>,
    /// The variant and the candidate that are tried next.
    variant: usize,
    candidate: usize,
    /// The place of the candidate that is taken.
    taken: Option<usize>,
}

struct Search<'a, M: Model> {
    model: &'a M,
    /// By invocation, both.
    certain: Vec<&'a Call<M::Operation>>,
    possible: Vec<&'a Call<M::Operation>>,
    /// For each possible call the one before that asks for the same. It is as good, so it is taken
    /// first.
    twin: Vec<Option<usize>>,
    left: Left,
    /// A hash of the certain calls that were taken.
    taken: u128,
    frames: Vec<Frame<M::State>>,
    /// Places of certain calls that may come next, frame after frame.
    candidates: Vec<usize>,
    /// Where it has been, and with which possible calls taken: the smallest sets.
    been: Hashed<(u128, M::State), Vec<Taken>>,
    bytes: usize,
    steps: u64,
    /// A longest order so far, and what the object was like after it.
    best: (Vec<u64>, String),
    /// How many certain calls it has, plus one.
    best_count: usize,
    /// No order takes in all that returned up to then.
    horizon: u64,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, calls: &'a [Call<M::Operation>], budget: Budget) -> Self {
        let sorted = |is_certain: bool| {
            let fitting = |call: &&Call<M::Operation>| call.returned.is_some() == is_certain;
            let mut sorted: Vec<_> = calls.iter().filter(fitting).collect();
            sorted.sort_by_key(|call| (call.invoked, call.returned, call.id));
            sorted
        };
        let (certain, possible) = (sorted(true), sorted(false));
        let mut latest: Hashed<&M::Operation, usize> = Hashed::default();
        let numbered = possible.iter().enumerate();
        let twin = numbered.map(|(at, call)| latest.insert(&call.operation, at));
        let twin = twin.collect();
        let mut search = Self {
            model,
            twin,
            left: Left::new(certain.len()),
            taken: 0,
            frames: Vec::new(),
            candidates: Vec::new(),
            been: Hashed::default(),
            bytes: 0,
            steps: 0,
            best: (Vec::new(), String::new()),
            best_count: 0,
            horizon: 0,
            certain,
            possible,
        };
        let none = vec![0; search.possible.len().div_ceil(64)].into();
        if budget.steps > 0 {
            search.arrive(model.initial(), none);
        }
        search
    }

    /// Opens a frame: all that may come next.
    fn arrive(&mut self, state: M::State, taken: Taken) {
        let begin = self.candidates.len();
        let mut horizon = u64::MAX;
        let mut place = 0;
        while let Some(next) = self.left.after(place) {
            let call = self.certain[next - 1];
            if call.invoked > horizon {
                break;
            }
            horizon = horizon.min(call.returned.unwrap_or(u64::MAX));
            self.candidates.push(next);
            place = next;
        }
        if self.left.count > 0 {
            self.horizon = self.horizon.max(horizon);
        }
        // What returns first is most likely to be first.
        let certain = &self.certain;
        self.candidates[begin..].sort_by_key(|place| certain[place - 1].returned);
        let possible = self
            .possible
            .partition_point(|call| call.invoked <= horizon);
        let here = Variant {
            state,
            taken,
            since: Vec::new(),
        };
        self.frames.push(Frame {
            begin,
            possible,
            variants: vec![here],
            variant: 0,
            candidate: begin,
            taken: None,
        });
    }

    /// Ids in the order of the steps taken.
    fn order(&self) -> Vec<u64> {
        let mut order = Vec::new();
        for frame in &self.frames {
            let Some(taken) = frame.taken else { continue };
            let since = &frame.variants[frame.variant].since;
            order.extend(since.iter().map(|at| self.possible[*at].id));
            order.push(self.certain[taken - 1].id);
        }
        order
    }

    /// Tries one step from the last frame, or leaves it.
    fn advance(&mut self) {
        let Some(frame) = self.frames.last_mut() else {
            return;
        };
        let Some(variant) = frame.variants.get(frame.variant) else {
            self.leave();
            return;
        };
        let Some(place) = self.candidates.get(frame.candidate).copied() else {
            self.widen();
            return;
        };
        frame.candidate += 1;
        self.steps += 1;
        let operation = &self.certain[place - 1].operation;
        let Some(state) = self.model.step(&variant.state, operation) else {
            return;
        };
        if state == variant.state && self.model.is_read(operation) {
            // Nothing is lost by taking it here: nothing else need be tried instead.
            frame.candidate = NONE;
        }
        let set = variant.taken.clone();
        let taken = self.taken ^ mark(place);
        if self.is_new(taken, &state, &set) {
            self.take(place);
            self.arrive(state, set);
        }
    }

    /// Adds what possible calls make of the last frame's variant, and goes on to the next.
    fn widen(&mut self) {
        let Some(mut frame) = self.frames.pop() else {
            return;
        };
        let is_closed = frame.candidate == NONE;
        let open = if is_closed { 0 } else { frame.possible };
        for at in 0..open {
            let variant = &frame.variants[frame.variant];
            let is_next = self.twin[at].is_none_or(|twin| is_taken(&variant.taken, twin));
            if is_taken(&variant.taken, at) || !is_next {
                continue;
            }
            self.steps += 1;
            let operation = &self.possible[at].operation;
            let Some(state) = self.model.step(&variant.state, operation) else {
                continue;
            };
            let mut taken = variant.taken.clone();
            taken[at / 64] |= 1 << (at % 64);
            // One that changes nothing now may be needed later.
            if state != variant.state && self.is_new(self.taken, &state, &taken) {
                let since = [&variant.since[..], &[at]].concat();
                frame.variants.push(Variant {
                    state,
                    taken,
                    since,
                });
            }
        }
        // Only where it leads is needed of it, and that is done.
        frame.variant += 1;
        frame.candidate = frame.begin;
        self.frames.push(frame);
    }

    /// Goes back by one frame: nothing fits after it.
    fn leave(&mut self) {
        let count = self.certain.len() - self.left.count + 1;
        let Some(left) = self.frames.pop() else {
            return;
        };
        self.candidates.truncate(left.begin);
        if count > self.best_count {
            self.best_count = count;
            self.best = (self.order(), format!("{:?}", left.variants[0].state));
        }
        if let Some(place) = self.frames.last_mut().and_then(|last| last.taken.take()) {
            self.left.put_back(place);
            self.taken ^= mark(place);
        }
    }

    fn take(&mut self, place: usize) {
        if let Some(last) = self.frames.last_mut() {
            last.taken = Some(place);
        }
        self.left.take(place);
        self.taken ^= mark(place);
    }

    fn stuck(&mut self) -> Stuck {
        let (order, state) = std::mem::take(&mut self.best);
        Stuck {
            order,
            state,
            horizon: self.horizon,
        }
    }

    /// Whether the search was not there before, nor anywhere from which more can be reached.
    fn is_new(&mut self, certain: u128, state: &M::State, possible: &Taken) -> bool {
        let mut added = 0;
        let sets = self.been.entry((certain, state.clone()));
        let sets = sets.or_insert_with(|| {
            added = ENTRY_BYTES + size_of::<(u128, M::State)>() + self.model.bytes(state);
            Vec::new()
        });
        if sets.iter().any(|set| is_within(set, possible)) {
            return false;
        }
        sets.retain(|set| !is_within(possible, set));
        sets.push(possible.clone());
        self.bytes += added + size_of::<Taken>() + size_of_val(&**possible);
        true
    }
}

/// A number for a place; the sum of those in a set stands for the set. Two sets with one sum are
/// as likely as two equal draws from 2^128.
fn mark(place: usize) -> u128 {
    let mix = |seed: u64| {
        let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let place = place as u64;
    (u128::from(mix(2 * place)) << 64) | u128::from(mix(2 * place + 1))
}
