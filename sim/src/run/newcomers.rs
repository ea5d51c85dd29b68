//! After all is well, somebody new joins every group: it must be given everything, and keep it.

use std::sync::Arc;
use std::time::Duration;

use klamm::env::{Rng, Task};

use super::Stage;
use crate::plan::{ClientPlan, Role, Versions};
use crate::workload::{self, Stop, Topics};

/// How long a stable group is watched: no rebalance may come (CG8).
const WATCHED: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Stage {
    /// V4: each group that had members is stable within `within` of a newcomer's arrival.
    pub(super) async fn newcomers(&mut self, within: Duration) {
        let topics = self.plan.all_topics();
        let topics: Topics = topics
            .map(|topic| (topic.name.clone(), topic.partitions))
            .collect();
        let topics = Arc::new(topics);
        let stop = Stop::default();
        let groups = self.groups_of(|role| matches!(role, Role::Member { .. }));
        let members: Vec<Task> = groups
            .iter()
            .map(|group| self.newcomer(group, &topics, &stop))
            .collect();
        let deadline = self.observer.now().plus(within);
        let mut finals = self.finals(within);
        for group in &groups {
            let only = std::slice::from_ref(group);
            loop {
                let states = finals.describe_groups(only).await;
                let state = states.get(group).map_or("unknown", String::as_str);
                if state == "Stable" {
                    break;
                }
                if self.observer.now() >= deadline {
                    let detail = format!("group {group} is {state} and not Stable");
                    self.cluster.first().broken("V4", &detail);
                    break;
                }
                self.observer.sleep(LOOK_EVERY).await;
            }
        }
        if !groups.is_empty() {
            self.observer.sleep(WATCHED).await;
        }
        stop.set();
        self.clients_end(members).await;
    }

    fn newcomer(&mut self, group: &str, topics: &Arc<Topics>, stop: &Stop) -> Task {
        let name = match &self.plan.cluster {
            None => format!("newcomer-{group}"),
            Some(cluster) => format!("{cluster}-newcomer-{group}"),
        };
        let host = self.world.node(&name);
        let env = host.start();
        self.hosts.push(host);
        let body = workload::run(workload::Client {
            env: env.clone(),
            recorder: self.recorder.clone(),
            rng: Rng::derived(self.root, &name, 1),
            broker: self.broker.clone(),
            topics: Arc::clone(topics),
            stop: stop.clone(),
            promoted: self.promoted.clone(),
            plan: ClientPlan {
                after_promotion: false,
                start_ms: 0,
                versions: Versions::Newest,
                role: Role::Member {
                    group: group.to_owned(),
                    topics: topics.keys().cloned().collect(),
                    instance: None,
                    session_timeout_ms: 3000,
                    rebalance_timeout_ms: 4000,
                    commit_ms: 200,
                    leave_percent: 0,
                    vanish_percent: 0,
                    freeze_percent: 0,
                    library: false,
                },
                name,
            },
        });
        env.spawn("client", body)
    }
}
