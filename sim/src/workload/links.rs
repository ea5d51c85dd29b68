//! Links, as the operator of a cluster makes, promotes and looks at them. All of it is an operation
//! of the history, tried again until it worked or its time is over.

mod api;

use std::collections::BTreeMap;
use std::time::Duration;

use klamm::env::{Env, Rng};
use klamm::types::Instant;
use klamm_jepsen::history::{Answer, Call, Mirrored};

use super::line::Line;
use crate::plan::LinkPlan;
use crate::record::Recorder;

/// The process that it is recorded under.
const PROCESS: &str = "links";

/// Somebody who looks after links.
pub struct Links {
    line: Line,
    /// Where all of them are, with commas between.
    brokers: String,
    deadline: Instant,
}

impl Links {
    /// Somebody who has `within` for what they are asked to do.
    #[must_use]
    pub fn new(env: &Env, recorder: &Recorder, brokers: &str, rng: Rng, within: Duration) -> Self {
        Self {
            line: Line::new(env.clone(), recorder.clone(), PROCESS, brokers, rng),
            brokers: brokers.to_owned(),
            deadline: env.now().plus(within),
        }
    }

    fn is_late(&self) -> bool {
        self.line.env.now() >= self.deadline
    }

    pub async fn create(&mut self, link: &LinkPlan) -> Result<(), String> {
        loop {
            let op = self.line.invoke(Call::CreateLink {
                link: link.name.clone(),
                from: link.source().map(str::to_owned),
                topics: link.topics.clone(),
                groups: link.groups.clone(),
            });
            match api::create(&mut self.line, link).await {
                Ok(()) => {
                    self.line.ok(op, Answer::CreateLink);
                    return Ok(());
                }
                Err(error) => self.missed(op, error).await?,
            }
        }
    }

    /// Has clients write to all that the link fills.
    pub async fn promote(&mut self, link: &LinkPlan) -> Result<(), String> {
        loop {
            let op = self.line.invoke(Call::Promote {
                link: link.name.clone(),
                topics: None,
            });
            match api::promote(&mut self.line, link).await {
                Ok(()) => {
                    let mirrors = self.told_of_promoted(link).await;
                    self.line.ok(op, Answer::Promote { mirrors });
                    return Ok(());
                }
                Err(error) => self.missed(op, error).await?,
            }
        }
    }

    /// Up to where each partition was copied, of those that were promoted: those of which it is
    /// known in time.
    async fn told_of_promoted(&mut self, link: &LinkPlan) -> Vec<Mirrored> {
        let mut told = BTreeMap::new();
        loop {
            let described = api::describe(&mut self.line, link, &self.brokers).await;
            let mut is_all = described.is_ok();
            for mirror in described.unwrap_or_default() {
                if mirror.state != "promoted" {
                    continue;
                }
                match mirror.log_end_offset >= 0 {
                    // What was told first is what an operator goes by.
                    true => drop(told.entry(mirror.of.clone()).or_insert(mirror)),
                    false => is_all &= told.contains_key(&mirror.of),
                }
            }
            if is_all || self.is_late() {
                return told.into_values().collect();
            }
            self.line.wait_a_little().await;
        }
    }

    /// What its brokers tell of a link.
    pub async fn describe(&mut self, link: &LinkPlan) -> Result<Vec<Mirrored>, String> {
        loop {
            let op = self.line.invoke(Call::DescribeLink {
                link: link.name.clone(),
            });
            match api::describe(&mut self.line, link, &self.brokers).await {
                Ok(mirrors) => {
                    let answer = Answer::DescribeLink {
                        mirrors: mirrors.clone(),
                    };
                    self.line.ok(op, answer);
                    return Ok(mirrors);
                }
                Err(error) => self.missed(op, error).await?,
            }
        }
    }

    /// It did not work; the error if there is no more time.
    async fn missed(&mut self, op: u64, error: String) -> Result<(), String> {
        let error = self.line.refused(op, error);
        if self.is_late() {
            return Err(error);
        }
        self.line.wait_a_little().await;
        Ok(())
    }
}
