//! Damage to what was durable: told, never served, never cut.

use super::*;
use crate::log::ReadError;

/// Three segments, the last with its durable slot up to date.
fn damaged_bench() -> (Bench, Vec<RecordBatch>, Vec<PathBuf>) {
    let mut bench = Bench::new();
    bench.config.segment_bytes = 420;
    let mut log = bench.create();
    fill(&mut log, 7);
    run(log.stamp()).unwrap();
    let batches = read_all(&log.reader(), Offset(0), 9999);
    let names = bench.disk.names();
    let files = names.iter().filter(|name| name.ends_with(".log"));
    let files: Vec<PathBuf> = files.map(|name| bench.path(name)).collect();
    assert_eq!(files.len(), 4);
    (bench, batches, files)
}

/// Opens the log and reads every batch by itself: the right bytes or an error. How many errors;
/// `None` when the log was refused.
fn look(bench: &Bench, clean: Option<CleanEnd>, batches: &[RecordBatch]) -> Option<usize> {
    let log = match bench.try_open(clean) {
        Ok((log, recovery)) => {
            assert_eq!(recovery.cut, None);
            log
        }
        Err(error) => {
            assert!(
                matches!(error, LogError::Corrupt(_) | LogError::Foreign { .. }),
                "{error}"
            );
            return None;
        }
    };
    let reader = log.reader();
    let mut errors = 0;
    assert_eq!(reader.log_end_offset(), Offset(21));
    for batch in batches {
        let from = batch.header.base_offset;
        match run(reader.read(from, Offset(21), 1, true)) {
            Ok(read) => assert_eq!(split(read.concat())[0], *batch),
            Err(ReadError::Corrupt(_)) => errors += 1,
            Err(error) => panic!("{error}"),
        }
    }
    Some(errors)
}

#[test]
fn a_flipped_byte_of_durable_data_is_told_and_never_served_or_cut() {
    let (bench, batches, files) = damaged_bench();
    assert_eq!(look(&bench, None, &batches), Some(0));
    for (number, path) in files.iter().enumerate() {
        let content = bench.disk.content(path);
        for at in (0..64)
            .chain(512..576)
            .chain(1024..1088)
            .chain(4096..content.len())
        {
            let copy = Bench {
                disk: bench.disk.copy(),
                dir: bench.dir.clone(),
                tail_cache: bench.tail_cache.clone(),
                config: bench.config.clone(),
            };
            copy.disk.damage(path, |bytes| bytes[at] ^= 1 << (at % 8));
            let found = look(&copy, None, &batches);
            let last = number + 1 == files.len();
            match at {
                0..64 => assert_eq!(found, None, "header byte {at} of file {number}"),
                512..4096 => assert_eq!(found, Some(0), "slot byte {at} of file {number}"),
                _ if last => assert_eq!(found, None, "byte {at} of the last file"),
                _ => assert!(
                    found.is_some_and(|errors| errors > 0),
                    "byte {at} of {number}"
                ),
            }
            if at >= 4096 {
                let mut expected = content.clone();
                expected[at] ^= 1 << (at % 8);
                assert_eq!(copy.disk.content(path), expected, "nothing was changed");
            }
        }
    }
}

#[test]
fn a_file_that_lost_its_durable_end_is_refused() {
    let (bench, _, files) = damaged_bench();
    for path in &files {
        let full = bench.disk.content(path).len();
        for lost in [1, 50, full - 4096] {
            let copy = Bench {
                disk: bench.disk.copy(),
                dir: bench.dir.clone(),
                tail_cache: bench.tail_cache.clone(),
                config: bench.config.clone(),
            };
            copy.disk.damage(path, |bytes| bytes.truncate(full - lost));
            let refused = copy.try_open(None);
            assert!(
                matches!(refused, Err(LogError::Corrupt(_))),
                "{lost} of {}",
                path.display()
            );
        }
    }
}

#[test]
fn a_log_whose_only_segment_is_gone_but_for_its_name_is_refused() {
    for left in [0, 10, 4096] {
        let bench = Bench::new();
        let mut log = bench.create();
        fill(&mut log, 3);
        let clean = run(log.close()).unwrap();
        let damage = |bytes: &mut Vec<u8>| {
            bytes.truncate(left);
            bytes.fill(0);
        };
        bench.disk.damage(&bench.segment(0), damage);
        for clean in [None, Some(clean)] {
            let refused = bench.try_open(clean);
            assert!(matches!(refused, Err(LogError::Corrupt(_))), "{left} bytes");
        }
    }
}

#[test]
fn a_missing_segment_is_noticed() {
    for gone in 0..3 {
        let (bench, _, files) = damaged_bench();
        bench.disk.remove_now(&files[gone]);
        assert!(bench.try_open(None).is_err(), "segment {gone}");
    }
}

