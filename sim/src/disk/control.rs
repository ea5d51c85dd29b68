//! What goes wrong with a disk, and what is really on it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::counts::Count;
use super::device::{Device, Power, State};
use super::faults::Armable;
use super::kind::{concerns, kind_of};
use super::platter::{Names, Platter};
use crate::plan::{DiskOptions, FileKind, SyncFailure};

/// Draws of a place to rot before the next file is tried.
const ROT_DRAWS: u32 = 32;

/// A hand on one node's disk, whatever process runs there, or none. All that it does happens at
/// once and is in the trace; what it reads costs no simulated time and meets no fault.
///
/// Faults armed for a number of calls wait for them, one after another, also over restarts and
/// losses of power, until [`DiskControl::heal`].
#[derive(Clone)]
pub struct DiskControl {
    device: Arc<Device>,
}

/// What was durable on a disk at one moment.
#[derive(Clone)]
pub struct DiskImage(Platter);

impl DiskControl {
    pub(crate) fn new(device: Arc<Device>) -> Self {
        Self { device }
    }

    fn fault(&self, what: fmt::Arguments<'_>) {
        self.device.event(format_args!("disk fault: {what}"));
    }

    fn arm(&self, fault: Armable, kind: FileKind, count: u32) {
        self.device.state().faults.arm(fault, kind, count);
    }

    /// How it behaves from now on.
    pub fn set_options(&self, options: DiskOptions) {
        let mut state = self.device.state();
        state.options = options;
        state.platter.set_capacity(options.capacity_bytes);
    }

    /// The next `count` syncs of files of `kind` fail when they would complete. Syncs of
    /// directories are never concerned.
    pub fn fail_syncs(&self, kind: FileKind, count: u32, how: SyncFailure) {
        self.fault(format_args!("fail {count} syncs of {kind:?}, {how:?}"));
        self.arm(Armable::Sync(how), kind, count);
    }

    /// The next `count` writes and truncates of files of `kind` fail; of a write any number of its
    /// first bytes may be written, of a truncate nothing happens.
    pub fn fail_writes(&self, kind: FileKind, count: u32) {
        self.fault(format_args!("fail {count} writes of {kind:?}"));
        self.arm(Armable::Write, kind, count);
    }

    /// The next `count` reads of files of `kind` fail.
    pub fn fail_reads(&self, kind: FileKind, count: u32) {
        self.fault(format_args!("fail {count} reads of {kind:?}"));
        self.arm(Armable::Read, kind, count);
    }

    /// While `true` nothing may grow and nothing new gets a name (a rename is none); the disk says
    /// that it has no room. What the capacity of the options leaves no room for fails likewise.
    pub fn set_full(&self, full: bool) {
        self.fault(format_args!("full {full}"));
        self.device.state().platter.set_full(full);
    }

    /// Every call takes up to so many milliseconds longer from now on; 0 for none. With less than
    /// before, what is under way does not take longer than calls did before any of this.
    pub fn slow(&self, extra_max_ms: u64) {
        self.fault(format_args!("slow {extra_max_ms}"));
        let mut state = self.device.state();
        let faster = extra_max_ms < state.faults.slow_max_ms;
        state.faults.slow_max_ms = extra_max_ms;
        if faster {
            state.hurry();
        }
    }

    /// While `true` no call but `File::len` answers and no sync completes. What calls do has been
    /// done: they answer afterwards.
    pub fn stall(&self, stalled: bool) {
        self.fault(format_args!("stall {stalled}"));
        let mut state = self.device.state();
        if stalled && !state.faults.stalled {
            state.counts.add(Count::Stalls, 1);
        }
        state.faults.stalled = stalled;
        state.wake();
    }

    /// Whether misdirected writes of segments wait for later. While a log recovers, what its newest
    /// durable slot does not cover may be gone like a torn tail, and nobody could tell.
    pub fn spare_segments(&self, spare: bool) {
        self.device.state().faults.spare_segments = spare;
    }

