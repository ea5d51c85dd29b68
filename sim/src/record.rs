//! Where clients and the run itself write the history.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use klamm_jepsen::history::{Answer, Attempt, Call, Event, Note, What, of_cluster, outcome};

use crate::clock::elapsed;
use crate::trace::Trace;

/// The history of a run while it is written. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    state: Arc<Mutex<State>>,
    trace: Trace,
    /// Whose history this is: the first of several clusters has no name.
    cluster: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Event>,
    last_op: u64,
    last_id: u64,
}

impl Recorder {
    /// A history whose events also go to `trace`.
    #[must_use]
    pub fn new(trace: Trace) -> Self {
        Self {
            state: Arc::default(),
            trace,
            cluster: None,
        }
    }

    /// The same history, where what is written is of `cluster`.
    #[must_use]
    pub fn of_cluster(&self, cluster: Option<&str>) -> Self {
        Self {
            cluster: cluster.map(str::to_owned),
            ..self.clone()
        }
    }

    /// An id that no other record of the history has.
    #[must_use]
    pub fn next_id(&self) -> u64 {
        let mut state = self.state();
        state.last_id += 1;
        state.last_id
    }

    /// `process` asks for `call` now. The number names the operation when it ends.
    pub fn invoke(&self, process: &str, call: Call) -> u64 {
        let op = {
            let mut state = self.state();
            state.last_op += 1;
            state.last_op
        };
        self.push(process, What::Invoke { op, call });
        op
    }

    pub fn ok(&self, process: &str, op: u64, answer: Answer) {
        self.push(process, What::Ok { op, answer });
    }

    /// The operation did not work: `fail` when every attempt proves that nothing happened, by the
    /// rules of [`outcome`], else `info`.
    pub fn not_ok(&self, process: &str, op: u64, is_send: bool, attempts: Vec<Attempt>) {
        let class = if is_send {
            outcome::of_send
        } else {
            outcome::of_other
        };
        let failed = !attempts.is_empty()
            && attempts
                .iter()
                .all(|attempt| class(&attempt.error) == outcome::Class::Fail);
        let what = if failed {
            What::Fail { op, attempts }
        } else {
            What::Info { op, attempts }
        };
        self.push(process, what);
    }

    /// Something that is no operation.
    pub fn note(&self, process: &str, note: Note) {
        self.push(process, What::Note { note });
    }

    /// Everything so far, of all clusters.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    /// Everything so far that is of this cluster.
    #[must_use]
    pub fn own_events(&self) -> Vec<Event> {
        let state = self.state();
        of_cluster(&state.events, self.cluster.as_deref())
            .cloned()
            .collect()
    }

    fn push(&self, process: &str, what: What) {
        self.trace.event(process, format_args!("{what:?}"));
        let time = u64::try_from(elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.state().events.push(Event {
            time,
            process: process.to_owned(),
            cluster: self.cluster.clone(),
            what,
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
