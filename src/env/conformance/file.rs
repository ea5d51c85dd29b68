//! Promises of `File`.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{ok, soon};
use crate::env::{Env, File, OpenMode};

async fn create(env: &Env, path: &Path) -> Arc<dyn File> {
    ok("open", env.disk.open(path, OpenMode::Create).await)
}

fn slice(bytes: &'static [u8]) -> Vec<Bytes> {
    vec![Bytes::from_static(bytes)]
}

/// The whole file.
async fn content(file: &dyn File) -> Bytes {
    let len = ok("len", file.len().await);
    let len = usize::try_from(len).expect("the files written here are small");
    let bytes = ok("read", file.read_at(0, len).await);
    assert_eq!(bytes.len(), len, "a read of the length told");
    bytes
}

pub(super) async fn a_read_sees_a_completed_write(env: &Env, dir: &Path) {
    let file = create(env, &dir.join("file")).await;
    for round in 0..50_u64 {
        let bytes = Bytes::from(round.to_be_bytes().to_vec());
        ok("write", file.write_at(round * 8, vec![bytes.clone()]).await);
        let read = ok("read", file.read_at(round * 8, 8).await);
        assert_eq!(read, bytes, "round {round}");
    }
    let other = ok(
        "open again",
        env.disk.open(&dir.join("file"), OpenMode::Read).await,
    );
    assert_eq!(content(&*other).await.len(), 400, "through another handle");
}

pub(super) async fn a_read_is_short_only_where_the_file_ends(env: &Env, dir: &Path) {
    let file = create(env, &dir.join("file")).await;
    ok("write", file.write_at(0, slice(b"0123456789")).await);
    for (pos, len, expected) in [
        (0, 10, &b"0123456789"[..]),
        (0, 100, b"0123456789"),
        (0, 1 << 20, b"0123456789"),
        (4, 3, b"456"),
        (8, 5, b"89"),
        (3, 0, b""),
        (10, 5, b""),
        (1000, 5, b""),
        (1000, 1 << 20, b""),
    ] {
        let read = ok("read", file.read_at(pos, len).await);
        assert_eq!(&read[..], expected, "{len} bytes from {pos}");
    }
}

pub(super) async fn a_large_read_is_whole(env: &Env, dir: &Path) {
    let file = create(env, &dir.join("file")).await;
    let piece = Bytes::from((0..=255).cycle().take(1 << 20).collect::<Vec<u8>>());
    ok("write", file.write_at(0, vec![piece.clone(); 3]).await);
    let read = ok("read", file.read_at(1, 3 << 20).await);
    assert_eq!(read.len(), (3 << 20) - 1);
    assert_eq!(read[..piece.len() - 1], piece[1..], "the first MiB");
    assert_eq!(read[(2 << 20) - 1..], piece[..], "the last MiB");
}

pub(super) async fn slices_are_written_one_after_another(env: &Env, dir: &Path) {
    let file = create(env, &dir.join("file")).await;
    // More than the operating system takes in one call, and some empty.
    let slices: Vec<Bytes> = (0..3000_u32)
        .map(|number| match number % 3 {
            0 => Bytes::new(),
            _ => Bytes::from(number.to_be_bytes().to_vec()),
        })
        .collect();
    let expected = slices.concat();
    ok("write", file.write_at(5, slices).await);
    assert_eq!(content(&*file).await[5..], expected[..]);
    ok("write of nothing", file.write_at(1 << 20, Vec::new()).await);
    let len = ok("len", file.len().await);
    assert_eq!(len, 5 + expected.len() as u64, "a write of nothing grew it");
}

pub(super) async fn a_gap_reads_as_zeros(env: &Env, dir: &Path) {
    let file = create(env, &dir.join("file")).await;
    ok("write", file.write_at(4, slice(b"end")).await);
    assert_eq!(content(&*file).await, &b"\0\0\0\0end"[..]);
}

pub(super) async fn a_truncate_cuts_and_grows(env: &Env, dir: &Path) {
    let file = create(env, &dir.join("file")).await;
    ok("write", file.write_at(0, slice(b"0123456789")).await);
    ok("cut", file.truncate(4).await);
    assert_eq!(content(&*file).await, &b"0123"[..]);
    ok("grow", file.truncate(6).await);
    assert_eq!(content(&*file).await, &b"0123\0\0"[..]);
}

pub(super) async fn calls_take_effect_in_the_order_they_were_made(env: &Env, dir: &Path) {
    let file = create(env, &dir.join("file")).await;
    for round in 0..20 {
        // Only the last call is awaited, and the first ones are kept or dropped.
        let kept = file.write_at(0, slice(b"aaaaaaaaaa"));
        drop(file.write_at(5, slice(b"bbbbbbbbbb")));
        drop(file.truncate(8));
        drop(file.sync());
        drop(file.write_at(8, slice(b"cc")));
        drop(file.write_at(10, slice(b"dd")));
        drop(file.write_at(0, slice(b"e")));
        drop(file.truncate(11));
        ok("sync", soon(env, "a sync", file.sync()).await);
        let content = content(&*file).await;
        assert_eq!(content, &b"eaaaabbbccd"[..], "round {round}");
        ok("the first write", soon(env, "a write", kept).await);
    }
}

pub(super) async fn a_sync_covers_writes_called_before_it(env: &Env, dir: &Path) {
    let file = create(env, &dir.join("file")).await;
    let mut writes = Vec::new();
    let mut pos = 0;
    for _ in 0..300 {
        writes.push(file.write_at(pos, slice(b"record ")));
        pos += 7;
    }
    ok("sync", soon(env, "a sync", file.sync()).await);
    // Not one of the writes was awaited or polled.
    assert_eq!(content(&*file).await, b"record ".repeat(300));
    for write in writes {
        ok("write", soon(env, "a write before the sync", write).await);
    }
}

