//! An open file whose changes can be undone until a sync covers them.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::tokio::runtime::Handle;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use super::disk::{Account, spawned};
use super::journal::{Fact, FileId};
use crate::env::{BoxFuture, File};

/// A file, whatever its names and handles.
pub(super) struct Inode {
    pub(super) id: FileId,
    /// To read what is overwritten.
    reader: fs::File,
    content: Mutex<Content>,
}

struct Content {
    /// With all changes called so far.
    len: u64,
    /// Changes called and not carried out yet, in order.
    under_way: Vec<(u64, Change)>,
}

enum Change {
    Write { pos: u64, bytes: Vec<u8> },
    Truncate { to: u64 },
}

impl Inode {
    pub(super) fn open(id: FileId, path: &Path) -> io::Result<Self> {
        let reader = fs::File::open(path)?;
        let len = reader.metadata()?.len();
        Ok(Self {
            id,
            reader,
            content: Mutex::new(Content {
                len,
                under_way: Vec::new(),
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carried_out(&self, number: u64) {
        let mut content = self.lock();
        content.under_way.retain(|(known, _)| *known != number);
    }

    /// The bytes from `from` to `to`, which lie within the file, with all changes called so far.
    fn old(&self, content: &Content, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let mut old = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(0)];
        let mut read = 0;
        while read < old.len() {
            let at = from + read as u64;
            match self.reader.read_at(&mut old[read..], at)? {
                // The rest is not carried out yet.
                0 => break,
                len => read += len,
            }
        }
        for (_, change) in &content.under_way {
            match change {
                Change::Write { pos, bytes } => lay_over(&mut old, from, *pos, bytes),
                Change::Truncate { to } => {
                    let kept = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
                    if kept < old.len() {
                        old[kept..].fill(0);
                    }
                }
            }
        }
        Ok(old)
    }
}

/// Puts `bytes`, which begin at `pos`, over those that begin at `from`.
fn lay_over(old: &mut [u8], from: u64, pos: u64, bytes: &[u8]) {
    for (at, byte) in bytes.iter().enumerate() {
        let place = (pos + at as u64).checked_sub(from);
        let place = place.and_then(|place| usize::try_from(place).ok());
        if let Some(slot) = place.and_then(|place| old.get_mut(place)) {
            *slot = *byte;
        }
    }
}

pub(super) struct UndoableFile {
    pub(super) inner: Arc<dyn File>,
    pub(super) inode: Arc<Inode>,
    pub(super) account: Arc<Account>,
    pub(super) runtime: Handle,
}

impl UndoableFile {
    /// Enters `fact`, then calls the change, before any other of this file is called.
    fn change(
        &self,
        entered: impl FnOnce(&Content) -> io::Result<(Fact, Change, u64)>,
        call: impl FnOnce(&dyn File) -> BoxFuture<'static, io::Result<()>>,
    ) -> BoxFuture<'static, io::Result<()>> {
        let called = {
            let mut content = self.inode.lock();
            let entered = entered(&content).and_then(|(fact, change, len)| {
                let number = self.account.lock().journal.enter(&fact)?;
                content.under_way.push((number, change));
                content.len = len;
                Ok(number)
            });
            entered.map(|number| (number, call(&*self.inner)))
        };
        let (number, called) = match called {
            Ok(called) => called,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let inode = Arc::clone(&self.inode);
        spawned(&self.runtime, async move {
            let done = called.await;
            inode.carried_out(number);
            done
        })
    }
}

impl File for UndoableFile {
    fn len(&self) -> BoxFuture<'_, io::Result<u64>> {
        self.inner.len()
    }

    fn read_at(&self, pos: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        self.inner.read_at(pos, len)
    }

    fn write_at(&self, pos: u64, slices: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        let (file, inode) = (self.inode.id, &self.inode);
        let bytes = slices.concat();
        let entered = |content: &Content| {
            let (len, before) = (bytes.len() as u64, content.len);
            let end = pos.saturating_add(len);
            let old = inode.old(content, pos, end.min(before))?;
            let fact = Fact::Wrote {
                file,
                pos,
                len,
                before,
                old: BASE64.encode(old),
            };
            Ok((fact, Change::Write { pos, bytes }, before.max(end)))
        };
        self.change(entered, |inner| inner.write_at(pos, slices))
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        let (up_to, called) = {
            let _content = self.inode.lock();
            (self.account.lock().journal.last(), self.inner.sync())
        };
        let (account, file) = (Arc::clone(&self.account), self.inode.id);
        spawned(&self.runtime, async move {
            called.await?;
            let fact = Fact::Synced { file, up_to };
            account.lock().journal.enter(&fact).map(drop)
        })
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        let (file, inode) = (self.inode.id, &self.inode);
        let entered = |content: &Content| {
            let before = content.len;
            let old = inode.old(content, len, before)?;
            let fact = Fact::Truncated {
                file,
                to: len,
                before,
                old: BASE64.encode(old),
            };
            Ok((fact, Change::Truncate { to: len }, len))
        };
        self.change(entered, |inner| inner.truncate(len))
    }
}
