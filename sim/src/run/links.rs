//! Links between the clusters of a run: who makes and promotes them, and that what they copy comes
//! to the end of its source once all is well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use klamm::env::Rng;
use klamm_jepsen::history::{Mirrored, Partition};

use super::Stage;
use crate::plan::LinkPlan;
use crate::workload::finals::is_of_mirror_maker;
use crate::workload::links::Links;

/// How long an operator tries, beyond the part with faults.
const OPERATION_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Longest that is waited for a link that copies.
const REACHING_MAX: Duration = Duration::from_secs(600);
/// What reached its end may still have to be told of: settings, groups, and topics that are gone,
/// which is believed after several rounds. Before the first of them a question may wait for 30 s
/// (`request.timeout.ms`) for a node of the source that lost power.
const SETTLING: Duration = Duration::from_secs(40);
/// Settings that are compared in the end.
const COMPARED: &[&str] = &[
    "cleanup.policy",
    "max.message.bytes",
    "message.timestamp.type",
    "retention.ms",
    "segment.bytes",
];

impl Stage {
    /// Has the operator make every link of the plan, and promote it when its time comes.
    pub(super) fn begin_links(&self) {
        for (number, link) in self.plan.links.iter().enumerate() {
            let (link, promoted) = (link.clone(), self.promoted.clone());
            let within = Duration::from_millis(self.plan.length_ms) + OPERATION_MAX;
            let mut links = self.links(number as u64, within);
            let (observer, server) = (self.observer.clone(), self.cluster.first().clone());
            let begun = observer.now();
            self.operators.whole(async move {
                observer.sleep(Duration::from_millis(link.at_ms)).await;
                if let Err(error) = links.create(&link).await {
                    let detail = format!("link {} could not be made: {error}", link.name);
                    return server.broken("V6", &detail);
                }
                let Some(at_ms) = link.promote_ms else {
                    return;
                };
                let due = begun.plus(Duration::from_millis(at_ms));
                observer.sleep_until(due).await;
                match links.promote(&link).await {
                    Ok(()) => promoted.set(),
                    Err(error) => {
                        let detail = format!("{} could not be promoted: {error}", link.name);
                        server.broken("V6", &detail);
                    }
                }
            });
        }
    }

    /// Somebody who looks after links.
    fn links(&self, number: u64, within: Duration) -> Links {
        let rng = Rng::derived(self.root, "links", number);
        Links::new(&self.observer, &self.recorder, &self.broker, rng, within)
    }

    /// Topics that the cluster's clients must not write to: they are filled by a link.
    pub(super) async fn read_only(&self) -> BTreeSet<String> {
        let mirrors = self.mirrors().await.into_values();
        let filled = mirrors.filter(|mirror| mirror.state != "promoted");
        filled.map(|mirror| mirror.of.topic).collect()
    }

    /// What the cluster tells of all that its links fill.
    async fn mirrors(&self) -> BTreeMap<Partition, Mirrored> {
        let mut mirrors = BTreeMap::new();
        for link in &self.plan.links {
            let asked = self
                .asked
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut links = self.links(1000 + asked, OPERATION_MAX);
            match links.describe(link).await {
                Ok(told) => mirrors.extend(told.into_iter().map(|one| (one.of.clone(), one))),
                Err(error) => {
                    let detail = format!("{} cannot be described: {error}", link.name);
                    self.cluster.first().broken("V11", &detail);
                }
            }
        }
        mirrors
    }

    /// Asks once more for what topics are, so that histories have it.
    pub(super) async fn describe_finally(&self) {
        let mut finals = self.finals(Duration::from_millis(self.plan.liveness_ms));
        for topic in finals.topics().await.into_keys() {
            finals.describe_topic(&topic, COMPARED).await;
        }
        self.mirrors().await;
    }
}

/// V11: what links copy reaches the ends of its sources.
pub(super) async fn catch_up(stages: &[Stage]) {
    for target in stages.iter().filter(|stage| !stage.plan.links.is_empty()) {
        for link in &target.plan.links {
            let from = link.source();
            let mut sources = stages.iter();
            let source = sources.find(|stage| stage.plan.cluster.as_deref() == from);
            if let Some(source) = source
                && source.cluster.is_serving()
                && target.cluster.is_serving()
            {
                reach(source, target, link).await;
            }
        }
    }
}

async fn reach(source: &Stage, target: &Stage, link: &LinkPlan) {
    let within = Duration::from_millis(target.plan.liveness_ms);
    let begun = target.observer.now();
    let mut deadline = begun.plus(within);
    let (mut lacking, mut is_settled) = (Vec::new(), false);
    while target.observer.now() < deadline {
        let before = std::mem::replace(&mut lacking, lacks(source, target, link).await);
        if lacking != before {
            // A slow copy takes as long as it takes, as long as it copies.
            let longest = begun.plus(REACHING_MAX);
            deadline = longest.min(target.observer.now().plus(within));
        }
        if lacking.is_empty() && is_settled {
            return;
        }
        is_settled = lacking.is_empty();
        let pause = if is_settled { SETTLING } else { LOOK_EVERY };
        target.observer.sleep(pause).await;
    }
    for (of, detail) in lacking {
        let detail = format!("{} of {}-{}: {detail}", link.name, of.topic, of.partition);
        target.cluster.first().broken("V11", &detail);
    }
}

/// What has not reached its source's end, and how.
async fn lacks(source: &Stage, target: &Stage, link: &LinkPlan) -> Vec<(Partition, String)> {
    let within = Duration::from_secs(10);
    let (mut theirs, mut ours) = (source.finals(within), target.finals(within));
    let (all, known) = (theirs.topics().await, ours.topics().await);
    let mirrors = target.mirrors().await;
    let promoted = mirrors.values().any(|mirror| mirror.state == "promoted");
    // What came from elsewhere is not the source's own.
    let borrowed = source.mirrors().await;
    let is_borrowed = |topic: &str| borrowed.keys().any(|of| of.topic == topic);
    let mut lacking = Vec::new();
    for (of, mirror) in &mirrors {
        let is_told = !is_of_mirror_maker(&of.topic);
        let is_sound = is_told && mirror.state == "active" && mirror.fault.is_none();
        if is_sound && !all.contains_key(&of.topic) {
            let detail = "the source has it no more, and the mirror is active";
            lacking.push((of.clone(), detail.to_owned()));
        }
    }
    let own = all
        .into_iter()
        .filter(|(topic, _)| link.wants(topic) && !is_borrowed(topic));
    for (topic, count) in own {
        for partition in 0..count {
            let of = Partition {
                topic: topic.clone(),
                partition,
            };
            let is_there = known.get(&topic).is_some_and(|count| partition < *count);
            let mut of_topic = mirrors.values().filter(|mirror| mirror.of.topic == topic);
            let has_failed = of_topic.any(|mirror| mirror.state != "active");
            let detail = match mirrors.get(&of) {
                _ if has_failed || promoted => continue,
                Some(mirror) if mirror.fault.is_some() => continue,
                Some(_) => {
                    let (end, reached) = (theirs.end(&of).await, ours.end(&of).await);
                    match end == reached && end.is_ok() {
                        true => continue,
                        false => format!("the source ends at {end:?}, the mirror at {reached:?}"),
                    }
                }
                None if is_there => "it is there, and no mirror of the link".to_owned(),
                None => "it is not there".to_owned(),
            };
            lacking.push((of, detail));
        }
    }
    lacking
}
