//! Commits and reads back offsets of a group without being a member of it.

use klamm_jepsen::history::{Committed, Membership};

use super::line::Line;
use super::{Client, groups};
use crate::plan::Role;

/// What is drawn when it reads.
const READS: u64 = 55;

pub(super) async fn run(mut client: Client) {
    let Role::Committer {
        group,
        topic,
        pause_ms,
        only_reads,
    } = client.plan.role.clone()
    else {
        return;
    };
    let mut line = client.line();
    let mut count = 0;
    while !client.stop.is_set() {
        let of = client.draw_partition(&topic);
        let drawn = match only_reads {
            true => READS,
            false => client.rng.below(100),
        };
        let done = match drawn {
            0..READS => {
                count += 1;
                commit(&mut client, &mut line, &group, &topic, count).await
            }
            READS..92 => {
                let all = client.partitions(&topic);
                let found = groups::fetch_committed(&mut line, &group, &all).await;
                found.map(drop)
            }
            92..96 => groups::delete_offsets(&mut line, &group, &of).await,
            96..99 => groups::describe(&mut line, &group).await.map(drop),
            _ => groups::delete(&mut line, &group).await,
        };
        if done.is_err() {
            line.wait_a_little().await;
        }
        client.pause(pause_ms).await;
    }
}

/// Commits some partitions.
async fn commit(
    client: &mut Client,
    line: &mut Line,
    group: &str,
    topic: &str,
    count: u64,
) -> Result<(), String> {
    let mut of = client.partitions(topic);
    let kept = 1 + client.rng.below(u64::try_from(of.len()).unwrap_or(1));
    while u64::try_from(of.len()).unwrap_or(0) > kept {
        let bound = u64::try_from(of.len()).unwrap_or(1);
        of.remove(usize::try_from(client.rng.below(bound)).unwrap_or(0));
    }
    let metadata = format!("{}:{count}", client.plan.name);
    let offsets: Vec<Committed> = of
        .into_iter()
        .map(|of| Committed {
            of,
            offset: i64::try_from(client.rng.below(10_000)).unwrap_or(0),
            metadata: metadata.clone(),
        })
        .collect();
    let by = Membership {
        group: group.to_owned(),
        member: String::new(),
        generation: -1,
        instance: None,
    };
    groups::commit(line, &by, &offsets).await.map(drop)
}
