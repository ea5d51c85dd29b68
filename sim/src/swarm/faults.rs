//! What goes wrong.

use super::draw::Draw;
use crate::plan::{Fault, FileKind, LinkOptions, Plan, SyncFailure, Target, TimedFault};

/// The host of the broker.
pub(super) const SERVER: &str = crate::plan::SERVER;

/// A kind of fault that a seed turns on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Kill,
    Power,
    PowerInside,
    Stop,
    Pause,
    Cut,
    Stall,
    Reset,
    Slow,
    Refuse,
    Swizzle,
    FailSync,
    FailWrite,
    FailRead,
    Full,
    SlowDisk,
    StallDisk,
    Rot,
    Misdirect,
    StepClock,
    DriftClock,
}

use Class as C;

pub(super) const CRASHES: &[Class] = &[C::Kill, C::Power, C::PowerInside, C::Stop];
pub(super) const NETWORK: &[Class] = &[
    C::Cut,
    C::Stall,
    C::Reset,
    C::Slow,
    C::Refuse,
    C::Swizzle,
    C::Pause,
    C::Kill,
];
pub(super) const DISK: &[Class] = &[
    C::FailSync,
    C::FailWrite,
    C::FailRead,
    C::Full,
    C::SlowDisk,
    C::StallDisk,
    C::Power,
    C::Kill,
];
/// Damage, and ends of the process that make a start read what is damaged. A write that the disk
/// forgets is not among it: where it was a log's newest, nothing that one node keeps differs from
/// a log that never took it, so that no answer of the broker could be wrong. Plans that are
/// written by hand may hold one (`lose-write`).
pub(super) const DAMAGE: &[Class] = &[C::Rot, C::Misdirect, C::Kill, C::Power, C::Stop];
pub(super) const CRASHES_AND_NETWORK: &[Class] = &[
    C::Kill,
    C::Power,
    C::PowerInside,
    C::Stop,
    C::Pause,
    C::Cut,
    C::Reset,
    C::Stall,
];
pub(super) const CRASHES_AND_CLOCK: &[Class] = &[
    C::Kill,
    C::Power,
    C::PowerInside,
    C::Stop,
    C::StepClock,
    C::DriftClock,
    C::Full,
    C::FailSync,
];
/// Everything that loses nothing.
pub(super) const ALL: &[Class] = &[
    C::Kill,
    C::Power,
    C::PowerInside,
    C::Stop,
    C::Pause,
    C::Cut,
    C::Stall,
    C::Reset,
    C::Slow,
    C::Refuse,
    C::Swizzle,
    C::FailSync,
    C::FailWrite,
    C::FailRead,
    C::Full,
    C::SlowDisk,
    C::StallDisk,
    C::StepClock,
    C::DriftClock,
];

const KINDS: &[FileKind] = &[
    FileKind::Any,
    FileKind::Segment,
    FileKind::Segment,
    FileKind::Index,
    FileKind::Snapshot,
    FileKind::Metadata,
    FileKind::Checkpoint,
];

/// At most this far a clock is put off. A record that is more than an hour ahead of the broker is
/// refused (`message.timestamp.after.max.ms`), and rightly: nothing could be written any more.
const CLOCK_OFF_MAX_MS: i64 = 1_800_000;

/// At most this many faults of all kinds.
pub(super) const FAULTS_MAX: u64 = 12;

pub(super) fn draw(draw: &mut Draw, classes: &[Class], plan: &Plan) -> Vec<TimedFault> {
    let on: Vec<Class> = classes
        .iter()
        .copied()
        .filter(|_| draw.chance(40))
        .collect();
    let Some(first) = classes.first() else {
        return Vec::new();
    };
    let on = if on.is_empty() { vec![*first] } else { on };
    let count = draw.between(1, FAULTS_MAX);
    let mut faults: Vec<TimedFault> = (0..count)
        .map(|number| {
            let mut draw = draw.numbered("fault", number);
            let class = draw.one_of(&on);
            TimedFault {
                at_ms: draw.between(300, plan.length_ms - 500),
                fault: fault(&mut draw, class, plan),
            }
        })
        .collect();
    faults.sort_by_key(|fault| fault.at_ms);
    bound_steps(&mut faults);
    faults
}

