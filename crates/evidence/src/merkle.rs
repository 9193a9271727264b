//! Merkle tree hashing of RFC 6962, section 2.1 (SHA-256; leaves and nodes have different prefixes).

use crypto::Sha256;
use domain::Digest;

/// The hash of one entry: SHA-256(0x00 || entry).
pub fn leaf_hash(entry: &[u8]) -> Digest {
    prefixed(0, &[entry])
}

/// The hash of two subtrees: SHA-256(0x01 || left || right).
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    prefixed(1, &[left.as_bytes(), right.as_bytes()])
}

fn prefixed(prefix: u8, parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(&[prefix]);
    for part in parts {
        hash.update(part);
    }
    hash.finish()
}

/// The root over leaf hashes in order; SHA-256 of nothing for the empty tree.
pub fn root(leaves: &[Digest]) -> Digest {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        // A node without a right sibling moves up as it is: the same tree as splitting at the largest power of two.
        let pair = |pair: &[Digest]| match pair {
            [left, right] => Some(node_hash(left, right)),
            [odd] => Some(*odd),
            _ => None,
        };
        level = level.chunks(2).filter_map(pair).collect();
    }
    level.first().copied().unwrap_or_else(|| crypto::sha256(b""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962, word by word.
    fn oracle(entries: &[Vec<u8>]) -> Digest {
        match entries.len() {
            0 => crypto::sha256(b""),
            1 => crypto::sha256(&[&[0], entries[0].as_slice()].concat()),
            n => {
                let mut k = 1;
                while k * 2 < n {
                    k *= 2;
                }
                let (left, right) = (oracle(&entries[..k]), oracle(&entries[k..]));
                crypto::sha256(&[&[1], left.0.as_slice(), right.0.as_slice()].concat())
            }
        }
    }

    #[test]
    fn roots_agree_with_the_definition_for_every_small_size() {
        for size in 0..=130 {
            let entries: Vec<Vec<u8>> = (0..size).map(|i: u32| vec![7; i as usize % 40]).collect();
            let leaves: Vec<Digest> = entries.iter().map(|entry| leaf_hash(entry)).collect();
            assert_eq!(root(&leaves), oracle(&entries), "{size}");
        }
    }

    /// The tree that certificate-transparency implementations test with.
    #[test]
    fn roots_agree_with_the_known_tree_of_eight() {
        let entries: [&[u8]; 8] = [
            b"",
            b"\0",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let leaves: Vec<Digest> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        for (size, expected) in [
            (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ] {
            assert_eq!(root(&leaves[..size]).to_hex(), expected, "{size}");
        }
    }
}
