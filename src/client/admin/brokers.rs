//! The cluster and its brokers: who they are, what they serve, what their disks hold.

use std::collections::BTreeMap;

use super::{Admin, Each};
use crate::client::cluster::{Lane, Topics};
use crate::client::connection::ApiRanges;
use crate::client::error::{ApiError, ClientError};
use crate::client::metadata::BrokerView;
use crate::types::{BrokerId, TopicPartition};
use crate::wire::message::describe_log_dirs::DescribeLogDirsRequest;

/// A cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterDescription {
    pub cluster_id: Option<String>,
    pub controller: Option<BrokerId>,
    pub brokers: Vec<BrokerView>,
}

/// Versions a broker serves, by API key; `Err` says why it could not be asked.
pub type BrokerApis = BTreeMap<BrokerId, Result<ApiRanges, ClientError>>;

/// A log directory of a broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogDir {
    pub path: String,
    /// `None` where the broker is too old to say.
    pub total_bytes: Option<u64>,
    /// `None` where the broker is too old to say.
    pub usable_bytes: Option<u64>,
    pub partitions: BTreeMap<TopicPartition, LogDirPartition>,
}

/// A replica in a log directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogDirPartition {
    pub size_bytes: i64,
    pub offset_lag: i64,
    pub is_future: bool,
}

impl Admin {
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, ClientError> {
        let attempt = || self.cluster.refresh(&Topics::None);
        let view = self
            .cluster
            .retry("describing the cluster", attempt)
            .await?;
        Ok(ClusterDescription {
            cluster_id: view.cluster_id.clone(),
            controller: view.controller,
            brokers: view.brokers.values().cloned().collect(),
        })
    }

    /// What each broker serves.
    pub async fn api_versions(&self) -> Result<BrokerApis, ClientError> {
        let mut all = BrokerApis::new();
        for broker in self.broker_ids().await? {
            let connection = self.cluster.connection(broker, Lane::Control).await;
            all.insert(broker, connection.map(|open| open.ranges().clone()));
        }
        Ok(all)
    }

    /// The log directories of `brokers`, or of all when none are named.
    pub async fn describe_log_dirs(
        &self,
        brokers: &[BrokerId],
    ) -> Result<BTreeMap<BrokerId, Each<String, LogDir>>, ClientError> {
        let brokers = match brokers.is_empty() {
            true => self.broker_ids().await?,
            false => brokers.to_vec(),
        };
        let request = DescribeLogDirsRequest {
            topics: None,
            ..Default::default()
        };
        let mut all = BTreeMap::new();
        for broker in brokers {
            let attempt = || async {
                let answer = self.cluster.call(broker, request.clone()).await?;
                ApiError::check(answer.error_code, None)
                    .map_err(|error| ClientError::refused("describing log directories", error))?;
                Ok(answer)
            };
            let what = "describing log directories";
            let answer = self.cluster.retry(what, attempt).await?;
            let dirs = answer.results.iter().map(|dir| {
                let mut partitions = BTreeMap::new();
                for topic in &dir.topics {
                    for p in &topic.partitions {
                        let key = TopicPartition::new(topic.name.as_str(), p.partition_index);
                        let value = LogDirPartition {
                            size_bytes: p.partition_size,
                            offset_lag: p.offset_lag,
                            is_future: p.is_future_key,
                        };
                        partitions.insert(key, value);
                    }
                }
                let path = dir.log_dir.to_string();
                let result = ApiError::check(dir.error_code, None).map(|()| LogDir {
                    path: path.clone(),
                    total_bytes: u64::try_from(dir.total_bytes).ok(),
                    usable_bytes: u64::try_from(dir.usable_bytes).ok(),
                    partitions,
                });
                (path, result)
            });
            all.insert(broker, dirs.collect());
        }
        Ok(all)
    }
}
