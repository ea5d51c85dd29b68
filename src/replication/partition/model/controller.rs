//! A controller that commits one state after another.

use super::*;

pub(super) type State = (EligibleBrokers, Arc<Assignment>);

pub(super) struct Controller {
    /// Every state committed; `me` means nothing in them.
    pub history: Vec<State>,
    pub registered: BTreeMap<BrokerId, BrokerEpoch>,
    fenced: Vec<BrokerId>,
    next_epoch: i64,
}

impl Controller {
    pub fn new(count: usize, min_insync: usize) -> Self {
        let replicas: Vec<BrokerId> = (0..count).map(id_of).collect();
        let registered: BTreeMap<_, _> = replicas.iter().map(|id| (*id, BrokerEpoch(1))).collect();
        let assignment = Assignment {
            isr: replicas.clone(),
            replicas,
            min_insync_replicas: min_insync,
            ..Assignment::alone(BrokerId(0), LeaderEpoch(0))
        };
        Self {
            history: vec![(Arc::new(registered.clone()), Arc::new(assignment))],
            registered,
            fenced: Vec::new(),
            next_epoch: 2,
        }
    }

    fn state(&self) -> Assignment {
        let (_, last) = self.history.last().expect("there is a first one");
        Assignment::clone(last)
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.state().leader_epoch
    }

    /// Those that have everything committed, as far as the controller knows.
    pub fn trusted(&self) -> Vec<BrokerId> {
        let state = self.state();
        state.isr.into_iter().chain(state.elr).collect()
    }

    fn eligible(&self) -> EligibleBrokers {
        let registered = self.registered.iter();
        let eligible = registered.filter(|(id, _)| !self.fenced.contains(id));
        Arc::new(eligible.map(|(id, epoch)| (*id, *epoch)).collect())
    }

    /// Commits `state` with other in-sync replicas, and elects if its leader is gone.
    fn commit(&mut self, mut state: Assignment, isr: Vec<BrokerId>) {
        let eligible = self.eligible();
        let before = state.isr.iter().chain(&state.elr);
        let left: Vec<_> = before.filter(|id| !isr.contains(id)).copied().collect();
        state.isr = isr;
        state.elr = match state.isr.len() < state.wanted_in_sync() {
            true => left,
            false => Vec::new(),
        };
        if !state
            .leader
            .is_some_and(|leader| state.isr.contains(&leader))
        {
            let candidates = state.isr.iter().chain(&state.elr);
            let mut candidates = candidates.filter(|id| eligible.contains_key(id));
            let leader = candidates.next().copied();
            if leader != state.leader {
                state.leader_epoch.0 += 1;
            }
            state.leader = leader;
            if let Some(leader) = leader
                && !state.isr.contains(&leader)
            {
                state.isr.push(leader);
                state.elr.retain(|id| *id != leader);
            }
        }
        state.partition_epoch += 1;
        self.history.push((eligible, Arc::new(state)));
    }

    /// Commits something that changes nothing of the partition.
    pub fn repeat(&mut self) {
        let last = self.history.last().cloned();
        self.history.extend(last);
    }

    fn leave(&mut self, id: BrokerId) {
        let mut state = self.state();
        let others = state.isr.iter().filter(|other| **other != id);
        let isr = others.copied().collect();
        if state.leader == Some(id) {
            state.leader = None;
            state.leader_epoch.0 += 1;
        }
        self.commit(state, isr);
    }

    pub fn fence(&mut self, id: BrokerId) {
        if !self.fenced.contains(&id) {
            self.fenced.push(id);
            self.leave(id);
        }
    }

    pub fn unfence(&mut self, id: BrokerId) {
        if self.fenced.contains(&id) {
            self.fenced.retain(|other| *other != id);
            let state = self.state();
            let isr = state.isr.clone();
            self.commit(state, isr);
        }
    }

    /// A new process: what it had synced is there, so it keeps what trust it had.
    pub fn register(&mut self, id: BrokerId) -> BrokerEpoch {
        let epoch = BrokerEpoch(self.next_epoch);
        self.next_epoch += 1;
        self.registered.insert(id, epoch);
        self.fenced.retain(|other| *other != id);
        self.fenced.push(id);
        self.leave(id);
        epoch
    }

    /// Elects `id` if it may lead and does not.
    pub fn elect(&mut self, id: BrokerId) {
        let mut state = self.state();
        let may = state.isr.contains(&id) && self.eligible().contains_key(&id);
        if may && state.leader != Some(id) {
            state.leader = Some(id);
            state.leader_epoch.0 += 1;
            let isr = state.isr.clone();
            self.commit(state, isr);
        }
    }

    pub fn elect_if_none(&mut self) {
        let (state, eligible) = (self.state(), self.eligible());
        let mut candidates = state.isr.iter().chain(&state.elr);
        if state.leader.is_none() && candidates.any(|id| eligible.contains_key(id)) {
            let isr = state.isr.clone();
            self.commit(state, isr);
        }
    }

    /// A leader cannot lead in this epoch: another does, and it leaves the in-sync replicas; or it
    /// leads in a newer one.
    pub fn give_up(&mut self, id: BrokerId, epoch: LeaderEpoch) {
        let mut state = self.state();
        if state.leader != Some(id) || state.leader_epoch != epoch {
            return;
        }
        let eligible = self.eligible();
        let is_other = |other: &&BrokerId| **other != id && eligible.contains_key(other);
        let mut others: Vec<BrokerId> = state.isr.iter().filter(is_other).copied().collect();
        if others.is_empty() {
            others.extend(state.elr.iter().find(is_other));
        }
        state.leader = Some(others.first().copied().unwrap_or(id));
        state.leader_epoch.0 += 1;
        let isr = match others.is_empty() {
            true => state.isr.clone(),
            false => others,
        };
        self.commit(state, isr);
    }

    pub fn alter(
        &mut self,
        from: BrokerId,
        broker_epoch: BrokerEpoch,
        proposal: &Proposal,
    ) -> Result<(), ErrorCode> {
        let state = self.state();
        if self.registered.get(&from) != Some(&broker_epoch) {
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        if state.leader != Some(from) || state.leader_epoch != proposal.leader_epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if state.partition_epoch != proposal.partition_epoch {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        let eligible = self.eligible();
        let fits = |(id, epoch): &(BrokerId, BrokerEpoch)| eligible.get(id) == Some(epoch);
        if !proposal.isr.iter().all(fits) {
            return Err(ErrorCode::IneligibleReplica);
        }
        let isr = proposal.isr.iter().map(|(id, _)| *id).collect();
        self.commit(state, isr);
        Ok(())
    }
}
