//! DescribeLogDirs: the data directories, their space, and the size of every log in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::log_dir::LogDir;
use crate::types::ErrorCode;
use crate::wire::message::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};

type Wanted = Option<BTreeMap<String, BTreeSet<i32>>>;

pub async fn handle(
    broker: Arc<Broker>,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let wanted: Wanted = request.topics.map(|topics| {
        topics
            .into_iter()
            .map(|topic| {
                (
                    topic.topic.to_string(),
                    topic.partitions.into_iter().collect(),
                )
            })
            .collect()
    });
    let mut results = Vec::with_capacity(broker.log_dirs.len());
    for dir in &broker.log_dirs {
        results.push(describe(&broker, dir, &wanted).await);
    }
    DescribeLogDirsResponse {
        results,
        ..Default::default()
    }
}

async fn describe(broker: &Broker, dir: &LogDir, wanted: &Wanted) -> DescribeLogDirsResult {
    let mut result = DescribeLogDirsResult {
        log_dir: dir.path.to_string_lossy().into_owned().into(),
        topics: topics(broker, dir, wanted),
        ..Default::default()
    };
    match broker.env.disk.space(&dir.path).await {
        Ok(space) => {
            result.total_bytes = i64::try_from(space.total_bytes).unwrap_or(i64::MAX);
            result.usable_bytes = i64::try_from(space.usable_bytes).unwrap_or(i64::MAX);
        }
        Err(error) => {
            tracing::warn!(dir = %dir.path.display(), %error, "space cannot be told");
            result.error_code = ErrorCode::KafkaStorageError.code();
        }
    }
    result
}

fn topics(broker: &Broker, dir: &LogDir, wanted: &Wanted) -> Vec<DescribeLogDirsTopic> {
    let mut topics = Vec::new();
    for topic in broker.partitions.table().topics() {
        let chosen = |partition: i32| match wanted {
            None => true,
            Some(wanted) => wanted
                .get(topic.name.as_ref())
                .is_some_and(|partitions| partitions.contains(&partition)),
        };
        let partitions: Vec<DescribeLogDirsPartition> = topic
            .partitions
            .values()
            .filter(|hosted| hosted.dir.starts_with(&dir.path))
            .filter(|hosted| chosen(hosted.topic_partition.partition))
            .map(|hosted| DescribeLogDirsPartition {
                partition_index: hosted.topic_partition.partition,
                partition_size: i64::try_from(hosted.view.reader().size_bytes())
                    .unwrap_or(i64::MAX),
                offset_lag: 0,
                ..Default::default()
            })
            .collect();
        if !partitions.is_empty() {
            let name = topic.name.as_ref().into();
            topics.push(DescribeLogDirsTopic {
                name,
                partitions,
                ..Default::default()
            });
        }
    }
    topics
}
