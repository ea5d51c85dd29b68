//! Directories and files, each as processes see it and as it is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use klamm::env::{DirEntry, OpenMode, Rng, Space};

use super::inode::Inode;

const ROOT: u64 = 0;
const TOTAL_BYTES: u64 = 1 << 40;

/// All of one disk. Ids are never used again, so a handle on a removed file stays good.
#[derive(Debug)]
pub(crate) struct Platter {
    nodes: BTreeMap<u64, Node>,
    next_id: u64,
    /// Changes of names not yet durable, oldest first, with the count of those before each.
    pending: Vec<(u64, NameChange)>,
    changes: u64,
    locked: BTreeSet<u64>,
}

#[derive(Debug)]
enum Node {
    Dir(Dir),
    File(Inode),
}

#[derive(Debug, Default)]
struct Dir {
    live: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
}

/// Entries of directories that change together: what each name then means.
type NameChange = Vec<(u64, String, Option<u64>)>;

impl Default for Platter {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]),
            next_id: ROOT + 1,
            pending: Vec::new(),
            changes: 0,
            locked: BTreeSet::new(),
        }
    }
}

impl Platter {
    pub(crate) fn inode(&mut self, id: u64) -> io::Result<&mut Inode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn dir(&self, id: u64) -> io::Result<&Dir> {
        match self.nodes.get(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        let mut at = ROOT;
        for name in names(path)? {
            let next = self.dir(at)?.live.get(&name).copied();
            at = next.ok_or(ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    pub(crate) fn find_dir(&self, path: &Path) -> io::Result<u64> {
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

    fn add(&mut self, node: Node) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.nodes.insert(id, node);
        id
    }

    /// Changes names for processes now, and for good later.
    fn change(&mut self, change: NameChange) {
        for (dir, name, target) in &change {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(dir) {
                point(&mut dir.live, name, *target);
            }
        }
        self.pending.push((self.changes, change));
        self.changes += 1;
    }

    pub(crate) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<u64> {
        let (dir, name) = self.parent(path)?;
        let found = self.dir(dir)?.live.get(&name).copied();
        match (found, mode) {
            (Some(_), OpenMode::CreateNew) => Err(ErrorKind::AlreadyExists.into()),
            (Some(id), _) => self.inode(id).map(|_| id),
            (None, OpenMode::Read | OpenMode::Existing) => Err(ErrorKind::NotFound.into()),
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                let id = self.add(Node::File(Inode::default()));
                self.change(vec![(dir, name, Some(id))]);
                Ok(id)
            }
        }
    }

    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
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

    pub(crate) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        let mut at = ROOT;
        for name in names(path)? {
            at = match self.dir(at)?.live.get(&name) {
                Some(id) => *id,
                None => {
                    let id = self.add(Node::Dir(Dir::default()));
                    self.change(vec![(at, name, Some(id))]);
                    id
                }
            };
        }
        self.dir(at).map(|_| ())
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
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

    pub(crate) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path)?;
        self.inode(id)?;
        let (dir, name) = self.parent(path)?;
        self.change(vec![(dir, name, None)]);
        Ok(())
    }

    /// Removes what is within first, each name by itself, as the operating system does.
    pub(crate) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
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

    /// All files as a process would see them, by path.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Bytes)> {
        let mut found = Vec::new();
        let mut next = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, id)) = next.pop() {
            match self.nodes.get(&id) {
                Some(Node::Dir(dir)) => {
                    let within = dir.live.iter();
                    next.extend(within.map(|(name, id)| (path.join(name), *id)));
                }
                Some(Node::File(inode)) => found.push((path, inode.read(0, usize::MAX))),
                None => {}
            }
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// Changes of names called so far.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Makes durable what changed in directory `id` among the first `changes` of all, and what
    /// those changes stand on: the earlier ones in directories that they touch too.
    pub(crate) fn settle_dir(&mut self, id: u64, changes: u64) {
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

    /// Applies the pending changes that `choose` names to the durable directories.
    fn make_durable(&mut self, mut choose: impl FnMut(u64) -> bool) {
        let pending = std::mem::take(&mut self.pending);
        for (number, change) in pending {
            if !choose(number) {
                self.pending.push((number, change));
                continue;
            }
            for (dir, name, target) in &change {
                if let Some(Node::Dir(dir)) = self.nodes.get_mut(dir) {
                    point(&mut dir.durable, name, *target);
                }
            }
        }
    }

    pub(crate) fn lock(&mut self, id: u64) -> io::Result<()> {
        if self.locked.insert(id) {
            Ok(())
        } else {
            Err(ErrorKind::WouldBlock.into())
        }
    }

    pub(crate) fn unlock(&mut self, id: u64) {
        self.locked.remove(&id);
    }

    /// The process that held the locks has ended.
    pub(crate) fn let_go(&mut self) {
        self.locked.clear();
    }

    pub(crate) fn space(&self, path: &Path) -> io::Result<Space> {
        self.find(path)?;
        let used = self.nodes.values().map(|node| match node {
            Node::Dir(_) => 0,
            Node::File(inode) => inode.len(),
        });
        Ok(Space {
            total_bytes: TOTAL_BYTES,
            usable_bytes: TOTAL_BYTES.saturating_sub(used.sum()),
        })
    }

    /// Keeps of what is not durable what the draws say: each change of names whole or not at all,
    /// each change of bytes also in part.
    pub(crate) fn lose_power(&mut self, rng: &mut Rng) {
        self.make_durable(|_| rng.below(2) == 0);
        self.pending.clear();
        let reachable = self.reachable();
        self.nodes.retain(|id, _| reachable.contains(id));
        for node in self.nodes.values_mut() {
            match node {
                Node::Dir(dir) => dir.live.clone_from(&dir.durable),
                Node::File(inode) => inode.lose_power(rng),
            }
        }
    }

    /// Nodes that a durable path leads to.
    fn reachable(&self) -> BTreeSet<u64> {
        let mut reachable = BTreeSet::new();
        let mut next = vec![ROOT];
        while let Some(id) = next.pop() {
            if reachable.insert(id)
                && let Some(Node::Dir(dir)) = self.nodes.get(&id)
            {
                next.extend(dir.durable.values());
            }
        }
        reachable
    }
}

fn point(entries: &mut BTreeMap<String, u64>, name: &str, target: Option<u64>) {
    match target {
        Some(id) => entries.insert(name.to_owned(), id),
        None => entries.remove(name),
    };
}

fn names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}
