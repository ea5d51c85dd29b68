//! The end of a run: all is well again, and what must come of that.

use super::*;

impl World {
    /// Nothing fails any more: all must come to agree.
    pub(super) fn heal(&mut self) {
        for round in 0..120 {
            for at in 0..self.nodes.len() {
                self.start(at, 0);
                while self.nodes[at].applied + 1 < self.controller.history.len() {
                    self.learn(at);
                }
                self.unfence(at);
                self.with(at, |node, _, effects| node.sync(effects));
                self.nodes[at].move_start();
                self.fetch(at);
                self.with(at, Node::tick);
                self.begin_another_log(at);
                if round == MENDED_AT {
                    // One that is counted on keeps its log, and may be the one that is lacking.
                    self.with(at, Node::mend);
                }
            }
            self.controller.elect_if_none();
            while !self.packets.is_empty() {
                self.deliver(0, true);
                self.check();
            }
            self.now = self.now.plus(Duration::from_millis(40));
            if round > MENDED_AT && self.is_settled() {
                return;
            }
        }
        let told: Vec<_> = self.nodes.iter().map(Node::describe).collect();
        panic!(
            "V3: not settled: {:?} {told:#?} waiting {:?} deletions {:?}",
            self.controller.history.last(),
            self.waiting,
            self.deletions
        );
    }

    pub(super) fn is_settled(&self) -> bool {
        let (_, state) = self.controller.history.last().expect("there is a state");
        let all_in_sync = state.isr.len() == self.nodes.len();
        let up_to_date = |node: &Node| node.applied + 1 == self.controller.history.len();
        let first = &self.nodes[0].log;
        let due = |node: &Node| {
            let machine = node.machine.as_ref();
            machine.is_some_and(|machine| machine.start_due(node.log.start).is_some())
        };
        let alike = |node: &Node| {
            let of = |log: &ModelLog, offset| log.at(Offset(offset));
            node.log.end() == first.end()
                && (first.start.max(node.log.start).0..first.end().0)
                    .all(|at| of(&node.log, at) == of(first, at))
                && node.high_watermark() == Some(first.end())
        };
        all_in_sync
            && self.waiting.is_empty()
            && self
                .nodes
                .iter()
                .all(|node| up_to_date(node) && alike(node) && !due(node))
            && self.deletions.is_empty()
    }
}
