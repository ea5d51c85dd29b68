//! One direction of a connection: bytes on their way, in order.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::ReadBuf;

use super::HELD;
use super::link::{Gate, Link};

/// A sender whose data nobody acknowledges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocked {
    pub(super) since: Duration,
    /// When it is over, once the way is free.
    pub(super) until: Option<Duration>,
}

/// Bytes from a sender to a receiver. Times of arrival never fall; [`HELD`] is one that is not
/// known yet.
#[derive(Default)]
pub(super) struct Flow {
    pieces: VecDeque<(Duration, Bytes)>,
    /// When the sender's end arrives.
    pub(super) end: Option<Duration>,
    /// Bytes that the sender's window is charged with.
    pub(super) charged: usize,
    /// Those of them that were read, which the sender has not learnt.
    pub(super) unreported: usize,
    pub(super) last_arrival: Duration,
    /// Whether what is held was lost on the way and has to be sent again.
    pub(super) lost: bool,
    /// Whether something was sent to a socket that is no more.
    pub(super) unanswered: bool,
    pub(super) blocked: Option<Blocked>,
}

impl Flow {
    /// When the last of `len` bytes that leave now arrives: never before what left earlier.
    pub(super) fn arrival(&mut self, now: Duration, link: &mut Link, len: usize) -> Duration {
        if link.gate != Gate::Open {
            return HELD;
        }
        let arrival = link.departure(now, len) + link.latency();
        self.last_arrival = self.last_arrival.max(arrival);
        self.last_arrival
    }

    pub(super) fn push(&mut self, arrival: Duration, bytes: Bytes) {
        self.pieces.push_back((arrival, bytes));
    }

    /// When there is something to read, were it the end.
    pub(super) fn next_arrival(&self) -> Option<Duration> {
        let first = self.pieces.front().map(|(arrival, _)| *arrival);
        first.or(self.end)
    }

    /// Bytes that can be read, as far as `limit`.
    pub(super) fn readable(&self, now: Duration, limit: usize) -> usize {
        let mut count = 0;
        for (arrival, piece) in &self.pieces {
            if *arrival > now || count >= limit {
                break;
            }
            count += piece.len();
        }
        count.min(limit)
    }

    /// Moves `count` readable bytes to `buffer`.
    pub(super) fn take(&mut self, buffer: &mut ReadBuf<'_>, mut count: usize) {
        while count > 0
            && let Some((_, piece)) = self.pieces.front_mut()
        {
            let part = piece.len().min(count);
            buffer.put_slice(&piece[..part]);
            piece.advance(part);
            count -= part;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    /// Whether bytes or the end have not arrived.
    pub(super) fn is_under_way(&self, now: Duration) -> bool {
        let last = self.pieces.back().map(|(arrival, _)| *arrival);
        self.end.max(last).is_some_and(|arrival| arrival > now)
    }

    /// When the first byte that has not arrived does.
    pub(super) fn first_under_way(&self, now: Duration) -> Option<Duration> {
        let mut arrivals = self.pieces.iter().map(|(arrival, _)| *arrival);
        arrivals.find(|arrival| *arrival > now)
    }

    fn bytes_where(&self, arrived: impl Fn(Duration) -> bool) -> usize {
        let chosen = self.pieces.iter().filter(|(arrival, _)| arrived(*arrival));
        chosen.map(|(_, piece)| piece.len()).sum()
    }

    /// What is under way waits from now on.
    pub(super) fn hold(&mut self, now: Duration) {
        for (arrival, _) in self.pieces.iter_mut().rev() {
            if *arrival <= now {
                break;
            }
            *arrival = HELD;
        }
        self.end = self.end.map(|end| if end > now { HELD } else { end });
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes_where(|arrival| arrival >= HELD)
    }

    /// What waits goes on its way.
    pub(super) fn release(&mut self, now: Duration, link: &mut Link) {
        let is_held = self.end == Some(HELD) || self.held_bytes() > 0;
        let lost = std::mem::take(&mut self.lost);
        if !is_held {
            return;
        }
        let mut ready = now + link.latency();
        if lost {
            ready += link.retransmission();
        }
        // Nothing held can be due before what left after a release, as all of it is in order.
        let mut last = self.last_arrival.max(ready);
        for (arrival, piece) in &mut self.pieces {
            if *arrival >= HELD {
                last = last.max(link.departure(ready, piece.len()));
                *arrival = last;
            }
        }
        if self.end == Some(HELD) {
            self.end = Some(last);
        }
        self.last_arrival = last;
    }

    /// What is under way never arrives.
    pub(super) fn lose(&mut self, now: Duration) {
        while let Some((arrival, _)) = self.pieces.back()
            && *arrival > now
        {
            self.pieces.pop_back();
        }
        self.end = self.end.filter(|end| *end <= now);
    }

    /// Nothing is left to read.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.end = None;
    }

    /// Of bytes under way only a drawn count is left, and no end that has not arrived.
    pub(super) fn tear(&mut self, now: Duration, link: &mut Link) {
        let under_way = self.bytes_where(|arrival| arrival > now);
        let arrived = self.bytes_where(|arrival| arrival <= now);
        if under_way > 0 {
            self.truncate(arrived + link.draw(under_way + 1));
        }
        self.end = self.end.filter(|end| *end <= now);
    }

    /// Of all unread bytes only a drawn count is left, and can be read now.
    pub(super) fn shorten(&mut self, now: Duration, link: &mut Link) {
        let unread = self.bytes_where(|_| true);
        if unread > 0 {
            self.truncate(link.draw(unread + 1));
        }
        for (arrival, _) in &mut self.pieces {
            *arrival = now.min(*arrival);
        }
        self.end = None;
    }

    fn truncate(&mut self, mut keep: usize) {
        let mut pieces = 0;
        for (_, piece) in &mut self.pieces {
            if keep == 0 {
                break;
            }
            piece.truncate(keep);
            keep -= piece.len();
            pieces += 1;
        }
        self.pieces.truncate(pieces);
    }
}
