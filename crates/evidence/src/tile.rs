//! Tiles and entry bundles of C2SP tlog-tiles: the tree's hashes in pieces of 256, and the entries beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;

use domain::Digest;

use crate::merkle;
use crate::tree::{Node, Nodes, TreeError};

/// Hashes in a full tile; entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// Levels of the tree in one tile.
const TILE_HEIGHT: u8 = 8;

/// A tile: `width` hashes from `index * 256` on, each over `256^level` leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    /// 0 for leaf hashes.
    pub level: u8,
    /// Its place in the level.
    pub index: u64,
    /// Hashes in it, 1 to 256.
    pub width: u16,
}

/// Leaves under one hash of a level; `None` for a level that no tree reaches.
fn span(level: u8) -> Option<u64> {
    1u64.checked_shl(u32::from(level) * u32::from(TILE_HEIGHT)).filter(|_| level < 8)
}

impl Tile {
    /// The tile of the tree of `size` at this place; `None` where it is empty.
    pub fn of(size: u64, level: u8, index: u64) -> Option<Self> {
        let hashes = size / span(level)?;
        let width = hashes.checked_sub(index.checked_mul(TILE_WIDTH)?)?.min(TILE_WIDTH);
        let width = u16::try_from(width).ok().filter(|width| *width > 0)?;
        Some(Self { level, index, width })
    }

    /// Reads `<N>` or `<N>.p/<W>` as it stands in a path (`x001/x234/067`).
    pub fn parse(level: &str, place: &str) -> Option<Self> {
        let is_canonical = |text: &str| text.parse::<u8>().is_ok_and(|number| number.to_string() == text);
        let level = level.parse().ok().filter(|value| *value < 64 && is_canonical(level))?;
        let (place, width) = match place.split_once(".p/") {
            Some((place, width)) => (place, width.parse().ok().filter(|w: &u16| *w > 0 && is_canonical(width))?),
            None => (place, 256),
        };
        let (mut index, mut parts) = (0u64, place.split('/').peekable());
        let is_padded = place.len() > 3 && place.starts_with("x000");
        while let Some(part) = parts.next() {
            let digits = if parts.peek().is_some() { part.strip_prefix('x')? } else { part };
            let three = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
            let value = digits.parse::<u64>().ok().filter(|_| three)?;
            index = index.checked_mul(1_000)?.checked_add(value)?;
        }
        (!is_padded).then_some(Self { level, index, width })
    }

    /// `<N>` or `<N>.p/<W>`.
    pub fn place(&self) -> String {
        let mut groups = vec![self.index % 1_000];
        let mut rest = self.index / 1_000;
        while rest > 0 {
            groups.push(rest % 1_000);
            rest /= 1_000;
        }
        let mut out = String::new();
        for (at, group) in groups.iter().enumerate().rev() {
            let _ = if at > 0 { write!(out, "x{group:03}/") } else { write!(out, "{group:03}") };
        }
        if self.width < 256 {
            let _ = write!(out, ".p/{}", self.width);
        }
        out
    }

    /// The first hash's place in its level.
    pub fn start(&self) -> u64 {
        self.index.saturating_mul(TILE_WIDTH)
    }

    /// The tile that holds what a node's hash is made of, whatever the tree's size.
    fn holding(node: Node) -> (u8, u64) {
        (node.height / TILE_HEIGHT, node.index >> (TILE_HEIGHT - node.height % TILE_HEIGHT))
    }
}

impl fmt::Display for Tile {
    /// `tile/<L>/<N>[.p/<W>]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/{}", self.level, self.place())
    }
}

/// Remembers which tiles a computation asks for; the hashes that it answers with are nothing.
#[derive(Debug, Default)]
pub struct Wanted {
    tiles: BTreeSet<(u8, u64)>,
}

impl Wanted {
    /// The tiles of the tree of `size` that a computation needs.
    pub fn by<T>(
        size: u64,
        computation: impl FnOnce(&mut dyn Nodes) -> Result<T, TreeError>,
    ) -> Result<Vec<Tile>, TreeError> {
        let mut wanted = Self::default();
        computation(&mut wanted)?;
        let tiles = wanted.tiles.into_iter();
        tiles.map(|(level, index)| Tile::of(size, level, index).ok_or(TreeError::OutOfRange)).collect()
    }
}

impl Nodes for Wanted {
    fn node(&mut self, node: Node) -> Result<Digest, TreeError> {
        self.tiles.insert(Tile::holding(node));
        Ok(Digest([0; 32]))
    }
}

/// Tiles at hand.
#[derive(Debug, Clone, Default)]
pub struct Tiles {
    tiles: BTreeMap<(u8, u64), Vec<Digest>>,
}

impl Tiles {
    /// Adds a tile, or more of one.
    pub fn insert(&mut self, level: u8, index: u64, hashes: Vec<Digest>) {
        self.tiles.insert((level, index), hashes);
    }
}

impl Nodes for Tiles {
    fn node(&mut self, node: Node) -> Result<Digest, TreeError> {
        let within = node.height % TILE_HEIGHT;
        let from = usize::try_from((node.index << within) % TILE_WIDTH).map_err(|_| TreeError::OutOfRange)?;
        let hashes = self.tiles.get(&Tile::holding(node)).and_then(|tile| tile.get(from..from + (1 << within)));
        Ok(merkle::root(hashes.ok_or(TreeError::Missing(node))?))
    }
}

