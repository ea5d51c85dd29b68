//! What the broker tells of its inside while it runs under simulation.
//!
//! Production code emits trace events that nobody listens to in production: `klamm::probe`, by
//! name, where something rare happens, `klamm::log_state` when the offsets of a log change, and
//! `klamm::replica` and `klamm::metadata` when what nodes believe of each other does. [`install`]
//! listens on this thread: probes are counted, log states become [`Note::Log`] of the history, the
//! [`Watch`] hears of them and of the rest, and what the broker logs as a warning or an error goes
//! to the trace. Everything else is refused at its call site and costs a load.
//!
//! The process of a note or of a line of the trace is the simulated node whose task emitted it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use klamm_jepsen::history::{LogState, Note, Partition};
use madsim::runtime::Handle;
use madsim::task::NodeId;
use madsim::time::TimeHandle;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::record::Recorder;
use crate::trace::Trace;
use crate::watch::{Fields, Source, Watch};

const PROBE: &str = "klamm::probe";
const LOG_STATE: &str = "klamm::log_state";
const REPLICA: &str = "klamm::replica";
const METADATA: &str = "klamm::metadata";

/// Every name that production code gives to a probe, in order.
pub const NAMES: &[&str] = &[
    "append-refused-closing",
    "append-refused-offline",
    "broker-fenced",
    "broker-registered-again",
    "broker-shutting-down",
    "broker-unfenced",
    "carried-offset-refused",
    "clean-start",
    "commit-refused",
    "committed-offset-withheld",
    "compaction-dropped",
    "compaction-finished-at-start",
    "compaction-map-full",
    "compaction-swapped",
    "connection-refused",
    "consumer-sent-to-its-rack",
    "controller-asked-again",
    "controller-failed",
    "coordinator-asked-while-loading",
    "coordinator-loaded-state",
    "coordinator-moved-away",
    "coordinator-reloaded",
    "damaged-log-set-aside",
    "dead-broker-fenced",
    "delayed-sync-failed",
    "delete-records-moved-start",
    "delete-records-timed-out",
    "deposed-amid-an-answer",
    "disk-full-append",
    "doomed-log-let-go",
    "duplicate-answered",
    "elected-last-known",
    "elected-uncleanly",
    "epochs-corrected-at-start",
    "fall-back-removed-segment",
    "fetch-session-evicted",
    "fetch-session-mismatch",
    "fetch-session-unknown",
    "fetch-wait-expired",
    "fetch-woken",
    "final-slot-rewritten",
    "flush-beside-appends-failed",
    "follower-behind-log-start",
    "follower-restarted-at-log-start",
    "follower-truncated",
    "foreign-log-copied-anew",
    "group-rebalanced",
    "hosted-register-damaged",
    "identity-damaged",
    "idle-connection-closed",
    "index-rebuilt",
    "index-rebuilt-at-start",
    "instance-fenced",
    "isr-proposal-refused",
    "isr-proposed",
    "join-answered-again",
    "late-fetch-answer-dropped",
    "leader-resigned",
    "leader-suspected",
    "leader-to-be-waited-for",
    "leadership-given-up",
    "leftover-removed",
    "log-closed-while-appending",
    "log-fell-back",
    "log-flushed-beside-appends",
    "log-offline",
    "log-opened-clean",
    "log-restart-finished-at-start",
    "log-scanned-at-start",
    "lost-log-copied-anew",
    "member-expired",
    "metadata-disk-full",
    "metadata-snapshot-loaded",
    "metadata-snapshot-written",
    "metadata-tail-cut",
    "metadata-tail-made-anew",
    "mirror-fetch-failed",
    "offset-expired",
    "offset-not-available",
    "oversized-request-refused",
    "partition-offline",
    "produce-timed-out",
    "producer-epoch-refused",
    "producer-expired",
    "producer-snapshot-beyond-end",
    "producer-snapshot-skipped",
    "producer-snapshot-used",
    "raft-leader-suspected",
    "raft-log-rewritten",
    "raft-log-truncated",
    "raft-snapshot-installed",
    "raft-snapshot-loaded",
    "raft-snapshot-written",
    "raft-tail-cut",
    "raft-tail-made-anew",
    "read-as-it-is-sent",
    "read-failed-amid-an-answer",
    "read-in-pieces",
    "read-met-corruption",
    "recovery-point-beyond-slot",
    "recovery-point-damaged",
    "recovery-point-of-another-segment",
    "recovery-point-removed",
    "recovery-point-saved",
    "recovery-point-used",
    "replica-fetch-failed",
    "replica-fetch-overtaken",
    "replica-taken-away",
    "retention-removed-segment",
    "retention-rolled",
    "roll-undone",
    "segment-rolled",
    "sequence-refused",
    "start-refused",
    "static-member-replaced",
    "static-members-awaited",
    "stray-log-set-aside",
    "tail-rewrite-finished-at-start",
    "tombstone-dropped",
    "torn-tail-cut",
    "unclean-stop",
    "unfinished-deletion-finished",
    "unfinished-log-created",
    "unfinished-segment-remade",
    "unusable-log-copied-anew",
];

thread_local! {
    /// Names of the nodes of this thread's world.
    static NODES: RefCell<BTreeMap<NodeId, String>> = const { RefCell::new(BTreeMap::new()) };
}

/// Says what the node `id` is called.
pub(crate) fn name_node(id: NodeId, name: &str) {
    NODES.with_borrow_mut(|nodes| nodes.insert(id, name.to_owned()));
}

/// The node whose task runs now; empty outside of all.
fn current_node() -> String {
    if Handle::try_current().is_err() {
        return String::new();
    }
    let id = madsim::plugin::node();
    NODES.with_borrow(|nodes| nodes.get(&id).cloned().unwrap_or_default())
}

