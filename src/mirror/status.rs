//! How far copying is, as the broker that does it sees it: for whoever asks, kept nowhere else.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::types::{Offset, Timestamp, TopicId, Uuid};

/// How far a mirror partition that is led here is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MirrorStatus {
    /// Of the copy.
    pub log_end_offset: Offset,
    /// Where the source's records began when it was last heard of.
    pub source_log_start: Offset,
    /// The source's high watermark when it was last heard of: the end of what can be copied.
    pub source_log_end: Offset,
    /// When the source last told of the partition, by the wall clock; -1: never yet.
    pub seen_at: Timestamp,
    /// When the copy last had all that the source had; -1: never yet.
    pub caught_up_at: Timestamp,
    /// Why nothing is copied at the moment, where it should be: the source is out of reach, or an
    /// append was refused. It is tried again.
    pub error: Option<String>,
}

impl Default for MirrorStatus {
    fn default() -> Self {
        Self {
            log_end_offset: Offset::ZERO,
            source_log_start: Offset::ZERO,
            source_log_end: Offset::ZERO,
            seen_at: Timestamp(-1),
            caught_up_at: Timestamp(-1),
            error: None,
        }
    }
}

impl MirrorStatus {
    /// Offsets that the source has and the copy has not.
    #[must_use]
    pub fn lag(&self) -> i64 {
        self.source_log_end.since(self.log_end_offset).max(0)
    }

    /// For how long the copy has not had all that the source had, in milliseconds; `None` if it
    /// never had.
    #[must_use]
    pub fn lag_ms(&self, now: Timestamp) -> Option<i64> {
        match self.caught_up_at.0 {
            -1 => None,
            // Without news of the source there may be more than is known of.
            at => Some(now.0.saturating_sub(at).max(0)),
        }
    }
}

/// How a link is, as the broker that looks after it sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkStatus {
    /// When the source last told which topics it has, by the wall clock; -1: never yet.
    pub seen_at: Timestamp,
    /// Why it did not the last time it was asked.
    pub error: Option<String>,
    /// Topics of the source that the link's patterns name and that are not copied, with the reason.
    pub skipped: BTreeMap<String, String>,
}

impl Default for LinkStatus {
    fn default() -> Self {
        Self {
            seen_at: Timestamp(-1),
            error: None,
            skipped: BTreeMap::new(),
        }
    }
}

/// What is known of the mirror partitions that are led here, and of the links looked after here.
/// Whoever copies or looks after sets it, and takes it away when another broker does.
#[derive(Debug, Default)]
pub struct MirrorStatuses {
    partitions: Mutex<BTreeMap<(TopicId, i32), MirrorStatus>>,
    links: Mutex<BTreeMap<Uuid, LinkStatus>>,
}

impl MirrorStatuses {
    fn partitions(&self) -> MutexGuard<'_, BTreeMap<(TopicId, i32), MirrorStatus>> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<Uuid, LinkStatus>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of a partition; what is not known yet begins as the default.
    pub fn update(&self, topic: TopicId, partition: i32, change: impl FnOnce(&mut MirrorStatus)) {
        change(self.partitions().entry((topic, partition)).or_default());
    }

    /// The partition is not copied here any more.
    pub fn remove(&self, topic: TopicId, partition: i32) {
        self.partitions().remove(&(topic, partition));
    }

    #[must_use]
    pub fn get(&self, topic: TopicId, partition: i32) -> Option<MirrorStatus> {
        self.partitions().get(&(topic, partition)).cloned()
    }

    /// Partitions that are copied here, by topic and index.
    #[must_use]
    pub fn all(&self) -> Vec<((TopicId, i32), MirrorStatus)> {
        let all = self.partitions();
        all.iter().map(|(key, one)| (*key, one.clone())).collect()
    }

    /// Changes what is known of a link; what is not known yet begins as the default.
    pub fn update_link(&self, link: Uuid, change: impl FnOnce(&mut LinkStatus)) {
        change(self.links().entry(link).or_default());
    }

    /// The link is not looked after here any more.
    pub fn remove_link(&self, link: Uuid) {
        self.links().remove(&link);
    }

    /// `None` on brokers that do not look after the link.
    #[must_use]
    pub fn link(&self, link: Uuid) -> Option<LinkStatus> {
        self.links().get(&link).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_seen_has_no_age_and_a_copy_that_is_ahead_has_no_lag() {
        let mut status = MirrorStatus::default();
        assert_eq!(status.lag_ms(Timestamp(5)), None);
        status.caught_up_at = Timestamp(3);
        assert_eq!(status.lag_ms(Timestamp(5)), Some(2));
        assert_eq!(status.lag_ms(Timestamp(1)), Some(0));
        status.log_end_offset = Offset(7);
        status.source_log_end = Offset(5);
        assert_eq!(status.lag(), 0);
        status.source_log_end = Offset(9);
        assert_eq!(status.lag(), 2);
    }

    #[test]
    fn what_is_taken_away_is_not_told_any_more() {
        let statuses = MirrorStatuses::default();
        let (topic, link) = (Uuid([1; 16]), Uuid([2; 16]));
        statuses.update(topic, 3, |status| status.log_end_offset = Offset(4));
        statuses.update_link(link, |status| status.error = Some("away".to_owned()));
        assert_eq!(statuses.all().len(), 1);
        let known = statuses.get(topic, 3).unwrap();
        assert_eq!(known.log_end_offset, Offset(4));
        assert!(statuses.link(link).is_some());
        statuses.remove(topic, 3);
        statuses.remove_link(link);
        assert_eq!((statuses.get(topic, 3), statuses.link(link)), (None, None));
    }
}
