//! A sorted map that is cheap to clone: clones share chunks and copy only those they change.

use std::sync::Arc;

/// Most entries of a chunk; it splits in two beyond.
const CHUNK_MAX: usize = 64;

/// A sorted map. Cloning costs one reference per chunk; a change copies one chunk.
#[derive(Debug)]
pub struct SortedMap<K, V> {
    /// None empty; keys ascend within and across chunks.
    chunks: Vec<Arc<Vec<(K, V)>>>,
    len: usize,
}

impl<K, V> Clone for SortedMap<K, V> {
    fn clone(&self) -> Self {
        Self {
            chunks: self.chunks.clone(),
            len: self.len,
        }
    }
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

/// Equal entries, however they are divided into chunks.
impl<K: PartialEq, V: PartialEq> PartialEq for SortedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K, V> SortedMap<K, V> {
    #[must_use]
    pub fn count(&self) -> usize {
        self.len
    }

    /// Entries by ascending key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.iter().map(|(key, value)| (key, value)))
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Clone, V: Clone> SortedMap<K, V> {
    /// Where a key is, or would go. `order` compares an entry's key with the one sought.
    fn find(&self, order: impl Fn(&K) -> std::cmp::Ordering) -> Result<(usize, usize), usize> {
        let after = self
            .chunks
            .partition_point(|chunk| chunk.first().is_some_and(|(first, _)| order(first).is_le()));
        let chunk = after.saturating_sub(1);
        let Some(entries) = self.chunks.get(chunk) else {
            return Err(chunk);
        };
        match entries.binary_search_by(|(key, _)| order(key)) {
            Ok(at) => Ok((chunk, at)),
            Err(_) => Err(chunk),
        }
    }

    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        let (chunk, at) = self.find(|entry| entry.borrow().cmp(key)).ok()?;
        Some(&self.chunks[chunk][at].1)
    }

    /// Puts `value` at `key`; what was there is returned.
    pub fn insert(&mut self, key: K, value: V) -> Option<V>
    where
        K: Ord,
    {
        match self.find(|entry| entry.cmp(&key)) {
            Ok((chunk, at)) => {
                let entries = Arc::make_mut(&mut self.chunks[chunk]);
                Some(std::mem::replace(&mut entries[at].1, value))
            }
            Err(chunk) => {
                self.len += 1;
                self.insert_new(chunk, key, value);
                None
            }
        }
    }

    fn insert_new(&mut self, chunk: usize, key: K, value: V)
    where
        K: Ord,
    {
        let Some(shared) = self.chunks.get_mut(chunk) else {
            self.chunks.push(Arc::new(vec![(key, value)]));
            return;
        };
        let entries = Arc::make_mut(shared);
        let at = entries.partition_point(|(existing, _)| *existing < key);
        entries.insert(at, (key, value));
        if entries.len() > CHUNK_MAX {
            let right = entries.split_off(entries.len() / 2);
            self.chunks.insert(chunk + 1, Arc::new(right));
        }
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        let (chunk, at) = self.find(|entry| entry.borrow().cmp(key)).ok()?;
        let entries = Arc::make_mut(&mut self.chunks[chunk]);
        let (_, value) = entries.remove(at);
        if entries.is_empty() {
            self.chunks.remove(chunk);
        }
        self.len -= 1;
        Some(value)
    }
}