    /// Flips `bits` drawn bits of durable bytes of one drawn file of `kind` for good; gives its
    /// path, or none when no file of the kind has a durable byte.
    #[must_use]
    pub fn rot(&self, kind: FileKind, bits: u32) -> Option<PathBuf> {
        let path = self.device.state().rot(kind, bits);
        match &path {
            Some(path) => self.fault(format_args!("rot {bits} bits of {}", path.display())),
            None => self.fault(format_args!("rot nothing of {kind:?}")),
        }
        path
    }

    /// The next write of a file of `kind` goes to another place of that file or of another file of
    /// the same kind. Where it belongs the file only grows, with zeros; readers may still see it
    /// there until the machine restarts.
    pub fn misdirect(&self, kind: FileKind) {
        self.fault(format_args!("misdirect a write of {kind:?}"));
        self.arm(Armable::Misdirect, kind, 1);
    }

    /// The next write of a file of `kind` is not written although all of its calls succeed: where
    /// it belongs the file only grows, with zeros; readers may still see it there until the
    /// machine restarts.
    pub fn lose_write(&self, kind: FileKind) {
        self.fault(format_args!("lose a write of {kind:?}"));
        self.arm(Armable::Lose, kind, 1);
    }

    /// The disk is empty when the next process starts.
    pub fn lose_all(&self) {
        self.fault(format_args!("lose all"));
        self.device.state().faults.lose_all = true;
    }

    /// Switches every fault off and takes back those that were armed. Damaged bytes stay damaged, a
    /// disk that is lost stays lost, and power that has gone stays away.
    pub fn heal(&self) {
        self.device.event(format_args!("disk healed"));
        let mut state = self.device.state();
        state.faults.clear();
        state.platter.set_full(false);
        if state.power != Power::Out {
            state.power = Power::On;
        }
        state.hurry();
    }

    /// Restores every damaged byte.
    pub fn repair(&self) {
        self.device.event(format_args!("disk repaired"));
        for inode in self.device.state().platter.inodes() {
            inode.repair();
        }
    }

    /// Restores the damaged bytes from `position` on of the file at `path`.
    pub fn repair_from(&self, path: &Path, position: u64) {
        let what = format_args!("{} repaired from {position} on", path.display());
        self.device.event(what);
        let mut state = self.device.state();
        let files = state.platter.walk(Names::Live);
        let found = files.into_iter().find(|(name, _)| name == path);
        if let Some((_, id)) = found
            && let Ok(inode) = state.platter.inode(id)
        {
            inode.repair_from(usize::try_from(position).unwrap_or(usize::MAX));
        }
    }

    /// Lets the power go at the `operations`-th change from now (1, and also 0, is the next one):
    /// a write, truncate, sync, rename, creation, removal, or sync of a directory. That call is
    /// made, so that the loss of power may keep it, a part of it, or nothing, and gets no answer;
    /// neither does any later one, nor those under way. Replaces what was set before.
    ///
    /// The node is still to be ended with `SimNode::lose_power`: see [`DiskControl::power_out`].
    pub fn power_loss_at(&self, operations: u64) {
        self.fault(format_args!("power loss at change {operations}"));
        let mut state = self.device.state();
        if state.power != Power::Out {
            state.power = Power::GoesIn(operations);
        }
    }

    /// Completes once the power has gone at a call and the node was not ended yet.
    pub async fn power_out(&self) {
        loop {
            let mut notified = std::pin::pin!(self.device.went_out.notified());
            notified.as_mut().enable();
            if self.is_power_out() {
                return;
            }
            notified.await;
        }
    }

    /// Whether the power has gone at a call and the node was not ended yet.
    #[must_use]
    pub fn is_power_out(&self) -> bool {
        self.device.state().power == Power::Out
    }

    /// A copy of what is durable, to be put back with [`DiskControl::restore`].
    #[must_use]
    pub fn image(&self) -> DiskImage {
        DiskImage(self.device.state().platter.image())
    }

