//! Asks where partitions begin and end, and what offset a time has.

use klamm_jepsen::history::ListedAt;

use super::{Client, offsets};
use crate::plan::Role;

pub(super) async fn run(mut client: Client) {
    let Role::Lister { topic, pause_ms } = client.plan.role.clone() else {
        return;
    };
    let mut line = client.line();
    let began = client.env.wall().0;
    while !client.stop.is_set() {
        let of = client.draw_partition(&topic);
        let at = match client.rng.below(5) {
            0 | 1 => ListedAt::Earliest,
            2 | 3 => ListedAt::Latest,
            _ => {
                let passed = u64::try_from(client.env.wall().0 - began).unwrap_or(0);
                let drawn = i64::try_from(client.rng.below(passed + 2000)).unwrap_or(0);
                ListedAt::Timestamp((began + drawn - 1000).max(0))
            }
        };
        if offsets::list(&mut line, &of, at).await.is_err() {
            line.wait_a_little().await;
        }
        client.pause(pause_ms).await;
    }
}
