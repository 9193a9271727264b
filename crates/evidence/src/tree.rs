//! The arithmetic of a growing Merkle tree (RFC 6962, section 2.1): roots, inclusion and consistency proofs, and their verification
//! (RFC 9162, sections 2.1.3.2 and 2.1.4.2).
//!
//! Nothing here reads a store: whoever has the hashes of perfect subtrees is a [`Nodes`], and what a computation will ask for is found by
//! running it against a [`crate::tile::Wanted`] first.

use domain::Digest;

use crate::merkle::node_hash;

/// Leaves in the largest tree.
pub const SIZE_MAX: u64 = 1 << 62;

/// A perfect subtree: the `2^height` leaves from `index * 2^height`. Its hash never changes once it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// Levels above the leaves.
    pub height: u8,
    /// Its place among the subtrees of this height.
    pub index: u64,
}

/// Why a proof cannot be made, or does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The hash of a subtree is not at hand.
    #[error("the hash of the subtree {} at height {} is missing", .0.index, .0.height)]
    Missing(Node),
    /// The tree has no such leaf, or no such earlier size.
    #[error("the tree has no such place")]
    OutOfRange,
    /// The hashes do not lead to the root.
    #[error("the hashes do not lead to the root")]
    Mismatch,
}

/// Where the hashes of perfect subtrees come from.
pub trait Nodes {
    /// The hash of one.
    fn node(&mut self, node: Node) -> Result<Digest, TreeError>;
}

/// The largest power of two below `n`, for `n` of two or more.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// The hash over leaves `lo..hi`, which are a subtree of the tree.
fn subtree(nodes: &mut dyn Nodes, lo: u64, hi: u64) -> Result<Digest, TreeError> {
    let n = hi - lo;
    if n.is_power_of_two() && lo.is_multiple_of(n) {
        let height = u8::try_from(n.ilog2()).map_err(|_| TreeError::OutOfRange)?;
        return nodes.node(Node { height, index: lo / n });
    }
    let middle = lo + split(n);
    Ok(node_hash(&subtree(nodes, lo, middle)?, &subtree(nodes, middle, hi)?))
}

/// The root over the first `size` leaves.
pub fn root(size: u64, nodes: &mut dyn Nodes) -> Result<Digest, TreeError> {
    match size {
        0 => Ok(crypto::sha256(b"")),
        1..=SIZE_MAX => subtree(nodes, 0, size),
        _ => Err(TreeError::OutOfRange),
    }
}

/// The proof that leaf `index` is in the tree of `size`: from the leaf's sibling up to the root's child.
pub fn inclusion(index: u64, size: u64, nodes: &mut dyn Nodes) -> Result<Vec<Digest>, TreeError> {
    if index >= size || size > SIZE_MAX {
        return Err(TreeError::OutOfRange);
    }
    let (mut lo, mut hi, mut siblings) = (0, size, Vec::new());
    while hi - lo > 1 {
        let middle = lo + split(hi - lo);
        if index < middle {
            siblings.push((middle, hi));
            hi = middle;
        } else {
            siblings.push((lo, middle));
            lo = middle;
        }
    }
    siblings.into_iter().rev().map(|(lo, hi)| subtree(nodes, lo, hi)).collect()
}