/// Listens on this thread until it is dropped.
#[must_use = "listening ends with it"]
pub struct Probes {
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
    _listening: DefaultGuard,
}

impl Probes {
    /// How often each probe was met, by name; those never met are left out.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        locked(&self.counts).clone()
    }
}

/// The most verbose level of lines that also go to standard error; none if never set.
static SHOWN: OnceLock<Level> = OnceLock::new();

/// From the next [`install`] on, what nodes log at `level` and above also goes to standard error.
pub fn show_logs(level: Level) {
    // Only the first word counts: a process shows one run.
    let _ = SHOWN.set(level);
}

/// Begins to listen on this thread, in place of whoever listened: log states go to `recorder`,
/// warnings and errors to `trace`.
pub fn install(recorder: Recorder, trace: Trace) -> Probes {
    listen(
        trace,
        Told {
            otherwise: Some((recorder, Watch::default())),
            ..Told::default()
        },
    )
}

/// As [`install`], with whom to tell what each node tells, by its name: who writes the history of
/// its cluster, and who judges.
pub fn install_for(nodes: BTreeMap<String, (Recorder, Watch)>, trace: Trace) -> Probes {
    listen(
        trace,
        Told {
            nodes,
            otherwise: None,
        },
    )
}

/// Who is told.
#[derive(Default)]
struct Told {
    nodes: BTreeMap<String, (Recorder, Watch)>,
    /// Of nodes that have no names.
    otherwise: Option<(Recorder, Watch)>,
}

impl Told {
    fn of(&self, node: &str) -> Option<&(Recorder, Watch)> {
        self.nodes.get(node).or(self.otherwise.as_ref())
    }
}

fn listen(trace: Trace, told: Told) -> Probes {
    let counts = Arc::default();
    let listener = Listener {
        counts: Arc::clone(&counts),
        trace,
        told,
    };
    let heard = listener.with_filter(filter_fn(is_heard));
    let listeners = tracing_subscriber::registry().with(heard);
    // Spans are only kept where they are shown: every poll of a task enters one.
    let listening = match SHOWN.get() {
        None => tracing::subscriber::set_default(listeners),
        Some(level) => {
            let shown = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(false)
                .with_timer(SimulatedTime)
                .with_filter(filter_fn(|of| {
                    // Of the executor only the spans, which name the node.
                    of.is_span() || (*of.level() <= *level && is_ours(of.target()))
                }));
            tracing::subscriber::set_default(listeners.with(shown))
        }
    };
    Probes {
        counts,
        _listening: listening,
    }
}

/// Nanoseconds since the run began, as in the trace.
struct SimulatedTime;

impl FormatTime for SimulatedTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let time = TimeHandle::try_current().map_or(0, |time| time.elapsed().as_nanos());
        write!(writer, "{time}")
    }
}

fn is_ours(target: &str) -> bool {
    target
        .strip_prefix("klamm")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Also asked by production code itself, before it makes an event that costs something.
fn is_heard(of: &Metadata<'_>) -> bool {
    let target = of.target();
    !of.is_span()
        && (target == PROBE
            || target == LOG_STATE
            || target == REPLICA
            || target == METADATA
            || (*of.level() <= Level::WARN && is_ours(target)))
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Listener {
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
    trace: Trace,
    told: Told,
}

impl Listener {
    fn hear(&self, source: Source, event: &Event<'_>) {
        let node = current_node();
        let Some((_, watch)) = self.told.of(&node).filter(|(_, watch)| watch.is_on()) else {
            return;
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (name, rest) = (fields.name(), fields.without(&["name"]));
        self.trace
            .event(&node, format_args!("{source:?} {name}{rest}"));
        watch.hear(&node, source, &fields);
    }
}

impl<S: Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        match event.metadata().target() {
            PROBE => {
                let mut name = Name::default();
                event.record(&mut name);
                let mut counts = locked(&self.counts);
                match counts.get_mut(&name.0) {
                    Some(count) => *count += 1,
                    None => {
                        counts.insert(name.0, 1);
                    }
                }
            }
            LOG_STATE => {
                let mut fields = StateFields::default();
                event.record(&mut fields);
                let (node, note) = (current_node(), fields.note());
                let Some((recorder, watch)) = self.told.of(&node) else {
                    return;
                };
                if let Note::Log { of, state } = &note {
                    watch.log(&node, of, state);
                }
                recorder.note(&node, note);
            }
            REPLICA => self.hear(Source::Replica, event),
            METADATA => self.hear(Source::Metadata, event),
            _ => {
                let mut line = Line(format!("log {}", event.metadata().level()));
                event.record(&mut line);
                self.trace
                    .event(&current_node(), format_args!("{}", line.0));
            }
        }
    }
}

/// A probe's name.
#[derive(Default)]
struct Name(String);

impl Visit for Name {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "name" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

#[derive(Default)]
struct StateFields {
    topic: String,
    numbers: BTreeMap<&'static str, i64>,
}

impl StateFields {
    fn note(self) -> Note {
        let number = |name| self.numbers.get(name).copied().unwrap_or(-1);
        let small = |name| i32::try_from(number(name)).unwrap_or(-1);
        let state = LogState {
            start: number("start"),
            high_watermark: number("high_watermark"),
            end: number("end"),
            recovery_point: number("recovery_point"),
            leader_epoch: small("leader_epoch"),
        };
        let of = Partition {
            partition: small("partition"),
            topic: self.topic,
        };
        Note::Log { of, state }
    }
}

impl Visit for StateFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "topic" {
            value.clone_into(&mut self.topic);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.numbers.insert(field.name(), value);
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// A log line with its fields, as the trace has it.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests;
