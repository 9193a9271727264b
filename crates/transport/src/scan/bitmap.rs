//! One bit per probe.

/// A fixed number of bits, all clear at first.
#[derive(Debug, Clone)]
pub(super) struct Bitmap {
    words: Vec<u64>,
    ones: usize,
}

impl Bitmap {
    pub(super) fn new(bits: usize) -> Self {
        Self { words: vec![0; bits.div_ceil(64)], ones: 0 }
    }

    /// Whether the bit is set; one outside is not.
    pub(super) fn has(&self, bit: usize) -> bool {
        self.words.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    /// Sets the bit and tells whether it was clear.
    pub(super) fn set(&mut self, bit: usize) -> bool {
        let Some(word) = self.words.get_mut(bit / 64) else { return false };
        let mask = 1u64 << (bit % 64);
        let fresh = *word & mask == 0;
        *word |= mask;
        self.ones += usize::from(fresh);
        fresh
    }

    /// How much memory they take.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.words.capacity() * 8
    }

    /// How many are set.
    pub(super) fn ones(&self) -> usize {
        self.ones
    }

    /// Those that are set, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words
            .iter()
            .enumerate()
            .flat_map(|(at, word)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_of_numbers(bits in prop::collection::vec(0usize..200, 0..300)) {
            let (mut bitmap, mut set) = (Bitmap::new(200), BTreeSet::new());
            for bit in bits {
                prop_assert_eq!(bitmap.set(bit), set.insert(bit));
            }
            prop_assert_eq!(bitmap.ones(), set.len());
            prop_assert!((0..300).all(|bit| bitmap.has(bit) == set.contains(&bit)));
            prop_assert_eq!(bitmap.iter().collect::<Vec<_>>(), set.into_iter().collect::<Vec<_>>());
        }
    }
}
