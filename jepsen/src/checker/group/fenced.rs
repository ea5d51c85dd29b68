//! CG9, its last part: nobody is fenced without cause.
//!
//! A static member's request is refused with FENCED_INSTANCE_ID where another member id holds its
//! instance. Once a join has worked, its id holds the instance until another join under that
//! instance takes it away: so there has to be one that may have had its effect after this join had
//! its own, and before the refusal. A coordinator that lost track of who came back, say because it
//! did not write the new id down and another took over, refuses who is in good standing.
//!
//! A join is two requests, and the first may have its effect although the second is refused: every
//! join that was asked for and may have come about after the member's was asked for excuses,
//! whatever became of it. Silent for groups with members that speak through a library, which join
//! again by themselves.

use super::facts::{Group, is_dangling};
use super::violation;
use crate::checker::Violations;
use crate::history::{Attempt, Call, Ending, Operation};

pub(super) const ERROR: &str = "FENCED_INSTANCE_ID";

/// Who asks in this call, as a static member that has an id: its id and its instance.
fn asking(call: &Call) -> Option<(&str, &str)> {
    let (member, instance) = match call {
        Call::Heartbeat(by) | Call::Leave(by) | Call::Commit { by, .. } => {
            (&by.member, &by.instance)
        }
        Call::Join(join) => (&join.member, &join.instance),
        _ => return None,
    };
    let instance = instance.as_deref()?;
    (!member.is_empty()).then_some((member, instance))
}

/// Whether a static member with an id was told here that it is fenced.
pub(super) fn is_fenced(op: &Operation) -> bool {
    let (Ending::Fail(attempts) | Ending::Unknown(attempts)) = &op.ending else {
        return false;
    };
    let is_it = |last: &Attempt| last.error == ERROR;
    attempts.last().is_some_and(is_it) && asking(&op.call).is_some()
}

pub(super) fn check(name: &str, group: &Group, violations: &mut Violations) {
    if group.has_buffered {
        return;
    }
    for op in &group.fenced {
        let Some((member, instance)) = asking(&op.call) else {
            continue;
        };
        let is_its = |join: &str, of: Option<&str>| join == member && of == Some(instance);
        let mut joins = group.joins.iter().rev();
        let Some(joined) = joins.find(|one| {
            let is_own = is_its(one.member, one.join.instance.as_deref());
            is_own && one.op.returned < op.invoked
        }) else {
            continue;
        };
        let mut others = group.asked.iter().filter(|(other, join)| {
            join.instance.as_deref() == Some(instance)
                && other.op != joined.op.op
                && !is_its(&join.member, join.instance.as_deref())
        });
        let may_have = |other: &Operation| {
            let is_late = other.returned > joined.op.invoked || is_dangling(other);
            other.invoked < op.returned && is_late
        };
        if !others.any(|(other, _)| may_have(other)) {
            let detail = format!(
                "{member} joined {name} as {instance} and was fenced, though nobody else had asked \
                 to be {instance} since"
            );
            let operations = [joined.op.op, op.op];
            violations.add(violation("CG9", op.returned, None, &operations, detail));
        }
    }
}
