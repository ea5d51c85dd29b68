//! Which round is due.

use super::*;

/// Segments of ten offsets and 100 bytes each, whose records have the timestamps given.
fn segments(timestamps: &[i64]) -> Vec<SealedSegment> {
    (0..)
        .zip(timestamps)
        .map(|(at, timestamp)| SealedSegment {
            base_offset: Offset(10 * at),
            end_offset: Offset(10 * at + 10),
            bytes: 100,
            first_timestamp: Timestamp(*timestamp),
            largest_timestamp: Timestamp(*timestamp),
        })
        .collect()
}

struct Case {
    rules: CompactionRules,
    sealed: Vec<SealedSegment>,
    log_start: i64,
    high_watermark: i64,
    clean: Option<i64>,
    producers: ProducerState,
}

fn case() -> Case {
    Case {
        rules: rules(),
        sealed: segments(&[0, 0, 0, 0]),
        log_start: 0,
        high_watermark: 1000,
        clean: None,
        producers: ProducerState::default(),
    }
}

impl Case {
    fn job(&self) -> Option<CompactionJob> {
        let view = LogView {
            sealed: &self.sealed,
            log_start_offset: Offset(self.log_start),
            high_watermark: Offset(self.high_watermark),
            producers: &self.producers,
            aborted: &[],
            clean_point: self.clean.map(|at| CleanPoint {
                first_dirty: Offset(at),
            }),
        };
        plan(&self.rules, &view, Timestamp(100_000))
    }

    fn span(&self) -> Option<(i64, i64)> {
        let job = self.job()?;
        Some((job.first_dirty.0, job.end.0))
    }
}

#[test]
fn a_round_covers_all_sealed_segments() {
    assert_eq!(case().span(), Some((0, 40)));
    let empty = Case {
        sealed: Vec::new(),
        ..case()
    };
    assert_eq!(empty.span(), None);
}

#[test]
fn nothing_at_or_above_the_high_watermark_is_cleaned() {
    let at = |high_watermark| Case {
        high_watermark,
        ..case()
    };
    assert_eq!(at(29).span(), Some((0, 20)));
    assert_eq!(at(30).span(), Some((0, 30)));
    assert_eq!(at(9).span(), None);
}

#[test]
fn nothing_from_an_open_transaction_on_is_cleaned() {
    let mut log = TestLog::default();
    for _ in 0..25 {
        log.append(batch(&log, 0, &[("k", Some("v"))]));
    }
    let mut builder = BatchBuilder::new(log.end, Compression::None, None)
        .producer(ProducerId(1), ProducerEpoch(0), Sequence(0))
        .transactional();
    builder.push(Timestamp(0), Some(b"k"), Some(b"v"), &[]);
    log.append(builder.build());
    let open = Case {
        producers: log.producers(),
        ..case()
    };
    assert_eq!(open.span(), Some((0, 20)));
}

#[test]
fn a_round_is_due_above_the_dirty_ratio() {
    let at = |min_cleanable_dirty_ratio, clean| Case {
        rules: CompactionRules {
            min_cleanable_dirty_ratio,
            ..rules()
        },
        clean: Some(clean),
        ..case()
    };
    assert_eq!(at(0.5, 10).span(), Some((10, 40)));
    assert_eq!(at(0.5, 20).span(), None);
    assert_eq!(at(0.49, 20).span(), Some((20, 40)));
    assert_eq!(at(0.0, 40).span(), None);
}

#[test]
fn young_segments_wait_for_the_minimal_lag() {
    let young = Case {
        rules: CompactionRules {
            min_compaction_lag_ms: 1000,
            ..rules()
        },
        sealed: segments(&[0, 98_999, 99_001, 0]),
        ..case()
    };
    assert_eq!(young.span(), Some((0, 20)));
}

#[test]
fn an_old_dirty_segment_is_due_whatever_the_ratio() {
    let old = |timestamp| Case {
        rules: CompactionRules {
            min_cleanable_dirty_ratio: 0.9,
            max_compaction_lag_ms: 1000,
            ..rules()
        },
        sealed: segments(&[0, 0, 0, timestamp]),
        clean: Some(30),
        ..case()
    };
    assert_eq!(old(98_999).span(), Some((30, 40)));
    assert_eq!(old(99_500).span(), None);
}

#[test]
fn a_clean_point_outside_the_log_is_not_believed() {
    let at = |clean| Case {
        sealed: segments(&[0, 0, 0, 0])[1..].to_vec(),
        log_start: 15,
        clean: Some(clean),
        ..case()
    };
    assert_eq!(at(3).span(), Some((15, 40)));
    assert_eq!(at(41).span(), Some((15, 40)));
    assert_eq!(at(20).span(), Some((20, 40)));
}

#[test]
fn small_segments_are_merged_up_to_the_segment_size() {
    let merged = Case {
        rules: CompactionRules {
            segment_bytes: 250,
            ..rules()
        },
        ..case()
    };
    let bases: Vec<Vec<i64>> = merged
        .job()
        .expect("due")
        .groups
        .iter()
        .map(|group| group.sources.iter().map(|base| base.0).collect())
        .collect();
    assert_eq!(bases, [vec![0, 10], vec![20, 30]]);
}

#[test]
fn merged_offsets_stay_within_an_i32_of_the_base() {
    let mut sealed = segments(&[0, 0]);
    sealed[1].end_offset = Offset(i64::from(i32::MAX) + 1);
    let groups = |sealed: &[SealedSegment]| {
        let wide = Case {
            sealed: sealed.to_vec(),
            high_watermark: i64::MAX,
            ..case()
        };
        wide.job().expect("due").groups.len()
    };
    assert_eq!(groups(&sealed), 2);
    sealed[1].end_offset = Offset(i64::from(i32::MAX));
    assert_eq!(groups(&sealed), 1);
}

#[test]
fn a_saved_clean_point_is_loaded_again() {
    let disk = crate::log::test_disk::TestDisk::default();
    let dir = std::path::Path::new("/data/t-0");
    assert_eq!(
        block_on(CleanPoint::load(&disk, dir)).expect("no error"),
        None
    );
    let point = CleanPoint {
        first_dirty: Offset(42),
    };
    block_on(point.save(&disk, dir)).expect("the disk works");
    let loaded = block_on(CleanPoint::load(&disk, dir)).expect("not damaged");
    assert_eq!(loaded, Some(point));
}