/// The proof that the tree of `old` leaves is the beginning of the tree of `new` leaves.
pub fn consistency(old: u64, new: u64, nodes: &mut dyn Nodes) -> Result<Vec<Digest>, TreeError> {
    if old > new || new > SIZE_MAX {
        return Err(TreeError::OutOfRange);
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    // SUBPROOF of RFC 6962, section 2.1.2, from the root down; `whole` while the subtree is the beginning of the tree.
    let (mut lo, mut hi, mut whole, mut parts) = (0, new, true, Vec::new());
    while old != hi {
        let middle = lo + split(hi - lo);
        if old <= middle {
            parts.push((middle, hi));
            hi = middle;
        } else {
            parts.push((lo, middle));
            lo = middle;
            whole = false;
        }
    }
    if !whole {
        parts.push((lo, hi));
    }
    parts.into_iter().rev().map(|(lo, hi)| subtree(nodes, lo, hi)).collect()
}

/// Checks an inclusion proof.
pub fn verify_inclusion(
    leaf: &Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
    expected: &Digest,
) -> Result<(), TreeError> {
    if index >= size || size > SIZE_MAX {
        return Err(TreeError::OutOfRange);
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(TreeError::Mismatch);
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last == 0 && hash == *expected { Ok(()) } else { Err(TreeError::Mismatch) }
}

/// Checks that the tree of `old` leaves with `old_root` is the beginning of the tree of `new` leaves with `new_root`.
pub fn verify_consistency(
    old: u64,
    old_root: &Digest,
    new: u64,
    new_root: &Digest,
    proof: &[Digest],
) -> Result<(), TreeError> {
    let holds = |condition: bool| if condition { Ok(()) } else { Err(TreeError::Mismatch) };
    if old > new || new > SIZE_MAX {
        return Err(TreeError::OutOfRange);
    }
    if old == new {
        return holds(proof.is_empty() && old_root == new_root);
    }
    if old == 0 {
        return holds(proof.is_empty() && *old_root == crypto::sha256(b""));
    }
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let mut rest = proof.iter();
    // A beginning that is a perfect subtree is a node of the new tree itself, and is left out of the proof.
    let first = if old.is_power_of_two() { old_root } else { rest.next().ok_or(TreeError::Mismatch)? };
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(TreeError::Mismatch);
        }
        if at & 1 == 1 || at == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    holds(last == 0 && old_hash == *old_root && new_hash == *new_root)
}

/// A tree that only grows, holding the roots of its perfect subtrees and no more: for reading a log from one end to the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// The perfect subtrees from the left, each smaller than the one before.
    parts: Vec<Digest>,
}

