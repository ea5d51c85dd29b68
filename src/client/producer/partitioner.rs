//! Which partition a record goes to.
//!
//! Records with a key go where Java's clients put them (murmur2 of the key), so that programs in
//! both worlds agree on a key's partition. Records without one stick to a partition until about a
//! batch was put there and then move to another, which fills batches (KIP-480, KIP-794).

use std::collections::BTreeMap;
use std::sync::Arc;

/// MurmurHash2, 32 bits, with the seed and byte order of Kafka's Java client.
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    // Lengths beyond 32 bits cannot be sent.
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of `key` among `count` (above 0) partitions.
#[must_use]
pub fn partition_of_key(key: &[u8], count: i32) -> i32 {
    let positive = (murmur2(key) & 0x7fff_ffff).cast_signed();
    positive % count.max(1)
}

/// Where records without a key go next, by topic.
#[derive(Debug, Default)]
pub struct StickyPartitioner {
    topics: BTreeMap<Arc<str>, Sticky>,
}

#[derive(Clone, Copy, Debug)]
struct Sticky {
    partition: i32,
    bytes: usize,
}

impl StickyPartitioner {
    /// The partition for a record of `bytes`. `open` are the partitions that can take records now
    /// and must not be empty; `switch_after` is the size after which another one is drawn with
    /// `random`.
    pub fn next(
        &mut self,
        topic: &Arc<str>,
        open: &[i32],
        bytes: usize,
        switch_after: usize,
        random: u64,
    ) -> i32 {
        let kept = self
            .topics
            .get(topic)
            .copied()
            .filter(|sticky| open.contains(&sticky.partition) && sticky.bytes < switch_after);
        let before = self.topics.get(topic).map(|sticky| sticky.partition);
        let mut sticky = kept.unwrap_or_else(|| Sticky {
            partition: another(open, before, random),
            bytes: 0,
        });
        sticky.bytes = sticky.bytes.saturating_add(bytes);
        self.topics.insert(Arc::clone(topic), sticky);
        sticky.partition
    }
}

/// One of `open`, not `before` unless there is no other.
fn another(open: &[i32], before: Option<i32>, random: u64) -> i32 {
    let others: Vec<i32> = open
        .iter()
        .copied()
        .filter(|partition| Some(*partition) != before)
        .collect();
    let from = if others.is_empty() { open } else { &others };
    let at = random % from.len().max(1) as u64;
    let at = usize::try_from(at).expect("below the length of a slice");
    from.get(at).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_gives_javas_numbers() {
        // From Kafka's own unit test of its hash.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn a_partition_is_never_negative_nor_out_of_range() {
        for count in 1..50 {
            for key in 0_u32..200 {
                let partition = partition_of_key(&key.to_be_bytes(), count);
                assert!((0..count).contains(&partition));
            }
        }
    }

    #[test]
    fn records_without_key_stay_for_about_a_batch_and_then_move() {
        let mut sticky = StickyPartitioner::default();
        let topic: Arc<str> = Arc::from("t");
        let first = sticky.next(&topic, &[0, 1, 2], 60, 100, 1);
        assert_eq!(sticky.next(&topic, &[0, 1, 2], 60, 100, 2), first);
        assert_ne!(sticky.next(&topic, &[0, 1, 2], 60, 100, 2), first);
    }

    #[test]
    fn a_partition_that_closes_is_left_and_a_lone_one_is_kept() {
        let mut sticky = StickyPartitioner::default();
        let topic: Arc<str> = Arc::from("t");
        assert_eq!(sticky.next(&topic, &[4], 200, 100, 9), 4);
        assert_eq!(sticky.next(&topic, &[4], 200, 100, 9), 4);
        assert_eq!(sticky.next(&topic, &[5], 1, 100, 9), 5);
    }
}
