//! The requests that links are made, promoted and described by.

use std::collections::BTreeMap;

use klamm::wire::Str;
use klamm::wire::message::alter_links::{AlterLinksRequest, AlterLinksResponse};
use klamm::wire::message::describe_links::{
    DescribeLinksRequest, DescribedMirror, DescribedMirrorPartition,
};
use klamm_jepsen::history::{Mirrored, Partition};

use super::super::errors::error_name;
use super::super::line::Line;
use crate::plan::LinkPlan;

/// Operations of AlterLinks.
const CREATE: i8 = 0;
const PROMOTE: i8 = 3;
const TIMEOUT_MS: i32 = 5000;

fn strs(texts: &[String]) -> Vec<Str> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

async fn alter(line: &mut Line, request: AlterLinksRequest) -> Result<AlterLinksResponse, String> {
    line.anyone();
    line.open().await?;
    let answer = line.call(request, 1).await?;
    match error_name(answer.error_code) {
        None => Ok(answer),
        Some(error) => Err(error),
    }
}

pub(super) async fn create(line: &mut Line, link: &LinkPlan) -> Result<(), String> {
    let addresses: Vec<String> = link.bootstrap.split(',').map(str::to_owned).collect();
    let limit = link.bytes_per_second.unwrap_or(0);
    let request = AlterLinksRequest {
        operation: CREATE,
        timeout_ms: TIMEOUT_MS,
        name: Some(link.name.as_str().into()),
        mode: i8::from(link.identity),
        replication_policy: i8::from(link.identity),
        alias: link.identity.then(|| "here".into()),
        source_heartbeats: link.identity,
        bootstrap: Some(strs(&addresses)),
        topics: Some(strs(&link.topics)),
        groups: Some(strs(&link.groups)),
        bytes_per_second: i64::try_from(limit).unwrap_or(i64::MAX),
        ..Default::default()
    };
    match alter(line, request).await {
        // Of an attempt whose answer was lost.
        Err(error) if error == "DUPLICATE_RESOURCE" => Ok(()),
        done => done.map(drop),
    }
}

pub(super) async fn promote(line: &mut Line, link: &LinkPlan) -> Result<(), String> {
    let request = AlterLinksRequest {
        operation: PROMOTE,
        timeout_ms: TIMEOUT_MS,
        name: Some(link.name.as_str().into()),
        ..Default::default()
    };
    let answer = alter(line, request).await?;
    let mut refused = answer.promoted.iter();
    match refused.find_map(|topic| error_name(topic.error_code)) {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

/// What the brokers at `addresses` tell together: of each partition what its leader does, if it is
/// among them.
pub(super) async fn describe(
    line: &mut Line,
    link: &LinkPlan,
    addresses: &str,
) -> Result<Vec<Mirrored>, String> {
    let mut found: BTreeMap<Partition, (bool, Mirrored)> = BTreeMap::new();
    for address in addresses.split(',') {
        line.toward(address);
        line.open().await?;
        let request = DescribeLinksRequest {
            links: Some(vec![link.name.as_str().into()]),
            include_mirrors: true,
            ..Default::default()
        };
        let answer = line.call(request, 0).await?;
        if let Some(error) = error_name(answer.error_code) {
            return Err(error);
        }
        for topic in &answer.mirrors {
            for partition in &topic.partitions {
                let told = mirrored(topic, partition);
                let known = found
                    .entry(told.of.clone())
                    .or_insert((false, told.clone()));
                if partition.led_here {
                    *known = (true, told);
                }
            }
        }
    }
    line.toward("");
    Ok(found.into_values().map(|(_, told)| told).collect())
}

fn mirrored(topic: &DescribedMirror, partition: &DescribedMirrorPartition) -> Mirrored {
    let of_topic = topic
        .reason
        .as_ref()
        .map(|reason| reason.as_str().to_owned());
    let fault = partition
        .fault
        .as_ref()
        .map(|fault| fault.as_str().to_owned());
    Mirrored {
        of: Partition {
            topic: topic.topic.as_str().to_owned(),
            partition: partition.partition,
        },
        state: topic.state.as_str().to_lowercase(),
        log_end_offset: partition.copied_end,
        source_end_offset: partition.source_log_end,
        fault: fault.or(of_topic),
    }
}
