//! A handle on a file: the order of its calls, and what a failure leaves in doubt.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use klamm::env::{BoxFuture, File};

use super::counts::Count;
use super::device::{Answer, State, Sync};
use super::{SimDisk, answer_of, now};
use crate::plan::FileKind;

/// What a handle knows beside its file.
#[derive(Default)]
pub(super) struct Handle {
    calls: u64,
    doubt: Option<Doubt>,
}

/// After a failure: the lowest offset concerned, what kind of error it was, and which call.
#[derive(Clone, Copy)]
struct Doubt {
    from: u64,
    kind: io::ErrorKind,
    call: u64,
}

impl Handle {
    fn begin_call(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    /// Fails when something before `call` did and was not made good.
    pub(super) fn check(&self, call: u64) -> io::Result<()> {
        match self.doubt {
            Some(doubt) if doubt.call < call => Err(doubt.kind.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn doubt(&mut self, from: u64, kind: io::ErrorKind, call: u64) {
        self.doubt = Some(match self.doubt {
            Some(doubt) => Doubt {
                from: doubt.from.min(from),
                call: doubt.call.min(call),
                ..doubt
            },
            None => Doubt { from, kind, call },
        });
    }

    fn cut(&mut self, len: u64) {
        if self.doubt.is_some_and(|doubt| len <= doubt.from) {
            self.doubt = None;
        }
    }
}

pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) id: u64,
    pub(super) kind: FileKind,
    pub(super) writable: bool,
    pub(super) handle: Arc<Mutex<Handle>>,
}

impl SimFile {
    fn handle(&self) -> MutexGuard<'_, Handle> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the file now; a failure puts the bytes from `pos` on in doubt.
    fn change(
        &self,
        pos: u64,
        work: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> BoxFuture<'static, io::Result<()>> {
        if !self.writable {
            return now(Err(io::ErrorKind::PermissionDenied.into()));
        }
        self.disk.call(|state| {
            let call = self.handle().begin_call();
            let result = work(state);
            if let Err(error) = &result {
                self.handle().doubt(pos, error.kind(), call);
            }
            result
        })
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        // All handles of a process go when it ends.
        if self.disk.life.is_alive() {
            self.disk.device.state().platter.close(self.id);
        }
    }
}

impl File for SimFile {
    fn len(&self) -> BoxFuture<'_, io::Result<u64>> {
        let len = self.disk.life.check().and_then(|()| {
            let mut state = self.disk.device.state();
            state.platter.inode(self.id).map(|inode| inode.len())
        });
        now(len)
    }

    fn read_at(&self, pos: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        self.disk.call(|state| {
            state.counts.add(Count::Reads, 1);
            if state.faults.at_read(self.kind) {
                state.counts.add(Count::FailedReads, 1);
                return Err(super::device::failed());
            }
            Ok(state.platter.inode(self.id)?.read(pos, len))
        })
    }

    fn write_at(&self, pos: u64, slices: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        let bytes = match <[Bytes; 1]>::try_from(slices) {
            Ok([bytes]) => bytes,
            Err(slices) => slices.concat().into(),
        };
        self.change(pos, |state| {
            let (id, len) = (self.id, bytes.len());
            self.disk.life.event(format_args!("write {id} {pos}+{len}"));
            state.write(id, self.kind, pos, bytes)
        })
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        self.disk.begin(|state| {
            self.disk.life.event(format_args!("sync {}", self.id));
            let call = self.handle().begin_call();
            self.handle().check(call)?;
            state.count_change();
            state.counts.add(Count::Syncs, 1);
            let drawn = state.sync_time();
            let inode = state.platter.inode(self.id)?;
            // Syncs of one file complete in the order they were called.
            let at = drawn.max(inode.synced_at);
            inode.synced_at = at;
            let sync = Sync {
                file: self.id,
                kind: self.kind,
                changes: inode.changes(),
                handle: Arc::clone(&self.handle),
                call,
            };
            let (done, result) = tokio::sync::oneshot::channel();
            state.answer_at(at, Answer::Sync { sync, done });
            Ok(answer_of(result))
        })
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.change(len, |state| {
            let id = self.id;
            self.disk.life.event(format_args!("truncate {id} {len}"));
            state.count_change();
            state.counts.add(Count::Truncates, 1);
            if state.faults.at_truncate(self.kind) {
                state.counts.add(Count::FailedWrites, 1);
                return Err(super::device::failed());
            }
            let result = state.platter.truncate(id, len);
            match &result {
                Ok(()) => self.handle().cut(len),
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    state.counts.add(Count::NoSpace, 1);
                }
                Err(_) => {}
            }
            result
        })
    }
}
