//! Directories and files, each as processes see it and as it is durable.

mod restart;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use klamm::env::{DirEntry, OpenMode, Space};

use super::inode::{Fate, Inode, bounded};
use crate::plan::SyncFailure;

const ROOT: u64 = 0;

/// All of one disk. Ids are never used again, so a handle on a removed file stays good.
///
/// **Invariant**: `used` is the length of every file that has a name or a handle.
#[derive(Debug, Clone)]
pub(super) struct Platter {
    nodes: BTreeMap<u64, Node>,
    next_id: u64,
    /// Changes of names not yet durable, oldest first, with the number of each among all changes,
    /// also those of bytes.
    pending: Vec<(u64, NameChange)>,
    /// Changes so far, of names and of bytes.
    changes: u64,
    /// The number after the last change that was made durable.
    durable_changes: u64,
    locked: BTreeSet<u64>,
    used: u64,
    capacity: u64,
    /// Whether nothing may grow, whatever the capacity.
    full: bool,
}

#[derive(Debug, Clone)]
enum Node {
    Dir(Dir),
    File(Inode),
}

#[derive(Debug, Clone, Default)]
struct Dir {
    live: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
}

/// Entries of directories that change together: what each name then means.
type NameChange = Vec<(u64, String, Option<u64>)>;

/// Which names lead to a file: those that processes see, or those that a power loss leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Live,
    Durable,
}