pub(super) async fn a_dropped_call_still_happens(env: &Env, dir: &Path) {
    let path = dir.join("file");
    let file = create(env, &path).await;
    drop(file.write_at(0, slice(b"kept")));
    drop(file);
    let file = ok("open", env.disk.open(&path, OpenMode::Read).await);
    soon(env, "a dropped write", async {
        while ok("len", file.len().await) < 4 {
            env.sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(content(&*file).await, &b"kept"[..]);
}

pub(super) async fn the_length_counts_calls_not_yet_carried_out(env: &Env, dir: &Path) {
    let file = create(env, &dir.join("file")).await;
    assert_eq!(ok("len", file.len().await), 0);
    let mut calls = Vec::new();
    for round in 1..=100 {
        calls.push(file.write_at((round - 1) * 3, slice(b"abc")));
        assert_eq!(ok("len", file.len().await), round * 3);
    }
    calls.push(file.truncate(10));
    assert_eq!(ok("len", file.len().await), 10);
    calls.push(file.write_at(2, slice(b"within")));
    assert_eq!(ok("len", file.len().await), 10);
    for call in calls {
        ok("call", soon(env, "a call", call).await);
    }
    assert_eq!(ok("len", file.len().await), 10);
}

pub(super) async fn a_failed_write_fails_later_syncs_until_it_is_cut_off(env: &Env, dir: &Path) {
    // No file reaches to where offsets end.
    const TOO_FAR: u64 = u64::MAX - 1000;
    let file = create(env, &dir.join("file")).await;
    drop(file.write_at(0, slice(b"good")));
    let before = file.sync();
    let bad = file.write_at(TOO_FAR, slice(b"bad"));
    let after = file.sync();
    ok("the sync before", soon(env, "a sync", before).await);
    assert!(
        soon(env, "a write", bad).await.is_err(),
        "written at {TOO_FAR}"
    );
    assert!(
        soon(env, "a sync", after).await.is_err(),
        "the sync after it"
    );
    drop(file.write_at(4, slice(b" more")));
    for _ in 0..2 {
        let again = soon(env, "a sync", file.sync()).await;
        assert!(again.is_err(), "another sync passed over the failure");
    }
    assert_eq!(ok("len", file.len().await), 9, "the length after a failure");
    ok("truncate", file.truncate(4).await);
    ok(
        "a sync after the cut",
        soon(env, "a sync", file.sync()).await,
    );
    assert_eq!(content(&*file).await, &b"good"[..]);
}

pub(super) async fn a_flush_runs_beside_writes_and_syncs(env: &Env, dir: &Path) {
    const RECORDS: u64 = 50;
    let file = create(env, &dir.join("file")).await;
    ok("write", file.write_at(0, slice(b"0123456789")).await);
    for number in 1..RECORDS {
        let flush = file.flush();
        let write = file.write_at(number * 10, slice(b"0123456789"));
        let sync = file.sync();
        ok("sync", soon(env, "a sync", sync).await);
        ok("write", soon(env, "a write", write).await);
        ok("flush", soon(env, "a flush", flush).await);
    }
    let read = content(&*file).await;
    assert_eq!(read.len() as u64, RECORDS * 10);
    assert!(read.chunks(10).all(|record| record == b"0123456789"));
}

pub(super) async fn a_flush_fails_after_a_failed_write_until_it_is_cut_off(env: &Env, dir: &Path) {
    const TOO_FAR: u64 = u64::MAX - 1000;
    let file = create(env, &dir.join("file")).await;
    ok("write", file.write_at(0, slice(b"good")).await);
    ok("flush", soon(env, "a flush", file.flush()).await);
    let bad = file.write_at(TOO_FAR, slice(b"bad")).await;
    assert!(bad.is_err(), "written at {TOO_FAR}");
    for _ in 0..2 {
        let flushed = soon(env, "a flush", file.flush()).await;
        assert!(flushed.is_err(), "a flush passed over the failure");
    }
    let synced = soon(env, "a sync", file.sync()).await;
    assert!(synced.is_err(), "a sync passed over what a flush told of");
    ok("truncate", file.truncate(4).await);
    ok("sync", soon(env, "a sync", file.sync()).await);
    ok("flush", soon(env, "a flush", file.flush()).await);
    assert_eq!(content(&*file).await, &b"good"[..]);
}

pub(super) async fn many_appenders_on_many_files_keep_their_bytes(env: &Env, dir: &Path) {
    const FILES: u8 = 6;
    const APPENDS: usize = 40;
    let mut tasks = Vec::new();
    for number in 0..FILES {
        let file = create(env, &dir.join(format!("file-{number}"))).await;
        tasks.push(env.spawn("appender", async move {
            let record = Bytes::from(vec![number; 100]);
            for count in 0..APPENDS {
                let pos = count as u64 * 100;
                let write = file.write_at(pos, vec![record.clone()]);
                ok("sync", file.sync().await);
                ok("write", write.await);
            }
        }));
    }
    for task in tasks {
        soon(env, "an appender", task.join()).await;
    }
    for number in 0..FILES {
        let path = dir.join(format!("file-{number}"));
        let file = ok("open", env.disk.open(&path, OpenMode::Read).await);
        assert_eq!(content(&*file).await, vec![number; APPENDS * 100]);
    }
}
