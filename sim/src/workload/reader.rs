//! A reader without a group: all partitions of a topic from their starts, for ever.

use std::time::Duration;

use klamm_jepsen::history::{Fetched, Partition};

use super::fetching::{FetchOptions, Fetching};
use super::line::Line;
use super::{Client, offsets};
use crate::plan::Role;

/// A reader that waits less than this at the broker waits by itself where nothing is new.
const EMPTY_WAIT_MS: i32 = 10;

pub(super) async fn run(mut client: Client) {
    let Role::Reader {
        topic,
        max_bytes,
        partition_max_bytes,
        max_wait_ms,
        session,
        committed,
        pause_ms,
        restart_percent,
        rack,
        ..
    } = client.plan.role.clone()
    else {
        return;
    };
    let options = FetchOptions {
        max_bytes,
        partition_max_bytes,
        session,
        committed,
    };
    let mut line = client.line();
    let mut fetching = Fetching::new(options).in_rack(rack);
    let partitions = client.partitions(&topic);
    let wait_bound = u64::try_from(max_wait_ms).unwrap_or(0) + 1;
    while !client.stop.is_set() {
        let restart = !fetching.is_empty() && client.percent(restart_percent);
        if fetching.is_empty() || restart {
            if let Ok(positions) = offsets::starts(&mut line, &partitions).await {
                offsets::assign(&line, positions.clone());
                fetching.assign(&positions);
            } else {
                line.wait_a_little().await;
                continue;
            }
        }
        let wait = match client.rng.below(2) {
            0 => max_wait_ms,
            _ => i32::try_from(client.rng.below(wait_bound)).unwrap_or(0),
        };
        match fetching.fetch(&mut line, wait).await {
            Ok(fetched) => {
                if recover(&mut line, &mut fetching, &fetched).await {
                    line.wait_a_little().await;
                }
                let is_empty = fetched.iter().all(|part| part.records.is_empty());
                if is_empty && wait < EMPTY_WAIT_MS {
                    client.rest(Duration::from_millis(10)).await;
                }
            }
            Err(_) => line.wait_a_little().await,
        }
        client.pause(pause_ms).await;
    }
}

/// Goes on from the start where the position is no longer there. Whether there were errors.
pub(super) async fn recover(line: &mut Line, fetching: &mut Fetching, fetched: &[Fetched]) -> bool {
    let lost: Vec<Partition> = fetched
        .iter()
        .filter(|part| part.error.as_deref() == Some("OFFSET_OUT_OF_RANGE"))
        .map(|part| part.of.clone())
        .collect();
    if !lost.is_empty()
        && let Ok(positions) = offsets::starts(line, &lost).await
    {
        for position in &positions {
            fetching.seek(position);
        }
        offsets::assign(line, fetching.positions());
    }
    fetched.iter().any(|part| part.error.is_some())
}