impl Platter {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]),
            next_id: ROOT + 1,
            pending: Vec::new(),
            changes: 0,
            durable_changes: 0,
            locked: BTreeSet::new(),
            used: 0,
            capacity,
            full: false,
        }
    }

    pub(super) fn inode(&mut self, id: u64) -> io::Result<&mut Inode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn inodes(&mut self) -> impl Iterator<Item = &mut Inode> {
        self.nodes.values_mut().filter_map(|node| match node {
            Node::Dir(_) => None,
            Node::File(inode) => Some(inode),
        })
    }

    pub(super) fn set_capacity(&mut self, bytes: u64) {
        self.capacity = bytes;
    }

    pub(super) fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// Bytes by which files may still grow.
    pub(super) fn room(&self) -> u64 {
        if self.full {
            0
        } else {
            self.capacity.saturating_sub(self.used)
        }
    }

    /// The number of the change that is made now.
    fn number(&mut self) -> u64 {
        let number = self.changes;
        self.changes += 1;
        number
    }

    /// Writes all of `bytes`, for which there must be room.
    pub(super) fn write(&mut self, id: u64, pos: u64, bytes: Bytes, fate: Fate) -> io::Result<()> {
        let number = self.number();
        self.resize(id, |inode| inode.write(number, pos, bytes, fate))
    }

    /// `StorageFull` when the file would grow by more than there is room for.
    pub(super) fn truncate(&mut self, id: u64, len: u64) -> io::Result<()> {
        let growth = len.saturating_sub(self.inode(id)?.len());
        bounded(len)?;
        if growth > self.room() {
            return Err(ErrorKind::StorageFull.into());
        }
        let number = self.number();
        self.resize(id, |inode| inode.truncate(number, len))
    }

    /// Does `change` and counts what the file has grown or shrunk by.
    fn resize<T>(
        &mut self,
        id: u64,
        change: impl FnOnce(&mut Inode) -> io::Result<T>,
    ) -> io::Result<T> {
        let inode = self.inode(id)?;
        let before = inode.len();
        let result = change(inode);
        let (after, released) = (inode.len(), inode.released);
        if !released {
            self.used = self.used.saturating_sub(before).saturating_add(after);
        }
        result
    }

    /// Makes the first `changes` changes of a file durable. One that is gone has none.
    pub(super) fn settle(&mut self, id: u64, changes: u64) {
        if let Ok(inode) = self.inode(id)
            && let Some(number) = inode.settle(changes)
        {
            self.durable_changes = self.durable_changes.max(number + 1);
        }
    }

    /// Those changes are lost; gives from where the file is in doubt, if it still is.
    pub(super) fn lose_sync(&mut self, id: u64, changes: u64, how: SyncFailure) -> Option<u64> {
        self.resize(id, |inode| Ok(inode.lose_sync(changes, how)))
            .ok()
            .flatten()
    }

    fn dir(&self, id: u64) -> io::Result<&Dir> {
        match self.nodes.get(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<u64> {
        let mut at = ROOT;
        for name in names(path)? {
            let next = self.dir(at)?.live.get(&name).copied();
            at = next.ok_or(ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    pub(super) fn find_dir(&self, path: &Path) -> io::Result<u64> {
        let id = self.find(path)?;
        self.dir(id).map(|_| id)
    }

    /// The directory that holds the last name of `path`, and that name.
    fn parent(&self, path: &Path) -> io::Result<(u64, String)> {
        let mut names = names(path)?;
        let name = names.pop().ok_or(ErrorKind::InvalidInput)?;
        let mut at = ROOT;
        for above in names {
            let next = self.dir(at)?.live.get(&above).copied();
            at = next.ok_or(ErrorKind::NotFound)?;
        }
        self.dir(at)?;
        Ok((at, name))
    }

    /// Changes names for processes now, and for good later.
    fn change(&mut self, change: NameChange) {
        let mut replaced = Vec::new();
        for (dir, name, target) in &change {
            replaced.extend(self.point(Names::Live, *dir, name, *target));
        }
        let number = self.number();
        self.pending.push((number, change));
        for id in replaced {
            self.release(id);
        }
    }

    /// Lets a name mean something else; gives what it meant.
    fn point(&mut self, names: Names, dir: u64, name: &str, target: Option<u64>) -> Option<u64> {
        let Some(Node::Dir(dir)) = self.nodes.get_mut(&dir) else {
            return None;
        };
        let entries = match names {
            Names::Live => &mut dir.live,
            Names::Durable => &mut dir.durable,
        };
        let before = match target {
            Some(id) => entries.insert(name.to_owned(), id),
            None => entries.remove(name),
        };
        for (id, more) in [(target, true), (before, false)] {
            let Some(Ok(inode)) = id.map(|id| self.inode(id)) else {
                continue;
            };
            let links = match names {
                Names::Live => &mut inode.links,
                Names::Durable => &mut inode.durable_links,
            };
            *links = if more {
                *links + 1
            } else {
                links.saturating_sub(1)
            };
        }
        before
    }

    /// Gives back the space of a file that nothing leads to any more, and forgets it when no power
    /// loss can bring it back.
    fn release(&mut self, id: u64) {
        let Ok(inode) = self.inode(id) else {
            return;
        };
        if inode.links > 0 || inode.handles > 0 {
            return;
        }
        let len = inode.len();
        let before = std::mem::replace(&mut inode.released, true);
        let durable = inode.durable_links > 0;
        if !before {
            self.used = self.used.saturating_sub(len);
        }
        let mentions = |change: &NameChange| change.iter().any(|entry| entry.2 == Some(id));
        if !durable && !self.pending.iter().any(|(_, change)| mentions(change)) {
            self.nodes.remove(&id);
        }
    }

    /// One handle more on a file.
    pub(super) fn hold(&mut self, id: u64) {
        if let Ok(inode) = self.inode(id) {
            inode.handles += 1;
        }
    }

    /// One handle less.
    pub(super) fn close(&mut self, id: u64) {
        if let Ok(inode) = self.inode(id) {
            inode.handles = inode.handles.saturating_sub(1);
        }
        self.release(id);
    }

    /// Makes a name for what is new, if there is room.
    fn add(&mut self, dir: u64, name: String, node: Node) -> io::Result<u64> {
        if self.room() == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        let id = self.next_id;
        self.next_id += 1;
        self.nodes.insert(id, node);
        self.change(vec![(dir, name, Some(id))]);
        Ok(id)
    }

    pub(super) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<u64> {
        let (dir, name) = self.parent(path)?;
        let found = self.dir(dir)?.live.get(&name).copied();
        match (found, mode) {
            (Some(_), OpenMode::CreateNew) => Err(ErrorKind::AlreadyExists.into()),
            (Some(id), _) => self.inode(id).map(|_| id),
            (None, OpenMode::Read | OpenMode::Existing) => Err(ErrorKind::NotFound.into()),
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                self.add(dir, name, Node::File(Inode::default()))
            }
        }
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = self.dir(self.find(path)?)?;
        let entries = dir.live.iter().filter_map(|(name, id)| {
            let (is_dir, len) = match self.nodes.get(id)? {
                Node::Dir(_) => (true, 0),
                Node::File(inode) => (false, inode.len()),
            };
            Some(DirEntry {
                name: name.clone(),
                is_dir,
                len,
            })
        });
        Ok(entries.collect())
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        let mut at = ROOT;
        for name in names(path)? {
            at = match self.dir(at)?.live.get(&name) {
                Some(id) => *id,
                None => self.add(at, name, Node::Dir(Dir::default()))?,
            };
        }
        self.dir(at).map(|_| ())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.find(from)?;
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        if to.starts_with(from) {
            return if to == from {
                Ok(())
            } else {
                Err(ErrorKind::InvalidInput.into())
            };
        }
        if let Some(replaced) = self.dir(to_dir)?.live.get(&to_name) {
            match (self.nodes.get(&id), self.nodes.get(replaced)) {
                (Some(Node::File(_)), Some(Node::Dir(_))) => {
                    return Err(ErrorKind::IsADirectory.into());
                }
                (Some(Node::Dir(_)), Some(Node::File(_))) => {
                    return Err(ErrorKind::NotADirectory.into());
                }
                (_, Some(Node::Dir(dir))) if !dir.live.is_empty() => {
                    return Err(ErrorKind::DirectoryNotEmpty.into());
                }
                _ => {}
            }
        }
        self.change(vec![
            (from_dir, from_name, None),
            (to_dir, to_name, Some(id)),
        ]);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path)?;
        self.inode(id)?;
        let (dir, name) = self.parent(path)?;
        self.change(vec![(dir, name, None)]);
        Ok(())
    }

    /// Removes what is within first, each name by itself, as the operating system does.
    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path)?;
        let within: Vec<String> = self.dir(id)?.live.keys().cloned().collect();
        for name in within {
            let path = path.join(name);
            match self.nodes.get(&self.find(&path)?) {
                Some(Node::Dir(_)) => self.remove_dir(&path)?,
                _ => self.remove(&path)?,
            }
        }
        let (dir, name) = self.parent(path)?;
        self.change(vec![(dir, name, None)]);
        Ok(())
    }

    /// Changes called so far, of names and of bytes.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Makes durable what changed in directory `id` among the first `changes` of all, and what
    /// those changes stand on: the earlier ones in directories that they touch too.
    pub(super) fn settle_dir(&mut self, id: u64, changes: u64) {
        let mut dirs = BTreeSet::from([id]);
        let mut chosen = BTreeSet::new();
        for (number, change) in self.pending.iter().rev() {
            if *number < changes && change.iter().any(|(dir, ..)| dirs.contains(dir)) {
                dirs.extend(change.iter().map(|(dir, ..)| *dir));
                chosen.insert(*number);
            }
        }
        self.make_durable(|number| chosen.contains(&number));
    }

    /// Applies the pending changes of names that `choose` names to the durable directories.
    fn make_durable(&mut self, mut choose: impl FnMut(u64) -> bool) {
        let pending = std::mem::take(&mut self.pending);
        let (chosen, left) = pending.into_iter().partition(|(number, _)| choose(*number));
        self.pending = left;
        let chosen: Vec<(u64, NameChange)> = chosen;
        let mut touched = Vec::new();
        for (number, change) in chosen {
            self.durable_changes = self.durable_changes.max(number + 1);
            for (dir, name, target) in change {
                touched.extend(self.point(Names::Durable, dir, &name, target));
                touched.extend(target);
            }
        }
        for id in touched {
            self.release(id);
        }
    }

    pub(super) fn lock(&mut self, id: u64) -> io::Result<()> {
        if self.locked.insert(id) {
            Ok(())
        } else {
            Err(ErrorKind::WouldBlock.into())
        }
    }

    pub(super) fn unlock(&mut self, id: u64) {
        self.locked.remove(&id);
    }

    pub(super) fn space(&self, path: &Path) -> io::Result<Space> {
        self.find(path)?;
        Ok(Space {
            total_bytes: self.capacity,
            usable_bytes: self.room(),
        })
    }

    /// All files that such names lead to, sorted by path.
    pub(super) fn walk(&self, names: Names) -> Vec<(PathBuf, u64)> {
        let mut files = Vec::new();
        let mut next = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, id)) = next.pop() {
            match self.nodes.get(&id) {
                Some(Node::Dir(dir)) => {
                    let entries = match names {
                        Names::Live => &dir.live,
                        Names::Durable => &dir.durable,
                    };
                    next.extend(entries.iter().map(|(name, id)| (path.join(name), *id)));
                }
                Some(Node::File(_)) => files.push((path, id)),
                None => {}
            }
        }
        files.sort();
        files
    }

    /// The file at `path` by such names.
    pub(super) fn file_at(&self, names: Names, path: &Path) -> Option<&Inode> {
        let mut at = ROOT;
        for name in self::names(path).ok()? {
            let dir = self.dir(at).ok()?;
            at = *match names {
                Names::Live => dir.live.get(&name)?,
                Names::Durable => dir.durable.get(&name)?,
            };
        }
        self.file(at)
    }

    pub(super) fn file(&self, id: u64) -> Option<&Inode> {
        match self.nodes.get(&id)? {
            Node::Dir(_) => None,
            Node::File(inode) => Some(inode),
        }
    }
}

/// Most bytes of a name, as in the file systems that Linux has.
const NAME_MAX: usize = 255;

fn names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) if name.len() > NAME_MAX => {
                return Err(ErrorKind::InvalidFilename.into());
            }
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}