/// The bytes of a tile.
pub fn tile_bytes(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes in a tile's bytes; `None` unless they are 1 to 256 whole ones.
pub fn tile_hashes(bytes: &[u8]) -> Option<Vec<Digest>> {
    let hashes: Vec<Digest> = bytes.as_chunks::<32>().0.iter().map(|hash| Digest(*hash)).collect();
    (bytes.len() == hashes.len() * 32 && (1..=256).contains(&hashes.len())).then_some(hashes)
}

/// The bytes of an entry bundle: each entry after its length as a big-endian 16-bit number. `None` for an entry that is too long.
pub fn bundle_bytes<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for entry in entries {
        out.extend_from_slice(&u16::try_from(entry.len()).ok()?.to_be_bytes());
        out.extend_from_slice(entry);
    }
    Some(out)
}

/// The entries in a bundle's bytes; `None` where the lengths do not add up.
pub fn bundle_entries(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (entry, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        entries.push(entry);
        bytes = rest;
    }
    bytes.is_empty().then_some(entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree;

    #[test]
    fn a_tree_has_the_tiles_that_the_specification_counts() {
        let tiles = |size: u64, level: u8| {
            let all: Vec<u16> = (0..).map_while(|index| Tile::of(size, level, index)).map(|tile| tile.width).collect();
            (all.iter().filter(|width| **width == 256).count(), all.last().copied())
        };
        assert_eq!(tiles(70_000, 0), (273, Some(112)));
        assert_eq!(tiles(70_000, 1), (1, Some(17)));
        assert_eq!(tiles(70_000, 2), (0, Some(1)));
        assert_eq!((tiles(256, 0), tiles(256, 1), tiles(256, 2)), ((1, Some(256)), (0, Some(1)), (0, None)));
        assert_eq!(Tile::of(u64::MAX, 8, 0), None);
        assert_eq!(Tile::of(u64::MAX, 0, u64::MAX), None);
    }

    #[test]
    fn places_have_one_spelling() {
        let tile = Tile { level: 0, index: 1_234_067, width: 256 };
        assert_eq!(tile.to_string(), "tile/0/x001/x234/067");
        assert_eq!(Tile::parse("0", "x001/x234/067"), Some(tile));
        assert_eq!(Tile::parse("0", "x001/x234/067.p/9"), Some(Tile { width: 9, ..tile }));
        for (level, place) in [
            ("00", "000"),
            ("64", "000"),
            ("+1", "000"),
            ("0", "0"),
            ("0", "0000"),
            ("0", "x000/001"),
            ("0", "001/002"),
            ("0", "x001"),
            ("0", "001.p/0"),
            ("0", "001.p/256"),
            ("0", "001.p/01"),
            ("0", "001.p/+1"),
            ("0", "../001"),
            ("0", "001/"),
            ("0", ""),
            ("0", "x999/x999/x999/x999/x999/x999/x999/999"),
        ] {
            assert_eq!(Tile::parse(level, place), None, "{level} {place}");
        }
    }

    fn stored(size: u64, wanted: &[Tile]) -> Tiles {
        let leaves: Vec<Digest> = (0..size).map(|i| merkle::leaf_hash(&i.to_be_bytes())).collect();
        let mut tiles = Tiles::default();
        for tile in wanted {
            let span = span(tile.level).unwrap();
            let hash = |at: u64| {
                let from = usize::try_from(at * span).unwrap();
                merkle::root(&leaves[from..from + usize::try_from(span).unwrap()])
            };
            let hashes = (tile.start()..tile.start() + u64::from(tile.width)).map(hash).collect();
            tiles.insert(tile.level, tile.index, hashes);
        }
        tiles
    }

    #[test]
    fn what_is_wanted_is_enough_and_proofs_over_tiles_verify() {
        for size in [1, 2, 255, 256, 257, 600, 65_535, 65_536, 65_537, 66_049] {
            for index in [0, size / 3, size - 1] {
                let wanted = Wanted::by(size, |nodes| {
                    tree::root(size, nodes)?;
                    tree::consistency(index, size, nodes)?;
                    tree::root(index, nodes)?;
                    tree::inclusion(index, size, nodes)
                })
                .unwrap();
                let mut tiles = stored(size, &wanted);
                let top = tree::root(size, &mut tiles).unwrap();
                let leaf = merkle::leaf_hash(&index.to_be_bytes());
                let proof = tree::inclusion(index, size, &mut tiles).unwrap();
                tree::verify_inclusion(&leaf, index, size, &proof, &top).unwrap();
                let (old_root, proof) =
                    (tree::root(index, &mut tiles).unwrap(), tree::consistency(index, size, &mut tiles).unwrap());
                tree::verify_consistency(index, &old_root, size, &top, &proof).unwrap();
            }
        }
    }

    #[test]
    fn a_proof_in_ten_million_leaves_needs_few_tiles() {
        let size = 10_000_000;
        let wanted = Wanted::by(size, |nodes| tree::inclusion(1_234_567, size, nodes)).unwrap();
        assert!(wanted.len() <= 6, "{wanted:?}");
    }

    proptest! {
        #[test]
        fn places_come_back(level in 0u8..8, index in 0u64..1 << 40, width in 1u16..=256) {
            let tile = Tile { level, index, width };
            prop_assert_eq!(Tile::parse(&level.to_string(), &tile.place()), Some(tile));
        }

        #[test]
        fn bundles_come_back(entries: Vec<Vec<u8>>) {
            let bytes = bundle_bytes(entries.iter().map(Vec::as_slice)).unwrap();
            prop_assert_eq!(bundle_entries(&bytes).unwrap(), entries);
        }

        #[test]
        fn no_bytes_make_a_bundle_panic(bytes: Vec<u8>) {
            let _ = bundle_entries(&bytes);
            let _ = tile_hashes(&bytes);
        }
    }
}
