//! An open file as its handle and its writer share it: how long it is, what waits to be done to
//! it, and what a sync can no longer vouch for.

use std::fs::File;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::writer::{Jobs, retry_interrupted};

/// A file as its writer and its handle share it.
pub(super) struct OpenFile {
    pub(super) file: File,
    /// Held while the device is asked to sync, until it is noted whether it did: the kernel tells
    /// an error once, and whoever asks next must learn of it all the same.
    syncing: Mutex<()>,
    state: Mutex<FileState>,
}

pub(super) struct FileState {
    /// Length once all that was called is carried out, if it succeeds.
    len: u64,
    /// Writes and truncates called and not yet carried out.
    pending: u64,
    pub(super) doubt: Doubt,
    /// A sync beside the writer failed: the kernel has told its error, and will not again.
    has_flush_failed: bool,
    pub(super) jobs: Jobs,
}

/// What of a file a sync can no longer vouch for.
///
/// A failed write leaves a hole, and after a failed `fdatasync` the kernel may have dropped the
/// pages and forgets the error, so that the next one would succeed. Either way the bytes from some
/// offset on are in doubt, and every later sync fails with the first error, whoever asks, until a
/// truncate has cut the doubtful bytes off.
pub(super) struct Doubt {
    /// Lowest offset changed since the last good sync. A file just opened may hold bytes that an
    /// earlier process wrote and did not sync, so it begins at 0.
    pub(super) unsynced_from: u64,
    /// Lowest offset in doubt, and why.
    from: Option<(u64, Failure)>,
}

/// An error that is told more than once.
struct Failure {
    kind: io::ErrorKind,
    text: String,
}

impl Failure {
    fn again(&self) -> io::Error {
        let text = format!("not durable since an earlier failure: {}", self.text);
        io::Error::new(self.kind, text)
    }
}

impl Doubt {
    /// Nothing changed since the last good sync.
    pub(super) const CLEAN: u64 = u64::MAX;

    fn changed(&mut self, pos: u64) {
        self.unsynced_from = self.unsynced_from.min(pos);
    }

    pub(super) fn failed(&mut self, pos: u64, error: &io::Error) {
        match &mut self.from {
            Some((from, _)) => *from = (*from).min(pos),
            None => {
                let failure = Failure {
                    kind: error.kind(),
                    text: error.to_string(),
                };
                self.from = Some((pos, failure));
            }
        }
    }

    pub(super) fn cut(&mut self, len: u64) {
        if self.from.as_ref().is_some_and(|(from, _)| len <= *from) {
            self.from = None;
        }
    }

    pub(super) fn error(&self) -> Option<io::Error> {
        self.from.as_ref().map(|(_, failure)| failure.again())
    }
}

impl FileState {
    /// Foretells what a write of `bytes` bytes at `pos` does.
    pub(super) fn write_called(&mut self, pos: u64, bytes: u64) {
        if bytes > 0 {
            self.len = self.len.max(pos.saturating_add(bytes));
        }
        self.pending += 1;
    }

    /// Foretells what a truncate to `len` does.
    pub(super) fn truncate_called(&mut self, len: u64) {
        self.len = len;
        self.pending += 1;
    }
}

impl OpenFile {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self {
            file,
            syncing: Mutex::default(),
            state: Mutex::new(FileState {
                len,
                pending: 0,
                doubt: Doubt {
                    unsynced_from: 0,
                    from: None,
                },
                has_flush_failed: false,
                jobs: Jobs::default(),
            }),
        })
    }

    /// Asks the device, by the writer (`all`: it writes nothing meanwhile) or beside it.
    pub(super) fn sync_data(&self, all: bool) -> io::Result<()> {
        let _alone = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let state = self.state();
            if let Some(error) = state.doubt.error()
                && (!all || state.has_flush_failed)
            {
                return Err(error);
            }
        }
        let result = retry_interrupted(|| rustix::fs::fdatasync(&self.file));
        let mut state = self.state();
        state.has_flush_failed |= !all && result.is_err();
        let doubt = &mut state.doubt;
        match &result {
            Err(error) => {
                let from = doubt.unsynced_from;
                doubt.failed(if from == Doubt::CLEAN { 0 } else { from }, error);
            }
            Ok(()) if all => doubt.unsynced_from = Doubt::CLEAN,
            Ok(()) => {}
        }
        drop(state);
        result
    }

    /// Length with all that was called so far.
    pub(super) fn len(&self) -> io::Result<u64> {
        let state = self.state();
        if state.pending > 0 {
            return Ok(state.len);
        }
        Ok(self.file.metadata()?.len())
    }

    pub(super) fn state(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a write or truncate of the bytes from `pos` on ended in `result`.
    pub(super) fn carried_out(&self, result: &io::Result<()>, pos: u64) {
        let mut state = self.state();
        state.doubt.changed(pos);
        if let Err(error) = result {
            state.doubt.failed(pos, error);
        }
        state.pending -= 1;
        if state.pending == 0 && state.doubt.from.is_some() {
            // The length foretold may be wrong.
            if let Ok(metadata) = self.file.metadata() {
                state.len = metadata.len();
            }
        }
    }
}
