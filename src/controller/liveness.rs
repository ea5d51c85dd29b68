//! Which brokers are alive, as the active controller sees it.
//!
//! A broker that is not fenced has a session; each heartbeat of its present epoch extends it; when
//! it runs out the broker is to be fenced. A controller that becomes active gives everybody a fresh
//! session: it does not know when they were heard last. Time in which the controller itself did not
//! run, or could take no heartbeats, counts against nobody.
//!
//! Nothing here is recorded: what follows is a fence, which names the epoch it is meant for.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::{BrokerEpoch, BrokerId, Instant, Offset};

/// The sessions of all brokers that are not fenced.
#[derive(Debug)]
pub struct Liveness {
    session_timeout: Duration,
    sessions: BTreeMap<BrokerId, Session>,
    /// When this machine was last asked anything.
    stepped: Instant,
}

#[derive(Debug)]
struct Session {
    epoch: BrokerEpoch,
    ends: Instant,
    /// Everything below was carried out by the broker, as it says.
    metadata_end: Offset,
    /// Where the metadata ended when the broker was first seen stopping.
    stopping_since: Option<Offset>,
}

/// A broker that is not fenced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    pub id: BrokerId,
    pub epoch: BrokerEpoch,
    pub is_stopping: bool,
}

/// What happens to the sessions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The brokers that are not fenced, from metadata offset `end` on.
    Members { members: Vec<Member>, end: Offset },
    Heartbeat {
        id: BrokerId,
        epoch: BrokerEpoch,
        metadata_end: Offset,
    },
    /// Time has passed, and every heartbeat that had arrived was taken.
    Tick,
}

/// The run of a broker whose session is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expired {
    pub id: BrokerId,
    pub epoch: BrokerEpoch,
}

impl Liveness {
    /// Of a controller that becomes active at `now`.
    #[must_use]
    pub fn new(now: Instant, session_timeout: Duration) -> Self {
        Self {
            session_timeout,
            sessions: BTreeMap::new(),
            stepped: now,
        }
    }

    /// Takes over `event`. A session that is over is told once per half a session time-out, until
    /// its broker is no member any more.
    pub fn step(&mut self, now: Instant, event: Event, effects: &mut Vec<Expired>) {
        self.forgive(now);
        match event {
            Event::Members { members, end } => self.keep(now, &members, end),
            Event::Heartbeat {
                id,
                epoch,
                metadata_end,
            } => {
                let session = self.sessions.get_mut(&id);
                if let Some(session) = session.filter(|session| session.epoch == epoch) {
                    session.ends = now.plus(self.session_timeout);
                    session.metadata_end = session.metadata_end.max(metadata_end);
                }
            }
            Event::Tick => {
                let again = now.plus(self.session_timeout / 2);
                for (id, session) in &mut self.sessions {
                    if session.ends <= now {
                        session.ends = again;
                        let (id, epoch) = (*id, session.epoch);
                        effects.push(Expired { id, epoch });
                    }
                }
            }
        }
    }