/// Turns steps of the clock round that would add up to more than it may be off.
fn bound_steps(faults: &mut [TimedFault]) {
    let mut off_ms: i64 = 0;
    for timed in faults {
        if let Fault::StepClock { by_ms, .. } = &mut timed.fault {
            if (off_ms + *by_ms).abs() > CLOCK_OFF_MAX_MS {
                *by_ms = -*by_ms;
            }
            off_ms += *by_ms;
        }
    }
}

pub(super) fn fault(draw: &mut Draw, class: Class, plan: &Plan) -> Fault {
    let node = SERVER.to_owned();
    let down_ms = draw.one_of(&[0, 100, 1000, 3000]);
    let for_ms = draw.one_of(&[50, 500, 2000, 5000]);
    let kind = draw.one_of(KINDS);
    let count = draw.one_of(&[1, 1, 3]);
    match class {
        C::Kill => Fault::Kill { node, down_ms },
        C::Power => Fault::PowerLoss { node, down_ms },
        C::PowerInside => Fault::PowerLossAt {
            node,
            operation: draw.between(1, 60),
            down_ms,
        },
        C::Stop => Fault::Stop { node, down_ms },
        C::Pause => Fault::Pause { node, for_ms },
        C::Cut => Fault::Cut {
            link: link(draw, plan),
            for_ms: draw.one_of(&[300, 2000, 8000]),
        },
        C::Stall => Fault::Stall {
            link: link(draw, plan),
            for_ms,
        },
        C::Reset => Fault::Reset {
            link: link(draw, plan),
        },
        C::Slow => Fault::Slow {
            link: link(draw, plan),
            options: slow(draw),
            for_ms,
        },
        C::Refuse => Fault::Refuse { node, for_ms },
        C::Swizzle => Fault::Swizzle { node, for_ms },
        C::FailSync => Fault::FailSync {
            node,
            kind,
            count,
            how: draw.one_of(&[SyncFailure::KeepInCache, SyncFailure::Revert]),
        },
        C::FailWrite => Fault::FailWrite { node, kind, count },
        C::FailRead => Fault::FailRead { node, kind, count },
        C::Full => Fault::Full { node, for_ms },
        C::SlowDisk => Fault::SlowDisk {
            node,
            latency_max_ms: draw.one_of(&[20, 200]),
            for_ms,
        },
        C::StallDisk => Fault::StallDisk { node, for_ms },
        C::Rot => Fault::Rot {
            node,
            kind,
            bits: draw.one_of(&[1, 1, 8, 100]),
        },
        C::Misdirect => Fault::Misdirect { node, kind },
        C::StepClock => Fault::StepClock {
            node,
            by_ms: draw.one_of(&[-CLOCK_OFF_MAX_MS, -5000, 5000, CLOCK_OFF_MAX_MS]),
        },
        C::DriftClock => Fault::DriftClock {
            node,
            ppm: draw.one_of(&[-50_000, -500, 500, 50_000]),
        },
    }
}

/// A link that is slow, narrow, or both.
fn slow(draw: &mut Draw) -> LinkOptions {
    LinkOptions {
        latency_min_ms: draw.one_of(&[1, 50, 300]),
        latency_mean_ms: draw.one_of(&[300, 600]),
        bandwidth: draw.one_of(&[0, 2 << 10, 32 << 10]),
        window: draw.one_of(&[1 << 10, 16 << 10]),
        split_percent: draw.one_of(&[25, 90]),
    }
}

/// One direction between the server and one client, or all.
fn link(draw: &mut Draw, plan: &Plan) -> Target {
    let names: Vec<String> = plan
        .clients
        .iter()
        .map(|client| client.name.clone())
        .collect();
    let other = if names.is_empty() || draw.chance(40) {
        "*".to_owned()
    } else {
        draw.one_of(&names)
    };
    if draw.chance(50) {
        Target {
            from: SERVER.to_owned(),
            to: other,
        }
    } else {
        Target {
            from: other,
            to: SERVER.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_a_clock_do_not_add_up_to_more_than_it_may_be_off() {
        let step = |by_ms| TimedFault {
            at_ms: 0,
            fault: Fault::StepClock {
                node: SERVER.to_owned(),
                by_ms,
            },
        };
        let max = CLOCK_OFF_MAX_MS;
        let mut faults = [max, max, -5000, -max, -max, 5000].map(step);
        bound_steps(&mut faults);
        let steps = [max, -max, -5000, max, -max, 5000].map(step);
        assert_eq!(faults, steps);
    }
}
