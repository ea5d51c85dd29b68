//! Random values of every protocol struct, valid in a given version, for tests.

use bytes::Bytes;

use crate::types::Uuid;
use crate::wire::primitive::{Records, Str, UnknownField, Version};

/// Numbers that follow from a seed (SplitMix64).
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most))
            .map(|_| self.next().to_le_bytes()[0])
            .collect()
    }
}

/// Makes a value that `version` can carry.
pub(crate) trait Arbitrary {
    fn arbitrary(dice: &mut Dice, version: Version) -> Self;
}

/// Numbers are often at an edge, where codecs go wrong.
macro_rules! numbers {
    ($($ty:ty),*) => { $(
        impl Arbitrary for $ty {
            fn arbitrary(dice: &mut Dice, _: Version) -> Self {
                match dice.below(8) {
                    0 => <$ty>::MIN,
                    1 => <$ty>::MAX,
                    2 => (0 as $ty).wrapping_sub(1),
                    3 => 0,
                    _ => dice.next() as $ty,
                }
            }
        }
    )* };
}

numbers!(i8, i16, u16, i32, u32, i64);

impl Arbitrary for bool {
    fn arbitrary(dice: &mut Dice, _: Version) -> Self {
        dice.one_in(2)
    }
}

impl Arbitrary for Uuid {
    fn arbitrary(dice: &mut Dice, _: Version) -> Self {
        match dice.one_in(4) {
            true => Self::ZERO,
            false => Self((u128::from(dice.next()) << 64 | u128::from(dice.next())).to_be_bytes()),
        }
    }
}

impl Arbitrary for Str {
    fn arbitrary(dice: &mut Dice, _: Version) -> Self {
        // Lengths around 127, where compact lengths take a second byte, come up as well.
        let length = match dice.below(16) {
            0 => 126 + dice.below(4),
            _ => dice.below(12),
        };
        let letters = ['a', 'Z', '0', '.', '_', '-', 'é', '\u{0}', '漢', '🦀'];
        let pick = |dice: &mut Dice| letters[usize::try_from(dice.below(10)).unwrap()];
        Self::from((0..length).map(|_| pick(dice)).collect::<String>())
    }
}

impl Arbitrary for Bytes {
    fn arbitrary(dice: &mut Dice, _: Version) -> Self {
        // Now and then large enough to travel as a slice of its own.
        match dice.below(24) {
            0 => Self::from(vec![7; 1500]),
            _ => Self::from(dice.bytes(20)),
        }
    }
}

impl Arbitrary for Records {
    fn arbitrary(dice: &mut Dice, version: Version) -> Self {
        Self::from(Bytes::arbitrary(dice, version))
    }
}

impl<T: Arbitrary> Arbitrary for Option<T> {
    fn arbitrary(dice: &mut Dice, version: Version) -> Self {
        (!dice.one_in(4)).then(|| T::arbitrary(dice, version))
    }
}

impl<T: Arbitrary> Arbitrary for Box<T> {
    fn arbitrary(dice: &mut Dice, version: Version) -> Self {
        Self::new(T::arbitrary(dice, version))
    }
}

impl<T: Arbitrary> Arbitrary for Vec<T> {
    fn arbitrary(dice: &mut Dice, version: Version) -> Self {
        (0..dice.below(4))
            .map(|_| T::arbitrary(dice, version))
            .collect()
    }
}

/// Mostly none; tags far above those in use, ascending.
pub(crate) fn unknown_fields(dice: &mut Dice) -> Vec<UnknownField> {
    if !dice.one_in(8) {
        return Vec::new();
    }
    let first = 1000 + u32::try_from(dice.below(100_000)).unwrap();
    (0..=u32::try_from(dice.below(2)).unwrap())
        .map(|more| UnknownField {
            tag: first + more,
            content: Bytes::from(dice.bytes(9)),
        })
        .collect()
}