    /// When the next [`Event::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let first = self.sessions.values().map(|session| session.ends).min()?;
        // Often enough to see that time passed without this machine.
        Some(first.min(self.stepped.plus(self.session_timeout / 4)))
    }

    /// Whether every other broker knows that `id` is stopping.
    #[must_use]
    pub fn others_know(&self, id: BrokerId) -> bool {
        let Some(since) = self.sessions.get(&id).and_then(|one| one.stopping_since) else {
            return false;
        };
        let mut others = self.sessions.iter().filter(|(other, _)| **other != id);
        others.all(|(_, session)| session.metadata_end >= since)
    }

    /// Gives back the time in which nobody could be heard.
    fn forgive(&mut self, now: Instant) {
        let silent = now.since(self.stepped);
        self.stepped = now;
        if silent < self.session_timeout / 2 {
            return;
        }
        for session in self.sessions.values_mut() {
            session.ends = session.ends.plus(silent);
        }
    }

    fn keep(&mut self, now: Instant, members: &[Member], end: Offset) {
        let mut before = std::mem::take(&mut self.sessions);
        for member in members {
            let known = before.remove(&member.id);
            let known = known.filter(|session| session.epoch == member.epoch);
            let mut session = known.unwrap_or_else(|| Session {
                epoch: member.epoch,
                ends: now.plus(self.session_timeout),
                metadata_end: Offset::ZERO,
                stopping_since: None,
            });
            if member.is_stopping {
                session.stopping_since.get_or_insert(end);
            }
            self.sessions.insert(member.id, session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(3);
    const ONE: BrokerId = BrokerId(1);
    const TWO: BrokerId = BrokerId(2);

    fn at(millis: u64) -> Instant {
        Instant(millis * 1_000_000)
    }

    fn member(id: BrokerId, epoch: i64) -> Member {
        Member {
            id,
            epoch: BrokerEpoch(epoch),
            is_stopping: false,
        }
    }

    fn members(all: &[Member]) -> Event {
        Event::Members {
            members: all.to_vec(),
            end: Offset(10),
        }
    }

    fn heartbeat(id: BrokerId, epoch: i64, metadata_end: i64) -> Event {
        Event::Heartbeat {
            id,
            epoch: BrokerEpoch(epoch),
            metadata_end: Offset(metadata_end),
        }
    }

    /// Ticks as often as the machine asks until `end`, with a heartbeat of broker 1 each time.
    fn run(liveness: &mut Liveness, end: Instant) -> Vec<(Instant, Expired)> {
        let mut all = Vec::new();
        while let Some(now) = liveness.deadline().filter(|now| *now <= end) {
            let mut expired = Vec::new();
            liveness.step(now, heartbeat(ONE, 1, 0), &mut expired);
            liveness.step(now, Event::Tick, &mut expired);
            all.extend(expired.into_iter().map(|one| (now, one)));
        }
        all
    }

    #[test]
    fn a_broker_that_is_not_heard_within_its_session_is_expired_and_others_are_not() {
        let mut liveness = Liveness::new(at(0), TIMEOUT);
        let both = [member(ONE, 1), member(TWO, 2)];
        liveness.step(at(0), members(&both), &mut Vec::new());
        let expired = run(&mut liveness, at(4000));
        let two = Expired {
            id: TWO,
            epoch: BrokerEpoch(2),
        };
        assert_eq!(expired, [(at(3000), two)]);
        // It is told again while nobody has fenced it.
        assert_eq!(run(&mut liveness, at(5000)), [(at(4500), two)]);
        liveness.step(at(5100), members(&both[..1]), &mut Vec::new());
        assert_eq!(run(&mut liveness, at(20_000)), []);
    }

    #[test]
    fn a_heartbeat_of_an_earlier_run_extends_nothing() {
        let mut liveness = Liveness::new(at(0), TIMEOUT);
        liveness.step(at(0), members(&[member(TWO, 5)]), &mut Vec::new());
        let mut expired = Vec::new();
        for now in (0..=3000).step_by(500) {
            liveness.step(at(now), heartbeat(TWO, 4, 0), &mut expired);
            liveness.step(at(now), Event::Tick, &mut expired);
        }
        assert_eq!(expired.len(), 1);
    }

    #[test]
    fn time_in_which_the_controller_did_not_run_counts_against_nobody() {
        let mut liveness = Liveness::new(at(0), TIMEOUT);
        liveness.step(
            at(0),
            members(&[member(ONE, 1), member(TWO, 2)]),
            &mut Vec::new(),
        );
        let mut expired = Vec::new();
        liveness.step(at(60_000), Event::Tick, &mut expired);
        assert_eq!(expired, []);
        let later = run(&mut liveness, at(70_000));
        assert_eq!(later.len(), 5, "broker 2 is gone all the same: {later:?}");
        assert!(later[0].0 <= at(63_000));
    }

    #[test]
    fn a_stopping_broker_waits_until_all_others_know() {
        let mut liveness = Liveness::new(at(0), TIMEOUT);
        let stopping = Member {
            is_stopping: true,
            ..member(ONE, 1)
        };
        liveness.step(
            at(0),
            members(&[member(ONE, 1), member(TWO, 2)]),
            &mut Vec::new(),
        );
        assert!(!liveness.others_know(ONE));
        liveness.step(at(1), members(&[stopping, member(TWO, 2)]), &mut Vec::new());
        liveness.step(at(2), heartbeat(TWO, 2, 9), &mut Vec::new());
        assert!(!liveness.others_know(ONE));
        liveness.step(at(3), heartbeat(TWO, 2, 10), &mut Vec::new());
        assert!(liveness.others_know(ONE));
    }
}