    /// The disk is as it was when `image` was taken when the next process starts, as when a
    /// machine is rolled back to a snapshot.
    pub fn restore(&self, image: &DiskImage) {
        self.fault(format_args!("roll back"));
        self.device.state().faults.roll_back = Some(image.0.clone());
    }

    /// Every file with a name, sorted by path, with the bytes that readers see.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, Bytes)> {
        let state = self.device.state();
        let files = state.platter.walk(Names::Live).into_iter();
        files
            .filter_map(|(path, id)| {
                let inode = state.platter.file(id)?;
                Some((path, Bytes::copy_from_slice(inode.live())))
            })
            .collect()
    }

    /// The bytes that readers see at `path`.
    #[must_use]
    pub fn read(&self, path: &Path) -> Option<Bytes> {
        let state = self.device.state();
        let inode = state.platter.file_at(Names::Live, path)?;
        Some(Bytes::copy_from_slice(inode.live()))
    }

    /// The bytes that are at `path` for sure after a loss of power; none when the file or its name
    /// is not durable.
    #[must_use]
    pub fn durable(&self, path: &Path) -> Option<Bytes> {
        let state = self.device.state();
        let inode = state.platter.file_at(Names::Durable, path)?;
        Some(Bytes::copy_from_slice(inode.durable()))
    }

    /// The bytes that readers would see at `path` without rot, misdirected and lost writes.
    #[must_use]
    pub fn truth(&self, path: &Path) -> Option<Bytes> {
        let state = self.device.state();
        let inode = state.platter.file_at(Names::Live, path)?;
        Some(Bytes::copy_from_slice(inode.truth()))
    }

    /// Whether a byte at `path` is, or will be after a restart, not what was written there.
    #[must_use]
    pub fn is_damaged(&self, path: &Path) -> bool {
        let state = self.device.state();
        let inode = state.platter.file_at(Names::Live, path);
        inode.is_some_and(super::inode::Inode::is_damaged)
    }

    /// The paths of all damaged files, sorted.
    #[must_use]
    pub fn damaged(&self) -> Vec<PathBuf> {
        let state = self.device.state();
        let mut files = state.platter.walk(Names::Live);
        files.retain(|(_, id)| {
            let inode = state.platter.file(*id);
            inode.is_some_and(super::inode::Inode::is_damaged)
        });
        files.into_iter().map(|(path, _)| path).collect()
    }

    /// How often what happened since the world began.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.device.state().counts.by_name()
    }
}

impl State {
    fn rot(&mut self, kind: FileKind, bits: u32) -> Option<PathBuf> {
        let mut files = self.platter.walk(Names::Live);
        files.retain(|(path, id)| {
            let durable = self
                .platter
                .file(*id)
                .map_or(0, |file| file.durable().len());
            durable > 0 && concerns(kind, kind_of(path))
        });
        while !files.is_empty() {
            let at = self.faults.rng.below(files.len() as u64);
            let (path, id) = files.swap_remove(usize::try_from(at).ok()?);
            let rotten = self.rot_file(id, bits);
            if rotten > 0 {
                self.counts.add(Count::RottenBits, u64::from(rotten));
                return Some(path);
            }
        }
        None
    }

    /// How many bits could be flipped.
    fn rot_file(&mut self, id: u64, bits: u32) -> u32 {
        let rng = &mut self.faults.rng;
        let Ok(inode) = self.platter.inode(id) else {
            return 0;
        };
        let len = inode.durable().len() as u64;
        let mut rotten = 0;
        for _ in 0..bits.saturating_add(ROT_DRAWS) {
            if rotten == bits {
                break;
            }
            let (pos, bit) = (rng.below(len), rng.below(8));
            if let (Ok(pos), Ok(bit)) = (usize::try_from(pos), u8::try_from(bit)) {
                rotten += u32::from(inode.rot(pos, bit));
            }
        }
        rotten
    }
}
