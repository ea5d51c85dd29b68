//! What becomes of a disk when the process that used it ends, or the machine.

use std::collections::{BTreeMap, BTreeSet};

use super::{Dir, Node, Platter, ROOT};
use crate::disk::crash::Kept;

impl Platter {
    /// The process that held the locks and handles has ended.
    pub(in crate::disk) fn let_go(&mut self) {
        self.locked.clear();
        let mut unnamed = Vec::new();
        for (id, node) in &mut self.nodes {
            if let Node::File(inode) = node {
                inode.handles = 0;
                if inode.links == 0 {
                    unnamed.push(*id);
                }
            }
        }
        for id in unnamed {
            self.release(id);
        }
    }

    /// The numbers of changes that are not durable and came after all that are, in order.
    pub(in crate::disk) fn pending_after_the_durable(&mut self) -> Vec<u64> {
        let names = self.pending.iter().map(|(number, _)| *number);
        let mut numbers: Vec<u64> = names.collect();
        numbers.extend(self.inodes().flat_map(|inode| inode.pending_numbers()));
        let durable = self.durable_changes;
        numbers.retain(|number| *number >= durable);
        numbers.sort_unstable();
        numbers
    }

    /// Of a power loss: keeps the pending changes of names that `choose` names, forgets the rest.
    pub(in crate::disk) fn make_names_durable(&mut self, choose: impl FnMut(u64) -> bool) {
        self.make_durable(choose);
        self.pending.clear();
    }

    /// Of a power loss: directories are as they are durable, and what no path leads to is gone.
    pub(in crate::disk) fn begin_anew(&mut self) {
        let reachable = self.reachable();
        self.nodes.retain(|id, _| reachable.contains(id));
        for node in self.nodes.values_mut() {
            if let Node::Dir(dir) = node {
                dir.live.clone_from(&dir.durable);
            }
        }
    }

    /// Of a power loss: nothing is open, and what files use is what they are long.
    pub(in crate::disk) fn recount(&mut self) {
        self.locked.clear();
        self.used = 0;
        let mut links: BTreeMap<u64, u32> = BTreeMap::new();
        for node in self.nodes.values() {
            if let Node::Dir(dir) = node {
                for id in dir.durable.values() {
                    *links.entry(*id).or_default() += 1;
                }
            }
        }
        for (id, node) in &mut self.nodes {
            if let Node::File(inode) = node {
                inode.links = links.get(id).copied().unwrap_or(0);
                inode.durable_links = inode.links;
                inode.handles = 0;
                inode.released = false;
                self.used += inode.len();
            }
        }
    }

    /// Nothing is left but an empty root.
    pub(in crate::disk) fn wipe(&mut self) {
        self.nodes = BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]);
        self.pending.clear();
        self.locked.clear();
        self.used = 0;
    }

    /// What is durable of it.
    pub(in crate::disk) fn image(&self) -> Self {
        let mut image = self.clone();
        image.make_names_durable(|_| false);
        image.begin_anew();
        for inode in image.inodes() {
            inode.lose_power(|_, _| Kept::Nothing);
        }
        image.recount();
        image
    }

    /// Becomes `image`, of this disk, with the space it has now. Ids and numbers go on.
    pub(in crate::disk) fn roll_back(&mut self, image: Self) {
        self.nodes = image.nodes;
        self.pending.clear();
        self.recount();
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
