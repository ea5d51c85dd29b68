//! A connection as the kernels of its two hosts keep it: what arrives when, who learns what.
//!
//! Nothing here runs by itself. What is due by its time (a reset, a time-out) happens when the
//! connection is next looked at, and whoever waits for it has a timer. No news passes a cut link:
//! neither an end nor a reset; what was lost is sent again once the link is whole.

use std::io::{self, IoSlice};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::ReadBuf;

use super::flow::{Blocked, Flow};
use super::link::{Change, Gate, Links};
use super::waiter::{Waiter, Wakes};
use super::{Counts, HELD};
use crate::trace::Trace;

/// How long a sender waits for an acknowledgement before it gives a connection up.
pub(super) const RETRANSMISSION_LIMIT: Duration = Duration::from_secs(15);

/// What a connection acts upon.
pub(super) struct Scene<'a> {
    pub(super) now: Duration,
    pub(super) links: &'a mut Links,
    pub(super) counts: &'a mut Counts,
    pub(super) wakes: &'a mut Wakes,
    pub(super) trace: &'a Trace,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Socket {
    Open,
    /// The process has closed it; the kernel still sends what was written.
    Closed,
    /// The kernel knows nothing of it and answers with a reset.
    Gone,
}

/// One end of a connection.
pub(super) struct End {
    pub(super) host: usize,
    /// `ip:port`.
    pub(super) address: String,
    /// Whether a process, or the queue of a listener, has it.
    pub(super) held: bool,
    socket: Socket,
    /// Why reads and writes fail.
    error: Option<io::ErrorKind>,
    /// When a reset arrives here.
    reset_at: Option<Duration>,
    reader: Waiter,
    writer: Waiter,
}

impl End {
    pub(super) fn new(host: usize, address: String) -> Self {
        Self {
            host,
            address,
            held: true,
            socket: Socket::Open,
            error: None,
            reset_at: None,
            reader: Waiter::default(),
            writer: Waiter::default(),
        }
    }
}

/// Two ends, by number: 0 connected, 1 accepted.
pub(super) struct Connection {
    pub(super) ends: [End; 2],
    /// The link and the flow of what each end sends.
    links: [usize; 2],
    flows: [Flow; 2],
}

impl Connection {
    pub(super) fn new(ends: [End; 2], links: &mut Links) -> Self {
        let [one, other] = [ends[0].host, ends[1].host];
        Self {
            ends,
            links: [links.between(one, other), links.between(other, one)],
            flows: Default::default(),
        }
    }

    /// Whether nobody can notice it any more.
    pub(super) fn is_over(&self) -> bool {
        !self.ends[0].held && !self.ends[1].held
    }

    fn gate(&self, side: usize, scene: &Scene<'_>) -> Gate {
        scene.links[self.links[side]].gate
    }

    /// Whether data or their acknowledgements are lost.
    fn is_cut(&self, scene: &Scene<'_>) -> bool {
        (0..2).any(|side| self.gate(side, scene) == Gate::Cut)
    }

    /// Reads what has arrived at `side`; none is the end.
    pub(super) fn read(
        &mut self,
        side: usize,
        waker: &Waker,
        buffer: &mut ReadBuf<'_>,
        scene: &mut Scene<'_>,
    ) -> Poll<io::Result<()>> {
        self.settle(scene);
        let wanted = buffer.remaining();
        let readable = self.flows[1 - side].readable(scene.now, wanted);
        let end = &mut self.ends[side];
        if readable > 0 || wanted == 0 {
            end.reader.leave(waker, scene.wakes);
            let count = scene.links[self.links[1 - side]].part(readable);
            self.flows[1 - side].take(buffer, count);
            self.flows[1 - side].unreported += count;
            self.report(1 - side, scene);
            return Poll::Ready(Ok(()));
        }
        if let Some(kind) = end.error {
            return Poll::Ready(Err(kind.into()));
        }
        if self.flows[1 - side].end.is_some_and(|at| at <= scene.now) {
            return Poll::Ready(Ok(()));
        }
        end.reader.wait(waker, scene.wakes);
        self.arm(side, scene);
        Poll::Pending
    }