#[test]
fn damage_after_a_clean_end_is_never_cut() {
    let bench = Bench::new();
    let mut log = bench.create();
    fill(&mut log, 5);
    let clean = run(log.close()).unwrap();
    let path = bench.segment(0);
    bench
        .disk
        .damage(&path, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let (log, _) = bench.open(Some(clean));
    let read = run(log.reader().read(Offset(12), Offset(15), 999, true));
    let Err(ReadError::Corrupt(corruption)) = read else {
        panic!("the last batch is damaged");
    };
    assert_eq!(corruption.path, path);
    assert_eq!(corruption.offset, Offset(12));
    let text = corruption.to_string();
    assert!(text.contains("00000000000000000000.log"), "{text}");
    assert!(text.contains("Restore the file from a copy"), "{text}");
    bench
        .disk
        .remove_now(&bench.path("00000000000000000000.index"));
    assert!(matches!(
        bench.try_open(Some(clean)),
        Err(LogError::Corrupt(_))
    ));
}

#[test]
fn an_unsynced_torn_tail_is_cut_and_reported() {
    let bench = Bench::new();
    let mut log = bench.create();
    fill(&mut log, 3);
    let path = bench.segment(0);
    let full = bench.disk.content(&path).len();
    for (what, tail) in [("zeros", vec![0; 700]), ("half a batch", vec![7; 30])] {
        let copy = Bench {
            disk: bench.disk.copy(),
            dir: bench.dir.clone(),
            tail_cache: bench.tail_cache.clone(),
            config: bench.config.clone(),
        };
        copy.disk.damage(&path, |bytes| bytes.extend(&tail));
        let (log, recovery) = copy.open(None);
        let cut = recovery.cut.expect(what);
        assert_eq!((cut.position, cut.bytes), (full as u64, tail.len() as u64));
        assert_eq!(cut.from_offset, Offset(9));
        assert_eq!(log.log_end_offset(), Offset(9));
        assert_eq!(copy.disk.content(&path).len(), full);
    }
}

#[test]
fn another_topics_directory_is_refused() {
    let bench = Bench::new();
    let mut log = bench.create();
    fill(&mut log, 3);
    drop(log);
    let mut options = bench.options(None);
    options.identity.topic_id = TopicId::from_random([6; 16]);
    let refused = run(Log::open(&bench.disk.env(), &bench.dir, options.clone()));
    assert!(matches!(refused, Err(LogError::AnotherTopic { .. })));
    let refused = run(Log::create(&bench.disk.env(), &bench.dir, options));
    assert!(matches!(refused, Err(LogError::Exists { .. })));
    bench.disk.remove_now(&bench.path("partition.metadata"));
    assert!(matches!(
        bench.try_open(None),
        Err(LogError::Foreign { .. })
    ));
}

#[test]
fn what_was_written_to_a_log_is_known_for_its_own_without_its_identity() {
    let bench = Bench::new();
    let left = |identity: &LogIdentity| {
        let env = bench.disk.env();
        run(identity.left_records_in(&*env.disk, &bench.dir)).unwrap()
    };
    let own = bench.options(None).identity;
    let another = LogIdentity {
        topic_id: TopicId::from_random([6; 16]),
        ..own.clone()
    };
    let mut log = bench.create();
    assert!(!left(&own), "nothing was written");
    fill(&mut log, 3);
    drop(log);
    let path = bench.path("partition.metadata");
    let text = format!("version: 0\ntopic_id: {}\n", another.topic_id);
    bench.disk.damage(&path, |bytes| *bytes = text.into_bytes());
    let opened = bench.try_open(None);
    assert!(matches!(opened, Err(LogError::AnotherTopic { .. })));
    assert!(left(&own) && !left(&another));
    bench.disk.remove_now(&path);
    assert!(left(&own) && !left(&another));
}

#[test]
fn a_segment_of_another_partition_is_refused() {
    let bench = Bench::new();
    let mut log = bench.create();
    fill(&mut log, 3);
    drop(log);
    let mut other = Bench::new();
    other.dir = bench.dir.clone();
    let mut options = other.options(None);
    options.identity.topic_partition = TopicPartition::new("orders", 4);
    let mut log = run(Log::create(&other.disk.env(), &other.dir, options)).unwrap();
    fill(&mut log, 3);
    let strayed = other.disk.content(&other.segment(0));
    bench
        .disk
        .damage(&bench.segment(0), |bytes| *bytes = strayed);
    assert!(matches!(
        bench.try_open(None),
        Err(LogError::Foreign { .. })
    ));
}

#[test]
fn a_batch_that_says_a_wrong_offset_is_not_taken_for_the_end_of_a_cut() {
    let bench = Bench::new();
    let mut log = bench.create();
    fill(&mut log, 4);
    let batches = read_all(&log.reader(), Offset(0), 9999);
    let first = batches[0].total_bytes();
    let names = bench.disk.names();
    let name = names
        .iter()
        .find(|name| name.ends_with(".log"))
        .expect("there is one");
    // The second batch says that it begins far beyond the end of the log; its CRC is right.
    bench
        .disk
        .damage(&bench.path(name), |bytes| bytes[4096 + first + 5] ^= 0x40);
    let (cut, end) = (batches[3].header.base_offset, log.log_end_offset());
    let error = run(log.truncate_to(cut)).expect_err("it would take what is to stay");
    assert!(matches!(error, LogError::Corrupt(_)), "{error}");
    assert!(
        bench.disk.content(&bench.path(name)).len() > 4096 + 2 * first,
        "{end}"
    );
}

#[test]
fn a_record_is_not_looked_up_by_its_time_past_damage() {
    let (bench, batches, files) = damaged_bench();
    let index = files[0].with_extension("index");
    bench.disk.remove_now(&index);
    let second = 4096 + batches[0].total_bytes() + 70;
    bench.disk.damage(&files[0], |bytes| bytes[second] ^= 1);
    let (log, _) = bench.open(None);
    let reader = log.reader();
    let look = |at: i64| run(reader.offset_for_timestamp(Timestamp(at), Offset(21)));
    let (timestamp, offset, _) = look(1001).unwrap().expect("it lies before the damage");
    assert_eq!((timestamp, offset), (Timestamp(1001), Offset(1)));
    for at in [1003, 1010, 1020, 1060] {
        let found = look(at);
        assert!(
            matches!(found, Err(ReadError::Corrupt(_))),
            "{at}: {found:?}"
        );
    }
    let largest = run(reader.offset_of_max_timestamp(Offset(21)));
    assert!(matches!(largest, Err(ReadError::Corrupt(_))), "{largest:?}");
}