impl Frontier {
    /// The frontier of the tree over the first `size` leaves.
    pub fn at(size: u64, nodes: &mut dyn Nodes) -> Result<Self, TreeError> {
        if size > SIZE_MAX {
            return Err(TreeError::OutOfRange);
        }
        let (mut parts, mut from) = (Vec::new(), 0u64);
        for height in (0..u64::BITS).rev().filter(|height| size >> height & 1 == 1) {
            let height = u8::try_from(height).map_err(|_| TreeError::OutOfRange)?;
            parts.push(nodes.node(Node { height, index: from >> height })?);
            from += 1 << height;
        }
        Ok(Self { size, parts })
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Digest) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.parts.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.parts.push(hash);
        self.size += 1;
    }

    /// The root.
    pub fn root(&self) -> Digest {
        let folded = self.parts.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        folded.unwrap_or_else(|| crypto::sha256(b""))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::merkle;

    /// All leaves at hand.
    struct Leaves(Vec<Digest>);

    impl Nodes for Leaves {
        fn node(&mut self, node: Node) -> Result<Digest, TreeError> {
            let from = usize::try_from(node.index << node.height).unwrap();
            Ok(merkle::root(self.0.get(from..from + (1 << node.height)).ok_or(TreeError::Missing(node))?))
        }
    }

    fn leaves(size: u64) -> Leaves {
        Leaves((0..size).map(|i| merkle::leaf_hash(&i.to_be_bytes())).collect())
    }

    /// PATH(m, D[n]) of RFC 6962, word by word.
    fn path_oracle(m: usize, d: &[Digest]) -> Vec<Digest> {
        if d.len() == 1 {
            return Vec::new();
        }
        let k = usize::try_from(split(d.len() as u64)).unwrap();
        let (mut path, other) = if m < k {
            (path_oracle(m, &d[..k]), merkle::root(&d[k..]))
        } else {
            (path_oracle(m - k, &d[k..]), merkle::root(&d[..k]))
        };
        path.push(other);
        path
    }

    /// SUBPROOF(m, D[n], b) of RFC 6962, word by word.
    fn subproof_oracle(m: usize, d: &[Digest], b: bool) -> Vec<Digest> {
        if m == d.len() {
            return if b { Vec::new() } else { vec![merkle::root(d)] };
        }
        let k = usize::try_from(split(d.len() as u64)).unwrap();
        let (mut proof, other) = if m <= k {
            (subproof_oracle(m, &d[..k], b), merkle::root(&d[k..]))
        } else {
            (subproof_oracle(m - k, &d[k..], false), merkle::root(&d[..k]))
        };
        proof.push(other);
        proof
    }

    #[test]
    fn proofs_agree_with_the_definition_for_every_small_tree_and_verify() {
        for size in 1..=70u64 {
            let mut nodes = leaves(size);
            let all = nodes.0.clone();
            let top = merkle::root(&all);
            assert_eq!(root(size, &mut nodes), Ok(top));
            for index in 0..size {
                let at = usize::try_from(index).unwrap();
                let proof = inclusion(index, size, &mut nodes).unwrap();
                assert_eq!(proof, path_oracle(at, &all), "{index} of {size}");
                verify_inclusion(&all[at], index, size, &proof, &top).unwrap();
            }
            for old in 1..=size {
                let at = usize::try_from(old).unwrap();
                let proof = consistency(old, size, &mut nodes).unwrap();
                assert_eq!(proof, subproof_oracle(at, &all, true), "{old} to {size}");
                verify_consistency(old, &merkle::root(&all[..at]), size, &top, &proof).unwrap();
            }
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let mut nodes = leaves(4);
        assert_eq!(inclusion(4, 4, &mut nodes), Err(TreeError::OutOfRange));
        assert_eq!(consistency(5, 4, &mut nodes), Err(TreeError::OutOfRange));
        assert_eq!(root(u64::MAX, &mut nodes), Err(TreeError::OutOfRange));
        let top = root(4, &mut nodes).unwrap();
        assert_eq!(verify_inclusion(&top, 4, 4, &[], &top), Err(TreeError::OutOfRange));
        assert_eq!(verify_consistency(0, &top, 4, &top, &[]), Err(TreeError::Mismatch), "nothing has one root only");
        assert_eq!(verify_consistency(0, &crypto::sha256(b""), 4, &top, &[]), Ok(()));
    }

    proptest! {
        #[test]
        fn a_proof_holds_for_its_own_leaf_place_size_and_root_only(size in 2u64..600, pick: u64, other: u64, which in 0usize..4) {
            let mut nodes = leaves(size);
            let index = pick % size;
            let top = root(size, &mut nodes).unwrap();
            let leaf = nodes.0[usize::try_from(index).unwrap()];
            let proof = inclusion(index, size, &mut nodes).unwrap();
            prop_assert_eq!(verify_inclusion(&leaf, index, size, &proof, &top), Ok(()));
            let mut bad = proof.clone();
            let wrong = match which {
                0 => { let at = usize::try_from(other).unwrap_or(0) % bad.len(); bad[at].0[0] ^= 1; verify_inclusion(&leaf, index, size, &bad, &top) }
                1 => { bad.pop(); verify_inclusion(&leaf, index, size, &bad, &top) }
                2 => { bad.push(top); verify_inclusion(&leaf, index, size, &bad, &top) }
                _ => verify_inclusion(&leaf, (index + 1 + other % (size - 1)) % size, size, &proof, &top),
            };
            prop_assert!(wrong.is_err());
        }

        #[test]
        fn a_rewritten_beginning_is_not_consistent(size in 2u64..400, pick: u64, at: usize) {
            let mut nodes = leaves(size);
            let old = 1 + pick % (size - 1);
            let old_root = root(old, &mut nodes).unwrap();
            let at = at % usize::try_from(old).unwrap();
            nodes.0[at].0[31] ^= 1;
            let (top, proof) = (root(size, &mut nodes).unwrap(), consistency(old, size, &mut nodes).unwrap());
            prop_assert_eq!(verify_consistency(old, &old_root, size, &top, &proof), Err(TreeError::Mismatch));
        }

        #[test]
        fn a_frontier_grows_like_the_tree(from in 0u64..200, more in 0u64..200) {
            let mut nodes = leaves(from + more);
            let mut frontier = Frontier::at(from, &mut nodes).unwrap();
            for leaf in nodes.0.clone().into_iter().skip(usize::try_from(from).unwrap()) {
                frontier.push(leaf);
            }
            prop_assert_eq!(frontier.root(), merkle::root(&nodes.0));
            prop_assert_eq!(frontier.clone(), Frontier::at(from + more, &mut nodes).unwrap());
        }
    }
}