    /// Writes as many bytes as there is room for in the window.
    pub(super) fn write(
        &mut self,
        side: usize,
        waker: &Waker,
        slices: &[IoSlice<'_>],
        scene: &mut Scene<'_>,
    ) -> Poll<io::Result<usize>> {
        self.settle(scene);
        if let Some(kind) = self.ends[side].error {
            return Poll::Ready(Err(kind.into()));
        }
        if self.flows[side].end.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        if offered == 0 {
            return Poll::Ready(Ok(0));
        }
        let room = self.room(side, scene);
        if room == 0 {
            self.ends[side].writer.wait(waker, scene.wakes);
            self.block(side, scene);
            self.arm(side, scene);
            return Poll::Pending;
        }
        self.ends[side].writer.leave(waker, scene.wakes);
        let count = scene.links[self.links[side]].part(offered.min(room));
        let mut bytes = BytesMut::with_capacity(count);
        for slice in slices {
            let part = slice.len().min(count - bytes.len());
            bytes.extend_from_slice(&slice[..part]);
        }
        self.send(side, bytes, scene);
        Poll::Ready(Ok(count))
    }

    fn room(&self, side: usize, scene: &Scene<'_>) -> usize {
        let window = scene.links[self.links[side]].window();
        window.saturating_sub(self.flows[side].charged)
    }

    fn send(&mut self, side: usize, bytes: BytesMut, scene: &mut Scene<'_>) {
        let link = &mut scene.links[self.links[side]];
        let flow = &mut self.flows[side];
        let arrival = flow.arrival(scene.now, link, bytes.len());
        flow.charged += bytes.len();
        if link.gate == Gate::Cut {
            flow.lost = true;
            scene.counts.cut_bytes += bytes.len() as u64;
        }
        if self.ends[1 - side].socket == Socket::Open {
            flow.push(arrival, bytes.freeze());
            self.arm(1 - side, scene);
        } else {
            flow.unanswered = true;
            self.answer(side, arrival, scene);
        }
        self.block(side, scene);
    }

    /// Ends what `side` sends, in order.
    pub(super) fn finish(&mut self, side: usize, scene: &mut Scene<'_>) {
        self.settle(scene);
        if self.flows[side].end.is_some() || self.ends[side].socket == Socket::Gone {
            return;
        }
        let link = &mut scene.links[self.links[side]];
        let lost = link.gate == Gate::Cut;
        let arrival = self.flows[side].arrival(scene.now, link, 0);
        self.flows[side].end = Some(arrival);
        self.flows[side].lost |= lost;
        if self.ends[1 - side].socket == Socket::Gone {
            self.flows[side].unanswered = true;
            self.answer(side, arrival, scene);
        }
        self.arm(1 - side, scene);
        self.block(side, scene);
    }

    /// The process lets go of `side`: the peer sees an end, or a reset if bytes were not read.
    pub(super) fn close(&mut self, side: usize, scene: &mut Scene<'_>) {
        self.settle(scene);
        self.ends[side].held = false;
        if self.ends[side].socket != Socket::Open {
            return;
        }
        let incoming = &self.flows[1 - side];
        if incoming.readable(scene.now, 1) > 0 {
            return self.crash(side, scene);
        }
        let first = incoming.first_under_way(scene.now);
        self.finish(side, scene);
        self.ends[side].socket = Socket::Closed;
        if let Some(first) = first {
            self.flows[1 - side].clear();
            self.flows[1 - side].unanswered = true;
            self.answer(1 - side, first, scene);
        }
    }

    /// The process at `side` is no more: its kernel resets what it had open.
    pub(super) fn kill(&mut self, side: usize, scene: &mut Scene<'_>) {
        self.settle(scene);
        self.ends[side].held = false;
        if self.ends[side].socket == Socket::Open {
            self.crash(side, scene);
        }
    }

    fn crash(&mut self, side: usize, scene: &mut Scene<'_>) {
        self.ends[side].socket = Socket::Gone;
        let link = &mut scene.links[self.links[side]];
        if link.gate == Gate::Cut {
            self.flows[side].lose(scene.now);
        } else {
            self.flows[side].tear(scene.now, link);
            let arrival = self.flows[side].arrival(scene.now, link, 0);
            self.reset_at(1 - side, arrival, scene);
        }
        self.go_deaf(side, scene);
    }

    /// The host of `side` has lost power: nobody is told.
    pub(super) fn vanish(&mut self, side: usize, scene: &mut Scene<'_>) {
        self.settle(scene);
        self.ends[side].held = false;
        self.ends[side].socket = Socket::Gone;
        self.ends[side].reset_at = None;
        self.flows[side].lose(scene.now);
        self.go_deaf(side, scene);
    }

    /// Nothing reads at `side` any more.
    fn go_deaf(&mut self, side: usize, scene: &mut Scene<'_>) {
        // Who has no room asks for it again and again.
        let asks = self.room(1 - side, scene) == 0;
        let incoming = &mut self.flows[1 - side];
        incoming.unanswered |= asks || incoming.is_under_way(scene.now);
        incoming.clear();
    }

    /// Both ends are reset from outside; no reset passes a cut.
    pub(super) fn reset(&mut self, scene: &mut Scene<'_>) {
        self.settle(scene);
        let hit = [0, 1].map(|side| {
            let gate = self.gate(1 - side, scene);
            if gate == Gate::Stalled {
                self.reset_at(side, HELD, scene);
            }
            gate == Gate::Open && self.ends[side].socket != Socket::Gone
        });
        for side in (0..2).filter(|side| hit[*side]) {
            let link = &mut scene.links[self.links[1 - side]];
            self.flows[1 - side].shorten(scene.now, link);
        }
        for side in (0..2).filter(|side| hit[*side]) {
            self.fail(side, io::ErrorKind::ConnectionReset, scene);
        }
    }

    /// What is due by now happens.
    fn settle(&mut self, scene: &mut Scene<'_>) {
        for side in 0..2 {
            match self.flows[side].blocked {
                Some(Blocked {
                    until: Some(until), ..
                }) if until <= scene.now => self.flows[side].blocked = None,
                Some(Blocked { since, until: None })
                    if since + RETRANSMISSION_LIMIT <= scene.now =>
                {
                    self.flows[side].blocked = None;
                    self.fail(side, io::ErrorKind::TimedOut, scene);
                }
                _ => {}
            }
            if self.ends[side].reset_at.is_some_and(|at| at <= scene.now) {
                self.ends[side].reset_at = None;
                if self.ends[side].socket != Socket::Gone {
                    let link = &mut scene.links[self.links[1 - side]];
                    self.flows[1 - side].shorten(scene.now, link);
                    self.fail(side, io::ErrorKind::ConnectionReset, scene);
                }
            }
        }
    }

    /// The socket at `side` ends with an error; what it was sending is lost.
    fn fail(&mut self, side: usize, kind: io::ErrorKind, scene: &mut Scene<'_>) {
        let was = std::mem::replace(&mut self.ends[side].socket, Socket::Gone);
        self.flows[side].lose(scene.now);
        self.flows[side].blocked = None;
        let incoming = &mut self.flows[1 - side];
        incoming.unanswered |= incoming.is_under_way(scene.now);
        incoming.lose(scene.now);
        let peer = &self.ends[1 - side].address;
        let end = &self.ends[side];
        if was != Socket::Open {
            return;
        }
        let what = if kind == io::ErrorKind::TimedOut {
            scene.counts.timeouts += 1;
            "timed out"
        } else {
            scene.counts.resets += 1;
            "reset"
        };
        let name = &scene.links.hosts[end.host].name;
        scene
            .trace
            .event(name, format_args!("{what} {} {peer}", end.address));
        let end = &mut self.ends[side];
        end.error = Some(kind);
        end.reader.wake(scene.wakes);
        end.writer.wake(scene.wakes);
    }

    fn reset_at(&mut self, side: usize, at: Duration, scene: &mut Scene<'_>) {
        let end = &mut self.ends[side];
        if end.socket != Socket::Gone {
            end.reset_at = Some(end.reset_at.map_or(at, |known| known.min(at)));
            self.arm(side, scene);
        }
    }

    /// What `side` sent reaches a socket that is no more at `arrival`: a reset comes back.
    fn answer(&mut self, side: usize, arrival: Duration, scene: &mut Scene<'_>) {
        if arrival >= HELD {
            return;
        }
        let back = &mut scene.links[self.links[1 - side]];
        let at = match back.gate {
            Gate::Open => (arrival + back.latency()).max(self.flows[1 - side].last_arrival),
            Gate::Stalled => HELD,
            Gate::Cut => return,
        };
        self.reset_at(side, at, scene);
    }

    /// Counts the time of `side` without acknowledgement, if it lacks any.
    fn block(&mut self, side: usize, scene: &mut Scene<'_>) {
        if self.ends[side].socket == Socket::Gone || !self.is_cut(scene) {
            return;
        }
        let since = self.flows[side].blocked.map_or(scene.now, |old| old.since);
        self.flows[side].blocked = Some(Blocked { since, until: None });
        self.arm(side, scene);
    }

    /// Whether the kernel at `side` waits for an answer.
    fn is_asking(&self, side: usize, scene: &Scene<'_>) -> bool {
        let flow = &self.flows[side];
        flow.unanswered || flow.is_under_way(scene.now) || self.room(side, scene) == 0
    }

    /// The sender at `side` learns what was read of it, if the way back is free.
    fn report(&mut self, side: usize, scene: &mut Scene<'_>) {
        if self.gate(1 - side, scene) == Gate::Open {
            let flow = &mut self.flows[side];
            let read = std::mem::take(&mut flow.unreported);
            flow.charged = flow.charged.saturating_sub(read);
            if read > 0 {
                self.ends[side].writer.wake(scene.wakes);
            }
        }
    }

    /// Who waits at `side` is woken when something happens there.
    fn arm(&mut self, side: usize, scene: &mut Scene<'_>) {
        let deadline = match self.flows[side].blocked {
            Some(Blocked { since, until: None }) => Some(since + RETRANSMISSION_LIMIT),
            _ => None,
        };
        let end = &mut self.ends[side];
        let failure = [end.reset_at, deadline].into_iter().flatten().min();
        if let Some(at) = failure {
            end.writer.wake_at(at, scene.now, scene.wakes);
        }
        let arrival = self.flows[1 - side].next_arrival();
        if let Some(at) = [failure, arrival].into_iter().flatten().min() {
            end.reader.wake_at(at, scene.now, scene.wakes);
        }
    }

    /// Options of links have changed: there may be more room.
    pub(super) fn wake_writers(&mut self, scene: &mut Scene<'_>) {
        for end in &mut self.ends {
            end.writer.wake(scene.wakes);
        }
    }

    /// The gates of links have changed.
    pub(super) fn gates_changed(&mut self, changes: &[Change], scene: &mut Scene<'_>) {
        self.settle(scene);
        let mut any = false;
        for side in 0..2 {
            let mut change = changes.iter();
            if let Some(change) = change.find(|change| change.link == self.links[side]) {
                any = true;
                self.gate_changed(side, change.before, scene);
            }
        }
        if !any {
            return;
        }
        for side in 0..2 {
            self.report(side, scene);
            self.way_changed(side, scene);
            self.arm(side, scene);
        }
    }

    /// The link that `side` sends on has another gate than `before`.
    fn gate_changed(&mut self, side: usize, before: Gate, scene: &mut Scene<'_>) {
        let now = scene.now;
        let link = &mut scene.links[self.links[side]];
        let flow = &mut self.flows[side];
        let reset_at = &mut self.ends[1 - side].reset_at;
        if link.gate == Gate::Open {
            flow.release(now, link);
            if *reset_at == Some(HELD) {
                *reset_at = Some((now + link.latency()).max(flow.last_arrival));
            }
            return;
        }
        if before == Gate::Open {
            flow.hold(now);
            *reset_at = reset_at.map(|at| if at > now { HELD } else { at });
        }
        if link.gate == Gate::Cut {
            scene.counts.cut_bytes += flow.held_bytes() as u64;
            flow.lost = true;
            *reset_at = reset_at.filter(|at| *at <= now);
            if self.ends[side].socket == Socket::Gone {
                flow.lose(now);
            }
        }
    }

    /// Data of `side` or what answers them pass, or do not, otherwise than before.
    fn way_changed(&mut self, side: usize, scene: &mut Scene<'_>) {
        if self.ends[side].socket == Socket::Gone {
            return;
        }
        if self.is_cut(scene) {
            if self.is_asking(side, scene) {
                self.block(side, scene);
            }
            return;
        }
        let mut again = scene.now;
        if let Some(blocked) = &mut self.flows[side].blocked {
            again += scene.links[self.links[side]].retransmission();
            if blocked.until.is_none() {
                blocked.until = Some(again.max(self.flows[side].last_arrival));
            }
        }
        let unheard = self.ends[1 - side].socket != Socket::Open && self.flows[side].unanswered;
        if unheard && self.ends[side].reset_at.is_none() && self.gate(side, scene) == Gate::Open {
            let arrival = again + scene.links[self.links[side]].latency();
            self.answer(side, arrival, scene);
        }
    }
}
