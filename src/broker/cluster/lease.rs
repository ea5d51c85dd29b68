//! How long a broker may take it for certain that nobody was put in its place.
//!
//! A controller takes the lead from a broker that was silent for `broker.session.timeout.ms`. One
//! that was paused, or cut off, does not know of that when it goes on. So that it does not answer
//! from what it knew, each answered heartbeat is a lease: from when the heartbeat was sent, for
//! nine tenths of the session (clocks may drift), once what the controller knew when it answered is
//! carried out here.
//!
//! It says nothing of a lead that was moved in order, away from a broker that lives.

use std::time::Duration;

use crate::types::{Instant, Offset};

#[derive(Clone, Copy, Default, Debug)]
pub struct Lease {
    /// When the newest heartbeat was sent of whose answer all is carried out.
    granted: Option<Instant>,
    /// An answered heartbeat, and what is to be carried out before it counts.
    awaited: Option<(Instant, Offset)>,
}

impl Lease {
    /// A heartbeat sent at `sent` was answered by a controller that had metadata up to
    /// `metadata_end`, and lets this broker lead. Here all below `carried_out` is carried out.
    pub fn answered(&mut self, sent: Instant, metadata_end: Offset, carried_out: Offset) {
        self.settle(carried_out);
        // The oldest stays: a broker that is always a little behind would never get any.
        self.awaited.get_or_insert((sent, metadata_end));
        self.settle(carried_out);
    }

    /// Whether it holds at `now`, with sessions of this length.
    pub fn holds(&mut self, now: Instant, carried_out: Offset, session: Duration) -> bool {
        self.settle(carried_out);
        let granted = self.granted;
        granted.is_some_and(|sent| now.since(sent) < session / 10 * 9)
    }

    fn settle(&mut self, carried_out: Offset) {
        if let Some((sent, end)) = self.awaited
            && carried_out >= end
        {
            self.granted = Some(sent);
            self.awaited = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    #[test]
    fn it_begins_when_the_heartbeat_was_sent_and_ends_before_the_session() {
        let mut lease = Lease::default();
        assert!(
            !lease.holds(at(0), Offset(5), SESSION),
            "nothing was answered"
        );
        lease.answered(at(1), Offset(5), Offset(5));
        assert!(lease.holds(at(9), Offset(5), SESSION));
        assert!(!lease.holds(at(10), Offset(5), SESSION));
    }

    #[test]
    fn an_answer_counts_once_what_the_controller_knew_is_carried_out() {
        let mut lease = Lease::default();
        lease.answered(at(1), Offset(5), Offset(4));
        assert!(!lease.holds(at(2), Offset(4), SESSION));
        assert!(lease.holds(at(2), Offset(5), SESSION));
    }

    #[test]
    fn who_is_always_a_little_behind_still_gets_one() {
        let mut lease = Lease::default();
        for second in 1..100_u64 {
            let end = i64::try_from(second).expect("few");
            lease.answered(at(second), Offset(end), Offset(end - 1));
            assert!(second < 3 || lease.holds(at(second), Offset(end - 1), SESSION));
        }
    }
}
